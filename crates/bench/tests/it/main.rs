//! The benchmark as a whole, so that it cannot rot: with sizes that say nothing about speed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod erofs_mounts;
mod mounts;
