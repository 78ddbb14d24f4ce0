//! The store from outside: on a real disk, with crashes, power cuts and full disks injected.

mod admin;
mod collection;
mod concurrency;
mod crash;
mod disk_errors;
mod fsck;
mod grants;
mod ingest;
mod open;
mod power_cut;
mod records;
mod scenario;
mod support;
mod views;
