//! The workers that are alive, as their heartbeats tell.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::ambient;
use crate::id::{TaskId, WorkerId};
use crate::name::{QueueName, TaskType};
use crate::record::TaskRecord;
use crate::signal::{HEARTBEAT_INTERVAL, HeldTask, WORKER_GONE_AFTER, WorkerStatus};
use crate::state::{Policy, State};

/// A worker as the engine sees it.
#[derive(Debug, Clone)]
pub struct WorkerSeen {
    /// What it last said of itself.
    pub status: WorkerStatus,
    /// When that was, by this process's clock.
    pub last_seen: OffsetDateTime,
    heard: Instant,
    /// Whether what was new in it could not be acted on, so that it is to be new again.
    unheeded: bool,
}

impl WorkerSeen {
    /// The task among those it runs, if it is at this very attempt.
    fn run_of(&self, record: &TaskRecord) -> Option<&HeldTask> {
        let (held, id) = (&self.status.held, record.spec.id);
        let first = held.partition_point(|held| held.id < id);
        let runs = |held: &&HeldTask| held.attempt == record.attempt && held.started_at.is_some();
        held[first..]
            .iter()
            .take_while(|held| held.id == id)
            .find(runs)
    }
}

/// What a heartbeat brought that was not known.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct News {
    /// Types that this worker serves since now: unserved tasks of them can go out.
    pub(super) types: Vec<TaskType>,
}

/// All live workers.
#[derive(Debug, Default)]
pub(super) struct Registry {
    workers: Mutex<BTreeMap<WorkerId, WorkerSeen>>,
    /// Heartbeats of which some parts are missing.
    parts: Mutex<HashMap<WorkerId, WorkerStatus>>,
    policy: Mutex<Arc<Policy>>,
    /// Since when every heartbeat has been heard; none while nobody listens.
    listening_since: Mutex<Option<Instant>>,
}

impl Registry {
    fn workers(&self) -> MutexGuard<'_, BTreeMap<WorkerId, WorkerSeen>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that heartbeats are heard from now on, or not any more.
    pub(super) fn listening(&self, listening: bool) {
        let since = listening.then(Instant::now);
        *self
            .listening_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Notes that heartbeats may have been missed.
    pub(super) fn doubt(&self) {
        let mut since = self
            .listening_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *since = since.map(|_| Instant::now());
    }

    /// Whether some live worker may not have been heard: nobody can say yet what is held by none.
    pub(super) fn is_deaf(&self) -> bool {
        let since = *self
            .listening_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        since.is_none_or(|since| since.elapsed() < HEARTBEAT_INTERVAL * 2)
    }

    /// Every task that a worker holds: waiting for a slot, running, or with an unconfirmed outcome.
    pub(super) fn held(&self) -> HashSet<TaskId> {
        let workers = self.workers();
        workers
            .values()
            .flat_map(|seen| seen.status.held.iter().map(|held| held.id))
            .collect()
    }

    /// The heartbeat that a part completes. One of which a part was lost is not taken in at all: what the worker
    /// said before holds until it has said everything anew.
    pub(super) fn whole(&self, part: WorkerStatus) -> Option<WorkerStatus> {
        if part.parts <= 1 {
            return Some(part);
        }
        let mut all = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut status = match all.remove(&part.id) {
            _ if part.part == 0 => part,
            Some(mut before) if before.part + 1 == part.part && before.parts == part.parts => {
                before.held.extend(part.held);
                before.part = part.part;
                before
            }
            _ => return None,
        };
        if status.part + 1 < status.parts {
            all.insert(status.id, status);
            return None;
        }
        (status.part, status.parts) = (0, 1);
        Some(status)
    }

    /// Takes a heartbeat in.
    pub(super) fn beat(&self, mut status: WorkerStatus) -> News {
        // To be found by; they come in this order, but nobody promised that.
        status.held.sort_by_key(|held| held.id);
        let mut workers = self.workers();
        let seen = workers.get(&status.id);
        let before = seen.map(|seen| &seen.status);
        let known: HashSet<_> = before
            .filter(|_| seen.is_some_and(|seen| !seen.unheeded))
            .into_iter()
            .flat_map(|status| status.types.iter().cloned())
            .collect();
        let types: Vec<_> = status
            .types
            .iter()
            .filter(|t| !known.contains(*t))
            .cloned()
            .collect();
        let changed = !types.is_empty()
            || before.is_none_or(|b| b.draining != status.draining || b.types != status.types);
        let seen = WorkerSeen {
            last_seen: ambient::now_utc(),
            heard: Instant::now(),
            unheeded: false,
            status,
        };
        workers.insert(seen.status.id, seen);
        if changed {
            self.note_served(&workers);
        }
        News { types }
    }

    /// Notes that nothing could be done about the news of a worker: its next heartbeat brings them again.
    pub(super) fn unheeded(&self, id: WorkerId) {
        if let Some(seen) = self.workers().get_mut(&id) {
            seen.unheeded = true;
        }
    }

    /// Forgets a worker that said goodbye.
    pub(super) fn goodbye(&self, id: WorkerId) {
        let mut workers = self.workers();
        workers.remove(&id);
        self.note_served(&workers);
    }

    /// Forgets those that have been silent for too long.
    pub(super) fn forget_silent(&self) {
        let mut workers = self.workers();
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|id, _| workers.contains_key(id));
        let before = workers.len();
        workers.retain(|_, seen| seen.heard.elapsed() < WORKER_GONE_AFTER);
        if workers.len() != before {
            self.note_served(&workers);
        }
    }

