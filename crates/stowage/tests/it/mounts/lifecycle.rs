//! One volume's life, as kubelet drives it.

use std::time::{Duration, Instant};

use stowage_testkit::kubelet::{Pod, Publication, PublishRequest};
use tonic::Code;

use super::stalls::{go_on, nobody_reads, stall_at};
use super::{Model, code, in_background, publication, publish};
use crate::harness::{LIMIT, Node, digest_of, mount_id, scene};

const MIB: u64 = 1 << 20;
/// A blob that comes over one connection and stops half way.
const SIZE: u64 = 12 * MIB;
const HALF: u64 = SIZE / 2;
/// An answer that waits for no download, on a slow machine.
const AT_ONCE: Duration = Duration::from_secs(10);

#[test]
fn a_published_volume_is_published_again_without_a_request_or_a_mount() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, 3 * MIB);
        let node = scene.node().registry(&registry).start().await;
        let plugin = node.plugin();
        let request = plugin.inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        let volume = plugin.publish(&request).await.unwrap();
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);

        let (mount, requests) = (mount_id(&volume.target), registry.traffic().requests().len());
        registry.go_offline().await;
        // Kubelet's own keys and secrets may change in a pod's life; they are no arguments of ours.
        let mut later = request.clone();
        later.volume_context.insert("csi.storage.k8s.io/serviceAccount.tokens".into(), "{\"a\":1}".into());
        later.secrets = [("registry", registry.host()), ("username", "u".into()), ("password", "p".into())]
            .map(|(key, value)| (key.to_owned(), value))
            .into();
        for again in [&request, &request, &later] {
            plugin.publish(again).await.unwrap();
            assert_eq!(mount_id(&volume.target), mount);
        }
        assert_eq!(registry.traffic().requests().len(), requests);
        assert_eq!(node.mounts().len(), 1);

        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn other_arguments_at_the_same_target_are_a_conflict_that_names_the_difference() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let other = Model::push(&registry, "team/other", "v1", 2, MIB);
        let node = scene.node().registry(&registry).start().await;
        let plugin = node.plugin();
        let request = plugin.inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        let volume = plugin.publish(&request).await.unwrap();
        let mount = mount_id(&volume.target);

        let mut changed: Vec<(PublishRequest, &str)> = Vec::new();
        changed.push((PublishRequest { readonly: true, ..request.clone() }, "readonly"));
        let mode = stowage_csi_proto::csi::v1::volume_capability::access_mode::Mode::MultiNodeReaderOnly;
        changed.push((PublishRequest { mode, ..request.clone() }, "capability"));
        for (key, value) in [("reference", other.reference.as_str()), ("include", "*.bin")] {
            let mut request = request.clone();
            request.volume_context.insert(key.into(), value.into());
            changed.push((request, key));
        }
        for (changed, what) in changed {
            // Not by `Plugin::publish`, which removes what kubelet removes after a final code.
            let status = plugin.node().node_publish_volume(changed.message()).await.unwrap_err();
            assert_eq!(status.code(), Code::AlreadyExists, "{status}");
            assert!(status.message().contains(what), "{what}: {status}");
            assert_eq!(mount_id(&volume.target), mount);
        }
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
    });
}

#[test]
fn a_volume_is_counted_where_it_is_and_nowhere_else() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, 3 * MIB + 7);
        let node = scene.node().registry(&registry).start().await;
        let plugin = node.plugin();
        let request = plugin.inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        let volume = plugin.publish(&request).await.unwrap();

        let usage = plugin.stats(&volume).await.unwrap().usage;
        let size = i64::try_from(3 * MIB + 7).unwrap();
        assert_eq!((usage[0].total, usage[0].used, usage[0].available), (size, size, 0));
        assert!(usage[1].total >= 1 && usage[1].used == usage[1].total && usage[1].available == 0);
        let unknown = Publication { volume_id: "csi-unknown".into(), ..volume.clone() };
        let elsewhere = Publication { target: scene.root().join("elsewhere"), ..volume.clone() };
        for wrong in [unknown, elsewhere] {
            assert_eq!(code(plugin.stats(&wrong).await), Code::NotFound);
        }
        plugin.unpublish(&volume).await.unwrap();
        assert_eq!(code(plugin.stats(&volume).await), Code::NotFound);
    });
}

