//! Real mounts, as root, each test in a mount namespace of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy knows no tests outside functions marked so"
)]

mod attaching;
mod clones;
mod erofs;
mod erofs_failures;
mod erofs_probe;
mod erofs_tools;
mod files;
mod filesystem_image;
mod joined;
mod layers;
mod namespaces;
mod old_kernels;
mod readonly;
mod squashfs_tools;
mod stacked;
mod stage;
mod table;
mod targets;
mod tools;
mod unmounting;
mod view;
