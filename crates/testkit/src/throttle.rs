//! A TCP proxy that gives every connection the same, limited rate, as object stores do.
//!
//! ```
//! # fn main() -> std::io::Result<()> {
//! use stowage_testkit::throttle::Throttle;
//!
//! let registry = std::net::TcpListener::bind("127.0.0.1:0")?;
//! let throttle = Throttle::start(registry.local_addr()?, 50_000_000)?;
//! let reference = format!("{}/team/model:v1", throttle.address());
//! # assert!(reference.starts_with("127.0.0.1:"));
//! # Ok(())
//! # }
//! ```
//!
//! Only what the upstream sends is limited; what clients send passes as it comes. Bytes move by splice(2), so
//! that a gigabyte costs next to no processor time beside the programs under test. All of it runs on threads of its
//! own: callers need no runtime.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// A late wake-up may be made up for by this much: beyond it, time that was not used is lost.
const SLACK: Duration = Duration::from_millis(20);
/// This part of a second's bytes passes at once; less is smoother and costs more wake-ups.
const STEPS_PER_SECOND: u64 = 200;
/// Room of the pipe between the two sockets.
const PIPE_BYTES: usize = 1 << 20;
/// Bytes after which a connection counts as busy: answers to small requests do not.
const BUSY_BYTES: u64 = 1 << 20;

/// A running proxy; dropping it ends it and every connection.
#[derive(Debug)]
pub struct Throttle {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    /// Bytes a second for each connection; 0 for no limit.
    rate: AtomicU64,
    stopping: AtomicBool,
    passed: AtomicU64,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    accepted: usize,
    busy: usize,
    most_busy: usize,
    /// Both ends of every open connection, so that they can be ended from outside.
    open: HashMap<usize, [TcpStream; 2]>,
}

impl Throttle {
    /// A proxy on a free loopback port in front of `upstream`, `bytes_per_second` for each connection.
    pub fn start(upstream: SocketAddr, bytes_per_second: u64) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream,
            rate: AtomicU64::new(bytes_per_second),
            stopping: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            books: Mutex::default(),
        });
        let acceptor = std::thread::Builder::new().name("throttle-accept".into()).spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        })?;
        Ok(Self { address, shared, acceptor: Some(acceptor) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives each connection this many bytes a second from now on; `None` ends the limit.
    pub fn set_rate(&self, bytes_per_second: Option<u64>) {
        self.shared.rate.store(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
    }

    /// Bytes that the upstream has sent through, over all connections.
    pub fn bytes_passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Relaxed)
    }

    /// Connections that were opened so far.
    pub fn connections(&self) -> usize {
        self.shared.books().accepted
    }

    /// The most connections that were open at one time and had brought more than 1 MiB each.
    pub fn most_busy(&self) -> usize {
        self.shared.books().most_busy
    }

    /// Begins the counting anew; open connections stay and are not counted again.
    pub fn reset_counts(&self) {
        self.shared.passed.store(0, Ordering::Relaxed);
        let mut books = self.shared.books();
        books.accepted = 0;
        books.most_busy = books.busy;
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        for ends in self.shared.books().open.values() {
            end(ends);
        }
        // Wakes the acceptor, which looks at the flag before it serves anybody.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            // A panic in it was reported by its thread already.
            let _ = acceptor.join();
        }
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a connection, unless the proxy is being stopped.
    fn enter(&self, client: &TcpStream, upstream: &TcpStream) -> io::Result<Option<usize>> {
        let ends = [client.try_clone()?, upstream.try_clone()?];
        let mut books = self.books();
        if self.stopping.load(Ordering::Relaxed) {
            return Ok(None);
        }
        books.accepted += 1;
        let mut number = books.accepted;
        while books.open.contains_key(&number) {
            number += 1;
        }
        books.open.insert(number, ends);
        Ok(Some(number))
    }
}

fn end(ends: &[TcpStream; 2]) {
    for end in ends {
        // Closed by the other side already: that is the same.
        let _ = end.shutdown(Shutdown::Both);
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    std::thread::scope(|scope| {
        for client in listener.incoming() {
            if shared.stopping.load(Ordering::Relaxed) {
                break;
            }
            let Ok(client) = client else { continue };
            let serve = move || {
                // A broken connection ends as it would without us: both sides see it close.
                let _ = serve(&client, shared);
            };
            // Out of threads: the client sees its connection close.
            let _ = std::thread::Builder::new().name("throttle".into()).spawn_scoped(scope, serve);
        }
    });
}

/// One connection, to its end.
fn serve(client: &TcpStream, shared: &Shared) -> io::Result<()> {
    let upstream = TcpStream::connect(shared.upstream)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let Some(number) = shared.enter(client, &upstream)? else { return Ok(()) };
    let mut busy = false;
    let ended = std::thread::scope(|scope| {
        let requests = scope.spawn(|| pass(client, &upstream, |_| Ok(PIPE_BYTES)));
        let mut paced = Paced { shared, bucket: Bucket::new(Instant::now()), bytes: 0, busy: &mut busy };
        let answers = pass(&upstream, client, |passed| Ok(paced.next(passed)));
        // A client that waits for more must see that there is none.
        end(&[client.try_clone()?, upstream.try_clone()?]);
        answers.and(requests.join().unwrap_or_else(|_| Err(io::Error::other("the other direction panicked"))))
    });
    let mut books = shared.books();
    books.open.remove(&number);
    books.busy -= usize::from(busy);
    ended
}

/// The limited direction of a connection.
struct Paced<'a> {
    shared: &'a Shared,
    bucket: Bucket,
    bytes: u64,
    busy: &'a mut bool,
}

