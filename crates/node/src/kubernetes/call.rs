//! One call of the API server: a limit in time, and what its failure means to us.

use std::error::Error;
use std::time::Duration;

use kube::core::Status;

/// How long one call may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// Of what an API server says, this many bytes are repeated.
const MOST_SAID: usize = 500;

/// What is said with a 422 to a JSON patch whose test fails. An admission policy and an object that is not valid are
/// answered 422 too, with the same reason, and begin with the object's name.
const PATCH_DID_NOT_FIT: &str = "the server rejected our request";

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("the API server has no such object ({0})")]
    NotFound(String),
    #[error("an object of that name is there already")]
    Exists,
    #[error("the object was changed meanwhile ({0})")]
    Conflict(String),
    /// The namespace is on its way out, and nothing can be made in it.
    #[error("the namespace is being deleted ({0})")]
    Ending(String),
    #[error("the API server forbids it ({0})")]
    Forbidden(String),
    #[error("the API server refuses it ({0})")]
    Refused(String),
    #[error("the API server cannot do it now ({0})")]
    Busy(String),
    #[error("the API server cannot be reached ({0})")]
    Unreachable(String),
}

impl CallError {
    /// One word for what is wrong, by which warnings are told apart.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "not found",
            Self::Exists => "exists",
            Self::Conflict(_) => "conflict",
            Self::Ending(_) => "ending",
            Self::Forbidden(_) => "forbidden",
            Self::Refused(_) => "refused",
            Self::Busy(_) => "busy",
            Self::Unreachable(_) => "unreachable",
        }
    }

    /// Whether the same call may work later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Busy(_) | Self::Unreachable(_) => true,
            Self::NotFound(_)
            | Self::Exists
            | Self::Conflict(_)
            | Self::Ending(_)
            | Self::Forbidden(_)
            | Self::Refused(_) => false,
        }
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => of_status(&status),
            error => Self::Unreachable(chain(&error)),
        }
    }
}

fn of_status(status: &Status) -> CallError {
    let said = if status.message.is_empty() { &status.reason } else { &status.message };
    // A proxy in between may answer with a whole page.
    let said = said[..said.floor_char_boundary(MOST_SAID)].to_owned();
    match status.code {
        404 => CallError::NotFound(said),
        409 if status.reason == "AlreadyExists" => CallError::Exists,
        409 => CallError::Conflict(said),
        422 if said.starts_with(PATCH_DID_NOT_FIT) => CallError::Conflict(said),
        403 if said.contains("being terminated") => CallError::Ending(said),
        403 => CallError::Forbidden(said),
        // Tokens rotate, and a server may need a moment to know them.
        0 | 401 | 408 | 429 | 500.. => CallError::Busy(said),
        _ => CallError::Refused(said),
    }
}

/// Does one call, within [`LIMIT`].
pub(crate) async fn call<T>(work: impl Future<Output = kube::Result<T>>) -> Result<T, CallError> {
    match tokio::time::timeout(LIMIT, work).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Unreachable(format!("no answer within {} s", LIMIT.as_secs()))),
    }
}

/// An error with all its causes; the outer ones of an HTTP client say little.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `ValidatingAdmissionPolicy` that names no reason.
    const POLICY: &str = "nodes \"node-1\" is forbidden: ValidatingAdmissionPolicy 'taints' with binding 'all' denied request: no";

    #[test]
    fn answers_are_told_apart_by_what_can_be_done_about_them() {
        for (code, reason, message, kind) in [
            (404, "NotFound", "nodes \"a\" not found", "not found"),
            (409, "AlreadyExists", "", "exists"),
            (409, "Conflict", "the object has been modified", "conflict"),
            (422, "Invalid", "the server rejected our request due to an error in our request", "conflict"),
            (422, "Invalid", POLICY, "refused"),
            (422, "Invalid", "Event \"x\" is invalid: involvedObject.namespace: Invalid value", "refused"),
            (403, "Forbidden", "because it is being terminated", "ending"),
            (403, "Forbidden", "cannot create resource \"events\"", "forbidden"),
            (400, "BadRequest", "", "refused"),
            (401, "Unauthorized", "", "busy"),
            (429, "TooManyRequests", "", "busy"),
            (503, "ServiceUnavailable", "", "busy"),
        ] {
            let error = of_status(&Status::failure(message, reason).with_code(code));
            assert_eq!(error.kind(), kind, "{code} {reason} {message}");
            assert_eq!(error.is_transient(), kind == "busy", "{code}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_not_answered_ends() {
        let started = tokio::time::Instant::now();
        let error = call(std::future::pending::<kube::Result<()>>()).await.unwrap_err();
        assert_eq!(error.kind(), "unreachable");
        assert_eq!(started.elapsed(), LIMIT);
    }
}
