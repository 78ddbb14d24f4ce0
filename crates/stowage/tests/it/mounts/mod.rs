//! Volumes as kubelet sees them, with real mounts in a private mount namespace.

mod crowd;
mod hostile;
mod kills;
mod lifecycle;
mod readonly;
mod tenants;
