//! Ending in good order when told to: a program that is ended by a signal drops nothing, and leaves its servers behind.

use std::future::pending;

use tokio::signal::unix::{SignalKind, signal};

/// Ends at the first SIGINT or SIGTERM, which end the process no more from now on. Where signals cannot be listened to,
/// it never ends, and they do what they did. Cancel-safe.
pub async fn interrupted() {
    let (Ok(mut interrupt), Ok(mut terminate)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) else {
        return pending().await;
    };
    tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
}
