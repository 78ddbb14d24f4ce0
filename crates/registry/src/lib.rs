//! Reading from registries: manifests, tokens, and single authorised streams of a blob.
//!
//! [`Registry`] is made once per process and holds what all readers share: connections, the address policy,
//! tokens, and the pauses that registries asked for. [`Repository`] is one repository seen with one
//! credential, and is the [`stowage_store::BlobSource`] that the download engine drives.
//!
//! A registry, its token server and everything that it redirects to are strangers. Nothing that they answer
//! chooses where a credential goes: see `address`, `redirect` and `token`.
#![forbid(unsafe_code)]

mod access;
mod address;
mod auth;
mod backoff;
mod blob;
mod body;
mod challenge;
mod client;
mod clients;
mod credential;
mod docker_config;
mod documents;
mod dossier;
mod endpoint;
mod error;
mod exchange;
mod host;
mod hosts;
mod image_pattern;
mod keyring;
mod manifest;
mod mirrors;
mod network_error;
mod options;
mod pause;
mod pull_secret;
mod range;
mod redirect;
mod renewable;
mod repository;
mod response;
mod route;
mod secret;
mod shown;
mod source;
mod token;
mod token_exchange;

pub use address::{AddressClass, classify};
pub use challenge::Challenge;
pub use client::Registry;
pub use credential::Credential;
pub use docker_config::{DockerConfig, DockerConfigError};
pub use error::{RegistryError, SetupError};
pub use host::{HostPattern, HostPatternError};
pub use hosts::{Capabilities, DEFAULT_HOSTS_DIRS, HostEntry, HostSettings, HostsFile, HostsFileError};
pub use image_pattern::{ImagePattern, ImagePatternError};
pub use manifest::{MANIFEST_TYPES, RawManifest};
pub use options::{Backoff, MirrorOptions, PlainHttp, ProxySettings, RegistryOptions};
pub use pull_secret::{PullSecretError, credential_from_secret};
pub use range::{ContentRange, ContentRangeError};
pub use renewable::Renewable;
pub use repository::Repository;
pub use secret::Secret;
pub use token_exchange::{ExchangeEndpoint, ExchangeEndpointError, TokenExchange};

/// The parsers of foreign bytes, for the fuzz targets.
pub mod parse {
    pub use crate::challenge::parse_challenges;
    pub use crate::hosts::duration::parse_go_duration;
    pub use crate::hosts::parse_hosts;
    pub use crate::pause::parse_retry_after;
    pub use crate::range::parse_content_range;
    pub use crate::token::parse_token_answer;
}
