//! The client against a registry that keeps to the rules, and against one that breaks each of them.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod addresses;
mod blobs;
mod bodies;
mod manifests;
mod mirrors;
mod pauses;
mod proxies;
mod pull_secrets;
mod ranges;
mod realms;
mod redirects;
mod retries;
mod secrecy;
mod sign_in;
mod stage;
mod tls;
mod tokens;
