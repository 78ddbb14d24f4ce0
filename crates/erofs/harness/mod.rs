//! What the tests and the fuzzer share: random trees, tars made of them by other people's programs, and mounts.
#![allow(dead_code, reason = "each program that includes this uses a part of it")]

pub(crate) mod chance;
pub(crate) mod fuzz;
pub(crate) mod kernel_log;
pub(crate) mod model;
pub(crate) mod mounted;
pub(crate) mod mutate;
pub(crate) mod producers;