#[test]
fn unpublish_is_done_whatever_was_there() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let mut node = scene.node().registry(&registry).start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());

        let never = Publication { volume_id: "csi-x".into(), target: request.target.clone(), failed: vec![] };
        node.plugin().unpublish(&never).await.unwrap();

        // Twice, and with the directory of a volume that was never mounted.
        let volume = publish(&node, &request).await;
        node.plugin().unpublish(&volume).await.unwrap();
        node.plugin().unpublish(&volume).await.unwrap();
        std::fs::create_dir_all(&volume.target).unwrap();
        node.plugin().unpublish(&volume).await.unwrap();
        node.nothing_left().await;

        // By the mount table, where the record says nothing.
        for restarted in [false, true] {
            let volume = publish(&node, &request).await;
            let [record] = &node.entries("volumes")[..] else { panic!("{:?}", node.entries("volumes")) };
            std::fs::write(node.store().join("volumes").join(record), "{ nonsense").unwrap();
            if restarted {
                node.restart().await;
            }
            node.plugin().unpublish(&volume).await.unwrap();
            node.nothing_left().await;
        }
    });
}

#[test]
fn a_volume_in_use_is_detached_and_its_reader_goes_on() {
    scene(async |scene| {
        use std::io::{Read as _, Seek as _};

        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let node = scene.node().registry(&registry).start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        let volume = publish(&node, &request).await;
        let mut open = std::fs::File::open(volume.target.join("model.bin")).unwrap();
        node.plugin().unpublish(&volume).await.unwrap();
        assert!(!volume.target.exists());
        node.nothing_left().await;
        let mut bytes = Vec::new();
        open.rewind().unwrap();
        open.read_to_end(&mut bytes).unwrap();
        assert_eq!(
            stowage_artifact::Digest::of(stowage_artifact::Algorithm::Sha256, &bytes),
            model.file,
            "the reader's open file"
        );
    });
}

#[test]
fn a_volume_whose_mount_was_taken_away_is_mounted_again() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let node = scene.node().registry(&registry).start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        let volume = publish(&node, &request).await;
        stowage_sys::unmount(&volume.target).unwrap();
        assert!(node.mounts().is_empty());
        publish(&node, &request).await;
        assert_eq!(node.mounts().len(), 1);
        assert_eq!(digest_of(&volume.target.join("model.bin")), model.file);
    });
}

#[test]
fn a_download_outlives_the_call_and_the_next_call_joins_it() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, SIZE);
        let node = scene.node().registry(&registry).publish_wait(1).one_connection().start().await;
        let plugin = node.plugin();
        let request = plugin.inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        // Slow, and never so slow that the connection makes way for another one.
        registry.set_rate(Some(MIB));

        assert_eq!(code(plugin.publish(&request).await), Code::DeadlineExceeded);
        node.fetched(MIB).await;
        let status = plugin.publish(&request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status}");
        // How far it is and who is being waited for, for whoever reads the pod's events.
        assert!(status.message().contains("MiB of 12.0 MiB"), "{status}");
        assert!(status.message().contains(&model.reference), "{status}");
        assert!(node.mounts().is_empty());

        registry.set_rate(None);
        publish(&node, &request).await;
        assert_eq!(digest_of(&request.target.join("model.bin")), model.file);
        assert_eq!(registry.bytes_served(&model.file), SIZE);
    });
}

