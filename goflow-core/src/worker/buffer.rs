//! Jobs that wait for a slot.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Takes jobs in and hands them to slots, the oldest first. One of the slots that wait is woken when some are put in; it may
/// wake another one for what it leaves.
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

    /// Puts jobs in.
    pub(super) fn put(&self, jobs: Vec<J>) {
        if !jobs.is_empty() {
            self.jobs().extend(jobs);
            self.filled.notify_one();
        }
    }

    /// Puts a job back that was taken: it is the next one again. Wakes nobody.
    pub(super) fn put_back(&self, job: J) {
        self.jobs().push_front(job);
    }

    /// The oldest job, if there is one.
    pub(super) fn take(&self) -> Option<J> {
        self.jobs().pop_front()
    }

    /// Wakes a slot if there are jobs.
    pub(super) fn wake_next(&self) {
        if self.len() > 0 {
            self.filled.notify_one();
        }
    }

    /// Wakes all slots that wait if there are jobs, and one that is about to.
    pub(super) fn wake_all(&self) {
        if self.len() > 0 {
            self.filled.notify_waiters();
            self.filled.notify_one();
        }
    }

    /// Waits for a job and takes it. Cancel-safe: a wake-up that comes too late goes to another slot.
    pub(super) async fn wait(&self) -> J {
        loop {
            if let Some(job) = self.take() {
                return job;
            }
            // What was put in since has left a permit.
            self.filled.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use tokio::task::JoinSet;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_job_is_left_while_a_slot_waits() {
        let buffer = Arc::new(Buffer::default());
        let mut slots = JoinSet::new();
        for _ in 0..3 {
            let buffer = buffer.clone();
            slots.spawn(async move {
                let job: u8 = buffer.wait().await;
                buffer.wake_next();
                // At it for ever, as far as this test is concerned.
                tokio::time::sleep(Duration::from_secs(1)).await;
                job
            });
        }
        tokio::task::yield_now().await;
        buffer.put(vec![1, 2, 3, 4]);
        let mut done = Vec::new();
        while let Some(job) = slots.join_next().await {
            done.push(job.unwrap());
        }
        done.sort_unstable();
        assert_eq!((done, buffer.len()), (vec![1, 2, 3], 1));
    }

    /// A slot that waits, and whether it has been woken.
    struct Slot {
        wait: Pin<Box<dyn Future<Output = u8>>>,
        woken: Arc<Woken>,
    }

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    impl Slot {
        fn waiting(buffer: &Arc<Buffer<u8>>) -> Self {
            let buffer = buffer.clone();
            let mut slot = Self {
                wait: Box::pin(async move { buffer.wait().await }),
                woken: Arc::default(),
            };
            assert!(slot.poll().is_pending());
            slot
        }

        fn poll(&mut self) -> Poll<u8> {
            let waker = Waker::from(self.woken.clone());
            self.wait.as_mut().poll(&mut Context::from_waker(&waker))
        }

        fn is_woken(&self) -> bool {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn no_more_slots_are_woken_than_are_asked_for() {
        let buffer = Arc::default();
        let [mut first, mut second, third, fourth] = [(); 4].map(|()| Slot::waiting(&buffer));
        buffer.put(vec![1, 2, 3]);
        assert_eq!((first.is_woken(), second.is_woken()), (true, false));
        assert_eq!(first.poll(), Poll::Ready(1));
        assert!(!second.is_woken());
        buffer.wake_next();
        assert!(second.is_woken() && !third.is_woken());
        assert_eq!(second.poll(), Poll::Ready(2));
        buffer.wake_all();
        assert!(third.is_woken() && fourth.is_woken());
    }

    #[test]
    fn nobody_is_woken_for_nothing() {
        let buffer = Arc::default();
        let slot = Slot::waiting(&buffer);
        buffer.put(Vec::new());
        buffer.wake_next();
        buffer.wake_all();
        assert!(!slot.is_woken());
    }

    #[test]
    fn a_slot_that_gives_up_takes_no_wake_up_with_it() {
        let buffer = Arc::default();
        let [first, mut second] = [(); 2].map(|()| Slot::waiting(&buffer));
        buffer.put(vec![1]);
        assert!(first.is_woken() && !second.is_woken());
        drop(first);
        assert!(second.is_woken());
        assert_eq!(second.poll(), Poll::Ready(1));
    }

    #[test]
    fn what_is_put_back_is_next() {
        let buffer = Buffer::default();
        buffer.put(vec![1, 2]);
        let first = buffer.take().unwrap();
        buffer.put_back(first);
        assert_eq!(
            [buffer.take(), buffer.take(), buffer.take()],
            [Some(1), Some(2), None]
        );
    }
}
