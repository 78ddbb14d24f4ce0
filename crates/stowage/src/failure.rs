//! How a command fails: one sentence on standard error and an exit code.

use std::process::ExitCode;

/// What a command's failure means to the shell.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The work failed.
    Failed(anyhow::Error),
    /// A flag, a variable or a file has a value that can never work.
    Configuration(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Failure {
    /// Says the sentence; the exit code is 1, or 64 for bad configuration.
    #[expect(clippy::print_stderr, reason = "the one place where an error reaches the person")]
    pub(crate) fn report(&self) -> ExitCode {
        let (error, code) = match self {
            Self::Failed(error) => (error, 1),
            Self::Configuration(error) => (error, 64),
        };
        eprintln!("stowage: {}", sentence(error));
        ExitCode::from(code)
    }
}

/// The error and its causes as one line; most causes are in the sentence of the error already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |line, cause| match line.as_str() {
        "" => cause,
        before if before.contains(&cause) => line,
        before => format!("{before}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let inner = std::io::Error::other("disk on fire");
        let told = anyhow::Error::new(inner).context("cannot read x: disk on fire").context("setting up");
        assert_eq!(sentence(&told), "setting up: cannot read x: disk on fire");
    }
}
