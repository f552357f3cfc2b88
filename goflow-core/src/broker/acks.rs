//! Acknowledging deliveries, many at once.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::{Broker, Lease, Wire};

/// How often acknowledgements are tried. A message whose ack is not confirmed is delivered again, and fenced.
const TRIES: usize = 3;

/// Deliveries that are done, and what is kept until they are acknowledged.
pub(crate) type Done<Kept> = (Vec<Arc<dyn Lease>>, Kept);

/// Acknowledges what is done until nothing more can be. It waits for company as long as the broker gains by it, until
/// there are `most` or more.
pub(crate) async fn gather<T: Wire, Kept>(
    broker: &dyn Broker<T>,
    mut done: mpsc::Receiver<Done<Kept>>,
    most: usize,
) {
    let linger = broker.ack_linger();
    while let Some((mut leases, first)) = done.recv().await {
        let mut kept = vec![first];
        let company = async {
            if linger.is_zero() {
                return;
            }
            while leases.len() < most
                && let Some((more, with_it)) = done.recv().await
            {
                leases.extend(more);
                kept.push(with_it);
            }
        };
        drop(tokio::time::timeout(linger, company).await);
        acknowledge(broker, &leases).await;
    }
}

/// Acknowledges deliveries now.
pub(crate) async fn acknowledge<T: Wire>(broker: &dyn Broker<T>, leases: &[Arc<dyn Lease>]) {
    for _ in 0..TRIES {
        match broker.ack_all(leases).await {
            Ok(()) => return,
            Err(error) if error.is_retryable() => warn!(%error, "cannot acknowledge"),
            Err(_) => return,
        }
    }
}
