//! A kubelet directory, a blob, and a view of it, in a temporary directory.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use stowage_sys::{Attached, Detached, MountApi, MountEntry, Mounter, Target, TargetRoot};

pub(crate) const CONTENT: &[u8] = b"the bytes of the blob";
/// The path of the blob inside its view.
pub(crate) const FILE: &str = "models/weights.bin";

/// Both ways to mount: every behaviour must be the same.
pub(crate) const APIS: [MountApi; 2] = [MountApi::Auto, MountApi::Legacy];

/// Both kinds of volume: `readonly` of the request true, and false.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bind,
    Overlay,
}

pub(crate) const KINDS: [Kind; 2] = [Kind::Bind, Kind::Overlay];

pub(crate) struct Stage {
    base: tempfile::TempDir,
    pub(crate) root: TargetRoot,
    pub(crate) mounter: Mounter,
}

impl Stage {
    pub(crate) fn new(api: MountApi) -> Self {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        for directory in ["kubelet/pods", "store/view/tree/models", "store/empty"] {
            std::fs::create_dir_all(at(directory)).unwrap();
        }
        std::fs::write(at("store/blob"), CONTENT).unwrap();
        std::fs::set_permissions(at("store/blob"), PermissionsExt::from_mode(0o444)).unwrap();
        std::fs::hard_link(at("store/blob"), at("store/view/tree").join(FILE)).unwrap();
        let root = TargetRoot::open(&at("kubelet")).unwrap();
        let mounter = Mounter::new(api, &at("staging"));
        assert_eq!(mounter.is_legacy(), api == MountApi::Legacy, "this machine has Linux 5.12 or newer");
        Self { base, root, mounter }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.base.path().join(name)
    }

    pub(crate) fn blob(&self) -> PathBuf {
        self.path("store/blob")
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.path("store/view/tree")
    }

    pub(crate) fn target(&self, name: &str) -> Target {
        self.root.prepare(&self.path("kubelet/pods").join(name)).unwrap()
    }

    pub(crate) fn build(&self, kind: Kind) -> Detached {
        match kind {
            Kind::Bind => self.mounter.bind_readonly(&self.tree()),
            Kind::Overlay => self.mounter.overlay_readonly(&self.tree(), &self.path("store/empty")),
        }
        .unwrap()
    }

    /// A volume of this kind, mounted at `kubelet/pods/<name>`.
    pub(crate) fn publish(&self, kind: Kind, name: &str) -> (Target, Attached) {
        let target = self.target(name);
        let attached = self.build(kind).attach(&target).unwrap();
        (target, attached)
    }

    /// Everything mounted below the temporary directory.
    pub(crate) fn mounts(&self) -> Vec<MountEntry> {
        stowage_sys::mounts_beneath(self.base.path()).unwrap()
    }

    pub(crate) fn mounts_at(&self, path: &Path) -> usize {
        self.mounts().iter().filter(|entry| entry.mount_point == path).count()
    }
}

impl Drop for Stage {
    /// Before the directory goes: what is mounted in it must not be emptied with it.
    fn drop(&mut self) {
        for entry in self.mounts().iter().rev() {
            stowage_sys::unmount(&entry.mount_point).unwrap();
        }
    }
}

/// Runs a body once for each way to mount and each kind of volume, in a namespace of its own each time.
#[expect(clippy::print_stderr, reason = "shown only when the test fails: which of the four it was")]
pub(crate) fn each(body: impl Fn(&Stage, Kind) + Sync) {
    for api in APIS {
        for kind in KINDS {
            eprintln!("--- {api:?} {kind:?}");
            stowage_testkit::namespace::private_mounts(|| body(&Stage::new(api), kind));
        }
    }
}
