//! Rows that an engine must look at: what is due, what the broker has, what waits for a worker.

use std::sync::atomic::Ordering;

use goflow_core::broker::Tombstone;
use goflow_core::store::{Claim, Due, EXPIRED_ERROR, Error};
use goflow_core::{QueueName, State, TaskId, TaskType};
use uuid::Uuid;

use crate::apply::{Finish, FinishColumns, LastError};
use crate::columns::int;
use crate::error::{Kind, TRIES, kind, translate};
use crate::rows::{ClaimRow, LiveRow};
use crate::sql;
use crate::store::PostgresStore;

impl PostgresStore {
    pub(crate) async fn claim(&self, limit: usize, claim: Claim<'_>) -> Result<Due, Error> {
        if self.rebinding.load(Ordering::Relaxed) {
            self.rebind_some().await?;
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let claim = match claim {
            Claim::All(held) => {
                let held: Vec<Uuid> = held.iter().map(|id| id.as_uuid()).collect();
                sqlx::query_as(sql::CLAIM).bind(limit).bind(held)
            }
            Claim::WaitingOrLate => sqlx::query_as(sql::CLAIM_WAITING).bind(limit),
            Claim::Late => sqlx::query_as(sql::CLAIM_LATE).bind(limit),
        };
        let rows: Vec<ClaimRow> = claim
            .fetch_all(&self.pools.writes)
            .await
            .map_err(|error| translate("claim due", error))?;
        let mut due = Due::default();
        let mut late = Vec::new();
        for row in rows {
            due.looked_at += usize::try_from(row.looked_at.unwrap_or(0)).unwrap_or(0);
            late.extend(row.late.unwrap_or_default());
            match row.dispatch {
                Some((_, Ok(dispatch))) => due.dispatches.push(dispatch),
                Some((id, Err(error))) => {
                    tracing::error!(task.id = %id, %error, "a row cannot be read and is not dispatched")
                }
                None => {}
            }
        }
        match self.expire(late).await {
            Ok(expired) => due.expired = expired,
            // Nothing is lost: they are still due, and what was claimed must be dispatched.
            Err(error) => tracing::warn!(%error, "late tasks have not ended yet"),
        }
        Ok(due)
    }

    /// Ends those of these whose deadline has passed and that nobody else ended meanwhile.
    async fn expire(&self, late: Vec<Uuid>) -> Result<Vec<Tombstone>, sqlx::Error> {
        if late.is_empty() {
            return Ok(Vec::new());
        }
        let mut tries = 1;
        loop {
            match self.try_expire(&late).await {
                Err(error) if kind(&error) == Kind::Conflict && tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    async fn try_expire(&self, late: &[Uuid]) -> Result<Vec<Tombstone>, sqlx::Error> {
        let mut tx = self.pools.begin().await?;
        let rows: Vec<LiveRow> = sqlx::query_as(sql::LOCK_ROWS)
            .bind(late)
            .fetch_all(&mut *tx)
            .await?;
        let mut finish = FinishColumns::default();
        let mut expired = Vec::with_capacity(rows.len());
        for row in rows.iter().filter(|row| row.late) {
            let (live, options) = (row.live()?, row.options());
            finish.push(&Finish {
                id: row.id,
                state: State::Expired,
                attempt: live.attempt,
                result: None,
                error: LastError::Set(Some(EXPIRED_ERROR)),
                worker: None,
                crashes: live.crashes(),
                started_at: None,
                ended: None,
                class: self
                    .options
                    .retention(State::Expired, options.retention)
                    .days(),
                frees_key: options.frees_key(),
                failed_before: live.attempt > 1,
            });
            expired.push(Tombstone {
                task: TaskId::from(row.id),
                dispatch: live.dispatch,
            });
        }
        finish.write(&mut tx).await?;
        tx.commit().await?;
        self.live
            .add(-i64::try_from(expired.len()).unwrap_or(i64::MAX));
        Ok(expired)
    }

    pub(crate) async fn confirm(
        &self,
        broker: Uuid,
        dispatches: &[(TaskId, u32)],
    ) -> Result<bool, Error> {
        let mut sorted = dispatches.to_vec();
        sorted.sort_unstable();
        let (ids, counts): (Vec<_>, Vec<_>) = sorted
            .into_iter()
            .map(|(id, dispatch)| (id.as_uuid(), int(dispatch)))
            .unzip();
        let mut tries = 1;
        loop {
            let done = sqlx::query_scalar(sql::CONFIRM)
                .bind(&ids)
                .bind(&counts)
                .bind(broker)
                .fetch_one(&self.pools.writes)
                .await;
            match done {
                Ok(bound) => return Ok(bound),
                Err(error) if kind(&error) == Kind::Conflict && tries < TRIES => tries += 1,
                Err(error) => return Err(translate("confirm dispatched", error)),
            }
        }
    }

    pub(crate) async fn wake(&self, queue: &QueueName, types: &[TaskType]) -> Result<u64, Error> {
        let types: Vec<&str> = types.iter().map(TaskType::as_str).collect();
        let woken = sqlx::query(sql::WAKE_UNSERVED)
            .bind(queue.as_str())
            .bind(types)
            .execute(&self.pools.writes)
            .await;
        woken
            .map(|done| done.rows_affected())
            .map_err(|error| translate("wake unserved", error))
    }
}
