//! The CSI services through their socket, with a registry that answers and an API server that is written down.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

#[path = "../../harness/api_server.rs"]
mod api_server;
mod indexes;
mod plugin;
mod volumes;
