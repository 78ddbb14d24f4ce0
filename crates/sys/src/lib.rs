//! Linux calls for Stowage: mounts, the mount table, ranges of files, namespaces. The only crate where `unsafe` is allowed.
//!
//! Nothing here decides policy; everything blocks.
//!
//! A volume comes about in three steps, each of which leaves nothing behind when it fails:
//!
//! ```no_run
//! # use std::path::Path;
//! # use stowage_sys::{Detached, TargetRoot};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let root = TargetRoot::open(Path::new("/var/lib/kubelet"))?;
//! let target = root.prepare(Path::new("/var/lib/kubelet/pods/1/volumes/x/mount"))?;
//! let mount = Detached::overlay_readonly(Path::new("/store/views/v/tree"), Path::new("/store/empty"))?;
//! let attached = mount.attach(&target)?;
//! # let _ = attached;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Mounter`] builds a [`Detached`] mount that is visible to nobody: a read-only bind, a read-only overlay, an EROFS
//!   image over its tars, an image that somebody else made, several of these stacked, or a clone of a live volume.
//!   `MountApi::Legacy` does the same, but for images, through a private staging directory on kernels before 5.12.
//! - [`TargetRoot`] finds the target below the kubelet directory without following a symlink.
//! - [`Detached::attach`] puts the one onto the other in one step, and only where nothing is mounted yet.
#![deny(unsafe_op_in_unsafe_fn)]

mod detached;
mod erofs;
mod file;
mod filesystem_image;
mod fs_context;
mod inspect;
mod joined;
mod kernel;
mod mount_table;
pub mod namespace;
mod overlay;
mod raw;
mod stacked;
mod staging;
mod target;
mod unmount;

pub use detached::{Attached, Detached, MountApi, MountError, Mounter};
pub use erofs::{ErofsBacking, ErofsBackingChoice, ErofsOptions, ErofsProbe, ErofsSupport};
pub use file::{
    FilesystemSupport, Space, Verity, enable_verity, has_verity, probe_filesystem, space, sync_file_range,
    write_back,
};
pub use filesystem_image::ImageFilesystem;
pub use inspect::{InspectError, MountPoint, inspect, set_readonly_flag};
pub use kernel::{Features, KernelVersion, KernelVersionError, selinux_enabled};
pub use mount_table::{MountEntry, MountTableError, mount_table, mounts_beneath, parse_mount_table};
pub use target::{Target, TargetError, TargetRoot};
pub use unmount::{UnmountError, Unmounted, unmount};
