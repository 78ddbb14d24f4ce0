//! Trying a request again.

use std::time::Duration;

use rand::RngExt as _;

use crate::error::RegistryError;
use crate::options::{Backoff, RegistryOptions};

/// The tries that one request has left.
pub(crate) struct Tries<'a> {
    options: &'a RegistryOptions,
    made: u32,
}

impl<'a> Tries<'a> {
    pub(crate) fn new(options: &'a RegistryOptions) -> Self {
        Self { options, made: 0 }
    }

    /// Waits before the next try, or gives the error back when there is none.
    pub(crate) async fn again(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.made += 1;
        if !error.is_transient() || self.made >= self.options.tries {
            return Err(error);
        }
        let wait = match error.retry_after() {
            Some(asked) if asked > self.options.patience => return Err(error),
            // Everyone was told the same moment, so a little is added to spread them.
            Some(asked) => asked + jittered(self.options.backoff, 0) / 4,
            None => jittered(self.options.backoff, self.made - 1),
        };
        tracing::debug!(%error, wait_ms = wait.as_millis() as u64, tries = self.made, "trying again");
        tokio::time::sleep(wait).await;
        Ok(())
    }
}

/// Between half of the step and the whole of it.
fn jittered(backoff: Backoff, step: u32) -> Duration {
    let full = backoff.base.saturating_mul(2_u32.saturating_pow(step)).min(backoff.cap);
    full.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Tries, jittered};
    use crate::error::RegistryError;
    use crate::options::{Backoff, RegistryOptions};

    #[test]
    fn waits_double_up_to_the_cap() {
        let backoff = Backoff { base: Duration::from_millis(100), cap: Duration::from_millis(350) };
        for (step, full) in [(0, 100), (1, 200), (2, 350), (40, 350)] {
            let wait = jittered(backoff, step);
            let full = Duration::from_millis(full);
            assert!(wait >= full / 2 && wait <= full, "step {step}: {wait:?}");
        }
    }

    fn failure(retry_after: Option<Duration>) -> RegistryError {
        RegistryError::Unavailable { what: "x".into(), reason: "y".into(), retry_after }
    }

    #[tokio::test]
    async fn the_tries_are_counted_and_final_errors_are_not_repeated() {
        let backoff = Backoff { base: Duration::from_micros(10), cap: Duration::from_micros(10) };
        let options = RegistryOptions { tries: 3, backoff, ..RegistryOptions::default() };
        let mut tries = Tries::new(&options);
        assert!(tries.again(failure(None)).await.is_ok());
        assert!(tries.again(failure(None)).await.is_ok());
        assert!(tries.again(failure(None)).await.is_err());
        let refused = RegistryError::Refused { what: "x".into(), reason: "y".into() };
        assert!(Tries::new(&options).again(refused).await.is_err());
        let patient = failure(Some(options.patience + Duration::from_secs(1)));
        assert!(Tries::new(&options).again(patient).await.is_err());
    }
}
