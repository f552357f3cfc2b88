//! Jobs that wait for a slot.

use std::collections::VecDeque;
use std::fmt;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Takes jobs in and hands them to slots, the oldest first.
pub(super) struct Buffer<J> {
    state: Mutex<State<J>>,
    filled: Notify,
}

struct State<J> {
    jobs: VecDeque<J>,
    /// How many of them no slot was woken for.
    unannounced: usize,
}

/// Which of the slots that wait are woken for jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    /// One for each job.
    Each,
    /// One, which wakes the next when it has taken its job.
    Next,
}

impl<J> Default for Buffer<J> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                unannounced: 0,
            }),
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
    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn len(&self) -> usize {
        self.state().jobs.len()
    }

    /// Puts jobs in and wakes slots for them.
    pub(super) fn put(&self, jobs: Vec<J>, wake: Wake) {
        let slots = match wake {
            Wake::Each => jobs.len(),
            Wake::Next => jobs.len().min(1),
        };
        let mut state = self.state();
        state.unannounced += jobs.len() - slots;
        state.jobs.extend(jobs);
        drop(state);
        self.wake(slots);
    }

    /// Puts a job back that was taken: it is the next one again.
    pub(super) fn put_back(&self, job: J) {
        self.state().jobs.push_front(job);
        self.wake(1);
    }

    /// Wakes so many of the slots that wait.
    fn wake(&self, slots: usize) {
        for _ in 0..slots {
            self.filled.notify_one();
        }
    }

    /// The oldest job, if there is one.
    pub(super) fn take(&self) -> Option<J> {
        let mut state = self.state();
        let job = state.jobs.pop_front()?;
        let left = state.unannounced.min(state.jobs.len());
        state.unannounced = left.saturating_sub(1);
        drop(state);
        if left > 0 {
            self.wake(1);
        }
        Some(job)
    }

    /// Waits for a job and takes it. Cancel-safe: a wake-up that comes too late goes to another slot.
    pub(super) async fn wait(&self) -> J {
        loop {
            // Among those who wait before it looks: what is put in afterwards wakes it.
            let mut filled = pin!(self.filled.notified());
            filled.as_mut().enable();
            if let Some(job) = self.take() {
                return job;
            }
            filled.await;
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
        for wake in [Wake::Each, Wake::Next] {
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
            buffer.put(vec![1, 2, 3, 4], wake);
            let mut done = Vec::new();
            while let Some(job) = slots.join_next().await {
                done.push(job.unwrap());
            }
            done.sort_unstable();
            assert_eq!((done, buffer.len()), (vec![1, 2, 3], 1), "{wake:?}");
        }
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

    /// Whom a slot wakes may have to wait until its thread is free: it wakes nobody while whoever puts jobs in does.
    #[test]
    fn slots_wake_each_other_only_if_they_are_to() {
        for wake in [Wake::Each, Wake::Next] {
            let buffer = Arc::default();
            let [mut first, mut second, third] = [(); 3].map(|()| Slot::waiting(&buffer));
            buffer.put(vec![1, 2], wake);
            assert_eq!(
                (first.is_woken(), second.is_woken()),
                (true, wake == Wake::Each)
            );
            assert_eq!(first.poll(), Poll::Ready(1));
            assert!(second.is_woken() && !third.is_woken(), "{wake:?}");
            assert_eq!(second.poll(), Poll::Ready(2));
            assert!(!third.is_woken(), "{wake:?}");
        }
    }

    #[test]
    fn a_slot_that_gives_up_takes_no_wake_up_with_it() {
        let buffer = Arc::default();
        let [first, mut second] = [(); 2].map(|()| Slot::waiting(&buffer));
        buffer.put(vec![1], Wake::Each);
        assert!(first.is_woken() && !second.is_woken());
        drop(first);
        assert!(second.is_woken());
        assert_eq!(second.poll(), Poll::Ready(1));
    }

    #[test]
    fn what_is_put_back_is_next() {
        let buffer = Buffer::default();
        buffer.put(vec![1, 2], Wake::Next);
        let first = buffer.take().unwrap();
        buffer.put_back(first);
        assert_eq!(
            [buffer.take(), buffer.take(), buffer.take()],
            [Some(1), Some(2), None]
        );
    }
}
