//! The store port as an engine sees it. Whatever happens to a task happens here, and is watched where it does.

use std::slice;
use std::sync::Arc;

use async_trait::async_trait;
use goflow_core::broker::Identity;
use goflow_core::outcome::Outcome;
use goflow_core::record::{DeadGroup, Filter, Page, PageRequest, QueueCounts, TaskRecord};
use goflow_core::state::Policy;
use goflow_core::store::memory::MemoryStore;
use goflow_core::store::{Accepted, Applied, Change, Claim, Due, Error, NewTasks};
use goflow_core::{KvStore, QueueName, State, StoreId, TaskId, TaskSpec, TaskStore, TaskType};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::gate::Gate;
use crate::handler::number_of;
use crate::plan::Op;

/// A store behind a gate.
#[derive(Debug)]
pub(crate) struct GatedStore(pub(crate) Gate);

impl GatedStore {
    fn inner(&self) -> &Arc<MemoryStore> {
        &self.0.world.store
    }

    /// Reads a record as it is now and holds it against what was seen before.
    async fn look(&self, id: TaskId) -> Result<Option<TaskRecord>, Error> {
        let record = self.inner().get(&id).await?;
        if let Some(record) = &record {
            self.0.world.check(|history| history.watch.read(record));
        }
        Ok(record)
    }

    async fn accepted(&self, spec: &TaskSpec) -> Result<(), Error> {
        let world = &self.0.world;
        if let Some(number) = number_of(&spec.payload) {
            world.history().named(spec.id, number);
        }
        world.history().watch.accepted(spec);
        world.note_of(spec.id, format_args!("is accepted by {}", self.0.actor));
        self.look(spec.id).await.map(drop)
    }

    async fn applied(&self, outcome: &Outcome, applied: &Applied) -> Result<(), Error> {
        let world = &self.0.world;
        let (id, attempt) = (outcome.task, outcome.attempt);
        let verdict = outcome.verdict.name();
        world.note_of(
            id,
            format_args!(
                "attempt {attempt}, dispatch {}, {verdict}: {applied:?} by {}",
                outcome.dispatch, self.0.actor
            ),
        );
        world.check(|history| history.watch.applied(id, attempt, applied));
        let record = self.look(id).await?;
        if *applied == Applied::Finished(State::Succeeded)
            && let Some(record) = record
        {
            world.check(|history| history.runs.check_result(&record));
        }
        Ok(())
    }

