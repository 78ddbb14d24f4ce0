//! A tree of plain files over an EROFS view, behind one read-only overlay (`store.md`, "EROFS views").

use std::path::Path;

use crate::detached::{Detached, MountError, Mounter};

impl Mounter {
    /// A directory over another mount, behind an overlay without an upper layer: the superblock itself is read-only.
    ///
    /// What is in both shows as it is in `tree`; directories that are in both show the entries of both. `below` becomes a part
    /// of the overlay and stays as long as the overlay does. With a label, every file of both carries it; `below` needs
    /// none of its own then.
    ///
    /// An overlay is one level of stacking, as is an EROFS mount through files; the kernel allows two. Kernels before 6.15 take
    /// no detached mount as a layer: there `below` stands in the staging directory for a moment.
    pub fn joined_readonly(
        &self,
        tree: &Path,
        below: Detached,
        label: Option<&str>,
    ) -> Result<Detached, MountError> {
        self.stacked_readonly(vec![below], Some(tree), label)
    }
}
