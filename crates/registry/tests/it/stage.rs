//! What most tests start with: a server with one blob, and a client that may reach it.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use stowage_artifact::{Algorithm, Descriptor, Digest, Reference};
use stowage_registry::{
    Backoff, Credential, HostPattern, PlainHttp, Registry, RegistryError, RegistryOptions, Repository,
};
use stowage_store::{BlobBody, SourceError};
use stowage_testkit::artifacts::BlobData;
use stowage_testkit::registry::{Place, RegistryBuilder, RequestRecord};
use stowage_testkit::{Fault, Registry as Server, Target};

/// The repository of the stage.
pub(crate) const NAME: &str = "team/model";
/// The size of its blob.
pub(crate) const SIZE: u64 = 500_000;
/// How long anything may take on a machine that does ten other things.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// What is short for a client and long for a server on the same machine.
pub(crate) const SHORT: Duration = Duration::from_millis(400);
/// How often the client of the stage tries a short request.
pub(crate) const TRIES: u32 = 3;

/// A server, its blob, and a client with the rights of an administrator's listing.
pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) client: Registry,
    pub(crate) blob: BlobData,
    pub(crate) digest: Digest,
}

/// A stage without accounts.
pub(crate) async fn stage() -> Stage {
    Stage::new(Server::builder(), options()).await
}

/// Quick tries, long silence, plain http to 127.0.0.1 at any port.
pub(crate) fn options() -> RegistryOptions {
    RegistryOptions {
        plain_http: PlainHttp { hosts: hosts(&["127.0.0.1"]), loopback: false },
        tries: TRIES,
        backoff: Backoff { base: Duration::from_millis(2), cap: Duration::from_millis(8) },
        inactivity: LIMIT,
        ..RegistryOptions::default()
    }
}

/// The same with little patience for silence.
pub(crate) fn impatient() -> RegistryOptions {
    RegistryOptions { inactivity: SHORT, tries: 2, ..options() }
}

pub(crate) fn hosts(names: &[&str]) -> Vec<HostPattern> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// One repository of a server.
pub(crate) fn open(
    client: &Registry,
    server: &Server,
    name: &str,
    credential: Option<Credential>,
) -> Repository {
    client.repository(&reference(server, name), credential)
}

/// A reference by the tag `v1`.
pub(crate) fn reference(server: &Server, name: &str) -> Reference {
    server.reference(name, "v1").parse().unwrap()
}

pub(crate) fn ada() -> Credential {
    Credential::password("ada", "open sesame")
}

impl Stage {
    pub(crate) async fn new(builder: RegistryBuilder, options: RegistryOptions) -> Self {
        let server = builder.start().await.unwrap();
        let blob = BlobData::generated(42, SIZE);
        let digest = blob.digest(Algorithm::Sha256).unwrap();
        server.put_blob(NAME, &digest, blob.clone());
        Self { server, client: Registry::new(options).unwrap(), blob, digest }
    }

    /// Another server for the same client, which is dear to make.
    pub(crate) async fn beside(&self, builder: RegistryBuilder) -> Self {
        let server = builder.start().await.unwrap();
        server.put_blob(NAME, &self.digest, self.blob.clone());
        let (client, blob, digest) = (self.client.clone(), self.blob.clone(), self.digest.clone());
        Self { server, client, blob, digest }
    }

    /// The repository without a credential.
    pub(crate) fn anonymous(&self) -> Repository {
        self.signed_in(None)
    }

    pub(crate) fn signed_in(&self, credential: impl Into<Option<Credential>>) -> Repository {
        open(&self.client, &self.server, NAME, credential.into())
    }

    pub(crate) fn reference(&self) -> Reference {
        reference(&self.server, NAME)
    }

    /// Puts a document behind the tag `v1`.
    pub(crate) fn document(&self, text: &str) -> Digest {
        let bytes = bytes::Bytes::copy_from_slice(text.as_bytes());
        self.server.put_manifest(NAME, Some("v1"), "application/vnd.oci.image.manifest.v1+json", bytes)
    }

    pub(crate) fn expected(&self, range: std::ops::Range<u64>) -> Vec<u8> {
        self.blob.read_range(range).unwrap().to_vec()
    }

    pub(crate) fn descriptor(&self) -> Descriptor {
        Descriptor::new("application/octet-stream", self.digest.clone(), SIZE)
    }

    /// The next request for a blob takes a fault.
    pub(crate) fn next(&self, fault: Fault) {
        self.server.faults().next(1, Target::Blobs, fault);
    }

    /// Every request for a blob takes a fault.
    pub(crate) fn always(&self, fault: Fault) {
        self.server.faults().always(Target::Blobs, fault);
    }

    /// How many requests the registry itself took.
    pub(crate) fn asked(&self) -> usize {
        self.server.traffic().count(|request| request.place == Place::Registry)
    }
}

/// Requests with an `Authorization` header.
pub(crate) fn shows_authorization(request: &RequestRecord) -> bool {
    request.header("authorization").is_some()
}

/// All that comes of a body, and how it ended.
pub(crate) async fn drain(mut body: BlobBody) -> (Vec<u8>, Result<(), SourceError>) {
    let mut bytes = Vec::new();
    let read = async {
        while let Some(piece) = body.stream.next().await {
            bytes.extend_from_slice(&piece?);
        }
        Ok(())
    };
    let end = within(read).await;
    (bytes, end)
}

/// The result of something that must end.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.expect("it ends within the limit of the test")
}

/// The error of something that must end.
pub(crate) async fn failure<T>(work: impl Future<Output = Result<T, RegistryError>>) -> RegistryError {
    within(work).await.err().expect("it fails")
}
