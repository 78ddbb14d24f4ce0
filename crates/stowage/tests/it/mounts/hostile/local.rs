//! Names and addresses that lead to the node itself or to its cloud's metadata.

use nix::mount::{MsFlags, mount};
use stowage_testkit::artifacts::oras_files;
use stowage_testkit::kubelet::{Pod, is_uncertain};
use stowage_testkit::{Fault, Registry, Target};
use tonic::Code;

use super::small;
use crate::harness::{Node, Scene, scene};
use crate::mounts::publication;

/// What a resolver that works for somebody else may say; `ula.example` is a network of one's own.
const NAMES: &str = "127.0.0.1 localhost loopback.example
::1 loopback6.example
0.0.0.0 any.example
169.254.169.254 meta.example
::ffff:169.254.169.254 mapped.example
fd00:ec2::254 meta6.example
fe80::1 local6.example
100.100.100.200 other-meta.example
fd00::1 ula.example
";

const REFUSED: [&str; 15] = [
    "127.0.0.1:1",
    "0.0.0.0:1",
    "[::1]:1",
    "[::ffff:127.0.0.1]:1",
    "[::ffff:169.254.169.254]:80",
    "169.254.169.254",
    "[fd00:ec2::254]:443",
    "[fe80::1]:443",
    "localhost:1",
    "metadata.google.internal",
    "loopback.example",
    "loopback6.example:5000",
    "meta.example",
    "mapped.example",
    "any.example",
];

/// Gives the names to everybody in this test's mount namespace.
fn resolve(scene: &Scene) {
    let hosts = scene.root().join("hosts");
    std::fs::write(&hosts, NAMES).unwrap();
    mount(Some(&hosts), "/etc/hosts", None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
}

/// The code and the words of a publish.
async fn answer(node: &Node, reference: &str) -> (Code, String) {
    let request = node.plugin().inline(&Pod::new("evil", "pod"), "model", &[("reference", reference)]);
    let status = node.plugin().publish(&request).await.unwrap_err();
    if is_uncertain(status.code()) {
        node.plugin().unpublish(&publication(&request)).await.unwrap();
    }
    assert!(node.mounts().is_empty() && !status.message().is_empty());
    (status.code(), status.message().to_owned())
}

#[test]
fn references_realms_and_redirects_to_the_nodes_own_network_are_refused_after_dns() {
    scene(async |scene| {
        resolve(&scene);
        let registry = Registry::builder().start().await.unwrap();
        let node = scene.node().registry(&registry).publish_wait(20).start().await;
        let artifact = oras_files([("a", small(1))]).build().unwrap();
        let names = REFUSED.into_iter().chain(["meta6.example", "local6.example", "other-meta.example"]);
        for (number, host) in names.enumerate() {
            let (code, said) = answer(&node, &format!("{host}/team/model:v1")).await;
            assert_eq!(code, Code::PermissionDenied, "a reference to {host}: {said}");
            assert!(said.contains("an administrator can list the host"), "a reference to {host}: {said}");
            let elsewhere = format!("https://{host}/latest/meta-data");
            let faults = [
                ("realm", Target::Manifests, Fault::Challenge(format!("Bearer realm=\"{elsewhere}\""))),
                ("redirect", Target::Manifests, Fault::Redirect(elsewhere.clone())),
                ("redirect of a blob", Target::Blobs, Fault::Redirect(elsewhere)),
            ];
            for (what, target, fault) in faults {
                let repository = format!("evil/{number}");
                registry.push(&repository, Some("v1"), &artifact);
                let rule = registry.faults().always(target, fault);
                let (code, said) = answer(&node, &registry.reference(&repository, "v1")).await;
                registry.faults().remove(rule);
                let refused = matches!(code, Code::PermissionDenied | Code::Unavailable);
                assert!(refused, "a {what} to {host}: {code:?} {said}");
                assert!(said.contains("an administrator can list the host"), "a {what} to {host}: {said}");
            }
        }
        node.nothing_left().await;
    });
}

#[test]
fn a_private_network_stays_allowed() {
    scene(async |scene| {
        resolve(&scene);
        let node = scene.node().publish_wait(2).start().await;
        let (code, said) = answer(&node, "ula.example/team/model:v1").await;
        // Nobody is there; that is found out by asking.
        assert!(matches!(code, Code::Unavailable | Code::DeadlineExceeded), "{code:?} {said}");
        assert!(!said.contains("an administrator can list"), "{said}");
    });
}
