//! What an operator sees of a running Stowage: logs, metrics and the admin HTTP endpoint.
//!
//! - [`logging`] sets up `tracing` for people or for machines.
//! - [`metrics`] holds the `stowage_*` series of the node, [`controller_metrics`] those of the controller; names and labels are API, and no label ever carries a
//!   reference or a digest.
//! - [`admin`] serves `/livez`, `/readyz` and `/metrics`.

pub mod admin;
pub mod controller_metrics;
pub mod health;
pub mod logging;
pub mod metrics;

pub use admin::{Series, serve};
pub use controller_metrics::ControllerMetrics;
pub use health::Health;
pub use logging::{LogFormat, check_filter as check_log_filter, init as init_logging};
pub use metrics::Metrics;
