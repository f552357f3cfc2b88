//! Queues, workers and health as JSON.

use std::collections::BTreeMap;

use goflow_core::engine::{Health, QueueStatus, WorkerSeen};
use serde::Serialize;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::options::Record;

#[derive(Serialize)]
pub(crate) struct QueuesJson {
    queues: Vec<QueueJson>,
}

#[derive(Serialize)]
struct QueueJson {
    name: String,
    paused: bool,
    scheduled: u64,
    queued: u64,
    running: usize,
    retrying: u64,
    /// Tasks that no worker serves, by type.
    unserved: BTreeMap<String, u64>,
    /// The age of the oldest queued task.
    oldest_seconds: Option<f64>,
    /// Messages in the broker that wait, and that are out on a lease; null when it does not answer.
    waiting: Option<u64>,
    leased: Option<u64>,
    workers: usize,
}

impl From<Vec<QueueStatus>> for QueuesJson {
    fn from(queues: Vec<QueueStatus>) -> Self {
        Self {
            queues: queues.into_iter().map(QueueJson::from).collect(),
        }
    }
}

impl From<QueueStatus> for QueueJson {
    fn from(status: QueueStatus) -> Self {
        let QueueStatus {
            counts,
            depth,
            workers,
            running,
        } = status;
        Self {
            name: counts.queue.into(),
            paused: counts.paused,
            scheduled: counts.scheduled,
            queued: counts.queued,
            running,
            retrying: counts.retrying,
            unserved: counts
                .unserved
                .into_iter()
                .map(|(task_type, count)| (task_type.into(), count))
                .collect(),
            oldest_seconds: counts
                .oldest
                .map(|age| (age.as_secs_f64() * 1000.0).round() / 1000.0),
            waiting: depth.map(|depth| depth.waiting),
            leased: depth.map(|depth| depth.leased),
            workers,
        }
    }
}

#[derive(Serialize)]
pub(crate) struct WorkersJson {
    workers: Vec<WorkerJson>,
}

#[derive(Serialize)]
struct WorkerJson {
    id: String,
    host: String,
    pid: u32,
    version: String,
    #[serde(with = "time::serde::rfc3339")]
    started_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339")]
    last_seen: OffsetDateTime,
    queues: Vec<String>,
    types: Vec<String>,
    slots: usize,
    draining: bool,
    quiet: bool,
    tasks: Vec<HeldJson>,
}

#[derive(Serialize)]
struct HeldJson {
    id: String,
    queue: String,
    attempt: u32,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    progress: Option<Box<RawValue>>,
}

impl From<Vec<WorkerSeen>> for WorkersJson {
    fn from(workers: Vec<WorkerSeen>) -> Self {
        Self {
            workers: workers.into_iter().map(WorkerJson::from).collect(),
        }
    }
}

impl From<WorkerSeen> for WorkerJson {
    fn from(
        WorkerSeen {
            status, last_seen, ..
        }: WorkerSeen,
    ) -> Self {
        let held = status.held.into_iter();
        Self {
            id: status.id.to_string(),
            host: status.host,
            pid: status.pid,
            version: status.version,
            started_at: status.started_at,
            last_seen,
            queues: status.queues.into_iter().map(String::from).collect(),
            types: status.types.into_iter().map(String::from).collect(),
            slots: status.slots,
            draining: status.draining,
            quiet: status.quiet,
            tasks: held
                .map(|task| HeldJson {
                    id: task.id.to_string(),
                    queue: task.queue.into(),
                    attempt: task.attempt,
                    started_at: task.started_at,
                    // A report that is no JSON is not worth an answer that is none.
                    progress: task
                        .progress
                        .and_then(|json| RawValue::from_string(json).ok()),
                })
                .collect(),
        }
    }
}

#[derive(Serialize)]
pub(crate) struct ReadyJson {
    pub(crate) ready: bool,
    record: &'static str,
    store: PartJson,
    broker: PartJson,
}

#[derive(Serialize)]
struct PartJson {
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl ReadyJson {
    /// What the engine says, and whether the gateway is about to end.
    pub(crate) fn new(health: Health, record: Record, ending: bool) -> Self {
        let part = |detail: Option<String>| PartJson {
            ok: detail.is_none(),
            detail,
        };
        let record = match record {
            Record::Full => "full",
            Record::Outcome => "outcome",
        };
        Self {
            ready: health.ready && !ending,
            record,
            store: part(health.store),
            broker: part(health.broker),
        }
    }
}
