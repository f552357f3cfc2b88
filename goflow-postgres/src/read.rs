//! Reading: one task, a page of them, and how many there are.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use goflow_core::record::{
    DeadGroup, Filter, MAX_LISTED_CONTENT, MAX_PAGE, Page, PageRequest, QueueCounts, TaskRecord,
};
use goflow_core::store::Error;
use goflow_core::{QueueName, State, TaskId, TaskType};
use sqlx::{FromRow, PgConnection};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::error::translate;
use crate::rows::{RecordRow, undecodable};
use crate::sql::{self, ListShape, States, Tables};
use crate::store::PostgresStore;

/// How far the end of a task may lie before the time in its id: clocks differ, and a worker's word on when it
/// ended is believed within a day.
const CLOCK_SLACK: time::Duration = time::Duration::days(2);

/// A bound on when a task ended: partitions before it need not be looked into.
pub(crate) fn finished_since(id: TaskId) -> OffsetDateTime {
    id.created_at() - CLOCK_SLACK
}

/// Candidates looked at for each id before all ids are looked up, which costs several times as much.
const CANDIDATES: usize = 4;

/// Those of some tasks that have ended. Tasks that are pushed together were mostly made one after the other, and nothing
/// whose id lies between theirs has ended: one look at that range is cheaper than one for each id.
pub(crate) async fn find_finished(
    connection: &mut PgConnection,
    ids: &[Uuid],
) -> Result<Vec<Uuid>, sqlx::Error> {
    let (Some(first), Some(last)) = (ids.iter().min(), ids.iter().max()) else {
        return Ok(Vec::new());
    };
    let since = finished_since(TaskId::from(*first));
    let limit = ids.len() * CANDIDATES;
    let mut found: Vec<Uuid> = sqlx::query_scalar(sql::FINISHED_BETWEEN)
        .bind(first)
        .bind(last)
        .bind(since)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&mut *connection)
        .await?;
    if found.len() >= limit {
        return sqlx::query_scalar(sql::FIND_FINISHED)
            .bind(ids)
            .bind(since)
            .fetch_all(connection)
            .await;
    }
    if !found.is_empty() {
        let ids: HashSet<&Uuid> = ids.iter().collect();
        found.retain(|id| ids.contains(id));
    }
    Ok(found)
}

/// A task, by one look at both tables.
pub(crate) async fn find(
    connection: &mut PgConnection,
    id: TaskId,
) -> Result<Option<TaskRecord>, sqlx::Error> {
    let row: Option<RecordRow> = sqlx::query_as(sql::GET)
        .bind([id.as_uuid()])
        .bind(finished_since(id))
        .fetch_optional(connection)
        .await?;
    row.map(TaskRecord::try_from).transpose()
}

#[derive(FromRow)]
struct QueueRow {
    queue: String,
    scheduled: i64,
    queued: i64,
    retrying: i64,
    oldest: Option<String>,
    paused: bool,
    at: OffsetDateTime,
}

/// Finished tasks looked at to group those that did not succeed: the latest. It bounds what the question costs.
const MAX_DEAD: i64 = 100_000;

#[derive(FromRow)]
struct DeadRow {
    #[sqlx(rename = "type")]
    task_type: String,
    state: String,
    error: String,
    tasks: i64,
    newest: String,
    last: OffsetDateTime,
}

impl TryFrom<DeadRow> for DeadGroup {
    type Error = sqlx::Error;
    fn try_from(row: DeadRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            task_type: row.task_type.try_into().map_err(undecodable)?,
            state: row.state.parse().map_err(undecodable)?,
            error: row.error,
            count: row.tasks.cast_unsigned(),
            newest: row.newest.parse().map_err(undecodable)?,
            last_finished_at: row.last,
        })
    }
}

impl PostgresStore {
    pub(crate) async fn list_page(
        &self,
        filter: &Filter,
        page: PageRequest,
    ) -> Result<Page, Error> {
        self.try_list(filter, page)
            .await
            .map_err(|error| translate("list", error))
    }