#[test]
fn a_pods_deletion_never_waits_for_its_download() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, SIZE);
        let node = scene.node().registry(&registry).one_connection().start().await;
        let plugin = node.plugin();
        let request = plugin.inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        stall_at(&registry, &model.file, HALF);
        let waiting = in_background(&plugin, &request);
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        node.fetched(HALF - MIB).await;

        let started = Instant::now();
        plugin.unpublish(&publication(&request)).await.unwrap();
        assert_eq!(code(waiting.await.unwrap()), Code::Aborted);
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        node.nothing_left_but(&["ingest"]).await;

        // The bytes stay: another pod fetches only the others.
        nobody_reads(&registry).await;
        go_on(&registry);
        let other = plugin.inline(&Pod::new("team", "web-1"), "model", &model.attributes());
        publish(&node, &other).await;
        assert_eq!(digest_of(&other.target.join("model.bin")), model.file);
        let served = registry.bytes_served(&model.file);
        assert!(served <= SIZE + MIB, "{served} bytes were served of {SIZE}");
    });
}

#[test]
fn a_stopped_plugin_answers_at_once_and_goes_on_where_it_was() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let ready = Model::push(&registry, "team/ready", "v1", 1, MIB);
        let model = Model::push(&registry, "team/model", "v1", 2, SIZE);
        let mut node = scene.node().registry(&registry).one_connection().start().await;
        let mounted = node.plugin().inline(&Pod::new("team", "web-0"), "model", &ready.attributes());
        publish(&node, &mounted).await;
        let mount = mount_id(&mounted.target);
        let request = node.plugin().inline(&Pod::new("team", "web-1"), "model", &model.attributes());
        stall_at(&registry, &model.file, HALF);
        let waiting = in_background(&node.plugin(), &request);
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        // The count has the other volume's bytes too: of these, all but a mebibyte are on the disk.
        node.fetched(MIB + (HALF - MIB)).await;

        let started = Instant::now();
        node.terminate();
        let status = waiting.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("shutting down"), "a broken connection is no answer: {status}");
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        assert!(node.ended().await.success(), "{}", node.log());
        assert!(!node.socket().exists(), "the socket is ours to remove");
        assert_eq!(mount_id(&mounted.target), mount);
        assert_eq!(digest_of(&mounted.target.join("model.bin")), ready.file);

        nobody_reads(&registry).await;
        go_on(&registry);
        node.start().await;
        publish(&node, &request).await;
        assert_eq!(digest_of(&request.target.join("model.bin")), model.file);
        let served = registry.bytes_served(&model.file);
        assert!(served <= SIZE + MIB, "{served} bytes were served of {SIZE}");
        assert_eq!(mount_id(&mounted.target), mount);
    });
}

#[test]
fn an_abandoned_download_stops_and_keeps_its_bytes() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, SIZE);
        let node = scene.node().registry(&registry).interest(1).one_connection().start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        stall_at(&registry, &model.file, HALF);
        let waiting = in_background(&node.plugin(), &request);
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        node.fetched(HALF - MIB).await;
        // Kubelet is gone, and its pod with it.
        waiting.abort();

        nobody_reads(&registry).await;
        node.until_count("stowage_flights", |count| count == 0).await;
        node.nothing_left_but(&["ingest"]).await;
        let kept: Vec<_> =
            node.files("ingest").iter().filter_map(|file| file.file_name()).map(ToOwned::to_owned).collect();
        assert_eq!(kept, ["data", "journal"]);
        go_on(&registry);
        publish(&node, &request).await;
        let served = registry.bytes_served(&model.file);
        assert!(served <= SIZE + MIB, "{served} bytes were served of {SIZE}");
    });
}