impl Paced<'_> {
    /// Books what has just passed, waits, and says how much may pass next.
    fn next(&mut self, passed: usize) -> usize {
        let passed = passed as u64;
        self.bytes += passed;
        self.shared.passed.fetch_add(passed, Ordering::Relaxed);
        if !*self.busy && self.bytes > BUSY_BYTES {
            *self.busy = true;
            let mut books = self.shared.books();
            books.busy += 1;
            books.most_busy = books.most_busy.max(books.busy);
        }
        let rate = self.shared.rate.load(Ordering::Relaxed);
        let pause = self.bucket.take(Instant::now(), passed, rate);
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        step(rate)
    }
}

/// How many bytes pass at once at this rate.
fn step(rate: u64) -> usize {
    match rate {
        0 => PIPE_BYTES,
        rate => (rate / STEPS_PER_SECOND).clamp(1, PIPE_BYTES as u64) as usize,
    }
}

/// Moves bytes until `from` ends, then ends that direction of `to`; `allow` hears what has passed and says how much may.
fn pass(
    from: &TcpStream,
    to: &TcpStream,
    mut allow: impl FnMut(usize) -> io::Result<usize>,
) -> io::Result<()> {
    let (out, into) = pipe()?;
    let mut limit = allow(0)?;
    loop {
        let taken = splice(from, None, &into, None, limit, SpliceFlags::MOVE)?;
        if taken == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let mut left = taken;
        while left > 0 {
            left -= splice(&out, None, to, None, left, SpliceFlags::MOVE)?;
        }
        limit = allow(taken)?;
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (out, into) = pipe_with(PipeFlags::CLOEXEC)?;
    // The limit for plain users may be lower; then more, smaller steps do the same.
    let _ = fcntl_setpipe_size(into.as_fd(), PIPE_BYTES);
    Ok((out, into))
}

/// A token bucket by virtual scheduling: it only knows when it is empty of debt.
#[derive(Debug)]
struct Bucket {
    free_at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { free_at: now }
    }

    /// Books bytes that have just passed; how long the next ones have to wait. A rate of 0 never waits.
    fn take(&mut self, now: Instant, bytes: u64, rate: u64) -> Duration {
        if rate == 0 {
            self.free_at = now;
            return Duration::ZERO;
        }
        let earliest = now.checked_sub(SLACK).unwrap_or(now);
        self.free_at = self.free_at.max(earliest) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        self.free_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u64 = 1_000_000;

    #[test]
    fn bytes_take_the_time_that_the_rate_says() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        let mut now = start;
        for _ in 0..1000 {
            now += bucket.take(now, 5_000, RATE);
        }
        let took = now - start;
        assert!(took >= Duration::from_micros(4_999_900), "{took:?}");
        assert!(took <= Duration::from_micros(5_000_100), "{took:?}");
    }

    #[test]
    fn a_late_wake_up_is_made_up_for_and_a_long_pause_is_not() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(start, 5_000, RATE), Duration::from_millis(5));
        // 3 ms late: the next step is due that much earlier.
        let late = start + Duration::from_millis(8);
        assert_eq!(bucket.take(late, 5_000, RATE), Duration::from_millis(2));
        // A second of silence gives no second's worth of bytes.
        let later = start + Duration::from_secs(1);
        assert_eq!(bucket.take(later, 100_000, RATE), Duration::from_millis(80));
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let start = Instant::now();
        let mut bucket = Bucket::new(start);
        assert_eq!(bucket.take(start, u64::MAX, 0), Duration::ZERO);
        // And what passed in that time is no debt for later.
        assert_eq!(bucket.take(start, 1_000, RATE), Duration::from_millis(1));
    }

    #[test]
    fn steps_are_small_against_the_rate_and_never_nothing() {
        assert_eq!(step(50_000_000), 250_000);
        assert_eq!(step(10), 1);
        assert_eq!(step(u64::MAX), PIPE_BYTES);
        assert_eq!(step(0), PIPE_BYTES);
    }
}
