//! Signals: core NATS, lossy by design, JSON so that `nats sub 'gf.>'` shows them.

use std::time::Duration;

use async_nats::Subscriber;
use bytes::Bytes;
use futures_util::stream::{SelectAll, StreamExt};
use goflow_core::broker::{Error, Signals};
use goflow_core::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api;
use crate::error;
use crate::link::{DEADLINE, Link};

/// Signals a listener may be behind before it misses some.
const BACKLOG: usize = 4_096;

/// How long a new subscription may take to be known to the server.
const SETTLE: Duration = Duration::from_millis(500);

const EVENTS: &str = "gf.evt.>";
const HEARTBEATS: &str = "gf.hb.*";
const COMMANDS: &str = "gf.ctl.*";

fn subject(signal: &Signal) -> String {
    match signal {
        Signal::Finished { .. } => "gf.evt.finished".into(),
        Signal::Heartbeat(status) => format!("gf.hb.{}", status.id),
        Signal::Goodbye(worker) => format!("gf.hb.{worker}"),
        Signal::Command { worker, .. } => format!("gf.ctl.{worker}"),
    }
}

pub(crate) async fn send(link: &Link, signal: &Signal) -> Result<(), Error> {
    const OPERATION: &str = "signal";
    // A signal that waits for a connection is of no use any more when there is one.
    link.connected(OPERATION, Instant::now()).await?;
    let payload =
        serde_json::to_vec(signal).map_err(|error| Error::unavailable(OPERATION, error))?;
    link.publish(OPERATION, subject(signal), None, Bytes::from(payload))
        .await?;
    // What a process says last it says before it ends.
    link.flush(OPERATION).await
}

/// Everything but commands.
pub(crate) async fn listen(link: &Link) -> Result<Signals, Error> {
    subscribe(link, &[EVENTS, HEARTBEATS], |signal| !is_command(signal)).await
}

/// Nothing but commands.
pub(crate) async fn commands(link: &Link) -> Result<Signals, Error> {
    subscribe(link, &[COMMANDS], is_command).await
}

fn is_command(signal: &Signal) -> bool {
    matches!(signal, Signal::Command { .. })
}

async fn subscribe(
    link: &Link,
    subjects: &[&'static str],
    wanted: fn(&Signal) -> bool,
) -> Result<Signals, Error> {
    const OPERATION: &str = "listen";
    let subscribing = async {
        let mut subscriptions = SelectAll::new();
        for subject in subjects {
            let subscription = link.client().subscribe(*subject).await;
            subscriptions.push(subscription.map_err(|error| error::subscribe(OPERATION, error))?);
        }
        // Once the server has answered something asked later, it knows of the subscriptions. Who may not ask
        // misses what is said in these moments.
        api::probe(link, Instant::now() + SETTLE).await;
        Ok(subscriptions)
    };
    let subscriptions = match tokio::time::timeout(DEADLINE, subscribing).await {
        Ok(subscriptions) => subscriptions?,
        Err(_) => return Err(Error::unavailable(OPERATION, "timed out")),
    };
    let (sender, receiver) = mpsc::channel(BACKLOG);
    link.spawn(forward(link.clone(), subscriptions, wanted, sender));
    Ok(Signals::new(receiver))
}

async fn forward(
    link: Link,
    mut subscriptions: SelectAll<Subscriber>,
    wanted: fn(&Signal) -> bool,
    listener: mpsc::Sender<Signal>,
) {
    loop {
        let message = tokio::select! {
            message = subscriptions.next() => message,
            () = listener.closed() => return,
            () = link.closing().cancelled() => return,
        };
        let Some(message) = message else { return };
        match serde_json::from_slice::<Signal>(&message.payload) {
            // A listener that is behind misses it: signals are lossy, and memory is finite.
            Ok(signal) if wanted(&signal) => drop(listener.try_send(signal)),
            Ok(_) => {}
            // A newer goflow may say what this one does not know.
            Err(error) => tracing::debug!(subject = %message.subject, %error, "not a signal"),
        }
    }
}
