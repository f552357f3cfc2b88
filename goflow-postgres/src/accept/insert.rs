//! The rows of tasks that are new.

use std::collections::HashSet;
use std::time::Duration;

use goflow_core::{Deadline, Start, TaskId, TaskSpec};
use sqlx::{Executor, PgConnection, Postgres, Row};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{PlainColumns, Prepared, SpecColumns, is_plain, micros};
use crate::error::exists;
use crate::read::{find_finished, finished_since};
use crate::sql;

/// Payload bytes in one statement, about.
const STATEMENT_BYTES: usize = 16 * 1024 * 1024;

/// Makes the rows of tasks. Those that may start at once are due for a sweep after `sweep`. Gives those that are not
/// to be dispatched now.
pub(super) async fn insert(
    connection: &mut PgConnection,
    specs: &[&TaskSpec],
    sweep: Duration,
) -> Result<HashSet<Uuid>, sqlx::Error> {
    let mut later = HashSet::new();
    if specs.is_empty() {
        return Ok(later);
    }
    let ids: Vec<Uuid> = specs.iter().map(|spec| spec.id.as_uuid()).collect();
    let (mut rest, mut all_new) = (specs, true);
    while all_new && !rest.is_empty() {
        let (chunk, others) = rest.split_at(fitting(rest));
        rest = others;
        all_new = insert_chunk(connection, chunk, sweep, &mut later).await?;
    }
    let unusual = specs.iter().filter(|spec| !is_plain(spec));
    let unusual: Vec<Uuid> = unusual.map(|spec| spec.id.as_uuid()).collect();
    // A task that was accepted, ran and ended is not accepted again when its push is repeated. This comes last: one
    // that was about to end had a row, which the insert waited for.
    if !all_new || !find_finished(connection, &unusual).await?.is_empty() {
        sqlx::query(sql::DELETE_TASKS)
            .bind(ids)
            .execute(connection)
            .await?;
        return Err(exists());
    }
    if sweep.is_zero() {
        later.extend(ids);
    }
    Ok(later)
}

/// How many of these fit one statement: one at least.
fn fitting(specs: &[&TaskSpec]) -> usize {
    let mut bytes = 0;
    let fit = specs.iter().take_while(|spec| {
        let first = bytes == 0;
        bytes += spec.payload.len().max(1);
        first || bytes <= STATEMENT_BYTES
    });
    fit.count()
}

/// Whether [`insert_plain`] takes all of these.
pub(super) fn are_plain(specs: &[&TaskSpec]) -> bool {
    specs.iter().all(|spec| is_plain(spec)) && fitting(specs) == specs.len()
}

/// Makes the rows of tasks that ask for nothing unusual, by one statement, which is all that it takes; none of them, and
/// false, if one has ended already.
pub(super) async fn insert_plain(
    executor: impl Executor<'_, Database = Postgres>,
    specs: &[&TaskSpec],
    sweep: Duration,
) -> Result<bool, sqlx::Error> {
    let ids = || specs.iter().map(|spec| spec.id);
    let (Some(first), Some(last)) = (ids().min(), ids().max()) else {
        return Ok(true);
    };
    let mut plain = PlainColumns::default();
    specs.iter().for_each(|spec| plain.push(spec));
    plain
        .bind(sqlx::query(sql::ACCEPT_PLAIN))
        .bind(micros(sweep))
        .bind(TaskId::as_uuid(&first))
        .bind(TaskId::as_uuid(&last))
        .bind(finished_since(first))
        .fetch_one(executor)
        .await?
        .try_get(0)
}

/// By a statement for those that ask for nothing unusual, which is cheaper, and one for the others. False if one of the
/// former has ended already.
async fn insert_chunk(
    connection: &mut PgConnection,
    specs: &[&TaskSpec],
    sweep: Duration,
    later: &mut HashSet<Uuid>,
) -> Result<bool, sqlx::Error> {
    let (plain, others): (Vec<_>, Vec<_>) = specs.iter().copied().partition(|spec| is_plain(spec));
    let mut unusual = UnusualColumns::default();
    for spec in others {
        unusual.push(spec)?;
    }
    if !insert_plain(&mut *connection, &plain, sweep).await? {
        return Ok(false);
    }
    if !unusual.spec.is_empty() {
        let rows = unusual
            .bind(sqlx::query(sql::INSERT_TASKS))
            .bind(micros(sweep))
            .fetch_all(connection)
            .await?;
        for row in &rows {
            let (id, now): (Uuid, bool) = sqlx::FromRow::from_row(row)?;
            later.extend((!now).then_some(id));
        }
    }
    Ok(true)
}

/// All columns of a push.
#[derive(Debug, Default)]
struct UnusualColumns<'a> {
    spec: SpecColumns<'a>,
    wait: Vec<Option<i64>>,
    time: Vec<Option<OffsetDateTime>>,
    limit: Vec<Option<i64>>,
    deadline: Vec<Option<OffsetDateTime>>,
}

impl<'a> UnusualColumns<'a> {
    fn push(&mut self, spec: &'a TaskSpec) -> Result<(), sqlx::Error> {
        self.spec.push(spec)?;
        let (wait, time) = match spec.start {
            Start::Now => (None, None),
            Start::After(delay) => (Some(micros(delay)), None),
            Start::At(time) => (None, Some(time)),
        };
        self.wait.push(wait);
        self.time.push(time);
        let (limit, deadline) = match spec.deadline {
            None => (None, None),
            Some(Deadline::After(limit)) => (Some(micros(limit)), None),
            Some(Deadline::At(time)) => (None, Some(time)),
        };
        self.limit.push(limit);
        self.deadline.push(deadline);
        Ok(())
    }

    /// Binds them as `$1` to `$19`.
    fn bind<'q>(self, query: Prepared<'q>) -> Prepared<'q>
    where
        'a: 'q,
    {
        let query = self.spec.bind(query);
        query
            .bind(self.wait)
            .bind(self.time)
            .bind(self.limit)
            .bind(self.deadline)
    }
}
