//! Asking before much is changed.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::{Context, Result};

use crate::failure::Failure;

/// Whether whoever sits at the terminal wants it. Where nobody does, `--yes` has to say so.
///
/// # Errors
/// [`Failure::Usage`] when stdin is no terminal.
pub(crate) fn confirm(what: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("{what}: say --yes to do so")).into());
    }
    eprint!("{what}? [y/N] ");
    std::io::stderr().flush().context("ask")?;
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("read the answer")?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for yes in ["y\n", " YES \n", "Y"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yeah\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
