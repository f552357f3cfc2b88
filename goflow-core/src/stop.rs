//! The end of something, for those who wait for it and those who only look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

/// A [`CancellationToken`] that is looked at for every task by every thread: without its lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stop(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    has_come: AtomicBool,
    token: CancellationToken,
}

impl Stop {
    pub(crate) fn cancel(&self) {
        self.0.has_come.store(true, Ordering::Release);
        self.0.token.cancel();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.has_come.load(Ordering::Acquire)
    }

    /// Ends when it has come. Cancel-safe.
    pub(crate) fn cancelled(&self) -> WaitForCancellationFuture<'_> {
        self.0.token.cancelled()
    }

    /// What `future` gives, unless the end comes first.
    pub(crate) async fn run_until_cancelled<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.token.run_until_cancelled(future).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn looking_and_waiting_agree() {
        let stop = Stop::default();
        let other = stop.clone();
        assert!(!other.is_cancelled());
        let waits = tokio::spawn(async move {
            other.cancelled().await;
            other.is_cancelled()
        });
        assert_eq!(stop.run_until_cancelled(async { 1 }).await, Some(1));
        stop.cancel();
        assert!(waits.await.unwrap());
        stop.cancelled().await;
        let never = stop.run_until_cancelled(std::future::pending::<()>());
        assert_eq!(never.await, None);
    }
}
