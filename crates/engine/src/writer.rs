//! The threads that write to the disk, so that no async worker ever does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use stowage_store::{IngestError, IngestWriter};
use tokio::sync::{mpsc, oneshot};

use crate::buffer::Buffer;
use crate::prefix::Frontier;

/// One buffer on its way to the disk.
pub(crate) struct Write {
    pub(crate) ingest: Arc<IngestWriter>,
    pub(crate) frontier: Arc<Frontier>,
    pub(crate) offset: u64,
    pub(crate) buffer: Buffer,
    pub(crate) reply: oneshot::Sender<Result<(), IngestError>>,
}

/// The writer threads; they end when this is dropped and their queues are empty.
#[derive(Debug)]
pub(crate) struct Writers {
    queues: Vec<mpsc::Sender<Write>>,
    next: AtomicUsize,
}

impl Writers {
    #[expect(
        clippy::expect_used,
        reason = "once, at start: a process that cannot have four threads cannot work"
    )]
    pub(crate) fn start(threads: usize) -> Self {
        let queues = (0..threads)
            .map(|_| {
                // A connection has one write under way at a time, so this only decides where the others wait.
                let (sender, mut queue) = mpsc::channel::<Write>(2);
                thread::Builder::new()
                    .name("blob-writer".into())
                    .spawn(move || {
                        while let Some(write) = queue.blocking_recv() {
                            write.perform();
                        }
                    })
                    .expect("start a writer thread");
                sender
            })
            .collect();
        Self { queues, next: AtomicUsize::new(0) }
    }

    /// A queue for one connection, so that its writes stay in order.
    pub(crate) fn queue(&self) -> mpsc::Sender<Write> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.queues[turn % self.queues.len()].clone()
    }
}

impl Write {
    fn perform(self) {
        let Self { ingest, frontier, offset, buffer, reply } = self;
        let range = offset..offset + buffer.bytes().len() as u64;
        let written = ingest.write_at(offset, buffer.bytes()).and_then(|()| ingest.mark(range));
        if written.is_ok() {
            frontier.grown();
        }
        // Nothing of this write is held any more when the connection goes on.
        drop((ingest, buffer));
        drop(reply.send(written));
    }
}
