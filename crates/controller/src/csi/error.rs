//! Why a call fails, and which gRPC code that is (`csi.md`, "Codes of the controller").

use std::time::Duration;

use stowage_registry::{PullSecretError, RegistryError};
use tonic::{Code, Status};

use super::capability::CapabilityError;
use super::capacity::CapacityError;
use super::cluster::ClusterError;
use super::memory::MemoryError;
use super::parameters::ParameterError;
use crate::credentials::CredentialError;
use crate::resolve::ResolveError;

/// Why a call of the Controller service fails.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ControllerError {
    #[error("the request has no {0}; the provisioner always sends one")]
    Missing(&'static str),
    #[error("the volume name has {0} bytes, and at most 128 are allowed; shorten --volume-name-prefix")]
    LongName(usize),
    #[error(
        "a volume cannot be made of a snapshot or of another volume: it is an artifact; leave dataSource out of the claim"
    )]
    ContentSource,
    #[error(
        "parameters of a volume cannot be changed later; leave volumeAttributesClassName out of the claim"
    )]
    MutableParameters,
    #[error(transparent)]
    Capability(#[from] CapabilityError),
    #[error(transparent)]
    Capacity(#[from] CapacityError),
    #[error(transparent)]
    Parameter(#[from] ParameterError),
    #[error(transparent)]
    Credential(#[from] CredentialError),
    #[error("another call for volume {0} is running; the provisioner repeats this one")]
    Busy(String),
    #[error("volume {name} exists with other {what}; delete its PersistentVolume, or claim with a new name")]
    Conflict { name: String, what: &'static str },
    #[error("volume {0} is not known; no volume of that name was made here")]
    Unknown(String),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("volume {name} was not ready within {} s; the provisioner calls again", budget.as_secs())]
    TooSlow { name: String, budget: Duration },
    #[error("the controller is shutting down; the provisioner calls again")]
    Stopping,
}

impl ControllerError {
    /// Exhaustive on purpose. `UNAVAILABLE` and `DEADLINE_EXCEEDED` never come out: after those the provisioner goes on calling
    /// for a claim that was deleted.
    pub(crate) fn code(&self) -> Code {
        match self {
            Self::Missing(_)
            | Self::LongName(_)
            | Self::ContentSource
            | Self::MutableParameters
            | Self::Capability(_)
            | Self::Capacity(CapacityError::NoRange { .. }) => Code::InvalidArgument,
            Self::Capacity(CapacityError::TooLarge { .. }) => Code::OutOfRange,
            Self::Parameter(error) => parameter(error),
            Self::Credential(error) => credential(error),
            Self::Busy(_) => Code::Aborted,
            Self::Conflict { .. } => Code::AlreadyExists,
            Self::Unknown(_) | Self::Cluster(ClusterError::NoClaim(_)) => Code::NotFound,
            Self::Resolve(error) => resolve(error),
            Self::Cluster(ClusterError::NoApiServer) => Code::FailedPrecondition,
            Self::Cluster(ClusterError::Api { .. })
            | Self::Memory(_)
            | Self::TooSlow { .. }
            | Self::Stopping => Code::Internal,
        }
    }
}

fn parameter(error: &ParameterError) -> Code {
    match error {
        ParameterError::Syntax { .. }
        | ParameterError::NoClaim { .. }
        | ParameterError::NoAnnotation { .. }
        | ParameterError::Unbounded
        | ParameterError::Attributes(_) => Code::InvalidArgument,
        ParameterError::NotAllowed { .. } => Code::PermissionDenied,
    }
}

fn credential(error: &CredentialError) -> Code {
    match error {
        CredentialError::Secret(
            PullSecretError::DockerConfig { .. }
            | PullSecretError::NoRegistry
            | PullSecretError::Incomplete { .. },
        ) => Code::InvalidArgument,
        // The controller's own file: an administrator mends it while the provisioner goes on trying.
        CredentialError::DockerConfig { .. } => Code::Internal,
    }
}

fn resolve(error: &ResolveError) -> Code {
    match error {
        ResolveError::Policy { .. } => Code::PermissionDenied,
        ResolveError::Registry(error) => registry(error),
        ResolveError::Manifest { .. }
        | ResolveError::NestedIndex { .. }
        | ResolveError::TooManyDocuments { .. }
        | ResolveError::Select { .. }
        | ResolveError::Layout { .. } => Code::InvalidArgument,
    }
}

fn registry(error: &RegistryError) -> Code {
    match error {
        RegistryError::Unauthenticated { .. } => Code::Unauthenticated,
        RegistryError::Forbidden { .. } | RegistryError::Refused { .. } => Code::PermissionDenied,
        RegistryError::NotFound { .. } => Code::NotFound,
        RegistryError::RateLimited { .. }
        | RegistryError::Unavailable { .. }
        | RegistryError::Untrusted { .. }
        | RegistryError::RangeRefused { .. }
        | RegistryError::Protocol { .. } => Code::Internal,
        RegistryError::TooLarge { .. } => Code::InvalidArgument,
        RegistryError::DigestMismatch { .. } => Code::DataLoss,
    }
}

impl From<ControllerError> for Status {
    fn from(error: ControllerError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// The label of a metric for a result: `ok`, or the code in snake case.
pub(crate) fn label<T>(result: &Result<T, ControllerError>) -> &'static str {
    match result.as_ref().map_or_else(ControllerError::code, |_| Code::Ok) {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use stowage_artifact::{AttributeError, Digest, LayoutError, ManifestError, PolicyError, SelectError};
    use stowage_csi_plugin::CapabilityError as Unsupported;

    use super::*;
    use crate::csi::memory::Memory;

    fn digest() -> Digest {
        format!("sha256:{}", "a".repeat(64)).parse().unwrap()
    }

    fn text() -> String {
        "text".to_owned()
    }

    fn registries() -> Vec<(RegistryError, Code)> {
        let (what, reason, host) = (text, text, text);
        vec![
            (RegistryError::Unauthenticated { what: what(), reason: reason() }, Code::Unauthenticated),
            (RegistryError::Forbidden { what: what(), reason: reason() }, Code::PermissionDenied),
            (RegistryError::Refused { what: what(), reason: reason() }, Code::PermissionDenied),
            (RegistryError::NotFound { what: what(), host: host() }, Code::NotFound),
            (RegistryError::RateLimited { what: what(), host: host(), retry_after: None }, Code::Internal),
            (
                RegistryError::Unavailable { what: what(), reason: reason(), retry_after: None },
                Code::Internal,
            ),
            (RegistryError::Untrusted { what: what(), host: host(), reason: reason() }, Code::Internal),
            (RegistryError::RangeRefused { what: what(), reason: reason() }, Code::Internal),
            (RegistryError::Protocol { what: what(), reason: reason() }, Code::Internal),
            (RegistryError::TooLarge { what: what(), limit: 1 }, Code::InvalidArgument),
            (
                RegistryError::DigestMismatch {
                    what: what(),
                    host: host(),
                    expected: digest(),
                    found: digest(),
                },
                Code::DataLoss,
            ),
        ]
    }

    fn docker_config() -> PullSecretError {
        PullSecretError::DockerConfig { key: ".dockerconfigjson", reason: text() }
    }

    fn layout() -> LayoutError {
        LayoutError::Encrypted { layer: text() }
    }

    /// A file that holds no memory.
    fn memory() -> MemoryError {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{").unwrap();
        Memory::open(file.path()).unwrap_err()
    }

    fn kubernetes() -> ClusterError {
        let status = kube::core::Status::failure("no etcd", "InternalError").with_code(500);
        ClusterError::Api { what: text(), source: Box::new(kube::Error::Api(status.boxed())) }
    }

    /// The table of `csi.md`, row by row.
    #[test]
    fn every_failure_has_the_code_that_the_provisioner_needs() {
        let invalid = Code::InvalidArgument;
        let mut table: Vec<(ControllerError, Code)> = vec![
            (ControllerError::Missing("name"), invalid),
            (ControllerError::LongName(200), invalid),
            (ControllerError::ContentSource, invalid),
            (ControllerError::MutableParameters, invalid),
            (CapabilityError::None.into(), invalid),
            (CapabilityError::Unsupported(Unsupported::Missing("mode")).into(), invalid),
            (CapabilityError::Unsupported(Unsupported::Block).into(), invalid),
            (CapabilityError::Unsupported(Unsupported::Writers("MULTI_NODE_MULTI_WRITER")).into(), invalid),
            (CapabilityError::Unsupported(Unsupported::MountFlag(text())).into(), invalid),
            (CapabilityError::Unsupported(Unsupported::FsType(text())).into(), invalid),
            (CapacityError::NoRange { required: 2, limit: 1 }.into(), invalid),
            (CapacityError::TooLarge { size: 2, limit: 1 }.into(), Code::OutOfRange),
            (ParameterError::Syntax { key: text(), part: text() }.into(), invalid),
            (ParameterError::NoClaim { key: text() }.into(), invalid),
            (ParameterError::NoAnnotation { key: text(), claim: text(), annotation: text() }.into(), invalid),
            (ParameterError::Unbounded.into(), invalid),
            (ParameterError::Attributes(AttributeError::NoReference).into(), invalid),
            (
                ParameterError::NotAllowed { reference: text(), allowed: text() }.into(),
                Code::PermissionDenied,
            ),
            (CredentialError::Secret(PullSecretError::NoRegistry).into(), invalid),
            (CredentialError::Secret(docker_config()).into(), invalid),
            (CredentialError::Secret(PullSecretError::Incomplete { missing: "password" }).into(), invalid),
            (CredentialError::DockerConfig { path: "/x".into(), reason: text() }.into(), Code::Internal),
            (ControllerError::Busy(text()), Code::Aborted),
            (ControllerError::Conflict { name: text(), what: "parameters" }, Code::AlreadyExists),
            (ControllerError::Unknown(text()), Code::NotFound),
            (
                ResolveError::Policy { reference: text(), rule: PolicyError::NoDigest }.into(),
                Code::PermissionDenied,
            ),
            (ResolveError::Manifest { reference: text(), source: ManifestError::BothKinds }.into(), invalid),
            (ResolveError::NestedIndex { reference: text(), depth: 4 }.into(), invalid),
            (ResolveError::TooManyDocuments { reference: text(), read: 32 }.into(), invalid),
            (ResolveError::Layout { reference: text(), source: layout() }.into(), invalid),
            (ResolveError::Select { reference: text(), source: SelectError::NoCandidates }.into(), invalid),
            (ClusterError::NoApiServer.into(), Code::FailedPrecondition),
            (ClusterError::NoClaim(text()).into(), Code::NotFound),
            (kubernetes().into(), Code::Internal),
            (memory().into(), Code::Internal),
            (ControllerError::TooSlow { name: text(), budget: Duration::from_secs(45) }, Code::Internal),
            (ControllerError::Stopping, Code::Internal),
        ];
        table.extend(
            registries().into_iter().map(|(error, code)| (ResolveError::Registry(error).into(), code)),
        );
        for (error, code) in table {
            let message = error.to_string();
            let status = Status::from(error);
            assert_eq!(status.code(), code, "{message}");
            assert_eq!(status.message(), message);
            assert!(!matches!(status.code(), Code::Unavailable | Code::DeadlineExceeded), "{message}");
        }
    }
}
