//! What operators do, as both surfaces do it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use goflow_core::engine::Bulk;
use goflow_core::record::DeadGroup;
use goflow_core::{QueueName, TaskId, WorkerId};
use time::OffsetDateTime;

use super::App;
use crate::problem::{Code, Problem};

/// How far back the dead are shown when nobody says.
const DEAD_SINCE: time::Duration = time::Duration::days(7);

/// How long one request may purge.
const PURGE_TIME: Duration = Duration::from_secs(20);

impl App {
    pub(crate) async fn run_again(&self, id: TaskId) -> Result<TaskId, Problem> {
        let pushed = self.engine.run_again(id).await;
        let id = self.or_why_not(id, pushed).await?;
        self.pushed.fetch_add(1, Ordering::Relaxed);
        Ok(id)
    }

    pub(crate) async fn dead(
        &self,
        since: Option<OffsetDateTime>,
    ) -> Result<Vec<DeadGroup>, Problem> {
        let since = since.unwrap_or_else(|| OffsetDateTime::now_utc() - DEAD_SINCE);
        Ok(self.engine.dead(since).await?)
    }

    /// Purges a queue whose name was said twice.
    pub(crate) async fn purge(&self, queue: &QueueName, confirm: &str) -> Result<Bulk, Problem> {
        if confirm != queue.as_str() {
            let detail = format!("confirm: say the queue's name, {queue}, to purge it");
            return Err(Problem::new(Code::Invalid, detail));
        }
        Ok(self.engine.purge_queue(queue, PURGE_TIME).await?)
    }
}

/// Reads a worker's id.
pub(crate) fn worker_id(text: &str) -> Result<WorkerId, Problem> {
    let id = super::task_id(text).map_err(|_| {
        let shown: String = text.chars().take(64).collect();
        Problem::new(
            Code::InvalidId,
            format!("{shown:?} is no worker id: ids are UUIDs"),
        )
    })?;
    Ok(WorkerId(id.as_uuid()))
}
