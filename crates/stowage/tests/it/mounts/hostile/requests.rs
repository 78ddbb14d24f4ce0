//! Requests that cannot work, whatever the artifact is.

use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use stowage_testkit::BlobData;
use stowage_testkit::artifacts::{Layer, oras_files};
use stowage_testkit::kubelet::{Pod, PublishRequest};
use tonic::Code;

use super::{Case, MIB, Stall, complaints_about, small};
use crate::harness::scene;
use crate::mounts::{Model, code, publication, publish};

#[test]
fn requests_that_cannot_work_are_refused() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let node = scene.node().registry(&registry).start().await;
        let mut stall = Stall::new(&registry);
        let (invalid, files) = (Code::InvalidArgument, oras_files([("dir/a", small(1))]).build().unwrap());
        let attributes: [(&str, &str, &str, &[&str]); 8] = [
            ("an unknown attribute", "refrence", "x", &["`refrence`", "unknown"]),
            ("a forged key of kubelet's", "csi.storage.k8s.io/tenant", "x", &["csi.storage.k8s.io/tenant"]),
            ("an unknown policy", "pullPolicy", "Sometimes", &["pullPolicy", "Sometimes", "IfNotPresent"]),
            ("a sub path that climbs", "subPath", "../..", &["subPath", ".."]),
            ("a sub path that is not there", "subPath", "other", &["`other`", "subPath"]),
            ("a sub path that is a file", "subPath", "dir/a", &["`dir/a`", "file"]),
            ("a filter that leaves nothing", "include", "*.bin", &["include"]),
            ("a list that is none", "files", "{", &["files"]),
        ];
        for (name, key, value, words) in attributes {
            let case = stall.push(name, &files, invalid, words);
            case.attributes.push((key.to_owned(), value.to_owned()));
        }
        let long = format!("{}/a:{}", registry.host(), "t".repeat(200));
        for (name, reference) in [
            ("capital letters", "r.example/A:v1"),
            ("a path", "r.example/../etc:v1"),
            ("a digest that is short", "r.example/a@sha256:1234"),
            ("a scheme", "https://r.example/a:v1"),
            ("white space", "r.example/a: v1"),
            ("a tag that is too long", &long),
        ] {
            stall.cases.push(Case::of(name, reference, invalid, &["`reference`"]));
        }
        let mut nothing = Case::of("no reference", "", invalid, &["`reference`"]);
        nothing.attributes.clear();
        stall.cases.push(nothing);
        let local = Case::of(
            "loopback that nobody allowed",
            "127.0.0.1:1/a:v1",
            Code::PermissionDenied,
            &["127.0.0.1"],
        );
        stall.cases.push(local);
        stall.run(&node).await;
    });
}

#[test]
fn an_artifact_that_does_not_fit_is_refused_at_once_and_nothing_is_written() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let node = scene.node().registry(&registry).arg("--max-bytes", (4 * MIB).to_string()).start().await;
        let model = BlobData::generated(1, 8 * MIB);
        let over_the_limit = oras_files([("model.bin", model.clone())]).build().unwrap();
        let declared = Layer::titled("model.bin", small(1)).declare_size(100_000_000_000_000);
        let over_the_disk = oras_files::<&str, &str>([]).layer(declared).build().unwrap();
        for (name, artifact, size) in
            [("limit", &over_the_limit, "8388608"), ("disk", &over_the_disk, "100000000000000")]
        {
            let manifest = registry.push(name, Some("v1"), artifact);
            let reference = registry.reference(name, "v1");
            let case = Case::of(name, &reference, Code::ResourceExhausted, &[size, &reference]);
            let request = case.request(&node);
            let started = Instant::now();
            let status = node.plugin().publish(&request).await.unwrap_err();
            let took = started.elapsed();
            assert_eq!(complaints_about(&status, case.code, &case.words), Vec::<String>::new());
            assert!(took <= Duration::from_secs(2), "{name}: refused after {took:?}");
            // Nothing was asked for, and nothing written but the manifest.
            assert_eq!(registry.traffic().count(|request| request.path.contains("/blobs/")), 0);
            assert!(node.entries("ingest").is_empty());
            assert!(node.files("blobs").iter().all(|file| file.ends_with(manifest.hex()) || name == "disk"));
            assert!(!request.target.exists() && node.mounts().is_empty());
            println!("{name}: refused in {} ms: {}", took.as_millis(), status.message());
            node.plugin().unpublish(&publication(&request)).await.unwrap();
            node.nothing_left().await;
        }
        // What fits is still served.
        let fits = Model::push(&registry, "team/fits", "v1", 2, MIB);
        let request = node.plugin().inline(&Pod::new("team", "pod"), "model", &fits.attributes());
        let volume = publish(&node, &request).await;
        node.plugin().unpublish(&volume).await.unwrap();
    });
}

