//! Writing what was decided: a statement for each kind of change.

use std::time::Duration;

use foldhash::HashMap;
use goflow_core::State;
use sqlx::{Postgres, Transaction};
use time::OffsetDateTime;
use uuid::Uuid;

use super::decide::{Fate, Pending};
use super::finish::{Finish, FinishColumns, LastError};
use super::rowless::{Rowless, RowlessEnds};
use crate::columns::{int, micros};
use crate::options::Options;
use crate::sql;

pub(super) type Tx<'c> = Transaction<'c, Postgres>;

/// Writes everything; gives by how much the number of rows grew.
pub(super) async fn all(
    tx: &mut Tx<'_>,
    pending: &HashMap<Uuid, Pending<'_>>,
    options: &Options,
) -> Result<i64, sqlx::Error> {
    let mut finished = FinishColumns::default();
    let mut waits = Updates::default();
    let mut started = Updates::default();
    let mut rowless = Rowless::default();
    let mut rowless_ends = RowlessEnds::default();
    let mut failures = Failures::default();
    let mut growth = 0;
    for (id, task) in pending {
        match (&task.fate, task.rowless) {
            (Fate::Unchanged, _) => {}
            (Fate::Finished { .. }, Some(_)) => rowless_ends.push(task, options)?,
            (
                Fate::Finished {
                    state,
                    result,
                    ended,
                },
                None,
            ) => {
                growth -= 1;
                failures.push(*id, task);
                finished.push(&Finish {
                    id: *id,
                    state: *state,
                    attempt: task.live.attempt,
                    result: *result,
                    error: last_error(*state, task),
                    worker: task.worker,
                    crashes: task.crashes(*state),
                    started_at: task.started_at,
                    ended: *ended,
                    class: options.retention(*state, task.options.retention).days(),
                    frees_key: task.options.frees_key(),
                    failed_before: task.live.attempt > 1 || !task.failures.is_empty(),
                });
            }
            (_, Some(_)) => {
                growth += 1;
                failures.push(*id, task);
                rowless.push(task)?;
            }
            (Fate::Waits(wait), None) => {
                failures.push(*id, task);
                waits.push(*id, task, *wait);
            }
            (Fate::Started, None) => started.push(*id, task, Duration::ZERO),
        }
    }
    failures.write(tx).await?;
    finished.write(tx).await?;
    waits.write_waits(tx).await?;
    started.write_started(tx).await?;
    rowless.write(tx).await?;
    rowless_ends.write(tx).await?;
    Ok(growth)
}

pub(super) fn last_error<'a>(state: State, task: &'a Pending<'_>) -> LastError<'a> {
    LastError::Set(task.error.as_deref().filter(|_| state != State::Succeeded))
}

/// Failed attempts of tasks that have a row.
#[derive(Default)]
struct Failures<'a> {
    id: Vec<Uuid>,
    attempt: Vec<i32>,
    error: Vec<&'a str>,
    worker: Vec<Option<Uuid>>,
    started_at: Vec<Option<OffsetDateTime>>,
    finished_at: Vec<OffsetDateTime>,
}

impl<'a> Failures<'a> {
    fn push(&mut self, id: Uuid, task: &'a Pending<'_>) {
        for failed in &task.failures {
            self.id.push(id);
            self.attempt.push(int(failed.attempt));
            self.error.push(&failed.error);
            self.worker.push(failed.worker.map(|worker| worker.0));
            self.started_at.push(failed.started_at);
            self.finished_at.push(failed.finished_at);
        }
    }

    async fn write(self, tx: &mut Tx<'_>) -> Result<(), sqlx::Error> {
        if self.id.is_empty() {
            return Ok(());
        }
        sqlx::query(sql::INSERT_ATTEMPTS)
            .bind(self.id)
            .bind(self.attempt)
            .bind(self.error)
            .bind(self.worker)
            .bind(self.started_at)
            .bind(self.finished_at)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}

/// Changes to rows that stay.
#[derive(Default)]
struct Updates<'a> {
    id: Vec<Uuid>,
    state: Vec<&'static str>,
    attempt: Vec<i32>,
    starts: Vec<i32>,
    unserved: Vec<i32>,
    wait: Vec<i64>,
    error: Vec<Option<&'a str>>,
    worker: Vec<Option<Uuid>>,
    started_at: Vec<Option<OffsetDateTime>>,
}

impl<'a> Updates<'a> {
    fn push(&mut self, id: Uuid, task: &'a Pending<'_>, wait: Duration) {
        self.id.push(id);
        self.state.push(task.live.state.as_str());
        self.attempt.push(int(task.live.attempt));
        self.starts.push(int(task.live.starts));
        self.unserved.push(int(task.live.unserved));
        self.wait.push(micros(wait));
        self.error.push(task.error.as_deref());
        self.worker.push(task.worker.map(|worker| worker.0));
        self.started_at.push(task.started_at);
    }

    async fn write_waits(self, tx: &mut Tx<'_>) -> Result<(), sqlx::Error> {
        if self.id.is_empty() {
            return Ok(());
        }
        sqlx::query(sql::WAIT)
            .bind(self.id)
            .bind(self.state)
            .bind(self.attempt)
            .bind(self.unserved)
            .bind(self.wait)
            .bind(self.error)
            .bind(self.worker)
            .bind(self.started_at)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    async fn write_started(self, tx: &mut Tx<'_>) -> Result<(), sqlx::Error> {
        if self.id.is_empty() {
            return Ok(());
        }
        sqlx::query(sql::STARTED)
            .bind(self.id)
            .bind(self.starts)
            .bind(self.worker)
            .bind(self.started_at)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }
}
