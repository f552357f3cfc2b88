//! Logs: to stderr, so that stdout stays for results.

use std::env;
use std::io::{self, IsTerminal};

use anyhow::{Context, Result, anyhow};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// The variable that says what is logged: `debug`, or `info,goflow_core=debug` and the like.
pub const FILTER_VARIABLE: &str = "GF_LOG";

/// What is logged when the variable does not say. The NATS client says at info what goflow says itself.
const DEFAULT_FILTER: &str = "info,async_nats=warn";

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging at what `GF_LOG` says; at `info` when there is no such variable.
///
/// # Errors
/// When `GF_LOG` cannot be read, or logging was started before.
pub fn init(format: Format) -> Result<()> {
    let filter = filter(env::var(FILTER_VARIABLE).ok().as_deref())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    match format {
        Format::Text => builder.try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    }
    .map_err(|error| anyhow!("start logging: {error}"))
}

fn filter(text: Option<&str>) -> Result<EnvFilter> {
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse(text.unwrap_or(DEFAULT_FILTER))
        .with_context(|| format!("read {FILTER_VARIABLE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_info_unless_said_otherwise() {
        assert_eq!(filter(None).unwrap().to_string(), "async_nats=warn,info");
        assert_eq!(filter(Some("debug")).unwrap().to_string(), "debug");
        assert!(format!("{:#}", filter(Some("a=b=c")).unwrap_err()).starts_with("read GF_LOG: "));
    }
}
