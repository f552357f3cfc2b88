//! The ids of tasks as they finish, for those who listen.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::id::TaskId;

/// Finished tasks that a receiver of [`GoFlow::finished`](crate::GoFlow::finished) may be behind.
const BACKLOG: usize = 8_192;

/// Tells those who listen, until the engine ends.
#[derive(Debug)]
pub(super) struct Finished(Mutex<Option<broadcast::Sender<TaskId>>>);

impl Finished {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Some(broadcast::Sender::new(BACKLOG))))
    }

    fn sender(&self) -> MutexGuard<'_, Option<broadcast::Sender<TaskId>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What finishes from now on; nothing any more once this has ended.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<TaskId> {
        match &*self.sender() {
            Some(sender) => sender.subscribe(),
            None => broadcast::channel(1).1,
        }
    }

    pub(super) fn tell(&self, ids: &[TaskId]) {
        let sender = self.sender();
        if let Some(sender) = sender.as_ref().filter(|it| it.receiver_count() > 0) {
            for id in ids {
                // The last receiver may have gone by now.
                drop(sender.send(*id));
            }
        }
    }

    /// Whoever listens hears the end.
    pub(super) fn end(&self) {
        self.sender().take();
    }
}

#[cfg(test)]
mod tests {
    use broadcast::error::RecvError;

    use super::*;

    #[tokio::test]
    async fn whoever_listens_hears_of_tasks_and_of_the_end() {
        let finished = Finished::new();
        let id = TaskId::new();
        finished.tell(&[id]);
        let mut receiver = finished.subscribe();
        finished.tell(&[id]);
        finished.end();
        assert_eq!(receiver.recv().await, Ok(id));
        assert_eq!(receiver.recv().await, Err(RecvError::Closed));
        let late = finished.subscribe().recv().await;
        assert_eq!(late, Err(RecvError::Closed));
    }
}
