//! How many tasks are unfinished: counted now and then, estimated between.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sqlx::PgPool;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::sql;

/// A count is this good for as long as the limit is far.
const STALE: Duration = Duration::from_secs(5);

/// And at least this long, whatever happens.
const FRESH: Duration = Duration::from_millis(500);

/// The number of unfinished tasks, as far as it is known.
#[derive(Debug)]
pub(crate) struct LiveCount {
    limit: usize,
    estimate: AtomicI64,
    counted: Mutex<Option<Instant>>,
}

impl LiveCount {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            estimate: AtomicI64::new(0),
            counted: Mutex::new(None),
        }
    }

    /// Notes what this engine added or took away.
    pub(crate) fn add(&self, tasks: i64) {
        self.estimate.fetch_add(tasks, Ordering::Relaxed);
    }

    /// How many further tasks there is room for, when `wanted` come.
    pub(crate) async fn room(&self, wanted: usize, queries: &PgPool) -> Result<usize, sqlx::Error> {
        if let Some(mut counted) = self.try_lock_for(wanted).await {
            let past_limit = i64::try_from(self.limit)
                .unwrap_or(i64::MAX)
                .saturating_add(1);
            let count = sqlx::query_scalar(sql::COUNT_LIVE)
                .bind(past_limit)
                .fetch_one(queries)
                .await?;
            self.estimate.store(count, Ordering::Relaxed);
            *counted = Some(Instant::now());
        }
        Ok(self.limit.saturating_sub(self.estimate()))
    }

    /// The right to count, if it is time to. While one counts, others go by what is known.
    async fn try_lock_for(
        &self,
        wanted: usize,
    ) -> Option<tokio::sync::MutexGuard<'_, Option<Instant>>> {
        let counted = self.counted.try_lock().ok()?;
        let tight = self.estimate() + wanted > self.limit;
        let due = counted.is_none_or(|at| at.elapsed() >= if tight { FRESH } else { STALE });
        due.then_some(counted)
    }

    fn estimate(&self) -> usize {
        usize::try_from(self.estimate.load(Ordering::Relaxed)).unwrap_or(0)
    }
}
