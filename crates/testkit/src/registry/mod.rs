//! An OCI distribution server in this process, which misbehaves on demand.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! use stowage_testkit::{Fault, Registry, Target, artifacts};
//!
//! let registry = Registry::builder().basic("ada", "secret").start().await?;
//! let artifact = artifacts::oras_files([("model.bin", "weights")]).build()?;
//! let digest = registry.push("team/model", Some("v1"), &artifact);
//! registry.faults().next(2, Target::Digest(digest), Fault::status(503));
//! assert!(registry.reference("team/model", "v1").starts_with("127.0.0.1:"));
//! # Ok(())
//! # }
//! ```
//!
//! Blobs are served from memory by slices, from files, or worked out on the fly
//! ([`crate::artifacts::BlobData`]), so their size is no concern. The server speaks HTTP/1.1, plain or
//! TLS with an authority of its own, and stops when it is dropped. A second listener plays the object
//! store to which registries redirect.

mod auth;
mod body;
mod builder;
mod content;
mod fault;
mod pull;
mod push;
mod range;
mod routes;
mod rules;
mod server;
mod shared;
mod socket;
mod tls;
mod traffic;

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use stowage_artifact::Digest;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub use auth::{Access, Auth, BearerOptions, Denial};
pub use builder::RegistryBuilder;
pub use fault::{At, Fault, RetryAfter, WrongRange};
pub use rules::{Faults, Rule, RuleId, Target};
pub use tls::Identity;
pub use traffic::{ConnectionRecord, Place, RequestRecord, Traffic};

use crate::artifacts::{Artifact, BlobData};
use shared::State;

/// A running registry; dropping it ends it and every connection.
pub struct Registry {
    shared: State,
    address: SocketAddr,
    storage_address: SocketAddr,
    identity: Option<Identity>,
    online: watch::Sender<bool>,
    listening: watch::Receiver<bool>,
    tasks: Vec<AbortOnDropHandle<std::io::Result<()>>>,
    runtime: Option<Runtime>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.tasks.clear();
        if let Some(runtime) = self.runtime.take() {
            // A plain drop would wait for blocking tasks, which async callers must not.
            runtime.shutdown_background();
        }
    }
}

impl Registry {
    /// A registry with plain http, without accounts, on free loopback ports.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `address:port`, as references name it.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `address:port` of the host to which blobs are redirected.
    pub fn storage_host(&self) -> String {
        self.storage_address.to_string()
    }

    /// `scheme://address:port`.
    pub fn origin(&self) -> &str {
        &self.shared.origin
    }

    /// The authority to trust, where the registry speaks TLS.
    pub fn ca_pem(&self) -> Option<&str> {
        self.identity.as_ref().map(|identity| identity.ca_pem.as_str())
    }

