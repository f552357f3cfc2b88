//! A connection at hand.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, PgPool, Postgres};

use crate::connect::TRUSTED_FOR;

/// How long a connection is kept before the pool may end it and make another: what a server keeps for each grows.
const KEPT_FOR: Duration = Duration::from_secs(5 * 60);

/// Keeps the connection that was used last for the next use, where it is small statements that count. A pool asks each
/// one that comes back whether it is all right, which costs as much as the statement, and hands another one out in the
/// meantime, whose process has been idle.
#[derive(Debug)]
pub(crate) struct AtHand {
    pool: PgPool,
    kept: Mutex<Option<Taken>>,
}

/// A connection in use. Dropped, it goes back to the pool, which finds out what is wrong with it.
#[derive(Debug)]
pub(crate) struct Taken {
    connection: PoolConnection<Postgres>,
    from_pool: Instant,
    used: Instant,
}

impl AtHand {
    pub(crate) fn new(pool: PgPool) -> Self {
        let kept = Mutex::default();
        Self { pool, kept }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Taken>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last, or one of the pool.
    pub(crate) async fn take(&self) -> Result<Taken, sqlx::Error> {
        let kept = self.kept().take();
        let fresh =
            |kept: &Taken| kept.used.elapsed() < TRUSTED_FOR && kept.from_pool.elapsed() < KEPT_FOR;
        if let Some(kept) = kept.filter(fresh) {
            return Ok(kept);
        }
        let connection = self.pool.acquire().await?;
        let now = Instant::now();
        Ok(Taken {
            connection,
            from_pool: now,
            used: now,
        })
    }

    /// Keeps a connection with which all went well. One at the most, and never the only one there may be.
    pub(crate) fn keep(&self, mut taken: Taken) {
        if self.pool.options().get_max_connections() < 2 {
            return;
        }
        taken.used = Instant::now();
        let mut kept = self.kept();
        // Looked at with the lock held: who closes it takes what was kept before.
        if !self.pool.is_closed() {
            kept.get_or_insert(taken);
        }
    }

    /// Closes the pool, which waits for every connection, the one that is kept included.
    pub(crate) async fn close(&self) {
        let closed = self.pool.close();
        drop(self.kept().take());
        closed.await;
    }
}

impl Taken {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for AtHand {
    /// A pool takes connections back within a runtime only, and there may be none any more.
    fn drop(&mut self) {
        if let Some(kept) = self.kept().take() {
            drop(kept.connection.detach());
        }
    }
}
