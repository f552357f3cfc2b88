//! Sends outcomes to their routes, many to a message, and acknowledges the tasks once they are confirmed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::held::Hold;
use crate::ambient;
use crate::broker::acks::{self, Acknowledger};
use crate::broker::{Broker, Connection, Error};
use crate::faults::{self, Point};
use crate::id::Route;
use crate::outcome::{Outcome, OutcomeBatch};
use crate::task::TaskMessage;

/// Most outcomes in one message: what a store applies in one commit.
const MAX_OUTCOMES: usize = 500;

/// Room for what a message holds beside its outcomes.
const MESSAGE_OVERHEAD: usize = 1_024;

/// Tasks that are enough to be acknowledged together. While they wait for company they would run again, though their
/// outcomes are known, should this process end.
const ENOUGH_ACKS: usize = 16;

/// Messages under way at once: while some are confirmed, the next ones fill up.
const MAX_UNDER_WAY: usize = 4;

/// An outcome on its way, with what it settles.
#[derive(Debug)]
pub(super) struct Report {
    outcome: Outcome,
    settles: Settles,
}

#[derive(Debug)]
enum Settles {
    /// Acknowledge the delivery once the outcome is confirmed; until then it is held.
    Delivery(Hold),
    /// Tell the runner once it is confirmed; the delivery goes on.
    Start(Arc<TaskMessage>, oneshot::Sender<()>),
}

impl Report {
    fn route(&self) -> &Route {
        match &self.settles {
            Settles::Delivery(hold) => &hold.message().route,
            Settles::Start(message, _) => &message.route,
        }
    }
}

/// Where outcomes are handed in.
#[derive(Debug, Clone)]
pub(super) struct Reporter(mpsc::Sender<Report>);

impl Reporter {
    /// Hands in the outcome of a delivery, which is over with it. Waits while too many are on their way.
    pub(super) async fn finish(&self, hold: Hold, outcome: Outcome) {
        let settles = Settles::Delivery(hold);
        let report = Report { outcome, settles };
        // Mostly there is room, and to wait for it costs more than to take it. Nothing else in here yields then, and a slot
        // must not keep a thread to itself.
        match self.0.try_send(report) {
            Err(TrySendError::Full(report)) => {
                // The loop outlives its callers; if it is gone all the same, the delivery comes back by itself.
                drop(Box::pin(self.0.send(report)).await);
            }
            _ => tokio::task::coop::consume_budget().await,
        }
    }

    /// Hands in that a delivery is about to run, and waits until that is confirmed; false if it never will be.
    pub(super) async fn start(&self, message: &Arc<TaskMessage>, outcome: Outcome) -> bool {
        let (confirmed, confirmation) = oneshot::channel();
        let settles = Settles::Start(message.clone(), confirmed);
        self.0.send(Report { outcome, settles }).await.is_ok() && confirmation.await.is_ok()
    }
}

/// The queue of reports: `capacity` outcomes wait at most.
pub(super) fn channel(capacity: usize) -> (Reporter, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (Reporter(sender), receiver)
}

/// Sends what comes in until every [`Reporter`] is gone and all is sent, or until `abandon`: then what is
/// still on its way is left to the expiry of its lease.
pub(super) async fn run(
    mut reports: mpsc::Receiver<Report>,
    connection: Connection,
    abandon: CancellationToken,
) {
    let Connection { results, tasks, .. } = connection;
    let (acknowledger, to_acknowledge) = Acknowledger::new(tasks.clone(), MAX_UNDER_WAY);
    let work = async {
        let (results, acknowledger) = (results.as_ref(), acknowledger);
        let mut under_way = FuturesUnordered::new();
        let mut incoming = Vec::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = under_way.next(), if !under_way.is_empty() => {}
                count = reports.recv_many(&mut incoming, MAX_OUTCOMES), if under_way.len() < MAX_UNDER_WAY => {
                    if count == 0 {
                        break;
                    }
                    for (batch, settles) in pack(incoming.drain(..), results.max_message_bytes()) {
                        under_way.push(send(results, batch, settles, &acknowledger));
                    }
                }
            }
        }
        while under_way.next().await.is_some() {}
    };
    let acks = acks::gather(tasks.as_ref(), to_acknowledge, ENOUGH_ACKS);
    let work = async { tokio::join!(work, acks) };
    if abandon.run_until_cancelled(work).await.is_none() {
        warn!("ended with outcomes that could not be handed over: their tasks run again");
    }
}

/// Packs reports by route into messages that fit.
fn pack(
    reports: impl Iterator<Item = Report>,
    max_bytes: usize,
) -> Vec<(OutcomeBatch, Vec<Settles>)> {
    struct Open {
        bytes: usize,
        batch: OutcomeBatch,
        settles: Vec<Settles>,
    }
    // Mostly they all go together: reports are large, and not to be moved again.
    let most = reports.size_hint().0;
    let fresh = |route: &Route| Open {
        bytes: MESSAGE_OVERHEAD,
        batch: OutcomeBatch {
            id: ambient::new_id(),
            route: route.clone(),
            outcomes: Vec::with_capacity(most),
        },
        settles: Vec::with_capacity(most),
    };
    // One for each route, of which there are few: to look through them costs less than to hash one.
    let mut open: Vec<Open> = Vec::new();
    let mut packed = Vec::new();
    for report in reports {
        let (bytes, route) = (report.outcome.size(), report.route());
        let place = open.iter().position(|open| open.batch.route == *route);
        let place = place.unwrap_or_else(|| {
            open.push(fresh(route));
            open.len() - 1
        });
        let open = &mut open[place];
        if !open.settles.is_empty() && open.bytes + bytes > max_bytes {
            let full = std::mem::replace(open, fresh(route));
            packed.push((full.batch, full.settles));
        }
        open.bytes += bytes;
        open.batch.outcomes.push(report.outcome);
        open.settles.push(report.settles);
    }
    packed.extend(open.into_iter().map(|last| (last.batch, last.settles)));
    packed
}

async fn send(
    results: &dyn Broker<OutcomeBatch>,
    batch: OutcomeBatch,
    settles: Vec<Settles>,
    acknowledger: &Acknowledger<TaskMessage, Vec<Hold>>,
) {
    if !submit(results, batch).await {
        return;
    }
    faults::point(Point::AfterOutcomeConfirmed);
    let (mut leases, mut holds) = (Vec::new(), Vec::new());
    for settles in settles {
        match settles {
            Settles::Delivery(hold) => {
                leases.push(hold.lease().clone());
                holds.push(hold);
            }
            Settles::Start(_, told) => drop(told.send(())),
        }
    }
    if !leases.is_empty() {
        acknowledger.done(leases, holds).await;
    }
}

/// Hands a message over, however long it takes; false if it can never be handed over.
async fn submit(results: &dyn Broker<OutcomeBatch>, batch: OutcomeBatch) -> bool {
    let batch = Arc::new(batch);
    let mut wait = Duration::from_millis(50);
    loop {
        match results.submit(vec![batch.clone()]).await.pop() {
            Some(Ok(())) => return true,
            Some(Err(error)) if error.is_retryable() => {
                warn!(%error, outcomes = batch.outcomes.len(), "cannot hand over outcomes, trying again");
            }
            Some(Err(Error::Closed)) | None => return false,
            Some(Err(error)) => {
                error!(%error, outcomes = batch.outcomes.len(), "outcomes are refused: their tasks run again");
                return false;
            }
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(2));
    }
}
