//! A TCP stream that can end by a reset, and the pace of what goes over it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::traffic::Place;

/// A late timer may be made up for by this much.
const SLACK: Duration = Duration::from_millis(20);

/// What is known of one connection.
pub(super) struct Connection {
    pub(super) id: u64,
    pub(super) place: Place,
    pub(super) pace: Pace,
    reset: AtomicBool,
    written: AtomicU64,
}

impl Connection {
    pub(super) fn new(id: u64, place: Place) -> Self {
        Self { id, place, pace: Pace::default(), reset: AtomicBool::new(false), written: AtomicU64::new(0) }
    }

    /// Makes the connection end by a reset, not by a clean close.
    pub(super) fn end_by_reset(&self) {
        self.reset.store(true, Ordering::Relaxed);
    }

    /// Waits until what was given to the connection has gone out, or the client takes no more.
    pub(super) async fn settle(&self) {
        let mut before = self.written.load(Ordering::Relaxed);
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = self.written.load(Ordering::Relaxed);
            if now == before {
                break;
            }
            before = now;
        }
    }
}

/// Spreads bytes over time.
#[derive(Default)]
pub(super) struct Pace {
    free_at: Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits until `bytes` may go at `rate` bytes a second; a rate of 0 never waits.
    pub(super) async fn take(&self, bytes: u64, rate: u64) {
        if rate == 0 {
            return;
        }
        let now = Instant::now();
        let start = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let earliest = now.checked_sub(SLACK).unwrap_or(now);
            let start = free_at.unwrap_or(now).max(earliest);
            *free_at = Some(start + Duration::from_secs_f64(bytes as f64 / rate as f64));
            start
        };
        if start > now + Duration::from_millis(1) {
            tokio::time::sleep_until(start).await;
        }
    }
}

/// The stream itself.
pub(super) struct Socket {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.connection.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.connection.reset.load(Ordering::Relaxed) {
            // A socket that is gone already needs no reset.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
