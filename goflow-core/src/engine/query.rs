//! Asking for tasks, waiting for them, changing them.

use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant;

use super::{AGES, Core, Engine, Health, QueueStatus, Record, WorkerSeen};
use crate::ambient;
use crate::broker::Tombstone;
use crate::error::Error;
use crate::id::TaskId;
use crate::record::{Filter, MAX_PAGE, Page, PageRequest, QueueCounts, TaskRecord};
use crate::state::State;
use crate::store::Change;

/// Waits poll the store too, at first this often, in case a signal is lost.
const POLL_FIRST: Duration = Duration::from_millis(250);

/// And later this often.
const POLL_MOST: Duration = Duration::from_secs(2);

/// A task that was pushed less than this ago has hardly ended. Less than [it is remembered](super::waiters) that one has.
const YOUNG: Duration = Duration::from_millis(25);

/// How long a wait for such a task relies on being told.
const RELIED_ON: Duration = Duration::from_millis(25);

impl Engine {
    /// A record, with what heartbeats tell laid over it.
    pub(crate) async fn get(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.core.get(id).await
    }

    /// The live workers.
    pub(crate) fn workers(&self) -> Vec<WorkerSeen> {
        self.core.registry.list()
    }

    /// The ids of tasks that finish from now on.
    pub(crate) fn finished(&self) -> broadcast::Receiver<TaskId> {
        self.core.finished.subscribe()
    }

    /// How store and broker are.
    pub(crate) async fn health(&self) -> Health {
        let core = &self.core;
        let (store, broker) = tokio::join!(core.store.ping(), core.connection.control.ping());
        let mut store = store.err().map(|error| error.to_string());
        if core.lost_claim.is_cancelled() {
            store = Some("another process has taken the store over".to_owned());
        }
        let broker = broker.err().map(|error| error.to_string());
        let ready = store.is_none() && (core.record == Record::Full || broker.is_none());
        Health {
            store,
            broker,
            ready,
        }
    }

    /// The record at the task's end, or as it is when the time is up.
    pub(crate) async fn wait(&self, id: TaskId, timeout: Duration) -> Result<TaskRecord, Error> {
        self.core.wait(id, timeout).await
    }

    /// A page of tasks.
    pub(crate) async fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error> {
        self.core.list(filter, page).await
    }

    /// Cancels a task.
    pub(crate) async fn cancel(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.core.cancel(id).await
    }

    /// Reopens a task.
    pub(crate) async fn retry(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.core.retry(id).await
    }

    /// All queues.
    pub(crate) async fn queues(&self) -> Result<Vec<QueueStatus>, Error> {
        self.core.queues().await
    }
}

impl Core {
    pub(super) async fn get(&self, id: TaskId) -> Result<TaskRecord, Error> {
        Ok(self.shown(self.look(id).await?))
    }

    /// A record with what heartbeats tell laid over it.
    fn shown(&self, mut record: TaskRecord) -> TaskRecord {
        self.registry.overlay(std::slice::from_mut(&mut record));
        record
    }

    /// What the store has.
    async fn look(&self, id: TaskId) -> Result<TaskRecord, Error> {
        self.store.get(&id).await?.ok_or_else(|| self.absent(id))
    }

    fn absent(&self, id: TaskId) -> Error {
        match self.record {
            Record::Full => Error::NotFound(id),
            Record::Outcome => Error::NotRecordedYet(id),
        }
    }

    async fn wait(&self, id: TaskId, timeout: Duration) -> Result<TaskRecord, Error> {
        // Where a look costs next to nothing, what has ended already takes no place among those who wait.
        if let Some(store) = self.store.at_once()
            && let Some(record) = store.record(id)
            && record.state.is_terminal()
        {
            return Ok(record);
        }
        let deadline = Instant::now() + timeout.min(AGES);
        let waiter = self.waiters.register(id);
        // A store that answers at once was asked a moment ago.
        if self.store.at_once().is_none() && is_young(id) {
            let woken = waiter.woken();
            if !waiter.has_ended() {
                let told = self.stopping.run_until_cancelled(woken);
                // Told or not, the store has the last word.
                drop(tokio::time::timeout_at(deadline.min(Instant::now() + RELIED_ON), told).await);
            }
        }
        let mut poll = POLL_FIRST;
        let looked = loop {
            let woken = waiter.woken();
            let looked = self.look(id).await;
            match &looked {
                Ok(record) if record.state.is_terminal() => break looked,
                Ok(_) | Err(Error::NotRecordedYet(_)) => {}
                // A store that is away for a moment is no reason to give up a wait.
                Err(error) if error.is_retryable() => {}
                Err(_) => break looked,
            }
            let now = Instant::now();
            if now >= deadline {
                break looked;
            }
            let pause = tokio::time::sleep_until((now + poll).min(deadline));
            tokio::select! {
                biased;
                () = woken => {}
                () = pause => poll = (poll * 2).min(POLL_MOST),
                () = self.stopping.cancelled() => break looked,
            }
        };
        looked.map(|record| self.shown(record))
    }

