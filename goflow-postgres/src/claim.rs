//! Rows that an engine must look at: what is due, what the broker has, what waits for a worker.

use std::sync::atomic::Ordering;

use goflow_core::store::{Dispatch, Error};
use goflow_core::{QueueName, TaskId, TaskType};

use crate::columns::int;
use crate::error::{Kind, TRIES, kind, translate};
use crate::rows::DispatchRow;
use crate::sql;
use crate::store::PostgresStore;

impl PostgresStore {
    pub(crate) async fn claim(&self, limit: usize) -> Result<Vec<Dispatch>, Error> {
        if self.rebinding.load(Ordering::Relaxed) {
            self.rebind_some().await?;
        }
        let rows: Vec<DispatchRow> = sqlx::query_as(sql::CLAIM)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&self.writes)
            .await
            .map_err(|error| translate("claim due", error))?;
        let mut dispatches = Vec::with_capacity(rows.len());
        for row in rows {
            let id = row.id();
            match Dispatch::try_from(row) {
                Ok(dispatch) => dispatches.push(dispatch),
                // It must not keep the others from being dispatched.
                Err(error) => {
                    tracing::error!(task.id = %id, %error, "a row cannot be read and is not dispatched")
                }
            }
        }
        Ok(dispatches)
    }

    pub(crate) async fn confirm(&self, dispatches: &[(TaskId, u32)]) -> Result<(), Error> {
        if dispatches.is_empty() {
            return Ok(());
        }
        let mut tries = 1;
        loop {
            let (ids, counts): (Vec<_>, Vec<_>) = dispatches
                .iter()
                .map(|(id, dispatch)| (id.as_uuid(), int(*dispatch)))
                .unzip();
            let done = sqlx::query(sql::CONFIRM)
                .bind(ids)
                .bind(counts)
                .execute(&self.writes)
                .await;
            match done {
                Ok(_) => return Ok(()),
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
            .execute(&self.writes)
            .await;
        woken
            .map(|done| done.rows_affected())
            .map_err(|error| translate("wake unserved", error))
    }
}
