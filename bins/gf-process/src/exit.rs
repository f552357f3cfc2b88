//! How a process says what it died of.

use std::process::ExitCode;

/// A mistake in how the program was called: the process ends with 2 instead of 1.
#[derive(Debug)]
pub struct Usage(pub String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// The exit code of a program that ended with `result`: 0, 1 or, for [`Usage`], 2. An error is printed to stderr
/// as one line, its causes behind it.
pub fn exit(program: &str, result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{}", line(program, &error));
    if error.downcast_ref::<Usage>().is_some() {
        ExitCode::from(2)
    } else {
        ExitCode::FAILURE
    }
}

fn line(program: &str, error: &anyhow::Error) -> String {
    let chain = format!("{error:#}");
    let parts: Vec<&str> = chain
        .lines()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect();
    format!("{program}: {}", parts.join(" "))
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_error_is_one_line() {
        let error = anyhow!("refused\n  by peer\n")
            .context("connect")
            .context("start");
        assert_eq!(
            line("gf-worker", &error),
            "gf-worker: start: connect: refused by peer"
        );
    }

    #[test]
    fn a_mistake_in_the_call_has_its_own_code() {
        let usage = anyhow::Error::from(Usage("no".into())).context("read the arguments");
        assert_eq!(exit("gf", Err(usage)), ExitCode::from(2));
        assert_eq!(exit("gf", Err(anyhow!("no"))), ExitCode::FAILURE);
        assert_eq!(exit("gf", Ok(())), ExitCode::SUCCESS);
    }
}