#[test]
fn a_tag_is_resolved_once_in_a_volumes_life() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let old = Model::push(&registry, "team/model", "v1", 1, MIB);
        let mut node = scene.node().registry(&registry).publish_wait(1).start().await;
        let volume = |node: &Node, name: &str, policy: &str| {
            let attributes = [("reference", old.reference.as_str()), ("pullPolicy", policy)];
            node.plugin().inline(&Pod::new("team", name), "model", &attributes)
        };
        let shows = |request: &PublishRequest| digest_of(&request.target.join("model.bin"));
        let first = volume(&node, "first", "Always");
        // The tag moves while the first volume still waits for its bytes.
        stall_at(&registry, &old.file, MIB / 2);
        assert_eq!(code(node.plugin().publish(&first).await), Code::DeadlineExceeded);
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        let new = Model::push(&registry, "team/model", "v1", 2, MIB);
        go_on(&registry);
        publish(&node, &first).await;
        assert_eq!(shows(&first), old.file);

        let (cached, always) = (volume(&node, "cached", "IfNotPresent"), volume(&node, "always", "Always"));
        publish(&node, &cached).await;
        assert_eq!(shows(&cached), old.file, "the node knows the tag");
        publish(&node, &always).await;
        assert_eq!(shows(&always), new.file, "the registry was asked");
        node.restart().await;
        for (request, file) in [(&first, &old.file), (&cached, &old.file), (&always, &new.file)] {
            let mount = mount_id(&request.target);
            publish(&node, request).await;
            assert_eq!(mount_id(&request.target), mount);
            assert_eq!(shows(request), *file);
        }
        // Also where the volume has to be mounted anew.
        stowage_sys::unmount(&first.target).unwrap();
        publish(&node, &first).await;
        assert_eq!(shows(&first), old.file);
    });
}

#[test]
fn what_the_node_has_is_published_while_the_registry_is_down() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let unknown = Model::push(&registry, "team/unknown", "v1", 2, MIB);
        let node = scene.node().registry(&registry).publish_wait(60).start().await;
        let volume = |name: &str, model: &Model, policy: &str| {
            let attributes = [("reference", model.reference.as_str()), ("pullPolicy", policy)];
            node.plugin().inline(&Pod::new("team", name), "model", &attributes)
        };
        // Never asks no registry, so that what the node lacks does not exist.
        let never = volume("never", &model, "Never");
        assert_eq!(code(node.plugin().publish(&never).await), Code::NotFound);
        assert_eq!(registry.traffic().requests().len(), 0);
        publish(&node, &volume("first", &model, "IfNotPresent")).await;

        registry.go_offline().await;
        for policy in ["IfNotPresent", "Never"] {
            let warm = volume(policy, &model, policy);
            node.plugin().publish(&warm).await.unwrap();
            assert_eq!(digest_of(&warm.target.join("model.bin")), model.file);
        }
        let (plugin, tag) = (node.plugin(), volume("tag", &model, "Always"));
        let cold = volume("cold", &unknown, "IfNotPresent");
        let (tag, other) = tokio::join!(plugin.publish(&tag), plugin.publish(&cold));
        for status in [tag.unwrap_err(), other.unwrap_err()] {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
        registry.go_online().await;
        publish(&node, &cold).await;
    });
}

#[test]
fn what_is_not_in_the_registry_is_not_found_and_leaves_nothing() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, MIB);
        let node = scene.node().registry(&registry).start().await;
        let tag = registry.reference("team/model", "v2");
        let blob = Model::push(&registry, "team/lost", "v1", 2, MIB);
        assert!(registry.delete_blob("team/lost", &blob.file));
        for reference in [&tag, &blob.reference] {
            let request =
                node.plugin().inline(&Pod::new("team", "web-0"), "model", &[("reference", reference)]);
            let status = node.plugin().publish(&request).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound, "{status}");
            assert!(status.message().contains(reference), "{status}");
            node.nothing_left_but(&["ingest"]).await;
        }
        assert_eq!(registry.bytes_served(&model.file), 0);
    });
}

