//! The store from outside: on a real disk, with crashes, power cuts and full disks injected.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failure of a helper fails the test, as it should"
)]

mod admin;
mod collection;
mod concurrency;
mod crash;
mod decoded;
mod disk_errors;
mod fsck;
mod grants;
mod ingest;
mod open;
mod power_cut;
mod records;
mod scenario;
mod support;
mod tars;
mod views;
