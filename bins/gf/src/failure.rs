//! How a command fails, and the exit code that says so.

use std::fmt;

/// The exit code of what Ctrl-C ended, as shells give it.
pub(crate) const INTERRUPTED: u8 = 130;

/// A failure with an exit code of its own; every other one gives 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The call makes no sense, or the gateway says so: 2.
    Usage(String),
    /// The wait was over before the task: 3.
    TimedOut(String),
    /// Nobody answers where the gateway should be: 4.
    Unreachable(String),
    /// The gateway refused: 1. Holds its stable code.
    Refused {
        /// The stable code of the problem.
        code: String,
        /// The detail of the problem.
        detail: String,
    },
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { .. } => 1,
            Self::Usage(_) => 2,
            Self::TimedOut(_) => 3,
            Self::Unreachable(_) => 4,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::TimedOut(text) | Self::Unreachable(text) => f.write_str(text),
            Self::Refused { detail, .. } => f.write_str(detail),
        }
    }
}

impl std::error::Error for Failure {}

/// The exit code of a command that ended with `result`. A failure is printed to stderr as one line.
pub fn exit_code(result: anyhow::Result<u8>) -> u8 {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("gf: {}", format!("{error:#}").replace('\n', " "));
            code_of(&error)
        }
    }
}

fn code_of(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<gf_process::Usage>().is_some() {
        return 2;
    }
    error
        .downcast_ref::<Failure>()
        .map_or(1, Failure::exit_code)
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn every_failure_has_its_code() {
        let code = |failure: Failure| exit_code(Err(anyhow::Error::from(failure).context("push")));
        assert_eq!(code(Failure::Usage("no".to_owned())), 2);
        assert_eq!(code(Failure::TimedOut("no".to_owned())), 3);
        assert_eq!(code(Failure::Unreachable("no".to_owned())), 4);
        assert_eq!(
            code(Failure::Refused {
                code: "not_found".to_owned(),
                detail: "no".to_owned()
            }),
            1
        );
        assert_eq!(exit_code(Err(anyhow!("no"))), 1);
        assert_eq!(
            exit_code(Err(gf_process::Usage("no".to_owned())).context("read")),
            2
        );
        assert_eq!(exit_code(Ok(3)), 3);
    }
}
