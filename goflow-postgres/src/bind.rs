//! Which broker the rows speak of, and who has the store to itself.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use goflow_core::TaskStore;
use goflow_core::broker::Identity;
use goflow_core::faults::{self, Bug};
use goflow_core::store::Error;
use uuid::Uuid;

use crate::error::translate;
use crate::sql;
use crate::store::PostgresStore;

/// Rows handed over in one commit.
const ROWS_AT_ONCE: i64 = 10_000;

type Meta = (
    Option<Uuid>,
    Option<Uuid>,
    Option<bool>,
    Option<Uuid>,
    Option<Uuid>,
);

/// How long one call makes rows due.
const REBIND_FOR: std::time::Duration = std::time::Duration::from_secs(2);

impl PostgresStore {
    pub(crate) async fn bind_broker(&self, broker: &Identity) -> Result<(), Error> {
        if let Some(bound) = broker.store.filter(|store| *store != self.id()) {
            return Err(Error::Foreign {
                bound,
                this: self.id(),
            });
        }
        let unavailable = |error| translate("bind", error);
        let mut tx = self.pools.begin().await.map_err(unavailable)?;
        let (bound, owner, claimed, from, _): Meta = sqlx::query_as(sql::LOCK_META)
            .fetch_one(&mut *tx)
            .await
            .map_err(unavailable)?;
        if claimed == Some(true) && owner != Some(broker.broker) {
            return Err(Error::Claimed);
        }
        let claim = broker.in_process.then_some(broker.broker);
        let is_new = bound != Some(broker.broker);
        sqlx::query(sql::BIND)
            .bind(broker.broker)
            .bind(claim)
            .bind(is_new && !faults::planted(Bug::ReconcileOff))
            .execute(&mut *tx)
            .await
            .map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        *self
            .claimed_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = claim;
        if is_new {
            tracing::info!(broker = %broker.broker, "the store is bound to a new broker: every dispatched task is due");
        }
        if is_new || from.is_some() {
            self.rebinding.store(true, Ordering::Relaxed);
            // What cannot be done within this call, the next ones that claim go on with.
            let begun = tokio::time::Instant::now();
            while self.rebinding.load(Ordering::Relaxed) && begun.elapsed() < REBIND_FOR {
                self.rebind_some().await?;
            }
        }
        Ok(())
    }

    /// Makes some more of the rows due that another broker had.
    pub(crate) async fn rebind_some(&self) -> Result<(), Error> {
        let done = self
            .rebind_rows()
            .await
            .map_err(|error| translate("bind", error))?;
        if done {
            self.rebinding.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    async fn rebind_rows(&self) -> Result<bool, sqlx::Error> {
        let mut tx = self.pools.begin().await?;
        let (_, _, _, from, to): Meta = sqlx::query_as(sql::LOCK_META).fetch_one(&mut *tx).await?;
        let (Some(from), Some(to)) = (from, to) else {
            sqlx::query(sql::REBIND_FROM)
                .bind(None::<Uuid>)
                .execute(&mut *tx)
                .await?;
            tx.commit().await?;
            return Ok(true);
        };
        let last: Option<Uuid> = sqlx::query_scalar(sql::REBIND_ROWS)
            .bind(from)
            .bind(to)
            .bind(ROWS_AT_ONCE)
            .fetch_optional(&mut *tx)
            .await?;
        let next = last.filter(|last| *last != to);
        sqlx::query(sql::REBIND_FROM)
            .bind(next)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(next.is_none())
    }

    /// Lets another in-process broker have the store at once.
    pub(crate) async fn release_claim(&self) {
        let claim = self
            .claimed_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(owner) = claim else { return };
        if let Err(error) = sqlx::query(sql::RELEASE_CLAIM)
            .bind(owner)
            .execute(&self.pools.writes)
            .await
        {
            tracing::warn!(%error, "the claim on the store was not given back: it ends by itself in a few seconds");
        }
    }
}
