//! `gf-gateway`: HTTP and gRPC on one port over the engine.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use gf_process::{logging, shutdown};
use tokio_util::sync::CancellationToken;

/// The gateway of goflow: HTTP and gRPC on one port
#[derive(Debug, Parser)]
#[command(name = "gf-gateway", version)]
struct Args {
    #[command(flatten)]
    options: gf_gateway::Options,

    /// How log lines look
    #[arg(long, env = "GF_LOG_FORMAT", value_enum, default_value_t)]
    log_format: logging::Format,
}

fn main() -> ExitCode {
    gf_worker::guard::main_if_asked();
    let args: Args = gf_process::parse();
    gf_process::exit("gf-gateway", run(args))
}

fn run(args: Args) -> Result<()> {
    logging::init(args.log_format)?;
    let runtime = tokio::runtime::Runtime::new().context("start the runtime")?;
    runtime.block_on(async {
        let ending = CancellationToken::new();
        let gateway = gf_gateway::run(args.options, announce, ending.clone());
        let signal = async {
            shutdown::signal().await;
            ending.cancel();
            std::future::pending().await
        };
        tokio::select! {
            ended = gateway => ended,
            never = signal => never,
        }
    })
}

/// Tells whoever started this process where to find it. A closed stdout is their choice.
fn announce(address: std::net::SocketAddr) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "listening on http://{address}").and_then(|()| out.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_listed() {
        let unlisted = gf_process::settings::unlisted::<Args>();
        assert!(unlisted.is_empty(), "{unlisted:?}");
    }
}
