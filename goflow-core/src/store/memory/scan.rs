//! Reading many rows: in slices, so that nobody waits long for the lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use time::OffsetDateTime;

use super::MemoryStore;
use super::row::Row;
use crate::ambient;
use crate::id::TaskId;
use crate::name::QueueName;
use crate::record::{
    Filter, MAX_LISTED_CONTENT, MAX_PAGE, Page, PageRequest, QueueCounts, TaskRecord,
};
use crate::state::State;

/// Rows looked at while the lock is held.
pub(super) const SLICE: usize = 5_000;

impl MemoryStore {
    pub(super) async fn scan_page(&self, filter: &Filter, page: PageRequest) -> Page {
        let limit = page.limit.clamp(1, MAX_PAGE);
        let ends = [page.before, filter.until.map(TaskId::lower_bound)];
        let mut before = ends.into_iter().flatten().min();
        let mut tasks: Vec<TaskRecord> = Vec::new();
        loop {
            let rest = self.scan_slice(filter, before, limit + 1, &mut tasks);
            if tasks.len() > limit {
                tasks.truncate(limit);
                let next = tasks.last().map(|task| task.spec.id);
                return Page { tasks, next };
            }
            if rest.is_none() {
                return Page { tasks, next: None };
            }
            before = rest;
            tokio::task::yield_now().await;
        }
    }

    /// Adds the matching rows of one slice; gives where the next one starts.
    fn scan_slice(
        &self,
        filter: &Filter,
        before: Option<TaskId>,
        limit: usize,
        found: &mut Vec<TaskRecord>,
    ) -> Option<TaskId> {
        let tables = self.tables();
        let since = filter.since.map(TaskId::lower_bound);
        // A list of finished tasks is not to look at the rows of all others, nor the other way round.
        let wanted = |terminal: bool| {
            filter.states.is_empty()
                || filter
                    .states
                    .iter()
                    .any(|state| state.is_terminal() == terminal)
        };
        let wanted = [wanted(false), wanted(true)];
        let newest_first = tables.index.order.range(since, before);
        for (looked_at, (id, ended)) in (1..).zip(newest_first) {
            if wanted[usize::from(ended)] {
                let row = tables.row(id).filter(|row| matches(filter, row));
                found.extend(row.map(listed));
            }
            if found.len() >= limit || looked_at >= SLICE {
                return Some(id);
            }
        }
        None
    }

    pub(super) async fn count_queues(&self) -> Vec<QueueCounts> {
        let now = ambient::now_utc();
        let mut queues = BTreeMap::new();
        let mut before = None;
        loop {
            {
                let tables = self.tables();
                let order = &tables.index.order;
                // Mostly those that have not ended are among the newest. After a pause nobody knows how many are left.
                let mut left = match before {
                    None => order.live(),
                    Some(_) => usize::MAX,
                };
                let mut rest = order.range(None, before.take()).take(SLICE);
                while left > 0
                    && let Some((id, ended)) = rest.next()
                {
                    before = Some(id);
                    if !ended && let Some(row) = tables.row(id) {
                        of_queue(&mut queues, &row.spec.queue).count(row);
                        left -= 1;
                    }
                }
                if left == 0 {
                    before = None;
                }
                if before.is_none() {
                    for queue in &tables.paused {
                        of_queue(&mut queues, queue).counts.paused = true;
                    }
                    return queues.into_values().map(|it| it.at(now)).collect();
                }
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Counts the rows of a queue, the newest first.
#[derive(Default)]
struct Count {
    counts: QueueCounts,
    oldest_queued: Option<TaskId>,
}

impl Count {
    fn count(&mut self, row: &Row) {
        let counts = &mut self.counts;
        match row.live.state {
            State::Scheduled => counts.scheduled += 1,
            State::Retrying => counts.retrying += 1,
            _ => {
                counts.queued += 1;
                self.oldest_queued = Some(row.spec.id);
            }
        }
        if row.is_unserved() {
            let types = &mut counts.unserved;
            match types.binary_search_by(|(name, _)| name.cmp(&row.spec.task_type)) {
                Ok(at) => types[at].1 += 1,
                Err(at) => types.insert(at, (row.spec.task_type.clone(), 1)),
            }
        }
    }

    /// What was counted, when it is `now`.
    fn at(self, now: OffsetDateTime) -> QueueCounts {
        let age = |id: TaskId| (now - id.created_at()).try_into().unwrap_or_default();
        QueueCounts {
            oldest: self.oldest_queued.map(age),
            ..self.counts
        }
    }
}

fn of_queue<'q>(queues: &'q mut BTreeMap<QueueName, Count>, queue: &QueueName) -> &'q mut Count {
    queues.entry(queue.clone()).or_insert_with(|| {
        let mut count = Count::default();
        count.counts.queue = queue.clone();
        count
    })
}

fn matches(filter: &Filter, row: &Row) -> bool {
    filter.namespace == row.spec.namespace
        && (filter.states.is_empty() || filter.states.contains(&row.live.state))
        && filter
            .task_type
            .as_ref()
            .is_none_or(|name| *name == row.spec.task_type)
        && filter
            .queue
            .as_ref()
            .is_none_or(|name| *name == row.spec.queue)
}

/// The record without what is too much for a list.
fn listed(row: &Row) -> TaskRecord {
    // `Bytes` are shared, so the copy is cheap whatever the size of the content.
    let mut record = row.brief();
    if record.spec.payload.len() > MAX_LISTED_CONTENT {
        Arc::make_mut(&mut record.spec).payload.bytes = bytes::Bytes::new();
        record.payload_omitted = true;
    }
    if record
        .result
        .as_ref()
        .is_some_and(|result| result.len() > MAX_LISTED_CONTENT)
    {
        record.result = None;
        record.result_omitted = true;
    }
    record
}
