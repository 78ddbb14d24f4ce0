//! The two questions a kubelet probe asks: alive, and ready?

use std::sync::Arc;

use tokio::sync::watch;

/// The conditions that `/readyz` reports, shared by everyone who can change one.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<watch::Sender<State>>);

#[derive(Debug, Default)]
struct State {
    /// Reasons for not being ready, by component.
    waiting: Vec<(&'static str, String)>,
    /// Why the process can no longer do its job, if so.
    dead: Option<String>,
}

impl State {
    fn is_ready(&self) -> bool {
        self.waiting.is_empty() && self.dead.is_none()
    }
}

impl Health {
    /// A process that is alive and waits for nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that `component` is not ready, and why.
    pub fn waiting(&self, component: &'static str, reason: impl Into<String>) {
        let reason = reason.into();
        self.0.send_modify(|state| {
            state.waiting.retain(|(name, _)| *name != component);
            state.waiting.push((component, reason));
        });
    }

    /// Says that `component` is ready.
    pub fn ready(&self, component: &'static str) {
        self.0.send_modify(|state| state.waiting.retain(|(name, _)| *name != component));
    }

    /// Says that the process cannot go on; `/livez` fails from now on.
    pub fn dead(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.0.send_modify(|state| {
            state.dead.get_or_insert(reason);
        });
    }

    /// Nothing is awaited and nothing is broken.
    pub fn is_ready(&self) -> bool {
        self.0.borrow().is_ready()
    }

    /// Waits until nothing is awaited and nothing is broken.
    pub async fn until_ready(&self) {
        let ready = self.0.subscribe().wait_for(State::is_ready).await.is_ok();
        debug_assert!(ready, "`self` holds the sender");
    }

    /// `Ok`, or one line for each component that is not ready.
    pub fn readiness(&self) -> Result<(), String> {
        let state = self.0.borrow();
        let mut lines: Vec<String> =
            state.waiting.iter().map(|(name, reason)| format!("{name}: {reason}")).collect();
        lines.extend(state.dead.clone());
        if lines.is_empty() { Ok(()) } else { Err(lines.join("\n")) }
    }

    /// `Ok`, or the reason why the process should be restarted.
    pub fn liveness(&self) -> Result<(), String> {
        self.0.borrow().dead.clone().map_or(Ok(()), Err)
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

    #[tokio::test]
    async fn whoever_waits_for_readiness_hears_of_the_last_component() {
        let health = Health::new();
        health.waiting("store", "x");
        health.waiting("registration", "y");
        let waiting = tokio::spawn({
            let health = health.clone();
            async move { health.until_ready().await }
        });
        health.ready("registration");
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        health.ready("store");
        waiting.await.unwrap();
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
