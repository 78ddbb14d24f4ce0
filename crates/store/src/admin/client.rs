//! The side of the command line.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Answer, Request};
use crate::collect::CollectReport;
use crate::fsck::FsckReport;
use crate::names::ADMIN_SOCKET;
use crate::usage::{ListEntry, Usage};

/// Why the process that has the store gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("nobody answers on {} ({source}); is the plugin that has the store running?", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to {} broke: {source}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The other side is of another version.
    #[error("the answer on {} cannot be understood ({reason}); use the command line of the running version", path.display())]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It was done and failed.
    #[error("{0}")]
    Failed(String),
}

/// A connection to the process that has the store.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects to `admin.sock` of the store at `root`.
    pub fn connect(root: &Path) -> Result<Self, ClientError> {
        let path = root.join(ADMIN_SOCKET);
        match UnixStream::connect(&path) {
            Ok(stream) => Ok(Self { path, reader: BufReader::new(stream) }),
            Err(source) => Err(ClientError::NotRunning { path, source }),
        }
    }

    /// Asks, and waits for the answer as long as it takes.
    pub fn ask(&mut self, request: &Request) -> Result<Answer, ClientError> {
        let broken = |source: io::Error| ClientError::Broken { path: self.path.clone(), source };
        let mut line = serde_json::to_vec(request).map_err(|error| broken(error.into()))?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line).map_err(broken)?;
        let mut answer = String::new();
        if self.reader.read_line(&mut answer).map_err(broken)? == 0 {
            return Err(broken(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&answer) {
            Ok(Answer::Failed(reason)) => Err(ClientError::Failed(reason)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(ClientError::Strange { path: self.path.clone(), reason: error.to_string() }),
        }
    }

    /// Everything in the store.
    pub fn ls(&mut self) -> Result<Vec<ListEntry>, ClientError> {
        match self.ask(&Request::Ls)? {
            Answer::Entries(entries) => Ok(entries),
            other => Err(self.strange(&other)),
        }
    }

    /// Collects; see [`Request::Gc`].
    pub fn gc(&mut self, force: bool, all: bool) -> Result<CollectReport, ClientError> {
        match self.ask(&Request::Gc { force, all })? {
            Answer::Collected(report) => Ok(report),
            other => Err(self.strange(&other)),
        }
    }

    /// Checks everything.
    pub fn fsck(&mut self, repair: bool) -> Result<FsckReport, ClientError> {
        match self.ask(&Request::Fsck { repair })? {
            Answer::Checked(report) => Ok(report),
            other => Err(self.strange(&other)),
        }
    }

    /// Removes a blob or a view.
    pub fn rm(&mut self, name: &str) -> Result<(), ClientError> {
        match self.ask(&Request::Rm { name: name.to_owned() })? {
            Answer::Removed => Ok(()),
            other => Err(self.strange(&other)),
        }
    }

    /// How full the store is.
    pub fn usage(&mut self) -> Result<Usage, ClientError> {
        match self.ask(&Request::Usage)? {
            Answer::Usage(usage) => Ok(usage),
            other => Err(self.strange(&other)),
        }
    }

    fn strange(&self, answer: &Answer) -> ClientError {
        let reason = format!("it answers another question: {answer:?}");
        ClientError::Strange { path: self.path.clone(), reason: reason.chars().take(200).collect() }
    }
}