/// A name, where the target of a pod is to be, and what the refusal must say.
type Place<'a> = (&'a str, &'a dyn Fn(&Pod) -> PathBuf, &'a str);

#[test]
fn targets_outside_of_kubelets_directory_or_behind_a_symlink_are_refused() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let node = scene.node().registry(&registry).start().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let (kubelet, outside) = (scene.kubelet().root().to_owned(), scene.root().join("outside"));
        std::fs::create_dir(&outside).unwrap();
        let link = |pod: &Pod, at: &str| {
            let at = kubelet.join("pods").join(&pod.uid).join(at);
            std::fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(&outside, &at).unwrap();
        };
        let places: [Place<'_>; 6] = [
            ("outside", &|pod| outside.join(&pod.uid), "does not lie beneath"),
            (
                "a neighbour",
                &|pod| PathBuf::from(format!("{}2/{}/mount", kubelet.display(), pod.uid)),
                "beneath",
            ),
            ("dots", &|pod| kubelet.join("pods").join(&pod.uid).join("../../../outside/m"), "`..`"),
            ("a relative path", &|pod| PathBuf::from(format!("pods/{}/mount", pod.uid)), "absolute"),
            (
                "behind a link",
                &|pod| {
                    link(pod, "volumes");
                    kubelet.join("pods").join(&pod.uid).join("volumes/mount")
                },
                "symlink",
            ),
            (
                "a link itself",
                &|pod| {
                    link(pod, "volumes/kubernetes.io~csi/model/mount");
                    scene.kubelet().target_path(pod, "model")
                },
                "symlink",
            ),
        ];
        for (name, place, word) in places {
            let pod = Pod::new("evil", "pod");
            let target = place(&pod);
            let request =
                PublishRequest { target, ..node.plugin().inline(&pod, "model", &model.attributes()) };
            // Not by `Plugin::publish`, which makes the parent as kubelet does.
            let status = node.plugin().node().node_publish_volume(request.message()).await.unwrap_err();
            let complaints = complaints_about(&status, Code::InvalidArgument, &[word.to_owned()]);
            assert_eq!(complaints, Vec::<String>::new(), "{name}");
            // Nor does unpublish touch anything there.
            let unpublished = node.plugin().unpublish(&publication(&request)).await;
            assert!(unpublished.is_ok() || code(unpublished) == Code::InvalidArgument, "{name}");
            assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{name}: something was made outside");
            assert!(outside.is_dir() && node.mounts().is_empty(), "{name}");
            assert!(node.entries("volumes").is_empty(), "{name}: a record");
        }
        // The pod whose uid is not in the path.
        let (mine, theirs) = (Pod::new("evil", "mine"), Pod::new("team", "theirs"));
        let mut request = node.plugin().inline(&mine, "model", &model.attributes());
        request.target = scene.kubelet().target_path(&theirs, "model");
        let status = node.plugin().publish(&request).await.unwrap_err();
        assert_eq!(complaints_about(&status, Code::InvalidArgument, &[mine.uid]), Vec::<String>::new());
        assert_eq!(registry.traffic().requests().len(), 0, "nothing was asked of the registry");
    });
}
