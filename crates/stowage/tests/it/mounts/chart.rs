//! The plugin as the chart starts it: the flags of its `DaemonSet` and the file of its `ConfigMap`, as `helm` renders them, with a
//! kubelet at the other end of its sockets.

use std::path::{Path, PathBuf};

use serde_json::Value;
use stowage_testkit::kubelet::Pod;
use stowage_testkit::registry::Registry;
use stowage_testkit::tools::{Tool, needed_by};

use super::{Model, publication, publish};
use crate::harness::{DRIVER, Exactly, Scene, digest_of, free_port, scene};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../charts/stowage");
const NODE: &str = "node-1";

/// The chart's node part in a cluster whose kubelet is the scene's, and whose registry is on loopback.
async fn rendered(helm: &Tool, scene: &Scene, registry: &Registry) -> Exactly {
    let http = free_port();
    let values = serde_json::json!({
        "kubelet": { "rootDir": scene.kubelet().root() },
        "node": {
            "kubernetes": false,
            "http": { "address": http.ip(), "port": http.port() },
            "config": {
                "registries": { "plainHttp": [registry.host()], "allowLocal": [registry.host()] },
                "mirrors": { "hostsDirs": [] },
                "store": { "minFreePercent": 1 },
            },
        },
    });
    let file = scene.root().join("values.json");
    std::fs::write(&file, values.to_string()).unwrap();
    let template = async |name: &str| -> Value {
        let values = file.display().to_string();
        let arguments = [
            "template",
            "stowage",
            CHART,
            "--kube-version",
            "1.36.0",
            "--values",
            &values,
            "--show-only",
            name,
        ];
        let helm = helm.clone().env("HOME", scene.root());
        serde_saphyr::from_str(&helm.run(&arguments).await.unwrap()).unwrap()
    };
    let pod = template("templates/node/daemonset.yaml").await["spec"]["template"]["spec"].take();
    let config = template("templates/node/config.yaml").await;
    // What kubelet makes of a ConfigMap.
    let directory = scene.root().join("config");
    std::fs::create_dir(&directory).unwrap();
    for (name, text) in config["data"].as_object().unwrap() {
        std::fs::write(directory.join(name), text.as_str().unwrap()).unwrap();
    }
    let container = &pod["containers"][0];
    assert_eq!(container["env"][0]["valueFrom"]["fieldRef"]["fieldPath"], "spec.nodeName");
    let arguments: Vec<String> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| {
            let argument = argument.as_str().unwrap().replace("$(NODE_NAME)", NODE);
            match argument.split_once('=') {
                Some((flag, path)) if path.starts_with('/') => {
                    format!("{flag}={}", on_the_host(&pod, path, &directory, scene).display())
                }
                _ => argument,
            }
        })
        .collect();
    let store = arguments.iter().find_map(|argument| argument.strip_prefix("--store=")).unwrap().into();
    Exactly { arguments, store, http }
}

/// Where a path of the container is on the host: by the mount that holds it. Beneath kubelet's directory they are the same, or
/// what a mount table shows would mean something else there.
fn on_the_host(pod: &Value, path: &str, config: &Path, scene: &Scene) -> PathBuf {
    let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts
        .iter()
        .filter(|mount| Path::new(path).starts_with(mount["mountPath"].as_str().unwrap()))
        .max_by_key(|mount| mount["mountPath"].as_str().unwrap().len());
    let Some(mount) = mount else {
        assert_eq!(Path::new(path), scene.kubelet().root(), "nothing is mounted there");
        return path.into();
    };
    let beneath = Path::new(path).strip_prefix(mount["mountPath"].as_str().unwrap()).unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    let volume = volumes.iter().find(|volume| volume["name"] == mount["name"]).unwrap();
    let host = volume["hostPath"]["path"].as_str().map_or(config, Path::new);
    let host = if beneath.as_os_str().is_empty() { host.to_owned() } else { host.join(beneath) };
    if Path::new(path).starts_with(scene.kubelet().root()) {
        assert_eq!(host, Path::new(path));
    }
    host
}

#[test]
fn the_flags_and_the_file_of_the_chart_make_a_node_that_mounts_and_can_be_replaced() {
    let Some(helm) = needed_by("interop", "helm") else { return };
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, 3 << 20);
        let exactly = rendered(&helm, &scene, &registry).await;
        assert_eq!(
            exactly.store,
            scene.kubelet().plugin_dir(DRIVER).join("store"),
            "kubelet shares it already"
        );
        let mut node = scene.node().exactly(exactly).start().await;
        assert_eq!(node.http("/readyz").await.0, 200);
        assert_eq!(node.plugin().info().node_id, NODE);

        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        publish(&node, &request).await;
        let file = request.target.join("model.bin");
        assert_eq!(digest_of(&file), model.file);
        // The DaemonSet is rolled: the volume stays, and the next process answers for it.
        node.restart().await;
        assert_eq!(digest_of(&file), model.file);
        assert_eq!(node.count("stowage_volumes").await, 1);
        node.plugin().unpublish(&publication(&request)).await.unwrap();
        node.nothing_left().await;
    });
}
