//! Queues and workers.

use goflow_core::engine::{QueueStatus, WorkerSeen};
use goflow_core::signal::HeldTask;
use goflow_proto::v1;

use super::timestamp;

/// A queue.
pub(in crate::grpc) fn queue(status: QueueStatus) -> v1::Queue {
    let QueueStatus {
        counts,
        depth,
        workers,
        running,
    } = status;
    v1::Queue {
        name: counts.queue.into(),
        paused: counts.paused,
        scheduled: counts.scheduled,
        queued: counts.queued,
        running: running as u64,
        retrying: counts.retrying,
        unserved: counts
            .unserved
            .into_iter()
            .map(|(task_type, count)| (task_type.into(), count))
            .collect(),
        oldest: counts.oldest.map(goflow_proto::duration),
        waiting: depth.map(|depth| depth.waiting),
        leased: depth.map(|depth| depth.leased),
        workers: workers as u64,
    }
}

/// A worker.
pub(in crate::grpc) fn worker(seen: WorkerSeen) -> v1::Worker {
    let status = seen.status;
    v1::Worker {
        id: status.id.to_string(),
        host: status.host,
        pid: status.pid,
        version: status.version,
        started_at: Some(timestamp(status.started_at)),
        last_seen: Some(timestamp(seen.last_seen)),
        queues: status.queues.into_iter().map(String::from).collect(),
        types: status.types.into_iter().map(String::from).collect(),
        slots: status.slots as u64,
        draining: status.draining,
        quiet: status.quiet,
        tasks: status.held.into_iter().map(held).collect(),
    }
}

fn held(task: HeldTask) -> v1::HeldTask {
    v1::HeldTask {
        id: task.id.to_string(),
        queue: task.queue.into(),
        attempt: task.attempt,
        started_at: task.started_at.map(timestamp),
        progress: task.progress,
    }
}
