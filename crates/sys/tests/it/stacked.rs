//! Mounts stacked by an overlay. With whiteouts, which our own images never have: `*_tools.rs`.

use stowage_sys::{Detached, ErofsBacking, ErofsOptions, ImageFilesystem, Unmounted};
use stowage_testkit::namespace::attack_as_runtime;

use crate::stage::{CONTENT, FILE};
use crate::view::{CONFIG, View, WEIGHTS, each_backing, image_alone, weights};

/// An image of one empty file.
fn image(view: &View, backing: ErofsBacking, file: &str) -> Detached {
    let path = view.stage.path("store/layer");
    std::fs::write(&path, image_alone(&[file])).unwrap();
    let options = ErofsOptions::new(backing);
    let mounted = view.stage.mounter.filesystem_image(&path, ImageFilesystem::Erofs, &options).unwrap();
    std::fs::remove_file(path).unwrap();
    mounted
}

/// Below a view over tars one image, and one over it; the second hides a file of the view.
fn layers(view: &View, backing: ErofsBacking) -> Vec<Detached> {
    let view_over_tars = view.mount(&ErofsOptions::new(backing)).unwrap();
    vec![image(view, backing, WEIGHTS), view_over_tars, image(view, backing, CONFIG)]
}

#[test]
fn upper_layers_hide_lower_ones_and_directories_show_the_entries_of_all() {
    each_backing(|view, backing| {
        let target = view.stage.target("volume");
        let stacked = view.stage.mounter.stacked_readonly(layers(view, backing), None, None).unwrap();
        assert!(stacked.attach(&target).unwrap().superblock_readonly);
        let read = |name: &str| std::fs::read(target.path().join(name)).unwrap();
        // Not assert_eq: it has 5 MiB.
        assert!(read(WEIGHTS) == weights());
        assert_eq!((read(CONFIG), read("first")), (vec![], vec![1; 512]));
        assert_eq!(view.stage.mounts().len(), 1, "the layers have no places of their own");
        assert_eq!(target.unmount().unwrap(), Unmounted::Gone);
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn the_tree_lies_over_all_layers() {
    each_backing(|view, backing| {
        let target = view.stage.target("volume");
        let layers = layers(view, backing);
        let stacked = view.stage.mounter.stacked_readonly(layers, Some(&view.stage.tree()), None).unwrap();
        stacked.attach(&target).unwrap();
        assert!(std::fs::read(target.path().join(FILE)).unwrap() == CONTENT);
        assert_eq!(std::fs::read(target.path().join(CONFIG)).unwrap(), b"");
    });
}

#[test]
fn a_stack_refuses_root_after_the_runtime_has_cleared_the_mounts_flag() {
    each_backing(|view, backing| {
        let target = view.stage.target("volume");
        let stacked = view.stage.mounter.stacked_readonly(layers(view, backing), None, None).unwrap();
        stacked.attach(&target).unwrap();
        for file in [WEIGHTS, CONFIG] {
            let attempts = attack_as_runtime(target.path(), file.as_ref());
            assert!(attempts.len() >= 10);
            for attempt in &attempts {
                assert!(attempt.refused_as_read_only(), "{file}: {attempt:?}");
            }
        }
    });
}

#[test]
fn clones_of_a_stack_share_it_and_keep_its_layers() {
    each_backing(|view, backing| {
        let (first, second) = (view.stage.target("first"), view.stage.target("second"));
        let stacked = view.stage.mounter.stacked_readonly(layers(view, backing), None, None).unwrap();
        let attached = stacked.attach(&first).unwrap();
        let cloned = view.stage.mounter.clone_of(first.path()).unwrap().attach(&second).unwrap();
        assert_eq!((cloned.dev, cloned.ino), (attached.dev, attached.ino));
        assert_eq!(first.unmount().unwrap(), Unmounted::Gone);
        assert!(std::fs::read(second.path().join(WEIGHTS)).unwrap() == weights());
        assert_eq!(second.unmount().unwrap(), Unmounted::Gone);
        view.assert_no_loop_device_stays();
    });
}

#[test]
fn one_layer_without_a_tree_is_that_layer_itself() {
    each_backing(|view, backing| {
        let target = view.stage.target("volume");
        let layer = image(view, backing, "file");
        let identity = (layer.dev(), layer.ino());
        let same = view.stage.mounter.stacked_readonly(vec![layer], None, None).unwrap();
        assert_eq!((same.dev(), same.ino()), identity);
        same.attach(&target).unwrap();
        assert_eq!(view.stage.mounts().pop().unwrap().fs_type, "erofs");
    });
}

/// A manifest may list one layer twice; each time it is a mount of its own.
#[test]
fn one_image_may_be_several_layers() {
    each_backing(|view, backing| {
        let target = view.stage.target("volume");
        let mount = || view.mount(&ErofsOptions::new(backing)).unwrap();
        let layers = vec![mount(), image(view, backing, WEIGHTS), mount()];
        view.stage.mounter.stacked_readonly(layers, None, None).unwrap().attach(&target).unwrap();
        assert!(std::fs::read(target.path().join(WEIGHTS)).unwrap() == weights());
    });
}

#[test]
fn a_stack_that_fails_names_the_reason_and_lets_all_layers_go() {
    each_backing(|view, backing| {
        let mounter = &view.stage.mounter;
        let absent = view.stage.path("store/absent");
        let error = mounter.stacked_readonly(layers(view, backing), Some(&absent), None).unwrap_err();
        assert!(error.to_string().contains("store/absent"), "{error}");
        let label = Some("not a label, and refused with SELinux or without");
        let error = mounter.stacked_readonly(layers(view, backing), None, label).unwrap_err();
        // The topmost layer stands for all.
        assert!(error.to_string().contains("store/layer"), "{error}");
        assert_eq!(view.stage.mounts(), []);
        view.assert_no_loop_device_stays();
    });
}
