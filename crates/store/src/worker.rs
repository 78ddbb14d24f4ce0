//! The store's one background thread: syncs that nobody waits for, and the removal of rubbish.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

type Job = Box<dyn FnOnce() + Send>;

/// Runs jobs one after another; without a thread it runs each at once.
#[derive(Debug)]
pub(crate) struct Worker {
    sender: Mutex<Option<Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Worker {
    pub(crate) fn start(no_threads: bool) -> std::io::Result<Self> {
        if no_threads {
            return Ok(Self { sender: Mutex::new(None), thread: Mutex::new(None) });
        }
        let (sender, jobs) = channel::<Job>();
        let thread = std::thread::Builder::new().name("stowage-store".to_owned()).spawn(move || {
            for job in jobs {
                job();
            }
        })?;
        Ok(Self { sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }

    /// Runs the job soon.
    pub(crate) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let job: Job = Box::new(job);
        let unsent = match sender {
            Some(sender) => sender.send(job).err().map(|error| error.0),
            None => Some(job),
        };
        if let Some(job) = unsent {
            job();
        }
    }

    /// Lets what was submitted end, and ends the thread.
    pub(crate) fn stop(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // The last handle of a store may go on this very thread, which cannot wait for itself.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}
