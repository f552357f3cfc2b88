//! Moving rows into the history.

use goflow_core::{Content, State, WorkerId};
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::columns::int;
use crate::sql;

/// The end of a task that has a row.
#[derive(Debug)]
pub(crate) struct Finish<'a> {
    pub(crate) id: Uuid,
    pub(crate) state: State,
    /// The last one; a batch may have gone beyond what the row says.
    pub(crate) attempt: u32,
    pub(crate) result: Option<&'a Content>,
    pub(crate) error: LastError<'a>,
    /// None keeps what the row has; so it is with the next two.
    pub(crate) worker: Option<WorkerId>,
    pub(crate) crashes: u32,
    pub(crate) started_at: Option<OffsetDateTime>,
    /// When it ended: now if nobody says.
    pub(crate) ended: Option<OffsetDateTime>,
    /// The class of its retention.
    pub(crate) class: i16,
    /// Whether a unique key is free then.
    pub(crate) frees_key: bool,
    /// Whether attempts of it may have failed.
    pub(crate) failed_before: bool,
}

/// The error that a finished task shows.
#[derive(Debug, Clone, Copy)]
pub(crate) enum LastError<'a> {
    /// What the row has.
    AsItIs,
    /// This one, or none.
    Set(Option<&'a str>),
}

/// Ends as arrays of columns.
#[derive(Debug, Default)]
pub(crate) struct FinishColumns<'a> {
    id: Vec<Uuid>,
    state: Vec<&'static str>,
    result: Vec<Option<&'a [u8]>>,
    result_content_type: Vec<Option<&'a str>>,
    error: Vec<Option<&'a str>>,
    worker: Vec<Option<Uuid>>,
    crashes: Vec<i32>,
    started_at: Vec<Option<OffsetDateTime>>,
    ended: Vec<Option<OffsetDateTime>>,
    class: Vec<i16>,
    frees_key: Vec<Uuid>,
    keep_error: Vec<bool>,
    failed_before: Vec<bool>,
    attempt: Vec<i32>,
}

impl<'a> FinishColumns<'a> {
    pub(crate) fn push(&mut self, finish: &Finish<'a>) {
        self.id.push(finish.id);
        self.state.push(finish.state.as_str());
        self.result
            .push(finish.result.map(|content| content.bytes.as_ref()));
        self.result_content_type
            .push(finish.result.map(|content| &*content.content_type));
        let (error, keep) = match finish.error {
            LastError::AsItIs => (None, true),
            LastError::Set(error) => (error, false),
        };
        self.error.push(error);
        self.keep_error.push(keep);
        self.worker.push(finish.worker.map(|worker| worker.0));
        self.crashes.push(int(finish.crashes));
        self.started_at.push(finish.started_at);
        self.ended.push(finish.ended);
        self.class.push(finish.class);
        self.frees_key.extend(finish.frees_key.then_some(finish.id));
        self.failed_before.push(finish.failed_before);
        self.attempt.push(int(finish.attempt));
    }

    /// Moves the rows, their failed attempts with them, and frees their unique keys.
    pub(crate) async fn write(self, tx: &mut Transaction<'_, Postgres>) -> Result<(), sqlx::Error> {
        if self.id.is_empty() {
            return Ok(());
        }
        let failed: Vec<Uuid> = self
            .id
            .iter()
            .zip(&self.failed_before)
            .filter_map(|(id, failed)| failed.then_some(*id))
            .collect();
        sqlx::query(sql::FINISH)
            .bind(self.id)
            .bind(self.state)
            .bind(self.result)
            .bind(self.result_content_type)
            .bind(self.error)
            .bind(self.worker)
            .bind(self.crashes)
            .bind(self.started_at)
            .bind(self.ended)
            .bind(self.class)
            .bind(self.keep_error)
            .bind(self.failed_before)
            .bind(self.attempt)
            .execute(&mut **tx)
            .await?;
        if !self.frees_key.is_empty() {
            sqlx::query(sql::FREE_UNIQUE)
                .bind(self.frees_key)
                .execute(&mut **tx)
                .await?;
        }
        if !failed.is_empty() {
            sqlx::query(sql::DELETE_ATTEMPTS)
                .bind(failed)
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }
}
