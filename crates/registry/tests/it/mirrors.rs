//! Mirrors by `hosts.toml`: a registry, hosts that stand before it, and the files that say so.

mod bytes;
mod files;
mod hosts;
mod order;
mod permission;
mod strangers;

use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use stowage_artifact::{Algorithm, Descriptor, Digest, Reference};
use stowage_registry::{
    Credential, MirrorOptions, PlainHttp, Registry, RegistryError, RegistryOptions, Repository,
};
use stowage_store::{BlobSource as _, SourceError};
use stowage_testkit::Registry as Server;
use stowage_testkit::artifacts::BlobData;
use stowage_testkit::registry::{RegistryBuilder, RequestRecord};
use tempfile::TempDir;

use crate::stage::{NAME, drain, hosts, options, within};

/// Larger than what is shown whole as a proof of possession.
const LARGE: u64 = (1 << 20) + 5;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// A rest that no test outlasts.
const LONG: Duration = Duration::from_mins(5);

/// A registry with a document and two blobs, which its mirrors have too.
struct Scene {
    upstream: Server,
    mirrors: Vec<Server>,
    directory: TempDir,
    client: Registry,
    small: BlobData,
    large: BlobData,
    document: Digest,
}

impl Scene {
    /// One registry without accounts, and some mirrors.
    async fn new(mirrors: usize) -> Self {
        Self::with(Server::builder(), vec![Server::builder(); mirrors], |_| {}).await
    }

    async fn with(
        upstream: RegistryBuilder,
        mirrors: Vec<RegistryBuilder>,
        change: impl FnOnce(&mut RegistryOptions),
    ) -> Self {
        let upstream = upstream.start().await.unwrap();
        let mut started = Vec::new();
        for mirror in mirrors {
            started.push(mirror.start().await.unwrap());
        }
        let directory = tempfile::tempdir().unwrap();
        let mut options = RegistryOptions {
            // The registry alone: what a file says of a mirror is all that allows it.
            plain_http: PlainHttp { hosts: hosts(&[&upstream.host()]), loopback: false },
            mirrors: MirrorOptions {
                roots: vec![directory.path().join("missing"), directory.path().to_owned()],
                check_every: Duration::ZERO,
                rest: LONG,
                rest_after_lies: LONG,
            },
            ..options()
        };
        change(&mut options);
        let client = Registry::new(options).unwrap();
        let (small, large) = (BlobData::generated(1, 5_000), BlobData::generated(2, LARGE));
        let document = Digest::of(Algorithm::Sha256, b"{}");
        let scene = Self { upstream, mirrors: started, directory, client, small, large, document };
        for server in std::iter::once(&scene.upstream).chain(&scene.mirrors) {
            scene.fill(server, NAME);
        }
        scene
    }

    /// Other mirrors, of which the client knows nothing, and a registry that was not asked yet.
    async fn replace_mirrors(&mut self, mirrors: usize) {
        self.mirrors.clear();
        for _ in 0..mirrors {
            let mirror = Server::builder().start().await.unwrap();
            self.fill(&mirror, NAME);
            self.mirrors.push(mirror);
        }
        self.upstream.traffic().reset();
    }

    fn fill(&self, server: &Server, name: &str) {
        server.put_manifest(name, Some("v1"), MANIFEST, "{}".into());
        for blob in [&self.small, &self.large] {
            server.put_blob(name, &digest_of(blob), blob.clone());
        }
    }

    /// Writes the file of the registry's own directory.
    fn write(&self, text: &str) -> PathBuf {
        self.write_for(&self.upstream.host().replace(':', "_"), "_", text)
    }

    /// Writes the file for registries without a directory of their own.
    fn write_default(&self, text: &str) -> PathBuf {
        self.write_for("_default", "", text)
    }

    fn write_for(&self, name: &str, suffix: &str, text: &str) -> PathBuf {
        let directory = self.directory.path().join(format!("{name}{suffix}"));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("hosts.toml");
        std::fs::write(&file, text).unwrap();
        file
    }

    /// Writes all mirrors in their order, and nothing more.
    fn write_all(&self) {
        let tables: Vec<String> = (0..self.mirrors.len()).map(|index| self.table(index, "")).collect();
        self.write(&tables.concat());
    }

    /// The table of one mirror.
    fn table(&self, index: usize, keys: &str) -> String {
        format!("[host.\"{}\"]\n{keys}\n", self.mirrors[index].origin())
    }

    fn repository(&self, credential: impl Into<Option<Credential>>) -> Repository {
        self.client.repository(&self.reference(), credential.into())
    }

    fn reference(&self) -> Reference {
        self.upstream.reference(NAME, "v1").parse().unwrap()
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::new("x/y", digest_of(&self.small), self.small.size())
    }

    /// Reads a part of the large blob as the download engine does.
    async fn read(&self, repository: &Repository, range: Range<u64>) -> Result<(), SourceError> {
        let digest = digest_of(&self.large);
        let body = within(repository.read(&digest, Some(range.clone()))).await?;
        assert_eq!((body.start, body.ranged), (range.start, true));
        let (bytes, end) = drain(body).await;
        end?;
        assert!(bytes == self.large.read_range(range).unwrap(), "other bytes than were asked for");
        Ok(())
    }

    /// Reads everything in every way that a mirror can answer.
    async fn read_all(&self, repository: &Repository) -> Result<(), RegistryError> {
        let digest = within(repository.resolve(&self.reference())).await?;
        assert_eq!(digest, self.document);
        assert_eq!(within(repository.manifest_by_digest(&digest)).await?.bytes, "{}");
        let small = within(repository.small_blob(&self.descriptor(), self.small.size())).await?;
        assert!(small == self.small.read_range(0..self.small.size()).unwrap());
        self.read(repository, 10..2_000).await.unwrap();
        Ok(())
    }

    /// Requests for the content of blobs and manifests that a server answered with it.
    fn delivered(server: &Server) -> usize {
        server.traffic().count(|request| request.method == Method::GET && matches!(request.status, 200 | 206))
    }

    /// Requests for content, however they were answered.
    fn gets(server: &Server) -> usize {
        server.traffic().count(|request| request.method == Method::GET && is_content(request))
    }

    fn heads(server: &Server) -> usize {
        server.traffic().count(|request| request.method == Method::HEAD)
    }

    fn asked(server: &Server) -> usize {
        server.traffic().requests().len()
    }
}

fn is_content(request: &RequestRecord) -> bool {
    request.path.contains("/blobs/") || request.path.contains("/manifests/")
}

fn digest_of(blob: &BlobData) -> Digest {
    blob.digest(Algorithm::Sha256).unwrap()
}
