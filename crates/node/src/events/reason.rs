//! The reasons of our events. They are API: controllers and people match on them.

use stowage_volumes::{Meaning, PublishError};
use tonic::Code;

/// Why there is an event.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Reason {
    /// Bytes begin to arrive.
    Pulling,
    /// How far the pull is.
    Progress,
    /// All bytes are on the node.
    Pulled,
    /// The volume is there.
    Mounted,
    /// The registry, the network or this node does not do its part.
    PullFailed,
    /// No credential, a wrong one, or one without the right.
    AccessDenied,
    /// No such repository, tag or digest.
    NotFound,
    /// What is asked for can never be mounted like this, or may not be.
    Rejected,
    /// The node's disk has no room for it.
    NoSpace,
}

impl Reason {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pulling => "ArtifactPulling",
            Self::Progress => "ArtifactProgress",
            Self::Pulled => "ArtifactPulled",
            Self::Mounted => "ArtifactMounted",
            Self::PullFailed => "ArtifactPullFailed",
            Self::AccessDenied => "ArtifactAccessDenied",
            Self::NotFound => "ArtifactNotFound",
            Self::Rejected => "ArtifactRejected",
            Self::NoSpace => "ArtifactNoSpace",
        }
    }

    /// The event's type.
    pub(crate) fn kind(self) -> &'static str {
        match self {
            Self::Pulling | Self::Progress | Self::Pulled | Self::Mounted => "Normal",
            Self::PullFailed | Self::AccessDenied | Self::NotFound | Self::Rejected | Self::NoSpace => {
                "Warning"
            }
        }
    }

    /// Whether figures that were not written yet say nothing any more.
    pub(crate) fn ends_progress(self) -> bool {
        !matches!(self, Self::Pulling | Self::Progress)
    }

    /// The reason for a publish that failed; `None` where it goes on, or was ended by somebody's own call.
    #[expect(clippy::match_same_arms, reason = "exceptions by their error first, then one line a meaning")]
    pub(crate) fn of_error(error: &PublishError) -> Option<Self> {
        match (error, error.meaning()) {
            (PublishError::NotRolledBack { source, .. }, _) => Self::of_error(source),
            (PublishError::ShuttingDown, _) | (_, Meaning::InProgress | Meaning::Aborted) => None,
            // Access is not what the policy looks at.
            (PublishError::Policy { .. }, _) => Some(Self::Rejected),
            // Limits that have nothing to do with the disk's room.
            (PublishError::QueueFull { .. } | PublishError::Mount { .. }, Meaning::Exhausted) => {
                Some(Self::PullFailed)
            }
            (_, Meaning::Exhausted) => Some(Self::NoSpace),
            (_, Meaning::Unauthenticated | Meaning::Denied) => Some(Self::AccessDenied),
            (_, Meaning::NotFound) => Some(Self::NotFound),
            (_, Meaning::Invalid | Meaning::Conflict | Meaning::Unsupported) => Some(Self::Rejected),
            (_, Meaning::Unavailable | Meaning::DataLoss | Meaning::Internal) => Some(Self::PullFailed),
        }
    }

    /// The reason for a request that was refused before it was looked into.
    pub(crate) fn of_refusal(code: Code) -> Self {
        match code {
            Code::InvalidArgument | Code::FailedPrecondition => Self::Rejected,
            Code::Unauthenticated | Code::PermissionDenied => Self::AccessDenied,
            _ => Self::PullFailed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_their_reason_and_what_goes_on_has_none() {
        let reference = || "r.example/a:v1".to_owned();
        let aborted = PublishError::Aborted { volume_id: "csi-1".to_owned(), reason: "unpublished" };
        let progress = PublishError::InProgress { reference: reference(), progress: String::new() };
        let policy = PublishError::Policy { reference: reference(), reason: String::new() };
        let no_grant = PublishError::NoGrant { reference: reference(), reason: String::new() };
        let absent = PublishError::NotPresent { reference: reference() };
        for (error, reason) in [
            (aborted, None),
            (progress, None),
            (PublishError::ShuttingDown, None),
            (policy, Some(Reason::Rejected)),
            (no_grant, Some(Reason::AccessDenied)),
            (PublishError::QueueFull { waiting: 1, limit: 1 }, Some(Reason::PullFailed)),
            (PublishError::Died { doing: "x" }, Some(Reason::PullFailed)),
            (
                PublishError::NotRolledBack {
                    source: absent.clone().into(),
                    left: PublishError::ShuttingDown.into(),
                },
                Some(Reason::NotFound),
            ),
            (absent, Some(Reason::NotFound)),
        ] {
            assert_eq!(Reason::of_error(&error), reason, "{error}");
        }
        assert_eq!(Reason::of_refusal(Code::InvalidArgument), Reason::Rejected);
        assert_eq!(Reason::of_refusal(Code::Unavailable), Reason::PullFailed);
    }
}