#[test]
fn one_persistent_volume_has_a_target_for_each_pod() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, 2 * MIB);
        let mut node = scene.node().registry(&registry).start().await;
        let [first, second] = ["web-0", "web-1"].map(|name| {
            let pod = Pod::new("team", name);
            node.plugin().persistent(&pod, "pv-model", "handle-1", &model.attributes())
        });
        let first = publish(&node, &first).await;
        let second = publish(&node, &second).await;
        assert_ne!(first.target, second.target);
        assert_eq!((node.mounts().len(), node.entries("volumes").len()), (2, 2));
        assert_eq!(registry.bytes_served(&model.file), 2 * MIB);

        node.plugin().unpublish(&first).await.unwrap();
        node.restart().await;
        assert_eq!(digest_of(&second.target.join("model.bin")), model.file);
        node.plugin().stats(&second).await.unwrap();
        assert_eq!(code(node.plugin().stats(&first).await), Code::NotFound);
        node.plugin().unpublish(&second).await.unwrap();
        node.nothing_left().await;
    });
}

#[test]
fn the_same_publish_twice_at_once_is_one_mount() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, 4 * MIB);
        let node = scene.node().registry(&registry).one_connection().start().await;
        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        stall_at(&registry, &model.file, MIB);
        let calls: Vec<_> = (0..8).map(|_| in_background(&node.plugin(), &request)).collect();
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        go_on(&registry);
        for call in calls {
            call.await.unwrap().unwrap();
        }
        assert_eq!((node.mounts().len(), node.entries("volumes").len()), (1, 1));
        assert_eq!(registry.bytes_served(&model.file), 4 * MIB);
    });
}

#[test]
fn the_plugin_says_when_it_is_ready_and_what_it_did() {
    scene(async |scene| {
        let registry = scene.registry().await;
        let model = Model::push(&registry, "team/model", "v1", 1, 3 * MIB);
        let mut node = scene.node().registry(&registry).publish_wait(1).build();
        node.spawn();
        assert_eq!(node.http("/livez").await.0, 200);
        let (status, why) = node.http("/readyz").await;
        assert_eq!(status, 503, "nobody has registered it: {why}");
        assert!(node.registered().await, "{}", node.log());
        assert_eq!(node.http("/readyz").await, (200, "ok\n".to_owned()));

        let request = node.plugin().inline(&Pod::new("team", "web-0"), "model", &model.attributes());
        stall_at(&registry, &model.file, MIB);
        assert_eq!(code(node.plugin().publish(&request).await), Code::DeadlineExceeded);
        assert!(registry.faults().until_stalled(1, LIMIT).await);
        node.until_count("stowage_flights", |count| count == 1).await;
        go_on(&registry);
        let volume = publish(&node, &request).await;
        let second = node.plugin().inline(&Pod::new("team", "web-1"), "model", &model.attributes());
        let second = publish(&node, &second).await;
        node.plugin().unpublish(&second).await.unwrap();
        for (series, value) in [
            ("stowage_publishes_total{result=\"deadline_exceeded\"}", 1),
            ("stowage_publishes_total{result=\"ok\"}", 2),
            ("stowage_unpublishes_total{result=\"ok\"}", 1),
            ("stowage_publish_duration_seconds_count{cache=\"miss\"}", 1),
            ("stowage_publish_duration_seconds_count{cache=\"hit\"}", 1),
            ("stowage_fetched_bytes_total", 3 * MIB),
            ("stowage_cached_bytes_total", 3 * MIB),
            ("stowage_volumes", 1),
            ("stowage_store_views", 1),
            ("stowage_store_ingests", 0),
            ("stowage_flights", 0),
        ] {
            node.until_count(series, |count| count == value).await;
        }
        let (_, metrics) = node.http("/metrics").await;
        assert!(metrics.contains("stowage_erofs{backing=\""), "{metrics}");
        assert!(node.count("stowage_store_bytes").await >= 3 * MIB);
        assert!(node.count("stowage_store_free_bytes").await > 0);
        node.plugin().unpublish(&volume).await.unwrap();
        assert_eq!(node.count("stowage_volumes").await, 0);
    });
}
