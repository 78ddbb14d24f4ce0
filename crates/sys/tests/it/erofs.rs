//! EROFS views: read from their tars, read-only, cloned, and gone without a trace.

use std::path::Path;
use std::sync::Barrier;

use stowage_sys::{ErofsBacking, ErofsOptions, Unmounted};
use stowage_testkit::namespace::{attack_as_runtime, private_mounts};

use crate::view::{CONFIG, View, WEIGHTS, each_backing, weights};

fn sysfs(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap().trim().to_owned()
}

#[test]
fn a_view_shows_the_files_of_its_tars_byte_for_byte() {
    each_backing(|view, backing| {
        let (target, attached) = view.publish(backing, "volume");
        let read = |name: &str| std::fs::read(target.path().join(name)).unwrap();
        assert!(read(WEIGHTS) == weights());
        assert_eq!(read(CONFIG), b"{}");
        assert_eq!((read("first"), read("odd")), (vec![1; 512], vec![2; 513]));

        assert!(attached.superblock_readonly);
        let mount = target.inspect().unwrap().unwrap();
        assert_eq!((mount.fs_type.as_str(), mount.readonly), ("erofs", true));
        let entry = view.stage.mounts().into_iter().find(|entry| entry.mount_id == mount.mount_id).unwrap();
        for option in ["ro", "nosuid", "nodev"] {
            assert!(entry.mount_options.split(',').any(|is| is == option), "{option} in {entry:?}");
        }
    });
}

#[test]
fn a_view_refuses_root_after_the_runtime_has_cleared_the_mounts_flag() {
    each_backing(|view, backing| {
        let (target, _) = view.publish(backing, "volume");
        let attempts = attack_as_runtime(target.path(), WEIGHTS.as_ref());
        assert!(attempts.len() >= 10);
        for attempt in &attempts {
            assert!(attempt.refused_as_read_only(), "{attempt:?}");
        }
        assert!(std::fs::read(target.path().join(WEIGHTS)).unwrap() == weights());
    });
}

