//! Ending in good order when told to: a program that is ended by a signal drops nothing, and leaves its servers behind.

use std::future::pending;

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGINT or SIGTERM, which end the process no more once this has been polled. Never, where they cannot
/// be listened to. Cancel-safe.
pub async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return pending().await;
    };
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
}
