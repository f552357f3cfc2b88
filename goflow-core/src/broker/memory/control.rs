//! Signals and tombstones within the process.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use crate::ambient;
use crate::broker::{
    Control, Error, Identity, MAX_CHECKPOINT_BYTES, Signals, Tombstone, Tombstones,
};
use crate::id::{StoreId, TaskId};
use crate::signal::Signal;
use crate::stop::Stop;

/// Signals a listener may be behind before it misses some.
const SIGNAL_BACKLOG: usize = 4_096;

/// Tombstones a watcher may be behind before it misses some: it then starts a task in vain.
const TOMBSTONE_BACKLOG: usize = 65_536;

/// Checkpoints kept: those of the tasks that saved one last.
const MAX_CHECKPOINTS: usize = 1_000;

const TOMBSTONE_AGE: Duration = Duration::from_secs(7 * 24 * 60 * 60);

#[derive(Debug)]
pub(super) struct MemoryControl {
    broker: Uuid,
    closed: Stop,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    store: Option<StoreId>,
    listeners: Vec<mpsc::Sender<Signal>>,
    commanded: Vec<mpsc::Sender<Signal>>,
    /// The newest last.
    checkpoints: VecDeque<(TaskId, Bytes)>,
    entombed: HashMap<TaskId, u32>,
    by_age: VecDeque<(Instant, TaskId)>,
    watchers: Vec<mpsc::Sender<Tombstone>>,
}

impl MemoryControl {
    pub(super) fn new(closed: Stop) -> Self {
        Self {
            broker: ambient::new_id(),
            closed,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>, Error> {
        // The lock comes first: a call that got it before `close` did is cleaned up after by `close`.
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.closed.is_cancelled() {
            Err(Error::Closed)
        } else {
            Ok(state)
        }
    }
}

/// Tells everyone who keeps up and forgets who is gone.
fn tell<M: Clone>(listeners: &mut Vec<mpsc::Sender<M>>, message: &M) {
    listeners.retain(|listener| {
        !matches!(
            listener.try_send(message.clone()),
            Err(mpsc::error::TrySendError::Closed(_))
        )
    });
}

#[async_trait]
impl Control for MemoryControl {
    async fn identify(&self) -> Result<Identity, Error> {
        Ok(Identity {
            broker: self.broker,
            store: self.state()?.store,
            in_process: true,
        })
    }

    async fn bind(&self, store: StoreId) -> Result<(), Error> {
        let mut state = self.state()?;
        match state.store {
            Some(bound) if bound != store => Err(Error::Refused {
                reason: format!("this broker belongs to store {bound}, not to {store}"),
            }),
            _ => {
                state.store = Some(store);
                Ok(())
            }
        }
    }

    async fn ping(&self) -> Result<(), Error> {
        self.state().map(drop)
    }

    async fn signal(&self, signal: Signal) -> Result<(), Error> {
        let mut state = self.state()?;
        match signal {
            Signal::Command { .. } => tell(&mut state.commanded, &signal),
            _ => tell(&mut state.listeners, &signal),
        }
        Ok(())
    }

    async fn listen(&self) -> Result<Signals, Error> {
        let (sender, receiver) = mpsc::channel(SIGNAL_BACKLOG);
        self.state()?.listeners.push(sender);
        Ok(Signals::new(receiver))
    }

    async fn commands(&self) -> Result<Signals, Error> {
        let (sender, receiver) = mpsc::channel(SIGNAL_BACKLOG);
        self.state()?.commanded.push(sender);
        Ok(Signals::new(receiver))
    }

    async fn save_checkpoint(&self, task: TaskId, checkpoint: Bytes) -> Result<(), Error> {
        if checkpoint.len() > MAX_CHECKPOINT_BYTES {
            return Err(Error::TooLarge {
                bytes: checkpoint.len(),
                limit: MAX_CHECKPOINT_BYTES,
            });
        }
        let mut state = self.state()?;
        state.checkpoints.retain(|(id, _)| *id != task);
        state.checkpoints.push_back((task, checkpoint));
        if state.checkpoints.len() > MAX_CHECKPOINTS {
            state.checkpoints.pop_front();
        }
        Ok(())
    }

    async fn checkpoint(&self, task: TaskId) -> Result<Option<Bytes>, Error> {
        let state = self.state()?;
        let found = state.checkpoints.iter().rfind(|(id, _)| *id == task);
        Ok(found.map(|(_, checkpoint)| checkpoint.clone()))
    }

    async fn entomb(&self, tombstones: &[Tombstone]) -> Result<(), Error> {
        let mut state = self.state()?;
        let state = &mut *state;
        let now = Instant::now();
        while let Some(&(noted, id)) = state.by_age.front()
            && now.duration_since(noted) > TOMBSTONE_AGE
        {
            state.by_age.pop_front();
            state.entombed.remove(&id);
        }
        for tombstone in tombstones {
            if state
                .entombed
                .insert(tombstone.task, tombstone.dispatch)
                .is_none()
            {
                state.by_age.push_back((now, tombstone.task));
            }
            tell(&mut state.watchers, tombstone);
        }
        Ok(())
    }

    async fn tombstones(&self) -> Result<Tombstones, Error> {
        let (sender, later) = mpsc::channel(TOMBSTONE_BACKLOG);
        let mut state = self.state()?;
        state.watchers.push(sender);
        Ok(Tombstones {
            known: state
                .entombed
                .iter()
                .map(|(&task, &dispatch)| Tombstone { task, dispatch })
                .collect(),
            later,
        })
    }

    async fn close(&self) {
        self.closed.cancel();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.listeners.clear();
        state.commanded.clear();
        state.watchers.clear();
    }
}
