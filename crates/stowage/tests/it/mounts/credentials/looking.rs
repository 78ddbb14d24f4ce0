//! While a credential is looked for, and where it cannot be had.

use std::time::{Duration, Instant};

use stowage_testkit::registry::Registry;
use tonic::Code;

use super::providers::Plugin;
use super::*;
use crate::harness::{LIMIT, mount_id, scene, until};
use crate::mounts::stalls::{go_on, stall_at};
use crate::mounts::{code, in_background};

/// An answer that waits for no plugin, on a slow machine.
const AT_ONCE: Duration = Duration::from_secs(10);

#[test]
fn a_pods_deletion_ends_a_publish_that_waits_for_a_plugin() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let plugin = Plugin::new(&scene, &registry);
        plugin.answers("ada", "ada's own");
        let pipe = plugin.pipe();
        plugin.configure(&json!(null), &format!("read go < {};", pipe.display()));
        let config = Config::new(&scene, &json!({ "credentials": { "providers": plugin.section() } }));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let request = volume(&node, "team", "default", &model.attributes());
        let waiting = in_background(&node.plugin(), &request);
        until("the plugin runs", || plugin.runs() == 1).await;

        let started = Instant::now();
        node.plugin().unpublish(&publication(&request)).await.unwrap();
        assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        // Its answer comes too late for anything.
        std::fs::write(&pipe, "go\n").unwrap();
        plugin.configure(&json!(null), "");
        served(&node, &volume(&node, "team", "default", &model.attributes()), &model).await;
        assert!(!request.target.exists());
        node.nothing_left().await;
    });
}

#[test]
fn a_download_goes_on_while_the_calls_for_it_find_no_credential() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, 4 * MIB);
        let plugin = Plugin::new(&scene, &registry);
        plugin.answers("ada", "ada's own");
        let config = Config::new(&scene, &json!({ "credentials": { "providers": plugin.section() } }));
        let node =
            scene.node().registry(&registry).arg("--config", config.path()).publish_wait(1).start().await;
        stall_at(&registry, &model.file, 2 * MIB);
        let request = volume(&node, "team", "default", &model.attributes());
        assert_eq!(code(node.plugin().publish(&request).await), Code::DeadlineExceeded);
        assert!(registry.faults().until_stalled(1, LIMIT).await);

        plugin.answers_nothing();
        // The pod's events say how far it is, not what is wrong with a credential that nobody needs now.
        let status = node.plugin().publish(&request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        let other = volume(&node, "team", "default", &model.attributes());
        refused_beside(&node, &other, Code::Unavailable, "`plugin`").await;
        go_on(&registry);
        served(&node, &request, &model).await;
        node.nothing_left().await;
    });
}

#[test]
fn a_healthy_mount_is_published_again_whatever_is_wrong_with_the_nodes_own_credentials() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let file = scene.root().join("docker.json");
        std::fs::write(&file, "{}").unwrap();
        let config = Config::new(&scene, &json!({ "credentials": { "dockerConfig": file } }));
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let request = volume(&node, "team", "default", &model.attributes());
        let mounted = publish(&node, &request).await;
        let mount = mount_id(&mounted.target);

        std::fs::write(&file, "{").unwrap();
        node.plugin().publish(&request).await.unwrap();
        assert_eq!(mount_id(&mounted.target), mount);
        let other = volume(&node, "team", "default", &model.attributes());
        refused_beside(&node, &other, Code::Unavailable, "docker.json").await;
        node.plugin().unpublish(&mounted).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn no_credential_is_looked_for_where_the_rules_refuse_the_image() {
    scene(async |scene| {
        let registry = accounts(Registry::builder().basic("root", "root")).start().await.unwrap();
        let model = Model::push(&registry, REPOSITORY, "v1", 1, MIB);
        let plugin = Plugin::new(&scene, &registry);
        plugin.answers("ada", "ada's own");
        let config = Config::new(
            &scene,
            &json!({
                "credentials": { "providers": plugin.section() },
                "policy": { "allowedRegistries": ["other.example/*"] },
            }),
        );
        let node = scene.node().registry(&registry).arg("--config", config.path()).start().await;
        let request = volume(&node, "team", "default", &model.attributes());
        refused(&node, &request, Code::PermissionDenied, "allowed registries").await;
        assert_eq!(plugin.runs(), 0, "the plugin was run");
        node.nothing_left().await;
    });
}

/// Refused, while another volume is on its way or mounted.
async fn refused_beside(node: &Node, request: &PublishRequest, code: Code, word: &str) {
    let status = node.plugin().publish(request).await.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(word), "{word} not in: {status}");
    node.plugin().unpublish(&publication(request)).await.unwrap();
}
