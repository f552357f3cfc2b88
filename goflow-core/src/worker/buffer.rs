//! Jobs that wait for a slot.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Takes jobs in and hands them to slots, the oldest first. Whoever puts some in says how many slots are to look, and each
/// that finds more than it takes has another one look: none is left while a slot waits.
pub(super) struct Buffer<J> {
    jobs: Mutex<VecDeque<J>>,
    filled: Notify,
}

impl<J> Default for Buffer<J> {
    fn default() -> Self {
        Self {
            jobs: Mutex::default(),
            filled: Notify::new(),
        }
    }
}

impl<J> fmt::Debug for Buffer<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

impl<J> Buffer<J> {
    fn jobs(&self) -> MutexGuard<'_, VecDeque<J>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.jobs().len()
    }

    /// Puts a job in, for whoever is [woken](Self::wake).
    pub(super) fn put(&self, job: J) {
        self.jobs().push_back(job);
    }

    /// Puts a job back that was taken: it is the next one again.
    pub(super) fn put_back(&self, job: J) {
        self.jobs().push_front(job);
        self.wake(1);
    }

    /// Has so many slots look for jobs, of those that wait or will.
    pub(super) fn wake(&self, slots: usize) {
        for _ in 0..slots {
            self.filled.notify_one();
        }
    }

    /// The oldest job, if there is one; another slot looks for what is left.
    pub(super) fn take(&self) -> Option<J> {
        let mut jobs = self.jobs();
        let job = jobs.pop_front()?;
        let more = !jobs.is_empty();
        drop(jobs);
        if more {
            self.wake(1);
        }
        Some(job)
    }

    /// Waits for a job and takes it. Cancel-safe: a wake-up that comes too late goes to another slot.
    pub(super) async fn wait(&self) -> J {
        loop {
            if let Some(job) = self.take() {
                return job;
            }
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    /// One is woken, and all get something: each wakes the next.
    #[tokio::test(start_paused = true)]
    async fn no_job_is_left_while_a_slot_waits() {
        let buffer = Arc::new(Buffer::default());
        let mut slots = JoinSet::new();
        for _ in 0..3 {
            let buffer = buffer.clone();
            slots.spawn(async move {
                let job: u8 = buffer.wait().await;
                // At it for ever, as far as this test is concerned.
                tokio::time::sleep(Duration::from_secs(1)).await;
                job
            });
        }
        tokio::task::yield_now().await;
        (1..=4).for_each(|job| buffer.put(job));
        buffer.wake(1);
        let mut done = Vec::new();
        while let Some(job) = slots.join_next().await {
            done.push(job.unwrap());
        }
        done.sort_unstable();
        assert_eq!((done, buffer.len()), (vec![1, 2, 3], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_gives_up_takes_no_wake_up_with_it() {
        let buffer = Buffer::default();
        {
            let waits = buffer.wait();
            tokio::pin!(waits);
            assert!(futures_util::poll!(&mut waits).is_pending());
            buffer.put(1);
            buffer.wake(1);
        }
        let job = tokio::time::timeout(Duration::from_secs(1), buffer.wait()).await;
        assert_eq!(job, Ok(1));
        let other = tokio::time::timeout(Duration::from_secs(1), buffer.wait()).await;
        assert!(other.is_err(), "there was one");
    }

    #[test]
    fn what_is_put_back_is_next() {
        let buffer = Buffer::default();
        (1..=2).for_each(|job| buffer.put(job));
        let first = buffer.take().unwrap();
        buffer.put_back(first);
        assert_eq!(
            [buffer.take(), buffer.take(), buffer.take()],
            [Some(1), Some(2), None]
        );
    }
}
