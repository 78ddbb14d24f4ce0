//! A publish at work, as one call sees it.

use std::sync::Arc;
use std::time::Duration;

use crate::PublishError;
use crate::job::{Job, Outcome};
use crate::progress::Progress;
use crate::request::PublishRequest;

/// A publish at work. It belongs to the volume: dropping this, or no longer waiting, does not end it.
#[derive(Clone, Debug)]
pub struct Work {
    job: Arc<Job>,
    reference: String,
    wait: Duration,
    started: bool,
}

impl Work {
    pub(crate) fn new(job: &Arc<Job>, request: &PublishRequest, wait: Duration, started: bool) -> Self {
        let reference = request.attributes.reference.to_string();
        Self { job: Arc::clone(job), reference, wait, started }
    }

    /// Whether the call that was answered with this has started the work; false where it found it at work.
    pub fn started(&self) -> bool {
        self.started
    }

    /// What is being published.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// How far the work is.
    pub fn progress(&self) -> &Progress {
        &self.job.progress
    }

    /// Waits as long as the request said, then answers [`PublishError::InProgress`]. A call that waits keeps the work
    /// from being given up, and so does the call itself for some minutes afterwards.
    pub async fn wait(&self) -> Outcome {
        self.job.wait(self.wait).await.unwrap_or_else(|| {
            Err(PublishError::InProgress {
                reference: self.reference.clone(),
                progress: self.job.progress.describe(),
            })
        })
    }

    /// Waits until the work has ended, without being a reason to go on with it.
    pub async fn ended(&self) -> Outcome {
        self.job.settled().await
    }
}
