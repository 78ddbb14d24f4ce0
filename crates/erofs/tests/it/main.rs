//! Tars of real producers, of our own making and hostile ones, and the images made of them.
#![expect(clippy::unwrap_used, reason = "clippy knows no tests outside functions marked so")]

#[path = "../../harness/mod.rs"]
mod harness;

mod erofs_mounts;
mod erofs_tools;
mod hostile;
mod images;
mod made;
mod merging;
mod reading;
mod selecting;
