//! Two layers as overlayfs knows them, made into images by somebody else's program, and what must be seen of them.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::fs::XattrFlags;
use stowage_sys::{Detached, MountError, Unmounted};
use stowage_testkit::namespace::attack_as_runtime;

use crate::stage::{APIS, CONTENT, FILE, Stage};
use crate::view::{assert_no_loop_device_shows, put};

/// The images of the two layers, the lower first, in a stage whose tree lies over them.
pub(crate) struct Layers {
    pub(crate) stage: Stage,
    pub(crate) images: [PathBuf; 2],
}

impl Layers {
    /// `make` turns a directory into an image.
    pub(crate) fn new(make: impl Fn(&Path, &Path)) -> Self {
        let stage = Stage::new(APIS[0]);
        let at = |name: &str| stage.path("layers").join(name);
        for (file, content) in [
            ("lower/kept", "lower"),
            ("lower/replaced", "lower"),
            ("lower/removed", "lower"),
            ("lower/both/1", "lower"),
            ("lower/opaque/old", "lower"),
            ("lower/models/weights.bin", "lower"),
            ("upper/replaced", "upper"),
            ("upper/both/2", "upper"),
            ("upper/opaque/new", "upper"),
        ] {
            put(&at(file), content.as_bytes());
        }
        std::fs::set_permissions(at("lower/kept"), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::write(at("lower/large"), large()).unwrap();
        mknod(&at("upper/removed"), SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).unwrap();
        rustix::fs::setxattr(at("upper/opaque"), "trusted.overlay.opaque", b"y", XattrFlags::empty())
            .unwrap();
        let images = ["lower", "upper"].map(|name| {
            let image = stage.path("store").join(name);
            make(&at(name), &image);
            image
        });
        Self { stage, images }
    }

    /// Stacks the two, in every combination of them and the tree, and checks what is seen.
    pub(crate) fn check(&self, mount: impl Fn(&Path) -> Result<Detached, MountError>) {
        let both = || self.images.iter().map(|image| mount(image).unwrap()).collect::<Vec<_>>();
        self.published(both(), None, |volume| {
            assert_eq!(names(volume), ["both", "kept", "large", "models", "opaque", "replaced"]);
            assert_eq!(read(volume, FILE), "lower");
        });
        self.published(both(), Some(&self.stage.tree()), |volume| {
            assert_eq!(names(volume), ["both", "kept", "large", "models", "opaque", "replaced"]);
            assert_eq!(read(volume, FILE).as_bytes(), CONTENT);
        });
    }

    fn published(&self, layers: Vec<Detached>, tree: Option<&Path>, look: impl Fn(&Path)) {
        let mounter = &self.stage.mounter;
        let [first, second] = ["first", "second"].map(|name| self.stage.target(name));
        let attached = mounter.stacked_readonly(layers, tree, None).unwrap().attach(&first).unwrap();
        assert!(attached.superblock_readonly);
        assert_eq!(self.stage.mounts().len(), 1, "the layers have no places of their own");
        let cloned = mounter.clone_of(first.path()).unwrap().attach(&second).unwrap();
        assert_eq!((cloned.dev, cloned.ino), (attached.dev, attached.ino));
        assert_eq!(first.unmount().unwrap(), Unmounted::Gone);

        let volume = second.path();
        look(volume);
        assert_eq!([read(volume, "kept"), read(volume, "replaced")], ["lower", "upper"]);
        assert_eq!(names(&volume.join("both")), ["1", "2"]);
        assert_eq!(names(&volume.join("opaque")), ["new"]);
        assert!(std::fs::read(volume.join("large")).unwrap() == large());
        let mode = std::fs::metadata(volume.join("kept")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        for file in ["kept", "replaced", FILE] {
            for attempt in attack_as_runtime(volume, file.as_ref()) {
                assert!(attempt.refused_as_read_only(), "{file}: {attempt:?}");
            }
        }
        assert_eq!(second.unmount().unwrap(), Unmounted::Gone);
        assert_no_loop_device_shows(&self.stage);
    }
}

/// Several blocks and a bit.
fn large() -> Vec<u8> {
    crate::view::weights().into_iter().take(70_001).collect()
}

fn read(volume: &Path, file: &str) -> String {
    std::fs::read_to_string(volume.join(file)).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
