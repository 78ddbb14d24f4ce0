//! The engine over a real store, against sources that misbehave by script.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod bounds;
mod bytes;
mod disk;
mod end;
mod faults;
mod layout;
mod mirrors;
mod paces;
mod registry;
mod scripted;
mod sharing;
