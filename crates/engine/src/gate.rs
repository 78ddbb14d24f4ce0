//! A node-wide limit whose queue takes the namespaces in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Hands out a fixed number of permits: first come first served within a namespace, namespaces in turn.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    free: usize,
    per_namespace: usize,
    held: HashMap<Arc<str>, usize>,
    /// Namespaces with somebody waiting, the next to be served in front.
    queues: VecDeque<(Arc<str>, VecDeque<oneshot::Sender<Permit>>)>,
}

/// One of the gate's permits, back at the gate when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Gate,
    namespace: Arc<str>,
}

impl Gate {
    pub(crate) fn new(permits: usize, per_namespace: usize) -> Self {
        let state = State { free: permits, per_namespace, held: HashMap::new(), queues: VecDeque::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Stands in the queue at once; the permit comes through the receiver, which may be dropped at any time.
    pub(crate) fn enter(&self, namespace: &Arc<str>) -> oneshot::Receiver<Permit> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            match state.queues.iter_mut().find(|(name, _)| name == namespace) {
                Some((_, queue)) => queue.push_back(sender),
                None => state.queues.push_back((Arc::clone(namespace), VecDeque::from([sender]))),
            }
        }
        self.serve();
        receiver
    }

    /// Waits for a permit.
    pub(crate) async fn acquire(&self, namespace: &Arc<str>) -> Option<Permit> {
        self.enter(namespace).await.ok()
    }

    /// Permits that are out.
    pub(crate) fn in_use(&self) -> usize {
        self.lock().held.values().sum()
    }

    fn serve(&self) {
        while let Some((sender, namespace)) = self.next_in_line() {
            // A receiver that is gone drops the permit here, outside the lock, and the next one is served.
            drop(sender.send(Permit { gate: self.clone(), namespace }));
        }
    }

    fn next_in_line(&self) -> Option<(oneshot::Sender<Permit>, Arc<str>)> {
        let mut state = self.lock();
        if state.free == 0 {
            return None;
        }
        // Those who left are cleared here, or dropping their permits one by one would recurse through them all.
        state.queues.retain_mut(|(_, queue)| {
            while queue.front().is_some_and(oneshot::Sender::is_closed) {
                queue.pop_front();
            }
            !queue.is_empty()
        });
        for turn in 0..state.queues.len() {
            let (namespace, _) = &state.queues[turn];
            if state.held.get(namespace).copied().unwrap_or(0) >= state.per_namespace {
                continue;
            }
            let (namespace, mut queue) = state.queues.remove(turn)?;
            let sender = queue.pop_front()?;
            if !queue.is_empty() {
                state.queues.push_back((Arc::clone(&namespace), queue));
            }
            state.free -= 1;
            *state.held.entry(Arc::clone(&namespace)).or_insert(0) += 1;
            return Some((sender, namespace));
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.gate.lock();
            state.free += 1;
            if let Some(held) = state.held.get_mut(&self.namespace) {
                *held -= 1;
                if *held == 0 {
                    state.held.remove(&self.namespace);
                }
            }
        }
        self.gate.serve();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    #[test]
    fn namespaces_take_turns_and_each_is_first_come_first_served() {
        let gate = Gate::new(1, 1);
        let (a, b) = (name("a"), name("b"));
        let mut first = gate.enter(&a);
        let mut held = Some(first.try_recv().unwrap());
        let mut waiting: Vec<_> = [("a1", &a), ("a2", &a), ("a3", &a), ("b1", &b), ("b2", &b)]
            .map(|(n, ns)| (n, gate.enter(ns)))
            .into();
        let mut order = Vec::new();
        while !waiting.is_empty() {
            drop(held.take());
            let served = waiting.iter_mut().position(|(_, receiver)| {
                receiver.try_recv().is_ok_and(|permit| {
                    held = Some(permit);
                    true
                })
            });
            order.push(waiting.remove(served.unwrap()).0);
        }
        assert_eq!(order, ["a1", "b1", "a2", "b2", "a3"]);
    }

    #[test]
    fn one_namespace_leaves_room_for_the_others() {
        let gate = Gate::new(3, 2);
        let (a, b) = (name("a"), name("b"));
        let mut mine: Vec<_> = (0..3).map(|_| gate.enter(&a)).collect();
        let got: Vec<bool> = mine.iter_mut().map(|receiver| receiver.try_recv().is_ok()).collect();
        // The permits were dropped again at once, so the third was served as the first came back.
        assert_eq!(got, [true, true, true]);
        let held: Vec<_> = (0..2).map(|_| gate.enter(&a).try_recv().unwrap()).collect();
        let mut third = gate.enter(&a);
        assert!(third.try_recv().is_err());
        assert!(gate.enter(&b).try_recv().is_ok());
        drop(held);
        assert!(third.try_recv().is_ok());
    }

    #[test]
    fn a_waiter_that_left_costs_nobody_a_permit() {
        let gate = Gate::new(1, 1);
        let a = name("a");
        let held = gate.enter(&a).try_recv().unwrap();
        drop(gate.enter(&a));
        let mut last = gate.enter(&a);
        drop(held);
        assert!(last.try_recv().is_ok());
        assert_eq!(gate.in_use(), 0);
    }

    #[test]
    fn a_permit_nobody_took_out_of_its_receiver_comes_back() {
        let gate = Gate::new(1, 1);
        drop(gate.enter(&name("a")));
        assert_eq!(gate.in_use(), 0);
        assert!(gate.enter(&name("b")).try_recv().is_ok());
    }
}
