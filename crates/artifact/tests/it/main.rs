//! Behaviour of the artifact crate as its users see it: tables first, properties after.
#![expect(clippy::unwrap_used, reason = "a test's own helpers fail the test, as they should")]

mod attributes;
mod documents;
mod families;
mod fixture;
mod hostile;
mod oci_layout;
mod references;
mod selection;
