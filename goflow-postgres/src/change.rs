//! What people ask for: cancel, retry. And what has to be done now and then.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use goflow_core::record::TaskRecord;
use goflow_core::store::{Change, Error};
use goflow_core::{State, TaskId};
use sqlx::{Postgres, Transaction};

use crate::accept::retake_key;
use crate::apply::{Finish, FinishColumns, LastError};
use crate::error::translate;
use crate::read::{find, finished_since};
use crate::rows::LiveRow;
use crate::sql;
use crate::store::PostgresStore;

/// Keys forgotten in one statement, which says so too.
const EXPIRED_TOGETHER: u64 = 10_000;

/// How long keys are forgotten at a time: whoever maintains has other things to do as well.
const EXPIRING_TIME: Duration = Duration::from_secs(1);

/// How often a change is tried that was refused because of a state in which the task is no more.
const TRIES: usize = 3;

impl PostgresStore {
    pub(crate) async fn cancel_task(&self, id: TaskId) -> Result<Change, Error> {
        let mut tries = 1;
        loop {
            let change = self
                .try_cancel(id)
                .await
                .map_err(|error| translate("cancel", error))?;
            match &change {
                // It has been reopened since it was found to have ended.
                Change::Forbidden(record) if !record.state.is_terminal() && tries < TRIES => {}
                _ => return Ok(change),
            }
            tries += 1;
        }
    }

    async fn try_cancel(&self, id: TaskId) -> Result<Change, sqlx::Error> {
        let mut tx = self.pools.begin().await?;
        let row: Option<LiveRow> = sqlx::query_as(sql::LOCK_ROWS)
            .bind(vec![id.as_uuid()])
            .fetch_optional(&mut *tx)
            .await?;
        let Some(row) = row else {
            let record = find(&mut tx, id).await?;
            return Ok(record.map_or(Change::Unknown, |record| {
                Change::Forbidden(Box::new(record))
            }));
        };
        let (live, options) = (row.live()?, row.options());
        let mut finish = FinishColumns::default();
        finish.push(&Finish {
            id: id.as_uuid(),
            state: State::Cancelled,
            attempt: live.attempt,
            result: None,
            error: LastError::AsItIs,
            worker: None,
            crashes: live.crashes(),
            started_at: None,
            ended: None,
            class: self
                .options
                .retention(State::Cancelled, options.retention)
                .days(),
            frees_key: options.frees_key(),
            failed_before: live.attempt > 1,
        });
        finish.write(&mut tx).await?;
        let record = find(&mut tx, id).await?;
        tx.commit().await?;
        self.live.add(-1);
        Ok(done(record))
    }

    pub(crate) async fn reopen_task(&self, id: TaskId) -> Result<Change, Error> {
        let mut tries = 1;
        loop {
            let change = self
                .try_reopen(id)
                .await
                .map_err(|error| translate("retry", error))?
                .map_err(Error::Duplicate)?;
            match &change {
                // It has ended since it was found not to have.
                Change::Forbidden(record) if may_reopen(record.state) && tries < TRIES => {}
                _ => return Ok(change),
            }
            tries += 1;
        }
    }

    /// Reopens it, or says who has its unique key.
    async fn try_reopen(&self, id: TaskId) -> Result<Result<Change, TaskId>, sqlx::Error> {
        let mut tx = self.pools.begin().await?;
        lock_ids(&mut tx, vec![id.as_uuid()]).await?;
        if let Some(holder) = retake_key(&mut tx, id).await? {
            return Ok(Err(holder));
        }
        let reopened = sqlx::query(sql::REOPEN)
            .bind(id.as_uuid())
            .bind(finished_since(id))
            .execute(&mut *tx)
            .await?
            .rows_affected();
        let record = find(&mut tx, id).await?;
        if reopened == 0 {
            return Ok(Ok(record.map_or(Change::Unknown, |record| {
                Change::Forbidden(Box::new(record))
            })));
        }
        tx.commit().await?;
        self.live.add(1);
        Ok(Ok(done(record)))
    }

    pub(crate) async fn maintain_tables(&self) -> Result<(), Error> {
        self.try_maintain()
            .await
            .map_err(|error| translate("maintain", error))
    }

    /// Forgets the keys whose time is over, a group after the other.
    async fn expire_keys(&self, statement: &'static str) -> Result<(), sqlx::Error> {
        let begun = Instant::now();
        while begun.elapsed() < EXPIRING_TIME {
            let expired = sqlx::query(statement).execute(&self.pools.writes).await?;
            if expired.rows_affected() < EXPIRED_TOGETHER {
                break;
            }
        }
        Ok(())
    }

    async fn try_maintain(&self) -> Result<(), sqlx::Error> {
        self.expire_keys(sql::EXPIRE_KEYS).await?;
        self.expire_keys(sql::EXPIRE_UNIQUE).await?;
        let mut classes: BTreeSet<i32> = sqlx::query_scalar(sql::STRAYED)
            .fetch_all(&self.pools.writes)
            .await?
            .into_iter()
            .collect();
        for retention in [self.options.keep_done, self.options.keep_failed] {
            classes.insert(i32::from(retention.days()));
        }
        let mut tx = self.pools.begin().await?;
        sqlx::query(sql::BRIEF_LOCKS).execute(&mut *tx).await?;
        let mut made = 0;
        for class in classes {
            let some: i32 = sqlx::query_scalar(sql::MAKE_PARTITIONS)
                .bind(class)
                .fetch_one(&mut *tx)
                .await?;
            made += some;
        }
        tx.commit().await?;
        let mut tx = self.pools.begin().await?;
        sqlx::query(sql::BRIEF_LOCKS).execute(&mut *tx).await?;
        let dropped: i32 = sqlx::query_scalar(sql::DROP_PARTITIONS)
            .fetch_one(&mut *tx)
            .await?;
        tx.commit().await?;
        if made + dropped > 0 {
            tracing::info!(made, dropped, "partitions of the history");
        }
        Ok(())
    }
}

/// Keeps others from making rows of these ids until the transaction ends.
pub(crate) async fn lock_ids(
    tx: &mut Transaction<'_, Postgres>,
    ids: Vec<uuid::Uuid>,
) -> Result<(), sqlx::Error> {
    sqlx::query(sql::LOCK_IDS)
        .bind(ids)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

fn may_reopen(state: State) -> bool {
    state.is_terminal() && state != State::Succeeded
}

fn done(record: Option<TaskRecord>) -> Change {
    record.map_or(Change::Unknown, |record| Change::Done(Box::new(record)))
}
