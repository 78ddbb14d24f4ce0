//! Real mounts, as root, each test in a mount namespace of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy knows no tests outside functions marked so"
)]

mod attaching;
mod clones;
mod files;
mod namespaces;
mod old_kernels;
mod readonly;
mod stage;
mod table;
mod targets;
mod unmounting;
