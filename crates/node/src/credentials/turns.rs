//! Who may run a plugin or ask an endpoint for a credential now: so many on the node, and so many of one namespace, so that
//! a pod with hundreds of volumes leaves something to the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::CredentialError;

/// Plugins that run, and endpoints that are asked, at the same time.
const AT_ONCE: usize = 8;
/// How many of them for one namespace.
const SHARE: usize = 4;
/// More namespaces are kept only while somebody of them waits or has a turn.
const MOST_NAMESPACES: usize = 256;

/// The turns of this node.
pub(super) struct Turns {
    node: Arc<Semaphore>,
    namespaces: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// One turn; it ends when this is dropped.
pub(super) struct Turn {
    _of_namespace: OwnedSemaphorePermit,
    _of_node: OwnedSemaphorePermit,
}

/// A call's place in the queue.
#[derive(Clone, Copy)]
pub(super) struct Queue<'a> {
    pub(super) turns: &'a Turns,
    pub(super) namespace: &'a str,
    /// When the call has to be answered.
    pub(super) until: Instant,
}

impl Default for Turns {
    fn default() -> Self {
        Self { node: Arc::new(Semaphore::new(AT_ONCE)), namespaces: Mutex::default() }
    }
}

impl Turns {
    fn of_namespace(&self, namespace: &str) -> Arc<Semaphore> {
        let mut namespaces = self.namespaces.lock().unwrap_or_else(PoisonError::into_inner);
        if namespaces.len() >= MOST_NAMESPACES {
            namespaces.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = namespaces.entry(namespace.to_owned());
        Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(SHARE))))
    }
}

impl Queue<'_> {
    /// Waits for a turn, in the order of the calls.
    pub(super) async fn turn(&self) -> Result<Turn, CredentialError> {
        let share = self.turns.of_namespace(self.namespace);
        let turn = async {
            // In this order no namespace has more than its share of those that wait for the node.
            let of_namespace = share.acquire_owned().await?;
            let of_node = Arc::clone(&self.turns.node).acquire_owned().await?;
            Ok(Turn { _of_namespace: of_namespace, _of_node: of_node })
        };
        let turn: Result<Turn, tokio::sync::AcquireError> =
            timeout_at(self.until, turn).await.map_err(|_| busy())?;
        turn.map_err(|_| CredentialError::ShuttingDown)
    }
}

fn busy() -> CredentialError {
    CredentialError::Busy { at_once: AT_ONCE, share: SHARE }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    #[tokio::test]
    async fn a_namespace_has_its_share_and_the_node_its_limit() {
        let turns = Turns::default();
        let queue = |namespace| Queue { turns: &turns, namespace, until: soon() };
        let mut held = Vec::new();
        for namespace in ["a", "b"] {
            for _ in 0..SHARE {
                held.push(queue(namespace).turn().await.ok().unwrap());
            }
            let refused = queue(namespace).turn().await.err().unwrap();
            assert!(matches!(refused, CredentialError::Busy { .. }), "{refused}");
        }
        assert_eq!(held.len(), AT_ONCE, "two namespaces fill the node");
        assert!(queue("c").turn().await.is_err());
        held.remove(0);
        assert!(queue("c").turn().await.is_ok());
    }

    #[tokio::test]
    async fn namespaces_that_nobody_waits_for_are_forgotten() {
        let turns = Turns::default();
        let held = Queue { turns: &turns, namespace: "held", until: soon() }.turn().await;
        for number in 0..=MOST_NAMESPACES {
            let namespace = number.to_string();
            drop(Queue { turns: &turns, namespace: &namespace, until: soon() }.turn().await);
        }
        let namespaces = turns.namespaces.lock().unwrap();
        assert!(
            namespaces.len() < MOST_NAMESPACES && namespaces.contains_key("held"),
            "{}",
            namespaces.len()
        );
        drop(held);
    }
}
