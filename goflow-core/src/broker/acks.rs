//! Acknowledging deliveries, many at once.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::warn;

use super::{Broker, Lease, Wire};

/// How often acknowledgements are tried. A message whose ack is not confirmed is delivered again, and fenced.
const TRIES: usize = 3;

/// Groups that are acknowledged at once: one that nobody confirms does not hold up the others.
const MAX_UNDER_WAY: usize = 4;

/// Deliveries that are done, and what is kept until they are acknowledged.
pub(crate) type Done<Kept> = (Vec<Arc<dyn Lease>>, Kept);

/// Where deliveries go that are done: acknowledged at once if the broker gains nothing by company, and else left to
/// [`gather`].
#[derive(Clone)]
pub(crate) struct Acknowledger<T: Wire, Kept> {
    broker: Arc<dyn Broker<T>>,
    gathered: Option<mpsc::Sender<Done<Kept>>>,
}

impl<T: Wire, Kept> Acknowledger<T, Kept> {
    /// With what is left to [`gather`], of which so much may wait.
    pub(crate) fn new(
        broker: Arc<dyn Broker<T>>,
        capacity: usize,
    ) -> (Self, mpsc::Receiver<Done<Kept>>) {
        let (sender, receiver) = mpsc::channel(capacity);
        let gathered = (!broker.ack_linger().is_zero()).then_some(sender);
        (Self { broker, gathered }, receiver)
    }

    /// Has these acknowledged, now or soon, and keeps what is to be kept until then.
    pub(crate) async fn done(&self, leases: Vec<Arc<dyn Lease>>, kept: Kept) {
        match &self.gathered {
            // Whoever gathers outlives this; if not, they are delivered again.
            Some(gathered) => drop(gathered.send((leases, kept)).await),
            None => {
                acknowledge(self.broker.as_ref(), &leases).await;
                drop(kept);
            }
        }
    }
}

/// Acknowledges what is done until nothing more can be. It waits for company for as long as the broker gains by it, and
/// for none once there are `enough`.
pub(crate) async fn gather<T: Wire, Kept>(
    broker: &dyn Broker<T>,
    mut done: mpsc::Receiver<Done<Kept>>,
    enough: usize,
) {
    let linger = broker.ack_linger();
    let mut under_way = FuturesUnordered::new();
    let (mut leases, mut kept) = (Vec::new(), Vec::new());
    let mut until = Instant::now();
    let mut ended = false;
    loop {
        let waits = !ended && leases.len() < enough && Instant::now() < until;
        if !leases.is_empty() && !waits && under_way.len() < MAX_UNDER_WAY {
            let (leases, kept) = (std::mem::take(&mut leases), std::mem::take(&mut kept));
            under_way.push(async move {
                acknowledge(broker, &leases).await;
                drop(kept);
            });
        }
        if ended && leases.is_empty() && under_way.is_empty() {
            return;
        }
        tokio::select! {
            biased;
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            more = done.recv(), if !ended && leases.len() < enough => match more {
                Some((more, with_them)) => {
                    if leases.is_empty() {
                        until = Instant::now() + linger;
                    }
                    leases.extend(more);
                    kept.push(with_them);
                }
                None => ended = true,
            },
            () = tokio::time::sleep_until(until), if waits && !leases.is_empty() => {}
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::memory;
    use crate::id::{Route, StoreId};
    use crate::outcome::OutcomeBatch;

    #[tokio::test]
    async fn who_gains_nothing_by_company_is_told_at_once() {
        let results = memory::connect(memory::Options::default()).results;
        let route = Route::of_store(StoreId(uuid::Uuid::nil()), false);
        let batch = OutcomeBatch {
            id: uuid::Uuid::nil(),
            route: route.clone(),
            outcomes: Vec::new(),
        };
        results.submit(vec![batch.into()]).await.remove(0).unwrap();
        let wait = std::time::Duration::ZERO;
        let taken = results.dequeue(route.as_str(), 1, wait).await.unwrap();
        let leases: Vec<_> = taken.into_iter().map(|delivery| delivery.lease).collect();
        assert_eq!(leases.len(), 1);
        let (acknowledger, mut left) = Acknowledger::new(results.clone(), 1);
        acknowledger.done(leases, ()).await;
        assert!(results.depth(route.as_str()).await.unwrap().is_empty());
        assert!(left.recv().await.is_none(), "nothing is left to gather");
    }
}
