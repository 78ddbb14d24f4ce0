//! From what a failure means to its gRPC status (the tables of `csi.md`).

use stowage_volumes::{Meaning, PublishError, StatsError, UnpublishError};
use tonic::{Code, Status};

/// The code for what a failure means; exhaustive on purpose.
pub(crate) fn code(meaning: Meaning) -> Code {
    match meaning {
        Meaning::Invalid => Code::InvalidArgument,
        Meaning::InProgress => Code::DeadlineExceeded,
        Meaning::Unavailable => Code::Unavailable,
        Meaning::Exhausted => Code::ResourceExhausted,
        Meaning::Unauthenticated => Code::Unauthenticated,
        Meaning::Denied => Code::PermissionDenied,
        Meaning::NotFound => Code::NotFound,
        Meaning::DataLoss => Code::DataLoss,
        Meaning::Conflict => Code::AlreadyExists,
        Meaning::Unsupported => Code::FailedPrecondition,
        Meaning::Aborted => Code::Aborted,
        Meaning::Internal => Code::Internal,
    }
}

/// The status of a failed publish.
pub(crate) fn of_publish(error: &PublishError) -> Status {
    Status::new(code(error.meaning()), error.to_string())
}

/// The status of a failed unpublish.
pub(crate) fn of_unpublish(error: &UnpublishError) -> Status {
    Status::new(code(error.meaning()), error.to_string())
}

/// The status of failed stats.
pub(crate) fn of_stats(error: &StatsError) -> Status {
    let code = match error {
        StatsError::NotFound { .. } | StatsError::Unknown { .. } => Code::NotFound,
        StatsError::Failed(error) => code(error.meaning()),
    };
    Status::new(code, error.to_string())
}

/// The label of a metric for a result: `ok`, or the code in snake case.
pub(crate) fn label(result: Result<&(), &Status>) -> &'static str {
    match result.map_err(Status::code) {
        Ok(&()) | Err(Code::Ok) => "ok",
        Err(Code::Cancelled) => "cancelled",
        Err(Code::Unknown) => "unknown",
        Err(Code::InvalidArgument) => "invalid_argument",
        Err(Code::DeadlineExceeded) => "deadline_exceeded",
        Err(Code::NotFound) => "not_found",
        Err(Code::AlreadyExists) => "already_exists",
        Err(Code::PermissionDenied) => "permission_denied",
        Err(Code::ResourceExhausted) => "resource_exhausted",
        Err(Code::FailedPrecondition) => "failed_precondition",
        Err(Code::Aborted) => "aborted",
        Err(Code::OutOfRange) => "out_of_range",
        Err(Code::Unimplemented) => "unimplemented",
        Err(Code::Internal) => "internal",
        Err(Code::Unavailable) => "unavailable",
        Err(Code::DataLoss) => "data_loss",
        Err(Code::Unauthenticated) => "unauthenticated",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// kubelet cleans up later only after these codes; every other one must mean "rolled back".
    #[test]
    fn a_code_is_final_for_kubelet_exactly_when_it_is_for_us() {
        for meaning in [
            Meaning::Invalid,
            Meaning::InProgress,
            Meaning::Unavailable,
            Meaning::Exhausted,
            Meaning::Unauthenticated,
            Meaning::Denied,
            Meaning::NotFound,
            Meaning::DataLoss,
            Meaning::Conflict,
            Meaning::Unsupported,
            Meaning::Aborted,
            Meaning::Internal,
        ] {
            let uncertain = matches!(
                code(meaning),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Unavailable
                    | Code::ResourceExhausted
                    | Code::Aborted
            );
            assert_eq!(meaning.is_final(), !uncertain, "{meaning:?}");
        }
    }
}
