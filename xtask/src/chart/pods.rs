//! What must hold of every pod that the chart makes, and of the node plugin above all.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::chart::cases::Case;
use crate::chart::manifests::{Manifests, items, text, title};

/// Objects with a pod in them, as `spec.template`.
pub(super) fn workloads(manifests: &Manifests) -> impl Iterator<Item = &Value> {
    manifests
        .iter()
        .filter(|object| ["DaemonSet", "Deployment", "Job"].iter().any(|kind| object["kind"] == *kind))
}

/// Fails where a pod of one rendering differs from the same one of another.
pub(super) fn same(before: &Manifests, after: &Manifests) -> Result<()> {
    let objects: Vec<(&Value, &Value)> = workloads(before).zip(workloads(after)).collect();
    ensure!(!objects.is_empty(), "there are no pods");
    for (before, after) in objects {
        ensure!(before["metadata"]["name"] == after["metadata"]["name"], "other objects are rendered");
        let (old, new) = (&before["spec"]["template"], &after["spec"]["template"]);
        ensure!(old == new, "the pods of {} start anew: {old} became {new}", title(before));
    }
    Ok(())
}

/// Judges the pods of a rendering.
pub(super) fn check(case: &Case, manifests: &Manifests) -> Result<()> {
    for object in manifests.iter() {
        let pod = match text(&object["kind"]) {
            "Pod" => &object["spec"],
            "DaemonSet" | "Deployment" | "Job" => &object["spec"]["template"]["spec"],
            _ => continue,
        };
        references(manifests, pod).with_context(|| title(object))?;
        for key in ["hostPID", "hostIPC"] {
            ensure!(pod[key].is_null(), "{} has {key}", title(object));
        }
        for container in items(&pod["containers"]) {
            let image = text(&container["image"]);
            ensure!(
                !image.ends_with(':') && image.contains([':', '@']),
                "{} runs the image {image}",
                title(object)
            );
            if case.values.contains("registry.lan:5000/mirror") {
                ensure!(
                    image.starts_with("registry.lan:5000/mirror/"),
                    "{} pulls {image} from elsewhere",
                    title(object)
                );
            }
            if object["kind"] != "DaemonSet" {
                restricted(container).with_context(|| title(object))?;
            }
        }
    }
    node(case, manifests)?;
    host_paths(manifests)?;
    controller(case, manifests)
}

/// Whatever a pod names is there.
fn references(manifests: &Manifests, pod: &Value) -> Result<()> {
    let there =
        |kind: &str, name: &Value| manifests.of_kind(kind).any(|object| object["metadata"]["name"] == *name);
    let account = &pod["serviceAccountName"];
    ensure!(
        account.is_null() || there("ServiceAccount", account),
        "the service account {account} is not there"
    );
    let volumes = items(&pod["volumes"]);
    for volume in volumes {
        let map = &volume["configMap"]["name"];
        ensure!(map.is_null() || there("ConfigMap", map), "the ConfigMap {map} is not there");
        let mounted =
            items(&pod["containers"]).iter().flat_map(|container| items(&container["volumeMounts"]));
        ensure!(
            mounted.clone().any(|mount| mount["name"] == volume["name"]),
            "{} is mounted nowhere",
            volume["name"]
        );
    }
    for container in items(&pod["containers"]) {
        for mount in items(&container["volumeMounts"]) {
            ensure!(
                volumes.iter().any(|volume| volume["name"] == mount["name"]),
                "{} is no volume",
                mount["name"]
            );
        }
    }
    Ok(())
}

/// The level `restricted` of Pod Security, and a root file system that nobody writes to.
fn restricted(container: &Value) -> Result<()> {
    let context = &container["securityContext"];
    for (key, value) in [
        ("allowPrivilegeEscalation", json!(false)),
        ("readOnlyRootFilesystem", json!(true)),
        ("runAsNonRoot", json!(true)),
        ("capabilities", json!({"drop": ["ALL"]})),
        ("seccompProfile", json!({"type": "RuntimeDefault"})),
    ] {
        ensure!(context[key] == value, "{} has {key}: {}", container["name"], context[key]);
    }
    ensure!(context["privileged"].is_null(), "{} says something about privileges", container["name"]);
    Ok(())
}

