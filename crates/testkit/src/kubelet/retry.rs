//! Which answers kubelet takes as final, and how it tries again.

use std::time::Duration;

use tonic::{Code, Status};

/// Whether kubelet takes the volume's state as unknown after this code, and so unpublishes it later. Any
/// other failure is final: kubelet removes the target by itself and may never unpublish.
pub fn is_uncertain(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Unavailable
            | Code::ResourceExhausted
            | Code::Aborted
    )
}

/// How often and how long to try.
#[derive(Clone, Copy, Debug)]
pub struct RetryPolicy {
    /// Wait before the second try; it doubles from try to try.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
    /// When to give up, counted from the first try; kubelet never does.
    pub limit: Duration,
}

impl RetryPolicy {
    /// Kubelet's own waits, with an end.
    pub fn kubelet(limit: Duration) -> Self {
        Self { first: Duration::from_millis(500), most: Duration::from_secs(122), limit }
    }

    /// Short waits, for tests.
    pub fn quick(limit: Duration) -> Self {
        Self { first: Duration::from_millis(10), most: Duration::from_millis(200), limit }
    }
}

/// A publish that did not come to be.
#[derive(Debug, thiserror::Error)]
#[error("publish failed after {tries} tries: {status}")]
pub struct Failure {
    /// The last answer.
    pub status: Box<Status>,
    /// The codes of all tries, in order.
    pub codes: Vec<Code>,
    /// How many tries there were.
    pub tries: usize,
}
