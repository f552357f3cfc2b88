//! The common case, in one statement: a success of the first attempt of a task that asks for nothing unusual.

use foldhash::HashSet;
use goflow_core::State;
use goflow_core::outcome::{Outcome, Verdict};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::sql;
use crate::store::PostgresStore;

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
    /// Those that may be the only outcome of their task, in the order of their ids.
    fn among(outcomes: &[&'a Outcome]) -> Self {
        let mut sorted = outcomes.to_vec();
        sorted.sort_unstable_by_key(|outcome| outcome.task);
        let mut successes = Self::default();
        for of_task in sorted.chunk_by(|a, b| a.task == b.task) {
            let [outcome] = of_task else {
                continue;
            };
            let Verdict::Succeeded(content) = &outcome.verdict else {
                continue;
            };
            if outcome.attempt != 1 || outcome.spec.is_some() {
                continue;
            }
            successes.id.push(outcome.task.as_uuid());
            successes.result.push(&content.bytes);
            successes.result_content_type.push(&content.content_type);
            successes.worker.push(outcome.worker.0);
            successes.started_at.push(outcome.started_at);
            successes.ended.push(outcome.finished_at);
        }
        successes
    }
}

impl PostgresStore {
    /// Records what it can of the common case; gives those tasks. What it leaves is for somebody to decide who looks
    /// at the rows. This statement obeys [`Live::next`](goflow_core::state::Live::next): a row that is there and
    /// counts the attempt takes its success.
    pub(super) async fn succeed(
        &self,
        outcomes: &[&Outcome],
    ) -> Result<HashSet<Uuid>, sqlx::Error> {
        let successes = Successes::among(outcomes);
        if successes.id.is_empty() {
            return Ok(HashSet::default());
        }
        let class = self.options.retention(State::Succeeded, None).days();
        let mut taken = self.at_hand.take().await?;
        let done: Vec<Uuid> = sqlx::query_scalar(sql::SUCCEED)
            .bind(successes.id)
            .bind(successes.result)
            .bind(successes.result_content_type)
            .bind(successes.worker)
            .bind(successes.started_at)
            .bind(successes.ended)
            .bind(class)
            .fetch_all(taken.connection())
            .await?;
        self.at_hand.keep(taken);
        self.live
            .add(-i64::try_from(done.len()).unwrap_or(i64::MAX));
        Ok(done.into_iter().collect())
    }
}