#[test]
fn clones_share_the_superblock_which_lives_as_long_as_the_last() {
    each_backing(|view, backing| {
        let (first, attached) = view.publish(backing, "first");
        let second = view.stage.target("second");
        let cloned = view.stage.mounter.clone_of(first.path()).unwrap().attach(&second).unwrap();
        assert_eq!((cloned.dev, cloned.ino), (attached.dev, attached.ino));
        assert!(cloned.superblock_readonly);
        assert_eq!(first.unmount().unwrap(), Unmounted::Gone);
        assert!(std::fs::read(second.path().join(WEIGHTS)).unwrap() == weights());
        assert_eq!(view.loop_devices().len(), if backing == ErofsBacking::Loop { 3 } else { 0 });
        assert_eq!(second.unmount().unwrap(), Unmounted::Gone);
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn a_view_that_is_never_attached_leaves_nothing() {
    each_backing(|view, backing| {
        drop(view.mount(&ErofsOptions::new(backing)).unwrap());
        assert_eq!(view.stage.mounts(), []);
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn a_mounted_view_outlives_the_names_of_its_files() {
    each_backing(|view, backing| {
        let (target, _) = view.publish(backing, "volume");
        for file in view.tars.iter().chain([&view.image]) {
            std::fs::remove_file(file).unwrap();
        }
        assert!(std::fs::read(target.path().join(WEIGHTS)).unwrap() == weights());
        target.unmount().unwrap();
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn loop_devices_are_read_only_buffered_and_have_small_blocks() {
    private_mounts(|| {
        let view = View::new();
        let (_target, _) = view.publish(ErofsBacking::Loop, "volume");
        let devices = view.loop_devices();
        assert_eq!(devices.len(), 3);
        for device in devices {
            let value = |name: &str| sysfs(device.join(name));
            assert_eq!(value("ro"), "1");
            assert_eq!(value("loop/autoclear"), "1");
            assert_eq!(value("loop/dio"), "0");
            assert_eq!(value("queue/logical_block_size"), "512");
        }
    });
}

#[test]
fn the_read_ahead_of_a_loop_device_is_the_one_asked_for() {
    private_mounts(|| {
        let view = View::new();
        let options = ErofsOptions { read_ahead_kib: Some(1236), ..ErofsOptions::new(ErofsBacking::Loop) };
        let _mounted = view.mount(&options).unwrap();
        let devices = view.loop_devices().into_iter();
        let image = devices
            .filter(|device| Path::new(&sysfs(device.join("loop/backing_file"))) == view.image)
            .collect::<Vec<_>>();
        assert_eq!(image.len(), 1);
        assert_eq!(sysfs(image[0].join("queue/read_ahead_kb")), "1236");
    });
}

#[test]
fn the_read_ahead_of_a_mount_by_file_is_the_one_asked_for() {
    private_mounts(|| {
        let view = View::new();
        // A number that nobody else asks for.
        let options = ErofsOptions { read_ahead_kib: Some(1236), ..ErofsOptions::new(ErofsBacking::File) };
        // Where another process mounts EROFS in the same moment it stays as it was, so more than one try is fair.
        let seen = (0..50).any(|_| {
            let _mounted = view.mount(&options).unwrap();
            let entries = std::fs::read_dir("/sys/class/bdi").unwrap().map(|entry| entry.unwrap());
            let ours = entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("erofs-"))
                .filter_map(|entry| std::fs::read_to_string(entry.path().join("read_ahead_kb")).ok())
                .filter(|value| value.trim() == "1236");
            ours.count() == 1
        });
        assert!(seen, "no entry of /sys/class/bdi has the read-ahead that was asked for");
    });
}

#[test]
fn direct_io_is_used_where_it_is_asked_for_and_possible() {
    each_backing(|view, backing| {
        let options = ErofsOptions { direct_io: true, ..ErofsOptions::new(backing) };
        let target = view.stage.target("volume");
        view.mount(&options).unwrap().attach(&target).unwrap();
        assert!(std::fs::read(target.path().join(WEIGHTS)).unwrap() == weights());
        let entry = view.stage.mounts().pop().unwrap();
        let direct = entry.superblock_options.to_string_lossy().split(',').any(|option| option == "directio");
        assert_eq!(direct, backing == ErofsBacking::File && takes_direct_blocks(view), "{entry:?}");
    });
}

fn takes_direct_blocks(view: &View) -> bool {
    use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
    let kernel = stowage_sys::KernelVersion::running().unwrap();
    stowage_sys::ErofsSupport::of_kernel(kernel, true).direct_io
        && view.tars.iter().chain([&view.image]).all(|file| {
            let answer = statx(CWD, file, AtFlags::empty(), StatxFlags::DIOALIGN).unwrap();
            (1..=512).contains(&answer.stx_dio_offset_align) && (1..=512).contains(&answer.stx_dio_mem_align)
        })
}

/// Between the answer that a loop device is free and its use another thread takes it.
#[test]
fn threads_that_race_for_loop_devices_all_get_theirs() {
    private_mounts(|| {
        let view = View::new();
        let barrier = Barrier::new(8);
        std::thread::scope(|scope| {
            for number in 0..8 {
                let (view, barrier) = (&view, &barrier);
                scope.spawn(move || {
                    let target = view.stage.target(&format!("volume-{number}"));
                    barrier.wait();
                    let mounted = view.mount(&ErofsOptions::new(ErofsBacking::Loop)).unwrap();
                    mounted.attach(&target).unwrap();
                    assert!(std::fs::read(target.path().join(WEIGHTS)).unwrap() == weights());
                });
            }
        });
        assert_eq!(view.loop_devices().len(), 24);
        for mount in view.stage.mounts() {
            assert_eq!(stowage_sys::unmount(&mount.mount_point).unwrap(), Unmounted::Gone);
        }
        view.assert_no_loop_device_stays();
    });
}
