//! The two questions a kubelet probe asks: alive, and ready?

use std::sync::{Arc, Mutex, PoisonError};

/// The conditions that `/readyz` reports, shared by everyone who can change one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Reasons for not being ready, by component.
    waiting: Vec<(&'static str, String)>,
    /// Why the process can no longer do its job, if so.
    dead: Option<String>,
}

impl Health {
    /// A process that is alive and waits for nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that `component` is not ready, and why.
    pub fn waiting(&self, component: &'static str, reason: impl Into<String>) {
        let mut state = self.lock();
        state.waiting.retain(|(name, _)| *name != component);
        state.waiting.push((component, reason.into()));
    }

    /// Says that `component` is ready.
    pub fn ready(&self, component: &'static str) {
        self.lock().waiting.retain(|(name, _)| *name != component);
    }

    /// Says that the process cannot go on; `/livez` fails from now on.
    pub fn dead(&self, reason: impl Into<String>) {
        self.lock().dead.get_or_insert(reason.into());
    }

    /// Nothing is awaited and nothing is broken.
    pub fn is_ready(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && state.dead.is_none()
    }

    /// `Ok`, or one line for each component that is not ready.
    pub fn readiness(&self) -> Result<(), String> {
        let state = self.lock();
        let mut lines: Vec<String> =
            state.waiting.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        lines.extend(state.dead.clone());
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }

    /// `Ok`, or the reason why the process should be restarted.
    pub fn liveness(&self) -> Result<(), String> {
        self.lock().dead.clone().map_or(Ok(()), Err)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_only_when_nothing_is_awaited() {
        let health = Health::new();
        health.waiting("store", "waiting for node.lock");
        health.waiting("registration", "not registered");
        assert_eq!(
            health.readiness().unwrap_err(),
            "store: waiting for node.lock\nregistration: not registered"
        );
        health.ready("store");
        assert!(!health.is_ready());
        health.ready("registration");
        assert!(health.is_ready());
    }

    #[test]
    fn the_first_cause_of_death_is_kept() {
        let health = Health::new();
        health.dead("first");
        health.dead("second");
        assert_eq!(health.liveness().unwrap_err(), "first");
        assert!(!health.is_ready());
    }
}
