//! `gf dev`: everything in one process.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use gf_gateway::Options;
use gf_process::{logging, shutdown};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::args::{Cli, Command, Dev, OutputFormat};
use crate::client::Client;
use crate::commands::push;
use crate::output;

/// Runs a gateway with workers until a signal, or until one task is done.
pub(super) async fn run(dev: Dev) -> Result<u8> {
    let once = dev
        .once
        .as_ref()
        .map(|once| push_arguments(once))
        .transpose()?;
    // A single task is asked for its result: the life of the process around it is of interest on request only.
    if once.is_none() || std::env::var_os(logging::FILTER_VARIABLE).is_some() {
        logging::init(logging::Format::Text)?;
    }
    let timeout = dev.timeout;
    let options = Options {
        listen: if once.is_some() {
            "127.0.0.1:0".to_owned()
        } else {
            dev.listen
        },
        store: dev.store,
        worker: dev.worker,
        migrate: true,
        ..Options::default()
    };
    let ending = CancellationToken::new();
    let (ready, listens) = oneshot::channel();
    let gateway = gf_gateway::run(
        options,
        |address| {
            // Nobody hears it only when this command has ended already.
            let _ = ready.send(address);
        },
        ending.clone(),
    );
    let command = async {
        let code = match listens.await {
            Ok(address) => attend(address, once, timeout).await,
            // The gateway ended before it was ready, and says itself why.
            Err(_) => Ok(1),
        };
        ending.cancel();
        code
    };
    let (gateway, code) = tokio::join!(gateway, command);
    gateway?;
    code
}

/// What is done while the gateway runs: one task, or waiting for the signal to end.
async fn attend(
    address: SocketAddr,
    once: Option<crate::args::Push>,
    timeout: Duration,
) -> Result<u8> {
    let Some(push) = once else {
        output::line(&banner(address))?;
        shutdown::signal().await;
        return Ok(0);
    };
    let client = Client::new(&format!("http://{address}"))?;
    let pushed = push::run(
        &client,
        crate::args::Push {
            wait: true,
            timeout,
            ..push
        },
        OutputFormat::Table,
    );
    tokio::select! {
        code = pushed => code,
        _ = shutdown::signal() => Ok(130),
    }
}

/// Reads what follows `--once` as `gf push` does.
fn push_arguments(once: &[String]) -> Result<crate::args::Push> {
    let arguments = ["gf", "push", "--"]
        .into_iter()
        .chain(once.iter().map(String::as_str));
    match <Cli as clap::Parser>::try_parse_from(arguments)
        .context("read --once")?
        .command
    {
        Command::Push(push) => Ok(*push),
        _ => anyhow::bail!("--once pushes tasks only"),
    }
}

fn banner(address: SocketAddr) -> String {
    let server = if address.port() == 8080 {
        String::new()
    } else {
        format!(" --server http://{address}")
    };
    format!(
        "listening on http://{address}\n\
         \n\
         goflow runs: HTTP and gRPC on one port, workers in this process. In another terminal:\n\
         \n\
         \x20   gf{server} push echo '{{\"hello\":\"world\"}}' --wait\n\
         \x20   gf{server} list\n\
         \x20   curl -d '{{\"type\":\"echo\",\"payload\":1}}' http://{address}/v1/tasks\n\
         \n\
         Built in are the types echo and sleep; --handlers-path DIR adds your own. Ctrl-C ends it."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_reads_type_and_payload() {
        let push = push_arguments(&["add".to_owned(), "-1".to_owned()]).unwrap();
        assert_eq!(
            (push.task_type.as_str(), push.payload.as_str()),
            ("add", "-1")
        );
        assert_eq!(push_arguments(&["add".to_owned()]).unwrap().payload, "null");
    }

    #[test]
    fn the_first_line_is_the_one_that_scripts_read() {
        let banner = banner(SocketAddr::from(([127, 0, 0, 1], 9090)));
        assert_eq!(
            banner.lines().next(),
            Some("listening on http://127.0.0.1:9090")
        );
        assert!(banner.contains("gf --server http://127.0.0.1:9090 push echo"));
    }
}
