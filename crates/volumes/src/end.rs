//! The end of work from outside: an unpublish, a changed credential, nobody's interest, the end of the process.

use std::sync::OnceLock;

use tokio_util::sync::CancellationToken;

use crate::PublishError;

/// Why work was ended from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum EndReason {
    /// An unpublish for the same volume and target.
    Unpublished,
    /// A publish that brought another credential.
    Superseded,
    /// Nobody asked for the volume for too long.
    Abandoned,
    /// The process is about to exit.
    ShuttingDown,
}

impl EndReason {
    pub(crate) fn error(self, volume_id: &str) -> PublishError {
        let reason = match self {
            Self::ShuttingDown => return PublishError::ShuttingDown,
            Self::Unpublished => "the volume was unpublished while it was being pulled",
            Self::Superseded => "another publish call brought a changed credential",
            Self::Abandoned => "no publish call came for it for several minutes",
        };
        PublishError::Aborted { volume_id: volume_id.to_owned(), reason }
    }
}

/// Whether work was ended, and why.
#[derive(Debug, Default)]
pub(crate) struct End {
    reason: OnceLock<EndReason>,
    cancel: CancellationToken,
}

impl End {
    /// Ends the work; the first reason counts.
    pub(crate) fn end(&self, reason: EndReason) {
        let _ = self.reason.set(reason);
        self.cancel.cancel();
    }

    /// Why the work was ended, if it was.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.reason.get().copied()
    }

    /// Runs `work` unless it is ended first. Only for work that may be dropped at any await: never for a step that
    /// changes the disk or the mount table.
    pub(crate) async fn unless_ended<T>(
        &self,
        volume_id: &str,
        work: impl Future<Output = T>,
    ) -> Result<T, PublishError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => {
                Err(self.ended().unwrap_or(EndReason::ShuttingDown).error(volume_id))
            }
            result = work => Ok(result),
        }
    }
}
