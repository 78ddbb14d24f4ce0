//! One file a command.

pub(crate) mod config;
pub(crate) mod controller;
pub(crate) mod crd;
pub(crate) mod demo;
pub(crate) mod in_use;
pub(crate) mod inspect;
pub(crate) mod mount;
pub(crate) mod node;
pub(crate) mod pause;
pub(crate) mod probe_volume;
pub(crate) mod pull;
pub(crate) mod store;
pub(crate) mod test_registry;
