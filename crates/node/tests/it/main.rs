//! The node plugin's sockets, as kubelet sees them.

mod registration;
mod services;