fn node(case: &Case, manifests: &Manifests) -> Result<()> {
    let set = manifests.the("DaemonSet")?;
    let pod = &set["spec"]["template"]["spec"];
    let [container] = items(&pod["containers"]) else {
        anyhow::bail!("the node plugin has {} containers", items(&pod["containers"]).len());
    };
    ensure!(pod["initContainers"].is_null(), "the node plugin has init containers");
    let context = &container["securityContext"];
    ensure!(context["privileged"] == true, "Bidirectional mounts are for privileged containers only");
    ensure!(context["readOnlyRootFilesystem"] == true, "the node plugin may write to its root file system");
    let rolling = &set["spec"]["updateStrategy"]["rollingUpdate"];
    ensure!(rolling["maxSurge"] == 0 && rolling["maxUnavailable"] == "10%", "the rollout is {rolling}");
    let grace = pod["terminationGracePeriodSeconds"].as_u64();
    ensure!(grace >= Some(20), "the plugin gets {grace:?} seconds to stop");

    let flag = |name: &str| {
        let wanted = format!("--{name}=");
        let mut found = items(&container["args"]).iter().filter_map(|arg| text(arg).strip_prefix(&wanted));
        found.next().with_context(|| format!("the node plugin gets no --{name}"))
    };
    let (root, store) = (flag("kubelet-dir")?, flag("store")?);
    ensure!(!root.ends_with('/') && !store.ends_with('/'), "a path ends with a slash");
    let mounts = items(&container["volumeMounts"]);
    let shared: Vec<&str> = mounts
        .iter()
        .filter(|mount| mount["mountPropagation"] == "Bidirectional")
        .map(|mount| text(&mount["mountPath"]))
        .collect();
    ensure!(shared == [format!("{root}/pods").as_str(), store], "the Bidirectional mounts are {shared:?}");
    // The runtime would mount it on the host too, once for each start.
    for mount in mounts {
        let path = text(&mount["mountPath"]);
        let beneath =
            shared.iter().find(|shared| path != **shared && path.starts_with(&format!("{shared}/")));
        ensure!(beneath.is_none(), "{path} is mounted beneath a Bidirectional mount");
    }
    let own_disk = case.values.contains("hostPath");
    for path in &shared {
        let mount = mounts.iter().find(|mount| mount["mountPath"] == *path).context("it was just there")?;
        let volume = items(&pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
        let host = volume.map(|volume| text(&volume["hostPath"]["path"]));
        ensure!(host == Some(path), "{path} has another path on the host: {host:?}");
        // A disk that is not there must not become a directory of the system's.
        let made = volume.is_some_and(|volume| volume["hostPath"]["type"] == "DirectoryOrCreate");
        ensure!(made == (*path == store && !own_disk), "{path} is made where it is missing: {made}");
    }
    // A private copy of what is mounted there would keep it in use after it was unmounted.
    for mount in mounts.iter().filter(|mount| mount["mountPropagation"].is_null()) {
        let volume = items(&pod["volumes"]).iter().find(|volume| volume["name"] == mount["name"]);
        let host = volume.map(|volume| text(&volume["hostPath"]["path"])).filter(|host| !host.is_empty());
        let holds = host.is_some_and(|host| shared.iter().any(|path| path.starts_with(&format!("{host}/"))));
        ensure!(!holds, "{} holds what is mounted elsewhere and hears of no change", mount["mountPath"]);
    }
    let driver = manifests.the("CSIDriver")?;
    ensure!(
        driver["metadata"]["name"] == flag("driver-name")?,
        "the plugin has another name than the CSIDriver"
    );
    if !own_disk {
        ensure!(store == format!("{root}/plugins/{}/store", flag("driver-name")?), "the store is at {store}");
    }
    let http = flag("http")?.rsplit_once(':').map(|(_, port)| port.to_owned()).unwrap_or_default();
    let ports: Vec<String> =
        items(&container["ports"]).iter().map(|port| port["containerPort"].to_string()).collect();
    ensure!(ports == [http], "the plugin listens on another port than {ports:?}");
    probes(container)
}

/// Directories with mirrors may be missing on a node, files may not.
fn host_paths(manifests: &Manifests) -> Result<()> {
    let set = manifests.the("DaemonSet")?;
    let map = manifests.of_kind("ConfigMap").find_map(|map| map["data"]["node.yaml"].as_str());
    let configuration: Value = serde_saphyr::from_str(map.context("the node plugin has no configuration")?)?;
    for directory in items(&configuration["mirrors"]["hostsDirs"]) {
        let volumes = items(&set["spec"]["template"]["spec"]["volumes"]);
        let volume = volumes.iter().find(|volume| volume["hostPath"]["path"] == *directory);
        let kind = volume.map(|volume| text(&volume["hostPath"]["type"]));
        ensure!(kind == Some("DirectoryOrCreate"), "a node without {directory} has no plugin: {kind:?}");
    }
    Ok(())
}

fn controller(case: &Case, manifests: &Manifests) -> Result<()> {
    let Some(deployment) = manifests.of_kind("Deployment").next() else {
        ensure!(case.values.contains("enabled: false"), "there is no controller");
        return Ok(());
    };
    let containers = items(&deployment["spec"]["template"]["spec"]["containers"]);
    probes(&containers[0])?;
    let args: Vec<&str> = items(&containers[0]["args"]).iter().map(text).collect();
    let address = if case.values.contains("address: '[::]'") { "[::]" } else { "0.0.0.0" };
    let port = &containers[0]["ports"][0]["containerPort"];
    ensure!(
        args.contains(&format!("--http={address}:{port}").as_str()),
        "the controller listens elsewhere: {args:?}"
    );
    match containers {
        [_] => ensure!(args.contains(&"--csi=false"), "the controller serves CSI to nobody"),
        [_, provisioner] => {
            let flags: Vec<&str> = items(&provisioner["args"]).iter().map(text).collect();
            for flag in ["--timeout=60s", "--extra-create-metadata", "--leader-election"] {
                ensure!(flags.contains(&flag), "external-provisioner gets no {flag}");
            }
        }
        more => anyhow::bail!("the controller has {} containers", more.len()),
    }
    let image = args.iter().find_map(|arg| arg.strip_prefix("--prefetch-image="));
    let prefetch = args.contains(&"--prefetch=true");
    ensure!(image == prefetch.then(|| text(&containers[0]["image"])), "prefetch pods run {image:?}");
    let several = deployment["spec"]["replicas"].as_u64() > Some(1);
    let budget = manifests.of_kind("PodDisruptionBudget").next();
    ensure!(several == budget.is_some(), "the budget is wrong");
    let evicts = budget.is_none_or(|budget| budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow");
    ensure!(evicts, "a controller that is not ready keeps its node from being drained");
    Ok(())
}

fn probes(container: &Value) -> Result<()> {
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/readyz")] {
        let get = &container[probe]["httpGet"];
        ensure!(get["path"] == path && get["port"] == "http", "the {probe} asks for {get}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_with_privileges_is_found() {
        let mut container = json!({"name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "runAsNonRoot": true,
            "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
        }});
        restricted(&container).unwrap();
        container["securityContext"]["capabilities"]["add"] = json!(["SYS_ADMIN"]);
        assert!(restricted(&container).unwrap_err().to_string().contains("capabilities"));
    }

    #[test]
    fn pods_that_start_anew_are_found() {
        let of = |label: &str| {
            let text = format!(
                "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec: {{template: {{metadata: {{labels: {{a: {label}}}}}}}}}\n"
            );
            Manifests::parse(&text).unwrap()
        };
        same(&of("x"), &of("x")).unwrap();
        assert!(same(&of("x"), &of("y")).unwrap_err().to_string().contains("start anew"));
    }

    #[test]
    fn a_mount_of_no_volume_is_found() {
        let pod = json!({"containers": [{"volumeMounts": [{"name": "a"}]}]});
        let error = references(&Manifests::parse("").unwrap(), &pod).unwrap_err();
        assert_eq!(error.to_string(), "\"a\" is no volume");
    }
}
