//! The testkit's own tests: what the other tests stand on must itself hold.

// Helpers of tests are tests too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod artifacts;
mod auth;
mod families;
mod faults;
mod interop;
mod kubelet;
mod pull;
mod push;
mod throttle;

use stowage_artifact::Digest;
use stowage_testkit::Registry;

/// The URL of a blob.
fn blob_url(registry: &Registry, repository: &str, digest: &Digest) -> String {
    format!("{}/v2/{repository}/blobs/{digest}", registry.origin())
}

/// The URL of a manifest.
fn manifest_url(registry: &Registry, repository: &str, name: &str) -> String {
    format!("{}/v2/{repository}/manifests/{name}", registry.origin())
}

/// A client that follows no redirects by itself and trusts the registry.
fn client(registry: &Registry) -> reqwest::Client {
    let mut builder = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy();
    if let Some(pem) = registry.ca_pem() {
        builder = builder.add_root_certificate(reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
    }
    builder.build().unwrap()
}
