//! What an operator sees of a running Stowage: logs, metrics and the admin HTTP endpoint.
//!
//! - [`logging`] sets up `tracing` for people or for machines.
//! - [`metrics`] holds every `stowage_*` series; names and labels are API, and no label ever carries a
//!   reference or a digest.
//! - [`admin`] serves `/livez`, `/readyz` and `/metrics`.

pub mod admin;
pub mod health;
pub mod logging;
pub mod metrics;

pub use admin::serve;
pub use health::Health;
pub use logging::{LogFormat, init as init_logging};
pub use metrics::Metrics;
