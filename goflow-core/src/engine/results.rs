//! The results writer: takes outcomes from the engine's route, has the store apply them in batches, wakes
//! whoever waits. Any number of engines share a route.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use super::Core;
use crate::broker::{Delivery, Error, acks};
use crate::faults::{self, Bug, Point};
use crate::id::TaskId;
use crate::limits;
use crate::outcome::{Outcome, OutcomeBatch, Verdict};
use crate::signal::Signal;
use crate::store::Applied;

/// Most messages taken at once.
const MAX_MESSAGES: usize = 64;

/// About how many outcomes are taken at once: some commits, while the next ones are fetched.
const OUTCOMES_AT_ONCE: usize = 2_000;

/// About how many bytes of outcomes are taken at once.
const BYTES_AT_ONCE: usize = 8 << 20;

/// Outcomes in one commit: about this many, for a message is never split.
const MAX_OUTCOMES: usize = 500;

/// How long one request for outcomes waits at the broker.
const DEQUEUE_WAIT: Duration = Duration::from_secs(1);

/// Commits of which the broker is still to be told. The next one does not wait for that; more than these would.
const MAX_UNTOLD: usize = 4;

/// Applied messages that are enough to be acknowledged together. Should this process end while they wait for company, they
/// come again, and are stale.
pub(super) const ENOUGH_ACKS: usize = 1_000;

/// The pause after something failed.
const PAUSE: Duration = Duration::from_millis(200);

type Message = Delivery<OutcomeBatch>;

/// Where messages go whose outcomes are applied.
type Acknowledger = acks::Acknowledger<OutcomeBatch, ()>;

/// Takes outcomes from the route, until it is dropped.
pub(super) async fn fetch(core: Arc<Core>, sender: mpsc::Sender<Vec<Message>>) {
    let mut failing = false;
    let mut most = MAX_MESSAGES;
    loop {
        match core
            .connection
            .results
            .dequeue(core.route.as_str(), most, DEQUEUE_WAIT)
            .await
        {
            Ok(messages) if messages.is_empty() => failing = false,
            Ok(messages) => {
                failing = false;
                most = how_many_next(messages.iter().map(|m| m.message.as_ref()));
                if sender.send(messages).await.is_err() {
                    return;
                }
            }
            Err(Error::Closed) => return,
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot take outcomes, trying again");
                }
                failing = true;
                // Heartbeats may have been missed too.
                core.registry.doubt();
                tokio::time::sleep(PAUSE).await;
                if matches!(error, Error::NoChannel { .. }) {
                    // The broker has lost its state, or never had any.
                    core.prepare_again().await;
                }
            }
        }
    }
}

/// How many messages to take after these, as they are likely to hold as much.
fn how_many_next<'a>(messages: impl ExactSizeIterator<Item = &'a OutcomeBatch>) -> usize {
    let count = messages.len();
    let (mut outcomes, mut bytes) = (0, 0);
    for message in messages {
        outcomes += message.outcomes.len();
        bytes += message.outcomes.iter().map(Outcome::size).sum::<usize>();
    }
    let share = |most: usize, of: usize| (most * count).checked_div(of).unwrap_or(MAX_MESSAGES);
    share(OUTCOMES_AT_ONCE, outcomes)
        .min(share(BYTES_AT_ONCE, bytes))
        .clamp(1, MAX_MESSAGES)
}

/// Applies what was fetched, until the fetching ends.
pub(super) async fn apply(
    core: Arc<Core>,
    mut fetched: mpsc::Receiver<Vec<Message>>,
    acknowledger: Acknowledger,
) {
    let mut telling = JoinSet::new();
    while let Some(messages) = fetched.recv().await {
        let mut group = Vec::new();
        let mut outcomes = 0;
        for message in messages {
            outcomes += message.message.outcomes.len();
            group.push(message);
            if outcomes >= MAX_OUTCOMES {
                commit(
                    &core,
                    std::mem::take(&mut group),
                    &acknowledger,
                    &mut telling,
                )
                .await;
                outcomes = 0;
            }
        }
        if !group.is_empty() {
            commit(&core, group, &acknowledger, &mut telling).await;
        }
    }
    while telling.join_next().await.is_some() {}
}

/// Applies the outcomes of some messages, however long the store takes to answer. Other engines are told, and the
/// messages acknowledged, while the next ones are applied; by a broker of this process, which answers at once, before.
async fn commit(
    core: &Arc<Core>,
    messages: Vec<Message>,
    acknowledger: &Acknowledger,
    telling: &mut JoinSet<()>,
) {
    let (leases, batches): (Vec<_>, Vec<_>) =
        messages.into_iter().map(|m| (m.lease, m.message)).unzip();
    let outcomes: Vec<&Outcome> = batches.iter().flat_map(|batch| &batch.outcomes).collect();
    if faults::planted(Bug::AckBeforeCommit) {
        acks::acknowledge(core.connection.results.as_ref(), &leases).await;
    }
    let applied = store(core, &outcomes).await;
    faults::point(Point::AfterCommit);
    let mut finished = settle(core, &outcomes, &applied);
    let rejected: Vec<_> = outcomes
        .iter()
        .zip(&applied)
        .filter_map(|(o, a)| substitute(o, a))
        .collect();
    if !rejected.is_empty() {
        let rejected: Vec<_> = rejected.iter().collect();
        let applied = store(core, &rejected).await;
        finished.extend(settle(core, &rejected, &applied));
    }
    core.left(&finished);
    faults::point(Point::BeforeAck);
    let tell = {
        let (core, acknowledger) = (core.clone(), acknowledger.clone());
        async move {
            core.tell(finished).await;
            acknowledger.done(leases, ()).await;
        }
    };
    if core.in_process {
        return tell.await;
    }
    while telling.try_join_next().is_some() {}
    while telling.len() >= MAX_UNTOLD {
        telling.join_next().await;
    }
    telling.spawn(tell);
}