    async fn claimed(&self, due: &Due) -> Result<(), Error> {
        let world = &self.0.world;
        for dispatch in &due.dispatches {
            let id = dispatch.spec.id;
            let (attempt, number) = (dispatch.attempt, dispatch.dispatch);
            world.note_of(
                id,
                format_args!(
                    "attempt {attempt} is dispatched ({number}) by {}",
                    self.0.actor
                ),
            );
            let now = world.now_utc();
            world.check(|history| history.watch.dispatched_at(dispatch, now));
            self.look(id).await?;
        }
        for tombstone in &due.expired {
            world.note_of(tombstone.task, "expires");
            world.check(|history| history.watch.ended(tombstone.task, State::Expired));
            self.look(tombstone.task).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl KvStore<TaskId, TaskRecord> for GatedStore {
    async fn get(&self, key: &TaskId) -> Result<Option<TaskRecord>, Error> {
        self.0.call(Op::Get, self.look(*key)).await
    }
}

#[async_trait]
impl TaskStore for GatedStore {
    fn id(&self) -> StoreId {
        self.inner().id()
    }

    /// It outlives every engine.
    fn is_durable(&self) -> bool {
        true
    }

    async fn bind(&self, broker: &Identity) -> Result<(), Error> {
        self.0.call(Op::Bind, self.inner().bind(broker)).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.0.call(Op::OtherOfStore, self.inner().ping()).await
    }

    async fn accept(&self, requests: &[NewTasks]) -> Vec<Result<Vec<Accepted>, Error>> {
        let count = requests.len();
        let accept = async {
            let answers = self.inner().accept(requests).await;
            for (request, answer) in requests.iter().zip(&answers) {
                let tasks = request.tasks.iter().zip(answer.iter().flatten());
                for (spec, _) in tasks.filter(|(spec, accepted)| spec.id == accepted.id) {
                    self.accepted(spec).await?;
                }
            }
            Ok(answers)
        };
        let accepted: Result<_, Error> = self.0.call(Op::Accept, accept).await;
        accepted.unwrap_or_else(|error| vec![Err(error); count])
    }

    async fn apply(&self, outcomes: &[&Outcome], policy: &Policy) -> Result<Vec<Applied>, Error> {
        let apply = async {
            // One at a time, so that each is seen where it has its effect.
            let mut applied = Vec::with_capacity(outcomes.len());
            for outcome in outcomes {
                let one = self.inner().apply(slice::from_ref(outcome), policy).await?;
                for one in one {
                    self.applied(outcome, &one).await?;
                    applied.push(one);
                }
            }
            Ok(applied)
        };
        self.0.call(Op::Apply, apply).await
    }

    async fn claim_due(&self, limit: usize, claim: Claim<'_>) -> Result<Due, Error> {
        let claim = async {
            let due = self.inner().claim_due(limit, claim).await?;
            self.claimed(&due).await?;
            Ok(due)
        };
        self.0.call(Op::ClaimDue, claim).await
    }

    async fn confirm_dispatched(
        &self,
        broker: Uuid,
        dispatches: &[(TaskId, u32)],
    ) -> Result<bool, Error> {
        let confirm = async {
            for (id, dispatch) in dispatches {
                self.0.world.note_of(
                    *id,
                    format_args!("dispatch {dispatch} is confirmed by {}", self.0.actor),
                );
            }
            self.inner().confirm_dispatched(broker, dispatches).await
        };
        self.0.call(Op::ConfirmDispatched, confirm).await
    }

    async fn wake_unserved(&self, queue: &QueueName, types: &[TaskType]) -> Result<u64, Error> {
        self.0
            .call(Op::OtherOfStore, self.inner().wake_unserved(queue, types))
            .await
    }

    async fn cancel(&self, id: TaskId) -> Result<Change, Error> {
        let cancel = async {
            let change = self.inner().cancel(id).await?;
            if let Change::Done(record) = &change {
                self.0
                    .world
                    .note_of(id, format_args!("is cancelled through {}", self.0.actor));
                self.0.world.check(|history| history.watch.cancelled(id));
                self.0.world.check(|history| history.watch.read(record));
            }
            Ok(change)
        };
        self.0.call(Op::Cancel, cancel).await
    }

    async fn retry(&self, id: TaskId) -> Result<Change, Error> {
        let retry = async {
            let change = self.inner().retry(id).await?;
            if let Change::Done(record) = &change {
                self.0
                    .world
                    .note_of(id, format_args!("is reopened through {}", self.0.actor));
                self.0.world.check(|history| history.watch.reopened(record));
            }
            Ok(change)
        };
        self.0.call(Op::Retry, retry).await
    }

    async fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error> {
        self.0
            .call(Op::OtherOfStore, self.inner().list(filter, page))
            .await
    }

    async fn dead(&self, since: OffsetDateTime, limit: usize) -> Result<Vec<DeadGroup>, Error> {
        self.0
            .call(Op::OtherOfStore, self.inner().dead(since, limit))
            .await
    }

    async fn set_paused(&self, queue: &QueueName, paused: bool) -> Result<(), Error> {
        self.0
            .call(Op::OtherOfStore, self.inner().set_paused(queue, paused))
            .await
    }

    async fn paused(&self) -> Result<Vec<QueueName>, Error> {
        self.0.call(Op::OtherOfStore, self.inner().paused()).await
    }

    async fn queue_counts(&self) -> Result<Vec<QueueCounts>, Error> {
        self.0
            .call(Op::OtherOfStore, self.inner().queue_counts())
            .await
    }

    async fn maintain(&self) -> Result<(), Error> {
        self.0.call(Op::OtherOfStore, self.inner().maintain()).await
    }

    async fn close(&self) {}
}