    fn note_served(&self, workers: &BTreeMap<WorkerId, WorkerSeen>) {
        let serving = workers
            .values()
            .map(|seen| &seen.status)
            .filter(|status| !status.draining);
        let pairs = serving.flat_map(|status| {
            let types = move |queue: &QueueName| {
                let queue = queue.clone();
                status
                    .types
                    .iter()
                    .map(move |task_type| (queue.clone(), task_type.clone()))
            };
            status.queues.iter().flat_map(types)
        });
        let policy = Arc::new(Policy {
            served: pairs.collect(),
        });
        *self.policy.lock().unwrap_or_else(PoisonError::into_inner) = policy;
    }

    /// What live workers serve.
    pub(super) fn policy(&self) -> Arc<Policy> {
        self.policy
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The workers, by id.
    pub(super) fn list(&self) -> Vec<WorkerSeen> {
        self.workers().values().cloned().collect()
    }

    /// The tasks whose handlers run, with their worker.
    pub(super) fn running(&self) -> HashMap<TaskId, (WorkerId, HeldTask)> {
        let workers = self.workers();
        let held = workers
            .values()
            .flat_map(|seen| seen.status.held.iter().map(|held| (seen.status.id, held)));
        let running = held.filter(|(_, held)| held.started_at.is_some());
        running
            .map(|(worker, held)| (held.id, (worker, held.clone())))
            .collect()
    }

    /// Lays what heartbeats tell over records: a queued task that runs is shown as running.
    pub(super) fn overlay(&self, records: &mut [TaskRecord]) {
        let is_queued = |record: &TaskRecord| record.state == State::Queued;
        if !records.iter().any(is_queued) {
            return;
        }
        let workers = self.workers();
        for record in records.iter_mut().filter(|record| is_queued(record)) {
            let mut all = workers.values();
            let running = all.find_map(|seen| Some((seen.status.id, seen.run_of(record)?)));
            if let Some((worker, held)) = running {
                record.state = State::Running;
                record.worker = Some(worker);
                record.started_at = held.started_at;
                record.progress = held.progress.clone();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    fn part(id: WorkerId, part: usize, parts: usize) -> WorkerStatus {
        let held = HeldTask {
            id: TaskId::new(),
            queue: QueueName::default(),
            attempt: 1,
            started_at: None,
            progress: None,
        };
        WorkerStatus {
            id,
            host: String::new(),
            pid: 1,
            version: String::new(),
            started_at: OffsetDateTime::now_utc(),
            queues: vec![QueueName::default()],
            types: Vec::new(),
            slots: 1,
            lease: Some(Duration::from_secs(1)),
            draining: false,
            quiet: false,
            held: vec![held],
            part,
            parts,
        }
    }

    #[test]
    fn a_heartbeat_in_parts_counts_when_it_is_whole() {
        let registry = Registry::default();
        let id = WorkerId(Uuid::new_v4());
        let other = WorkerId(Uuid::new_v4());
        let parts = [part(id, 0, 3), part(id, 1, 3), part(id, 2, 3)];
        let all: Vec<_> = parts.iter().flat_map(|part| part.held.clone()).collect();
        assert_eq!(registry.whole(parts[0].clone()), None);
        assert_eq!(registry.whole(part(other, 1, 2)), None);
        assert_eq!(registry.whole(parts[1].clone()), None);
        let whole = registry.whole(parts[2].clone()).unwrap();
        assert_eq!((whole.held, whole.part, whole.parts), (all, 0, 1));

        // The middle one was lost.
        assert_eq!(registry.whole(parts[0].clone()), None);
        assert_eq!(registry.whole(parts[2].clone()), None);
        // The next heartbeat begins anew.
        assert_eq!(registry.whole(part(id, 0, 2)), None);
        assert_eq!(registry.whole(part(id, 1, 2)).unwrap().held.len(), 2);
        assert!(registry.whole(part(id, 0, 1)).is_some());
    }
}
