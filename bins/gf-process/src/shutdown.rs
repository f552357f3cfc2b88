//! When a process has to go.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal as listen};
use tracing::{error, info, warn};

use crate::memory;

/// What a shell gives a process ended by Ctrl-C.
const EXIT_CODE: i32 = 130;

/// Ends at the first SIGTERM or SIGINT and gives its name. A second one ends the process at once, with code 130:
/// whoever sends it does not want to wait for the first. Until then [memory is given back](memory::give_back).
pub async fn signal() -> &'static str {
    signal_or("", pending()).await
}

/// The same, or the end of `other`, which goes by `name`. Then the first signal is not yet the second.
pub async fn signal_or(name: &'static str, other: impl Future<Output = ()>) -> &'static str {
    let (mut terminate, mut interrupt) = match (
        listen(SignalKind::terminate()),
        listen(SignalKind::interrupt()),
    ) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            // The signals still end the process, only without an orderly shutdown.
            error!(%error, "signals cannot be listened to");
            other.await;
            return name;
        }
    };
    let (name, signalled) = tokio::select! {
        signal = next(&mut terminate, &mut interrupt) => (signal, true),
        () = other => (name, false),
        never = memory::give_back() => match never {},
    };
    info!(
        signal = name,
        "shutting down; the signal again ends the process at once"
    );
    // Owned by nobody on purpose: it is to outlive whatever hangs in the shutdown.
    tokio::spawn(async move {
        if !signalled {
            let name = next(&mut terminate, &mut interrupt).await;
            info!(signal = name, "shutting down already");
        }
        let name = next(&mut terminate, &mut interrupt).await;
        warn!(signal = name, "not waiting any longer");
        std::process::exit(EXIT_CODE);
    });
    name
}

async fn next(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
