//! The real `stowage node` binary, real mounts, a registry that counts its bytes, and a kubelet that
//! behaves like kubelet's CSI plugin.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "figures for whoever runs it with --nocapture")]

mod csi_sanity;
mod harness;
mod interop;
mod mounts;
mod oci_layout;