async fn store(core: &Core, outcomes: &[&Outcome]) -> Vec<Applied> {
    loop {
        match core.store.apply(outcomes, &core.registry.policy()).await {
            Ok(applied) => return applied,
            Err(error) => {
                warn!(%error, outcomes = outcomes.len(), "cannot apply outcomes, trying again")
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The failure that takes the place of an outcome which cannot be applied.
fn substitute(outcome: &Outcome, applied: &Applied) -> Option<Outcome> {
    let Applied::Rejected(reason) = applied else {
        return None;
    };
    error!(task.id = %outcome.task, %reason, "an outcome cannot be recorded");
    if matches!(outcome.verdict, Verdict::Failed { .. }) {
        return None;
    }
    let error = limits::clip_error(&format!("the outcome could not be recorded: {reason}"));
    Some(Outcome {
        verdict: Verdict::failed_for_good(error),
        ..outcome.clone()
    })
}

/// Does what follows from what was applied; the tasks that have ended.
fn settle(core: &Core, outcomes: &[&Outcome], applied: &[Applied]) -> Vec<TaskId> {
    let mut finished = Vec::new();
    for (outcome, applied) in outcomes.iter().zip(applied) {
        match applied {
            Applied::Finished(state) => {
                debug!(task.id = %outcome.task, attempt = outcome.attempt, %state, "finished");
                finished.push(outcome.task);
            }
            Applied::Waits(wait) => core.schedule.wake_in(*wait),
            Applied::Stale => {
                debug!(task.id = %outcome.task, attempt = outcome.attempt, verdict = outcome.verdict.name(), "stale");
            }
            Applied::Noted | Applied::Rejected(_) => {}
        }
    }
    finished
}

impl Core {
    /// Wakes whoever waits for these tasks, here and in other engines.
    pub(super) async fn finished(&self, ids: Vec<TaskId>) {
        self.left(&ids);
        self.tell(ids).await;
    }

    /// Wakes whoever waits here for these tasks, or for the room that they leave.
    pub(super) fn left(&self, ids: &[TaskId]) {
        if !ids.is_empty() {
            self.wake(ids);
            self.room.notify_waiters();
        }
    }

    /// Wakes whoever waits for these tasks here.
    pub(super) fn wake(&self, ids: &[TaskId]) {
        self.dispatcher.forget(ids);
        if self.store.at_once().is_none() {
            self.waiters.remember(ids);
        }
        self.waiters.wake(ids);
        self.finished.tell(ids);
    }

    /// Tells other engines that these tasks have ended.
    async fn tell(&self, ids: Vec<TaskId>) {
        if ids.is_empty() {
            return;
        }
        let signal = Signal::Finished {
            route: self.route.clone(),
            ids,
            engine: self.id,
        };
        if let Err(error) = self.connection.control.signal(signal).await {
            debug!(%error, "cannot signal finished tasks: who waits for them polls");
        }
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;
    use crate::content::Content;
    use crate::id::{Route, StoreId, WorkerId};

    /// Results of some bytes each, so many to a message.
    fn messages(count: usize, outcomes: usize, bytes: usize) -> Vec<OutcomeBatch> {
        let outcome = Outcome {
            task: TaskId::new(),
            attempt: 1,
            dispatch: 1,
            worker: WorkerId(Uuid::nil()),
            started_at: None,
            finished_at: OffsetDateTime::UNIX_EPOCH,
            verdict: Verdict::Succeeded(Content::binary(vec![0; bytes])),
            spec: None,
        };
        let batch = OutcomeBatch {
            id: Uuid::nil(),
            route: Route::of_store(StoreId(Uuid::nil()), true),
            outcomes: vec![outcome; outcomes],
        };
        vec![batch; count]
    }

    #[test]
    fn as_many_are_taken_as_hold_enough() {
        let next = |count, outcomes, bytes| how_many_next(messages(count, outcomes, bytes).iter());
        assert_eq!(next(3, 1, 0), MAX_MESSAGES);
        assert_eq!(next(2, 500, 100), 4);
        assert_eq!(next(1, 4, 1 << 20), 1);
        assert_eq!(next(1, 1, 1 << 19), 15);
        assert_eq!(next(1, 5_000, 1), 1);
    }
}
