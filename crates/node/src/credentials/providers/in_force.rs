//! The providers' file that is in force: the newest one that could be used.

use std::sync::{Arc, Mutex, PoisonError};

use stowage_telemetry::Metrics;

use super::config::{self, FileError, Provider};
use super::{ProviderError, ProviderSettings};

/// What was read last, and whether it can still be read. The metric says the same.
pub(super) struct InForce {
    last: Mutex<Last>,
    metrics: Metrics,
}

#[derive(Default)]
struct Last {
    good: Option<(ProviderSettings, Arc<[Provider]>)>,
    /// What is wrong with the file, as the log has it already.
    trouble: Option<String>,
}

impl InForce {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { last: Mutex::default(), metrics }
    }

    /// Reads the file; blocks for a moment. One that is broken changes nothing, so that no volume waits for its mending;
    /// where there was none before, nobody knows which images it is for.
    pub(super) fn read(&self, settings: &ProviderSettings) -> Result<Arc<[Provider]>, ProviderError> {
        let read = config::read(settings);
        self.metrics.credential_providers_valid(read.is_ok());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(providers) => {
                if last.trouble.take().is_some() {
                    tracing::info!("the credential providers' configuration can be used again");
                }
                let providers: Arc<[Provider]> = providers.into();
                last.good = Some((settings.clone(), Arc::clone(&providers)));
                Ok(providers)
            }
            Err(error) => {
                let kept = last.good.as_ref().filter(|(of, _)| of == settings);
                let kept = kept.map(|(_, providers)| Arc::clone(providers));
                last.warn(&error, kept.is_some());
                kept.ok_or(ProviderError::Misconfigured)
            }
        }
    }

    /// No file is named any more.
    pub(super) fn none(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Last::default();
        self.metrics.credential_providers_valid(true);
    }
}

impl Last {
    /// Once for each trouble: each publish reads the file.
    fn warn(&mut self, error: &FileError, kept: bool) {
        let said = error.to_string();
        if self.trouble.as_ref() != Some(&said) {
            let then =
                if kept { "what it said before stays in force" } else { "volumes wait for its mending" };
            tracing::warn!(%error, "the credential providers are misconfigured; {then}");
            self.trouble = Some(said);
        }
    }
}
