//! The side that has the store.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use super::{Answer, MAX_REQUEST_BYTES, Request, answer};
use crate::io::IoError;
use crate::names::ADMIN_SOCKET;
use crate::store::Store;

/// More connections at the same time are turned away.
const MAX_CONNECTIONS: usize = 8;
/// A client that says nothing for so long is gone.
const SILENCE: Duration = Duration::from_secs(30);

/// A bound `admin.sock`. Dropping it removes the socket's file, unless another process has put its own there.
#[derive(Debug)]
struct Socket {
    listener: UnixListener,
    path: PathBuf,
    dev_ino: (u64, u64),
}

impl Drop for Socket {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.dev_ino)
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds `admin.sock` of the store, in place of one that an earlier process left.
///
/// The socket is made under another name and renamed: nobody ever sees it with another mode.
fn bind(store: &Store) -> Result<Socket, IoError> {
    let path = store.root().join(ADMIN_SOCKET);
    let temporary = store.root().join(store.inner().io.temporary("socket"));
    let bind = || -> io::Result<Socket> {
        let listener = UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o600))?;
        let made = std::fs::symlink_metadata(&temporary)?;
        std::fs::rename(&temporary, &path)?;
        Ok(Socket { listener, path: path.clone(), dev_ino: (made.dev(), made.ino()) })
    };
    bind().map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        IoError::new("bind", path.clone(), error)
    })
}

/// The threads that answer. Dropping it stops them and removes the socket.
#[derive(Debug)]
pub struct AdminServer {
    socket: Arc<Socket>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Binds `admin.sock` and answers on it until the value is dropped. The value keeps the store open.
pub fn serve(store: &Store) -> Result<AdminServer, IoError> {
    let socket = Arc::new(bind(store)?);
    let store = store.clone();
    let stopping = Arc::new(AtomicBool::new(false));
    let (accepting, stop) = (Arc::clone(&socket), Arc::clone(&stopping));
    let thread = std::thread::Builder::new()
        .name("stowage-admin".to_owned())
        .spawn(move || accept(&store, &accepting.listener, &stop))
        .map_err(|error| IoError::new("start a thread for", socket.path.clone(), error))?;
    Ok(AdminServer { socket, stopping, thread: Some(thread) })
}

impl AdminServer {
    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.socket.path
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        use std::os::fd::AsRawFd as _;
        self.stopping.store(true, Ordering::Release);
        // Wakes the thread that accepts.
        let _ = shutdown(self.socket.listener.as_raw_fd(), Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn accept(store: &Store, listener: &UnixListener, stopping: &AtomicBool) {
    let connections = Arc::new(AtomicUsize::new(0));
    while !stopping.load(Ordering::Acquire) {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) if stopping.load(Ordering::Acquire) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on admin.sock");
                // Out of descriptors, most likely: no use in asking again at once.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if connections.fetch_add(1, Ordering::AcqRel) >= MAX_CONNECTIONS {
            connections.fetch_sub(1, Ordering::AcqRel);
            let _ =
                reply(&stream, &Answer::Failed("too many connections to admin.sock; try again".to_owned()));
            continue;
        }
        let (store, open) = (store.clone(), Arc::clone(&connections));
        let spawned = std::thread::Builder::new().name("stowage-admin".to_owned()).spawn(move || {
            if let Err(error) = converse(&store, &stream) {
                tracing::debug!(%error, "a connection to admin.sock ended");
            }
            open.fetch_sub(1, Ordering::AcqRel);
        });
        if spawned.is_err() {
            connections.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn converse(store: &Store, stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        (&mut reader).take(MAX_REQUEST_BYTES).read_line(&mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if !line.ends_with('\n') {
            return reply(stream, &Answer::Failed("the request has no end".to_owned()));
        }
        let said = match serde_json::from_str::<Request>(&line) {
            Ok(request) => answer(store, &request),
            Err(error) => Answer::Failed(format!("the request cannot be understood: {error}")),
        };
        reply(stream, &said)?;
    }
}

fn reply(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}
