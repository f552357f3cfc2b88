//! Tasks that have no row until an outcome makes one.

use time::OffsetDateTime;
use uuid::Uuid;

use super::decide::{Fate, Pending};
use super::finish::LastError;
use super::write::{Tx, last_error};
use crate::columns::{SpecColumns, int, micros};
use crate::options::Options;
use crate::rows::AttemptJson;
use crate::sql;

/// Tasks that get their row now.
#[derive(Default)]
pub(super) struct Rowless<'a> {
    spec: SpecColumns<'a>,
    attempt: Vec<i32>,
    dispatch: Vec<i32>,
    state: Vec<&'static str>,
    waiting: Vec<bool>,
    starts: Vec<i32>,
    unserved: Vec<i32>,
    error: Vec<Option<&'a str>>,
    worker: Vec<Option<Uuid>>,
    started_at: Vec<Option<OffsetDateTime>>,
    wait: Vec<Option<i64>>,
}

impl<'a> Rowless<'a> {
    pub(super) fn push(&mut self, task: &'a Pending<'_>) -> Result<(), sqlx::Error> {
        let Some(spec) = task.rowless else {
            return Ok(());
        };
        self.spec.push(spec)?;
        self.attempt.push(int(task.live.attempt));
        self.dispatch.push(int(task.live.dispatch));
        self.state.push(task.live.state.as_str());
        self.waiting.push(task.live.waiting);
        self.starts.push(int(task.live.starts));
        self.unserved.push(int(task.live.unserved));
        self.error.push(task.error.as_deref());
        self.worker.push(task.worker.map(|worker| worker.0));
        self.started_at.push(task.started_at);
        self.wait.push(match task.fate {
            Fate::Waits(wait) => Some(micros(wait)),
            _ => None,
        });
        Ok(())
    }

    pub(super) async fn write(self, tx: &mut Tx<'_>) -> Result<(), sqlx::Error> {
        if self.spec.is_empty() {
            return Ok(());
        }
        self.spec
            .bind(sqlx::query(sql::INSERT_ROWLESS))
            .bind(self.attempt)
            .bind(self.dispatch)
            .bind(self.state)
            .bind(self.waiting)
            .bind(self.starts)
            .bind(self.unserved)
            .bind(self.error)
            .bind(self.worker)
            .bind(self.started_at)
            .bind(self.wait)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// Tasks that ended before they had a row.
#[derive(Default)]
pub(super) struct RowlessEnds<'a> {
    spec: SpecColumns<'a>,
    attempt: Vec<i32>,
    dispatch: Vec<i32>,
    state: Vec<&'static str>,
    result: Vec<Option<&'a [u8]>>,
    result_content_type: Vec<Option<&'a str>>,
    error: Vec<Option<&'a str>>,
    worker: Vec<Option<Uuid>>,
    crashes: Vec<i32>,
    started_at: Vec<Option<OffsetDateTime>>,
    ended: Vec<Option<OffsetDateTime>>,
    class: Vec<i16>,
    attempts: Vec<Option<String>>,
}

impl<'a> RowlessEnds<'a> {
    pub(super) fn push(
        &mut self,
        task: &'a Pending<'_>,
        options: &Options,
    ) -> Result<(), sqlx::Error> {
        let (
            Some(spec),
            Fate::Finished {
                state,
                result,
                ended,
            },
        ) = (task.rowless, &task.fate)
        else {
            return Ok(());
        };
        self.spec.push(spec)?;
        self.attempt.push(int(task.live.attempt));
        self.dispatch.push(int(task.live.dispatch));
        self.state.push(state.as_str());
        self.result
            .push(result.map(|content| content.bytes.as_ref()));
        self.result_content_type
            .push(result.map(|content| &*content.content_type));
        self.error.push(match last_error(*state, task) {
            LastError::Set(error) => error,
            LastError::AsItIs => None,
        });
        self.worker.push(task.worker.map(|worker| worker.0));
        self.crashes.push(int(task.crashes(*state)));
        self.started_at.push(task.started_at);
        self.ended.push(*ended);
        self.class
            .push(options.retention(*state, task.options.retention).days());
        let failures: Vec<_> = task.failures.iter().map(AttemptJson::from).collect();
        let json =
            serde_json::to_string(&failures).map_err(|error| sqlx::Error::Encode(error.into()))?;
        self.attempts.push((!failures.is_empty()).then_some(json));
        Ok(())
    }

    pub(super) async fn write(self, tx: &mut Tx<'_>) -> Result<(), sqlx::Error> {
        if self.spec.is_empty() {
            return Ok(());
        }
        self.spec
            .bind(sqlx::query(sql::FINISH_ROWLESS))
            .bind(self.attempt)
            .bind(self.dispatch)
            .bind(self.state)
            .bind(self.result)
            .bind(self.result_content_type)
            .bind(self.error)
            .bind(self.worker)
            .bind(self.crashes)
            .bind(self.started_at)
            .bind(self.ended)
            .bind(self.class)
            .bind(self.attempts)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}