    async fn try_list(&self, filter: &Filter, page: PageRequest) -> Result<Page, sqlx::Error> {
        let wanted = |terminal: bool| {
            filter.states.is_empty()
                || filter
                    .states
                    .iter()
                    .any(|state| state.is_terminal() == terminal)
        };
        let tables = match (wanted(false), wanted(true)) {
            (true, false) => Tables::Live,
            (false, true) => Tables::History,
            _ => Tables::Both,
        };
        let shape = ListShape {
            tables,
            states: match filter.states.as_slice() {
                [] => States::Any,
                states if states.contains(&State::Succeeded) => States::Some,
                _ => States::Unsuccessful,
            },
            task_type: filter.task_type.is_some(),
            queue: filter.queue.is_some(),
        };
        let limit = page.limit.clamp(1, MAX_PAGE);
        let ends = [page.before, filter.until.map(TaskId::lower_bound)];
        let before = ends
            .into_iter()
            .flatten()
            .min()
            .map_or(Uuid::max(), |id| id.as_uuid());
        let since = filter
            .since
            .map_or(Uuid::nil(), |time| TaskId::lower_bound(time).as_uuid());
        // Each state once: a walk of the index for each.
        let mut states: Vec<&str> = filter.states.iter().map(|state| state.as_str()).collect();
        states.sort_unstable();
        states.dedup();
        let rows: Vec<RecordRow> = sqlx::query_as(sql::list(shape))
            .bind(filter.namespace.as_str())
            .bind(before)
            .bind(since)
            .bind(i64::try_from(limit + 1).unwrap_or(i64::MAX))
            .bind(filter.task_type.as_ref().map(TaskType::as_str))
            .bind(filter.queue.as_ref().map(QueueName::as_str))
            .bind(states)
            .bind(i32::try_from(MAX_LISTED_CONTENT).unwrap_or(i32::MAX))
            .fetch_all(&self.pools.queries)
            .await?;
        let more = rows.len() > limit;
        let tasks: Vec<TaskRecord> = rows
            .into_iter()
            .take(limit)
            .map(TaskRecord::try_from)
            .collect::<Result<_, _>>()?;
        let next = tasks.last().filter(|_| more).map(|task| task.spec.id);
        Ok(Page { tasks, next })
    }

    pub(crate) async fn group_dead(
        &self,
        since: OffsetDateTime,
        limit: usize,
    ) -> Result<Vec<DeadGroup>, Error> {
        let rows: Result<Vec<DeadRow>, _> = sqlx::query_as(sql::DEAD)
            .bind(since)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(MAX_DEAD)
            .fetch_all(&self.pools.queries)
            .await;
        let groups = rows.and_then(|rows| rows.into_iter().map(DeadGroup::try_from).collect());
        groups.map_err(|error| translate("group dead", error))
    }

    pub(crate) async fn count_queues(&self) -> Result<Vec<QueueCounts>, Error> {
        self.try_count()
            .await
            .map_err(|error| translate("count queues", error))
    }

    async fn try_count(&self) -> Result<Vec<QueueCounts>, sqlx::Error> {
        let rows: Vec<QueueRow> = sqlx::query_as(sql::COUNT_QUEUES)
            .fetch_all(&self.pools.queries)
            .await?;
        let unserved: Vec<(String, String, i64)> = sqlx::query_as(sql::COUNT_UNSERVED)
            .fetch_all(&self.pools.queries)
            .await?;
        let mut by_queue: BTreeMap<String, Vec<(TaskType, u64)>> = BTreeMap::new();
        for (queue, task_type, tasks) in unserved {
            let task_type = task_type.try_into().map_err(undecodable)?;
            by_queue
                .entry(queue)
                .or_default()
                .push((task_type, tasks.cast_unsigned()));
        }
        rows.into_iter()
            .map(|row| {
                let oldest = row
                    .oldest
                    .map(|id| id.parse::<TaskId>().map_err(undecodable))
                    .transpose()?;
                let age =
                    |id: TaskId| Duration::try_from(row.at - id.created_at()).unwrap_or_default();
                Ok(QueueCounts {
                    unserved: by_queue.remove(&row.queue).unwrap_or_default(),
                    queue: row.queue.try_into().map_err(undecodable)?,
                    scheduled: row.scheduled.cast_unsigned(),
                    queued: row.queued.cast_unsigned(),
                    retrying: row.retrying.cast_unsigned(),
                    oldest: oldest.map(age),
                    paused: row.paused,
                })
            })
            .collect()
    }
}
