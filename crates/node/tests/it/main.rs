//! The node plugin's sockets, as kubelet sees them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod registration;
mod services;
