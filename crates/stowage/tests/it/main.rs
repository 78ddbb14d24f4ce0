//! The real `stowage node` binary, real mounts, a registry that counts its bytes, and a kubelet that
//! behaves like kubelet's CSI plugin.

mod csi_sanity;
mod harness;
mod interop;
mod mounts;
