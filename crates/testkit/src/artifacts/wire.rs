//! Pushes artifacts over the wire, to any registry.

use futures::TryStreamExt;
use http::HeaderValue;
use oci_client::client::{Certificate, CertificateEncoding, Client, ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Reference, RegistryOperation};

use super::Artifact;

/// Why a push over the wire failed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The reference is not one.
    #[error("{reference:?} is not a reference: {source}")]
    Reference {
        /// What was given.
        reference: String,
        /// What is wrong with it.
        source: oci_client::ParseError,
    },
    /// No client could be made of the options.
    #[error("no client for {reference}: {source}")]
    Client {
        /// Where the push was going.
        reference: String,
        /// What is wrong.
        source: Box<OciDistributionError>,
    },
    /// The registry refused, or went away.
    #[error("pushing {what} to {reference} failed: {source}")]
    Push {
        /// What was on its way.
        what: String,
        /// Where it was going.
        reference: String,
        /// What the registry said.
        source: Box<OciDistributionError>,
    },
    /// A media type cannot be sent as a header.
    #[error("the media type {0:?} cannot be sent as a header")]
    MediaType(String),
}

/// Where and how to push: `WirePush::to("127.0.0.1:5000/models/tiny:v1").plain_http()`.
#[derive(Clone, Debug)]
pub struct WirePush {
    reference: String,
    auth: RegistryAuth,
    plain_http: bool,
    ca_pem: Option<Vec<u8>>,
}

impl WirePush {
    /// Pushes to a reference with a tag, anonymously, by https.
    pub fn to(reference: &str) -> Self {
        Self { reference: reference.into(), auth: RegistryAuth::Anonymous, plain_http: false, ca_pem: None }
    }

    /// Signs in.
    #[must_use]
    pub fn basic(mut self, user: &str, password: &str) -> Self {
        self.auth = RegistryAuth::Basic(user.into(), password.into());
        self
    }

    /// Speaks plain http.
    #[must_use]
    pub fn plain_http(mut self) -> Self {
        self.plain_http = true;
        self
    }

    /// Trusts one more authority.
    #[must_use]
    pub fn ca_pem(mut self, pem: &str) -> Self {
        self.ca_pem = Some(pem.as_bytes().to_vec());
        self
    }

    /// Pushes the blobs, then the manifest; an index after its manifests.
    pub async fn push(&self, artifact: &Artifact) -> Result<(), WireError> {
        let reference: Reference = self
            .reference
            .parse()
            .map_err(|source| WireError::Reference { reference: self.reference.clone(), source })?;
        let client = self.client()?;
        client
            .auth(&reference, &self.auth, RegistryOperation::Push)
            .await
            .map_err(|source| self.failed("the credentials".into(), source))?;
        for child in artifact.children() {
            let pinned = Reference::with_digest(
                reference.registry().to_owned(),
                reference.repository().to_owned(),
                child.digest().to_string(),
            );
            Box::pin(self.push_one(&client, &pinned, child)).await?;
        }
        self.push_one(&client, &reference, artifact).await
    }

    fn client(&self) -> Result<Client, WireError> {
        let certificates = self
            .ca_pem
            .iter()
            .map(|pem| Certificate { encoding: CertificateEncoding::Pem, data: pem.clone() })
            .collect();
        let config = ClientConfig {
            protocol: if self.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            extra_root_certificates: certificates,
            // One request a blob, streamed, where the default is one request a chunk.
            use_monolithic_push: true,
            ..ClientConfig::default()
        };
        Client::try_from(config).map_err(|source| WireError::Client {
            reference: self.reference.clone(),
            source: Box::new(source),
        })
    }

    async fn push_one(&self, client: &Client, to: &Reference, artifact: &Artifact) -> Result<(), WireError> {
        for (digest, data) in artifact.blobs() {
            let name = digest.to_string();
            if client.blob_exists(to, &name).await.unwrap_or(false) {
                continue;
            }
            let stream = data.stream().map_err(OciDistributionError::from);
            client
                .push_blob_stream(to, stream, &name, Some(data.size()))
                .await
                .map_err(|source| self.failed(format!("blob {name}"), source))?;
        }
        let media_type = HeaderValue::from_str(artifact.media_type())
            .map_err(|_| WireError::MediaType(artifact.media_type().into()))?;
        client
            .push_manifest_raw(to, artifact.manifest().clone(), media_type)
            .await
            .map_err(|source| self.failed(format!("manifest {}", artifact.digest()), source))?;
        Ok(())
    }

    fn failed(&self, what: String, source: OciDistributionError) -> WireError {
        WireError::Push { what, reference: self.reference.clone(), source: Box::new(source) }
    }
}
