//! What the node and the controller have in common as CSI plugins: a socket, how it is served until the process is told to stop,
//! and the capabilities that a volume can have.
#![forbid(unsafe_code)]

mod capability;
mod serve;
mod socket;

pub use capability::{CapabilityError, check_capability};
pub use serve::{ServeError, serve};
pub use socket::{OwnedSocket, SocketError};
