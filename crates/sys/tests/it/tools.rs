//! Programs of others that a test needs.

use std::process::Command;

use stowage_testkit::tools::Tool;

/// Runs a program that makes an image.
pub(crate) fn make(tool: &Tool, arguments: &[&str]) {
    let output = Command::new(tool.path()).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        tool.path().display(),
        String::from_utf8_lossy(&output.stderr)
    );
}
