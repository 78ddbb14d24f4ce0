//! What the repair at start does with what it finds.

use std::path::Path;

use stowage_sys::{MountApi, Mounter};
use stowage_volumes::{Recovered, VolumesOptions};

use crate::bench::{Bench, model, registry, scene, store_options};

#[test]
fn a_record_that_cannot_be_read_counts_as_absent_and_its_mount_can_be_unpublished() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 1000));
        let bench = Bench::new(root);
        let reference = registry.reference("m", "v1");
        for name in ["bad", "good"] {
            bench.volumes.publish(bench.request(name, &reference)).await.unwrap();
        }
        bench.volumes.shutdown().await;
        drop(bench);
        let records = std::fs::read_dir(root.join("store/volumes")).unwrap();
        for record in records.map(|entry| entry.unwrap().path()) {
            if std::fs::read_to_string(&record).unwrap().contains("\"bad\"") {
                std::fs::write(record, "{").unwrap();
            }
        }
        let bench = Bench::new(root);
        let recovered = bench.volumes.recover().await.unwrap();
        assert_eq!(recovered, Recovered { healthy: 1, ..Recovered::default() });
        assert!(!bench.has_record("bad") && bench.is_mounted("bad"), "a pod may be reading from it");
        bench.unpublish("bad").await;
        assert!(!bench.is_mounted("bad") && !bench.target("bad").exists());
        assert!(bench.is_mounted("good"));
    });
}

#[test]
fn one_target_that_cannot_be_looked_at_does_not_keep_the_node_from_starting() {
    scene(async |root| {
        let registry = registry().await;
        registry.push("m", Some("v1"), &model(1, 1000));
        let bench = Bench::new(root);
        bench.volumes.publish(bench.request("good", &registry.reference("m", "v1"))).await.unwrap();
        let mut record = bench.store.record("good", &bench.target("good")).unwrap().unwrap();
        record.volume_id = "bad".to_owned();
        // The kernel answers ENAMETOOLONG to whoever looks.
        record.target = bench.target("good").join("x".repeat(300));
        bench.store.put_record(&record).unwrap();
        let recovered = bench.volumes.recover().await.unwrap();
        assert_eq!(recovered, Recovered { healthy: 1, waiting: 1, unmounted: 0 });
        bench.volumes.tidy().await.unwrap();
        assert!(bench.is_mounted("good"));
    });
}

#[test]
fn what_a_killed_process_left_in_the_staging_directory_goes() {
    scene(async |root| {
        let staging = root.join("staging");
        let left = staging.join("stage-1-1");
        std::fs::create_dir_all(&left).unwrap();
        let mounter = Mounter::new(MountApi::Legacy, &staging);
        let bench =
            Bench::with(root, store_options(), VolumesOptions { mounter, ..VolumesOptions::default() });
        bench.volumes.recover().await.unwrap();
        assert!(!left.exists());
        assert!(Path::new(&staging).exists(), "the directory itself stays");
    });
}
