//! `admin.sock`: how the command line works on a store that a running plugin has.
//!
//! One JSON object a line in each direction, requests answered in order. The socket is 0600 in a directory of 0700;
//! whoever can connect is root or the plugin's own user.

mod client;
mod server;

use serde::{Deserialize, Serialize};

use crate::collect::{CollectOptions, CollectReport};
use crate::error::StoreError;
use crate::fsck::FsckReport;
use crate::store::Store;
use crate::usage::{ListEntry, Usage};

pub use client::{Client, ClientError};
pub use server::{AdminServer, serve};

/// The longest request.
const MAX_REQUEST_BYTES: u64 = 64 << 10;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// Everything in the store.
    Ls,
    /// Collect now.
    Gc {
        /// Everything that nobody refers to, whatever the watermarks say.
        #[serde(default)]
        force: bool,
        /// Take what was used a moment ago too.
        #[serde(default)]
        all: bool,
    },
    /// Check everything.
    Fsck {
        /// And repair it.
        #[serde(default)]
        repair: bool,
    },
    /// Remove a blob or a view.
    Rm {
        /// Its digest or id.
        name: String,
    },
    /// How full the store is.
    Usage,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "content", rename_all = "camelCase")]
pub enum Answer {
    /// To [`Request::Ls`].
    Entries(Vec<ListEntry>),
    /// To [`Request::Gc`].
    Collected(CollectReport),
    /// To [`Request::Fsck`].
    Checked(FsckReport),
    /// To [`Request::Rm`].
    Removed,
    /// To [`Request::Usage`].
    Usage(Usage),
    /// It failed, in one sentence.
    Failed(String),
}

/// Does what is asked; the same for the server and for a command line that has the store itself.
pub fn answer(store: &Store, request: &Request) -> Answer {
    let done = match request {
        Request::Ls => store.list().map(Answer::Entries),
        Request::Gc { force, all } => {
            let min_age = all.then_some(std::time::Duration::ZERO);
            let options = CollectOptions { force: *force, min_age, ..CollectOptions::default() };
            store.collect(&options).map(Answer::Collected)
        }
        Request::Fsck { repair } => store.fsck(*repair).map(Answer::Checked),
        Request::Rm { name } => store.remove(name).map(|()| Answer::Removed),
        Request::Usage => store.usage().map(Answer::Usage),
    };
    done.unwrap_or_else(|error: StoreError| Answer::Failed(error.to_string()))
}