    /// A reference by tag.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.address)
    }

    /// A reference by digest.
    pub fn pinned(&self, repository: &str, digest: &Digest) -> String {
        format!("{}/{repository}@{digest}", self.address)
    }

    /// Puts an artifact with all its blobs into a repository; returns the digest of its manifest.
    pub fn push(&self, repository: &str, tag: Option<&str>, artifact: &Artifact) -> Digest {
        let content = &self.shared.content;
        for child in artifact.children() {
            self.push(repository, None, child);
        }
        for (digest, data) in artifact.blobs() {
            content.put_blob(repository, digest.clone(), data.clone());
        }
        self.put_manifest(repository, tag, artifact.media_type(), artifact.manifest().clone())
    }

    /// Puts any bytes as a manifest, of any size.
    pub fn put_manifest(
        &self,
        repository: &str,
        tag: Option<&str>,
        media_type: &str,
        bytes: Bytes,
    ) -> Digest {
        let digest = self.shared.content.put_manifest(repository, media_type, bytes, None);
        if let Some(tag) = tag {
            self.shared.content.tag(repository, tag, digest.clone());
        }
        digest
    }

    /// Serves bytes under a digest, which is not checked.
    pub fn put_blob(&self, repository: &str, digest: &Digest, data: impl Into<BlobData>) {
        self.shared.content.put_blob(repository, digest.clone(), data.into());
    }

    /// Takes a blob away; says whether it was there.
    pub fn delete_blob(&self, repository: &str, digest: &Digest) -> bool {
        self.shared.content.delete_blob(repository, digest)
    }

    /// Takes a manifest away, by tag or digest; says whether it was there.
    pub fn delete_manifest(&self, repository: &str, name: &str) -> bool {
        self.shared.content.delete_manifest(repository, name)
    }

    /// Points a tag at a manifest.
    pub fn tag(&self, repository: &str, tag: &str, digest: &Digest) {
        self.shared.content.tag(repository, tag, digest.clone());
    }

    /// The digest that a tag names.
    pub fn resolve(&self, repository: &str, tag: &str) -> Option<Digest> {
        self.shared.content.manifest(repository, tag).map(|(digest, _)| digest)
    }

    /// A blob as it is served.
    pub fn blob(&self, repository: &str, digest: &Digest) -> Option<BlobData> {
        self.shared.content.blob(repository, digest)
    }

    /// The fault switches.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// The books: requests, bytes, connections.
    pub fn traffic(&self) -> &Traffic {
        &self.shared.traffic
    }

    /// Bytes sent of one blob or manifest.
    pub fn bytes_served(&self, digest: &Digest) -> u64 {
        self.shared.traffic.bytes_served(digest)
    }

    /// Adds a user, or changes one; `None` as repositories means all of them.
    pub fn set_user(&self, name: &str, password: &str, repositories: Option<&[(&str, Access)]>) {
        let owned =
            repositories.map(|list| list.iter().map(|(name, access)| ((*name).into(), *access)).collect());
        self.shared.gate.set_user(name, password, owned);
    }

    /// Changes a password; the user's tokens end.
    pub fn set_password(&self, name: &str, password: &str) {
        self.shared.gate.set_password(name, password);
    }

    /// Removes a user and the user's tokens.
    pub fn remove_user(&self, name: &str) {
        self.shared.gate.remove_user(name);
    }

    /// Exchanges this token, from now on, for a password of `user`'s: the token endpoint speaks RFC 8693 too.
    pub fn trust_token(&self, token: &str, user: &str) {
        self.shared.gate.trust_token(token, user);
    }

    /// Exchanges it no more.
    pub fn distrust_token(&self, token: &str) {
        self.shared.gate.distrust_token(token);
    }

    /// An identity token that the token endpoint takes for this user.
    pub fn identity_token(&self, user: &str) -> String {
        self.shared.gate.identity_token(user)
    }

    /// Makes every bearer token issued so far invalid.
    pub fn expire_tokens(&self) {
        self.shared.gate.expire_tokens();
    }

    /// Bearer tokens issued so far.
    pub fn tokens_issued(&self) -> u64 {
        self.shared.gate.tokens_issued()
    }

    /// Makes every signed URL issued so far answer 403.
    pub fn expire_presigned(&self) {
        self.shared.presigned.expire();
    }

    /// Limits each connection to this many bytes a second from now on.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared.rate.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// Resets every open connection.
    pub fn reset_connections(&self) {
        self.shared.reset_connections();
    }

    /// Resets every connection and refuses new ones, until [`Registry::go_online`].
    pub async fn go_offline(&self) {
        self.switch(false).await;
    }

    /// Listens again, at the same address.
    pub async fn go_online(&self) {
        self.switch(true).await;
    }

    async fn switch(&self, on: bool) {
        self.online.send_replace(on);
        let mut listening = self.listening.clone();
        // The listener lives as long as `self`, so an error cannot come.
        let _ = listening.wait_for(|now| *now == on).await;
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("origin", &self.shared.origin).finish_non_exhaustive()
    }
}