    async fn list(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error> {
        if page.limit == 0 || page.limit > MAX_PAGE {
            return Err(Error::invalid(format!(
                "limit is {}, use 1 to {MAX_PAGE}",
                page.limit
            )));
        }
        if filter.states.contains(&State::Running) {
            if filter.states != [State::Running] {
                return Err(Error::invalid(
                    "running comes from heartbeats: ask for it alone",
                ));
            }
            return self.list_running(filter, page).await;
        }
        let mut list = self.store.list(filter, page).await?;
        self.registry.overlay(&mut list.tasks);
        Ok(list)
    }

    async fn list_running(&self, filter: &Filter, page: PageRequest) -> Result<Page, Error> {
        let mut ids: Vec<_> = self.registry.running().into_keys().collect();
        ids.retain(|id| page.before.is_none_or(|before| *id < before));
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let mut tasks = Vec::new();
        for id in ids {
            if tasks.len() == page.limit {
                return Ok(Page {
                    next: tasks.last().map(|task: &TaskRecord| task.spec.id),
                    tasks,
                });
            }
            let Some(record) = self.store.get(&id).await? else {
                continue;
            };
            let mut record = [record];
            self.registry.overlay(&mut record);
            let [record] = record;
            if record.state == State::Running && filter.passes(&record) {
                tasks.push(record);
            }
        }
        Ok(Page { tasks, next: None })
    }

    pub(super) async fn cancel(&self, id: TaskId) -> Result<TaskRecord, Error> {
        let changed = self.store.cancel(id).await?;
        if matches!(changed, Change::Unknown) && self.record == Record::Outcome {
            return Err(Error::NeedsFullRecord(id));
        }
        let record = self.changed(id, changed)?;
        self.ended(&[Tombstone {
            task: id,
            dispatch: record.dispatch,
        }])
        .await;
        Ok(record)
    }

    pub(super) async fn retry(&self, id: TaskId) -> Result<TaskRecord, Error> {
        let record = self.changed(id, self.store.retry(id).await?)?;
        self.schedule.wake_in(Duration::ZERO);
        Ok(record)
    }

    fn changed(&self, id: TaskId, change: Change) -> Result<TaskRecord, Error> {
        match change {
            Change::Done(record) => Ok(*record),
            Change::Forbidden(record) => Err(Error::Forbidden {
                id,
                state: record.state,
            }),
            Change::Unknown => Err(self.absent(id)),
        }
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, Error> {
        let counted = self.store.queue_counts().await?;
        let workers = self.registry.list();
        let mut names: Vec<_> = counted.iter().map(|counts| counts.queue.clone()).collect();
        names.extend(self.prepared.queues());
        names.extend(
            workers
                .iter()
                .flat_map(|seen| seen.status.queues.iter().cloned()),
        );
        names.sort();
        names.dedup();
        let running = self.registry.running();
        let mut queues = Vec::with_capacity(names.len());
        for name in names {
            let counts = counted.iter().find(|counts| counts.queue == name).cloned();
            queues.push(QueueStatus {
                depth: self.depth(&name).await,
                workers: workers
                    .iter()
                    .filter(|seen| seen.status.queues.contains(&name))
                    .count(),
                running: running
                    .values()
                    .filter(|(_, held)| held.queue == name)
                    .count(),
                counts: counts.unwrap_or_else(|| QueueCounts {
                    queue: name,
                    ..QueueCounts::default()
                }),
            });
        }
        Ok(queues)
    }
}

/// Whether a task was pushed a moment ago, as far as clocks agree.
fn is_young(id: TaskId) -> bool {
    (ambient::now_utc() - id.created_at()).unsigned_abs() < YOUNG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_pushed_a_moment_ago_is_young() {
        let now = ambient::now_utc().unix_timestamp_nanos() / 1_000_000;
        let at = |millis: i128| {
            let millis = u64::try_from(now + millis).unwrap();
            let id = uuid::Builder::from_unix_timestamp_millis(millis, &[0; 10]);
            TaskId::from(id.into_uuid())
        };
        assert!(is_young(TaskId::new()));
        assert!(is_young(at(-1)));
        assert!(!is_young(at(-100)));
        assert!(!is_young(at(500)), "a clock that is ahead says nothing");
        assert!(!is_young(TaskId::from(uuid::Uuid::new_v4())));
    }
}
