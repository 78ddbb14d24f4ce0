//! A node-wide limit whose queue takes the namespaces in turn.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Hands out a fixed number of permits: namespaces in turn, within one its registries in turn, and first come first
/// served among those who want the same of both.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Mutex<State>>);

/// How many permits there are, and how many of them may be for one namespace or one registry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) permits: usize,
    pub(crate) per_namespace: usize,
    pub(crate) per_host: usize,
}

#[derive(Debug)]
struct State {
    limits: Limits,
    by_namespace: HashMap<Arc<str>, usize>,
    by_host: HashMap<Arc<str>, usize>,
    out: usize,
    /// Namespaces with somebody waiting, the next to be served in front; in each its registries, likewise.
    queues: Line<Arc<str>, Line<Host, VecDeque<Waiting>>>,
}

/// Whose limit counts besides; none for a permit that is for no registry.
type Host = Option<Arc<str>>;
type Waiting = oneshot::Sender<Permit>;
/// Names that are served in turn, each with those who wait under it.
type Line<N, Q> = VecDeque<(N, Q)>;

/// One of the gate's permits, back at the gate when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Gate,
    namespace: Arc<str>,
    host: Option<Arc<str>>,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Mutex::new(State {
            limits,
            by_namespace: HashMap::new(),
            by_host: HashMap::new(),
            out: 0,
            queues: VecDeque::new(),
        })))
    }

    /// Stands in the queue at once; the permit comes through the receiver, which may be dropped at any time.
    pub(crate) fn enter(&self, namespace: &Arc<str>, host: Option<&str>) -> oneshot::Receiver<Permit> {
        let (permit, receiver) = oneshot::channel();
        let host = host.map(Arc::from);
        queue_of(queue_of(&mut self.lock().queues, namespace), &host).push_back(permit);
        self.serve();
        receiver
    }

    /// Waits for a permit.
    pub(crate) async fn acquire(&self, namespace: &Arc<str>, host: &str) -> Option<Permit> {
        self.enter(namespace, Some(host)).await.ok()
    }

    /// Permits that are out.
    pub(crate) fn in_use(&self) -> usize {
        self.lock().out
    }

    fn serve(&self) {
        loop {
            let next = self.lock().next_in_line();
            let Some((namespace, host, waiting)) = next else { return };
            // A receiver that is gone drops the permit here, outside the lock, and the next one is served.
            drop(waiting.send(Permit { gate: self.clone(), namespace, host }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The next to be served, if there is a permit for anybody who waits; it counts as out from now on.
    fn next_in_line(&mut self) -> Option<(Arc<str>, Host, Waiting)> {
        if self.out >= self.limits.permits {
            return None;
        }
        // Those who left are cleared here, or dropping their permits one by one would recurse through them all.
        self.queues.retain_mut(|(_, hosts)| {
            hosts.retain_mut(|(_, queue)| {
                while queue.front().is_some_and(Waiting::is_closed) {
                    queue.pop_front();
                }
                !queue.is_empty()
            });
            !hosts.is_empty()
        });
        let (turn, place) = (0..self.queues.len()).find_map(|turn| {
            let (namespace, hosts) = &self.queues[turn];
            let held = self.by_namespace.get(namespace).copied().unwrap_or(0);
            let free = held < self.limits.per_namespace;
            let place = hosts.iter().position(|(host, _)| self.has_room(host.as_ref()));
            place.filter(|_| free).map(|place| (turn, place))
        })?;
        let (namespace, mut hosts) = self.queues.remove(turn)?;
        let (host, mut queue) = hosts.remove(place)?;
        let waiting = queue.pop_front()?;
        if !queue.is_empty() {
            hosts.push_back((host.clone(), queue));
        }
        if !hosts.is_empty() {
            self.queues.push_back((Arc::clone(&namespace), hosts));
        }
        self.out += 1;
        *self.by_namespace.entry(Arc::clone(&namespace)).or_insert(0) += 1;
        if let Some(host) = &host {
            *self.by_host.entry(Arc::clone(host)).or_insert(0) += 1;
        }
        Some((namespace, host, waiting))
    }

    /// Whether the registry's own limit leaves room.
    fn has_room(&self, host: Option<&Arc<str>>) -> bool {
        host.and_then(|host| self.by_host.get(host)).is_none_or(|held| *held < self.limits.per_host)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        {
            let mut state = self.gate.lock();
            state.out -= 1;
            give_back(&mut state.by_namespace, &self.namespace);
            if let Some(host) = &self.host {
                give_back(&mut state.by_host, host);
            }
        }
        self.gate.serve();
    }
}

/// The queue of this name, made at the end of the line where there is none.
fn queue_of<'a, N: PartialEq + Clone, Q: Default>(line: &'a mut Line<N, Q>, name: &N) -> &'a mut Q {
    let place = line.iter().position(|(other, _)| other == name).unwrap_or_else(|| {
        line.push_back((name.clone(), Q::default()));
        line.len() - 1
    });
    &mut line[place].1
}

fn give_back(held: &mut HashMap<Arc<str>, usize>, name: &Arc<str>) {
    if let Some(count) = held.get_mut(name) {
        *count -= 1;
        if *count == 0 {
            held.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Arc<str> {
        Arc::from(text)
    }

    fn gate(permits: usize, per_namespace: usize, per_host: usize) -> Gate {
        Gate::new(Limits { permits, per_namespace, per_host })
    }

    #[test]
    fn namespaces_take_turns_and_each_is_first_come_first_served() {
        let gate = gate(1, 1, 1);
        let (a, b) = (name("a"), name("b"));
        let mut first = gate.enter(&a, None);
        let mut held = Some(first.try_recv().unwrap());
        let mut waiting: Vec<_> = [("a1", &a), ("a2", &a), ("a3", &a), ("b1", &b), ("b2", &b)]
            .map(|(n, ns)| (n, gate.enter(ns, None)))
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
        let gate = gate(3, 2, 3);
        let (a, b) = (name("a"), name("b"));
        let mut mine: Vec<_> = (0..3).map(|_| gate.enter(&a, None)).collect();
        let got: Vec<bool> = mine.iter_mut().map(|receiver| receiver.try_recv().is_ok()).collect();
        // The permits were dropped again at once, so the third was served as the first came back.
        assert_eq!(got, [true, true, true]);
        let held: Vec<_> = (0..2).map(|_| gate.enter(&a, None).try_recv().unwrap()).collect();
        let mut third = gate.enter(&a, None);
        assert!(third.try_recv().is_err());
        assert!(gate.enter(&b, None).try_recv().is_ok());
        drop(held);
        assert!(third.try_recv().is_ok());
    }

    #[test]
    fn a_waiter_that_left_costs_nobody_a_permit() {
        let gate = gate(1, 1, 1);
        let a = name("a");
        let held = gate.enter(&a, None).try_recv().unwrap();
        drop(gate.enter(&a, None));
        let mut last = gate.enter(&a, None);
        drop(held);
        assert!(last.try_recv().is_ok());
        assert_eq!(gate.in_use(), 0);
    }

    #[test]
    fn a_permit_nobody_took_out_of_its_receiver_comes_back() {
        let gate = gate(1, 1, 1);
        drop(gate.enter(&name("a"), None));
        assert_eq!(gate.in_use(), 0);
        assert!(gate.enter(&name("b"), None).try_recv().is_ok());
    }

    #[test]
    fn a_registry_has_its_own_limit_and_holds_up_no_other() {
        let gate = gate(4, 4, 2);
        let a = name("a");
        let held: Vec<_> = (0..2).map(|_| gate.enter(&a, Some("busy:5000")).try_recv().unwrap()).collect();
        let mut third = gate.enter(&a, Some("busy:5000"));
        assert!(third.try_recv().is_err());
        let other = gate.enter(&a, Some("other:5000")).try_recv().unwrap();
        drop(held);
        assert!(third.try_recv().is_ok());
        drop(other);
        assert_eq!(gate.in_use(), 0);
    }
}
