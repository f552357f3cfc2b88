//! The common case, in one statement each for those that have a row and those that have none: a success of the first attempt
//! of a task that asks for nothing unusual.

use foldhash::HashSet;
use goflow_core::outcome::{Outcome, Verdict};
use goflow_core::store::Error;
use goflow_core::{Content, State, TaskSpec};
use sqlx::Row;
use sqlx::postgres::PgRow;
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::{PlainColumns, Prepared, int, is_plain};
use crate::error::{Kind, kind, translate};
use crate::read::finished_since;
use crate::sql;
use crate::store::PostgresStore;

impl PostgresStore {
    /// Records what it can of the common case; gives those tasks. What it leaves is for somebody to decide who looks
    /// at the rows. The statements obey [`Live::next`](goflow_core::state::Live::next): a task that has not ended and
    /// counts the attempt takes its success.
    pub(crate) async fn succeed(&self, outcomes: &[&Outcome]) -> Result<HashSet<Uuid>, Error> {
        let mut successes = Successes::default();
        let mut rowless = RowlessSuccesses::default();
        for (outcome, result) in first_successes(outcomes) {
            match &outcome.spec {
                None => successes.push(outcome, result),
                Some(spec) if spec.id == outcome.task && is_plain(spec) => {
                    rowless.push(spec, outcome, result);
                }
                Some(_) => {}
            }
        }
        let mut done = HashSet::default();
        done.extend(or_none(self.succeed_rows(successes).await)?);
        done.extend(or_none(self.succeed_rowless(rowless).await)?);
        Ok(done)
    }

    /// Moves the rows of those whose row counts the attempt; gives these.
    async fn succeed_rows(&self, successes: Successes<'_>) -> Result<Vec<Uuid>, sqlx::Error> {
        if successes.id.is_empty() {
            return Ok(Vec::new());
        }
        let mut taken = self.at_hand.take().await?;
        let query = successes.bind(sqlx::query(sql::SUCCEED).bind(&successes.id));
        let done: Vec<Uuid> = query
            .bind(self.days_of_success())
            .try_map(|row: PgRow| row.try_get(0))
            .fetch_all(taken.connection())
            .await?;
        self.at_hand.keep(taken);
        self.live
            .add(-i64::try_from(done.len()).unwrap_or(i64::MAX));
        Ok(done)
    }

    /// Makes the records of those that have no row; of all of them or, if one has a row after all or has ended, of none.
    async fn succeed_rowless(
        &self,
        RowlessSuccesses {
            spec,
            dispatch,
            successes,
        }: RowlessSuccesses<'_>,
    ) -> Result<Vec<Uuid>, sqlx::Error> {
        let (Some(first), Some(last)) = (successes.id.first(), successes.id.last()) else {
            return Ok(Vec::new());
        };
        let mut taken = self.at_hand.take().await?;
        let query = spec.bind(sqlx::query(sql::SUCCEED_ROWLESS));
        let query = successes.bind(query.bind(dispatch));
        let all: bool = query
            .bind(self.days_of_success())
            .bind(first)
            .bind(last)
            .bind(finished_since((*first).into()))
            .fetch_one(taken.connection())
            .await?
            .try_get(0)?;
        self.at_hand.keep(taken);
        Ok(if all { successes.id } else { Vec::new() })
    }

    fn days_of_success(&self) -> i16 {
        self.options.retention(State::Succeeded, None).days()
    }
}

/// What was recorded; none of it if something in it, or somebody else's change, was in the way.
fn or_none(recorded: Result<Vec<Uuid>, sqlx::Error>) -> Result<Vec<Uuid>, Error> {
    match recorded {
        Err(error) if matches!(kind(&error), Kind::Data | Kind::Conflict) => Ok(Vec::new()),
        recorded => recorded.map_err(|error| translate("apply", error)),
    }
}

/// Successes of first attempts that are the only outcome of their task here, in the order of the ids.
fn first_successes<'a>(outcomes: &[&'a Outcome]) -> Vec<(&'a Outcome, &'a Content)> {
    let mut sorted = outcomes.to_vec();
    sorted.sort_unstable_by_key(|outcome| outcome.task);
    let of_tasks = sorted.chunk_by(|a, b| a.task == b.task);
    let successes = of_tasks.filter_map(|of_task| match of_task {
        [outcome] if outcome.attempt == 1 => match &outcome.verdict {
            Verdict::Succeeded(result) => Some((*outcome, result)),
            _ => None,
        },
        _ => None,
    });
    successes.collect()
}

/// First successes as arrays of columns.
#[derive(Default)]
struct Successes<'a> {
    id: Vec<Uuid>,
    result: Vec<&'a [u8]>,
    result_content_type: Vec<&'a str>,
    worker: Vec<Uuid>,
    started_at: Vec<Option<OffsetDateTime>>,
    ended: Vec<OffsetDateTime>,
}

impl<'a> Successes<'a> {
    fn push(&mut self, outcome: &'a Outcome, result: &'a Content) {
        self.id.push(outcome.task.as_uuid());
        self.result.push(&result.bytes);
        self.result_content_type.push(&result.content_type);
        self.worker.push(outcome.worker.0);
        self.started_at.push(outcome.started_at);
        self.ended.push(outcome.finished_at);
    }

    /// Binds all but the ids.
    fn bind<'q>(&'q self, query: Prepared<'q>) -> Prepared<'q> {
        query
            .bind(&self.result)
            .bind(&self.result_content_type)
            .bind(&self.worker)
            .bind(&self.started_at)
            .bind(&self.ended)
    }
}

/// First successes of tasks that have no row.
#[derive(Default)]
struct RowlessSuccesses<'a> {
    spec: PlainColumns<'a>,
    dispatch: Vec<i32>,
    successes: Successes<'a>,
}

impl<'a> RowlessSuccesses<'a> {
    fn push(&mut self, spec: &'a TaskSpec, outcome: &'a Outcome, result: &'a Content) {
        self.spec.push(spec);
        self.dispatch.push(int(outcome.dispatch));
        self.successes.push(outcome, result);
    }
}
