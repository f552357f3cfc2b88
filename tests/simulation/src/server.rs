//! The broker that all share: the one in memory, which can lose its state and come back as another one.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use goflow_core::broker::{Connection, Error, memory};

/// A broker on a machine of its own.
#[derive(Debug)]
pub(crate) struct Server {
    state: Mutex<State>,
    /// Carries signals, which are no state.
    signals: Connection,
}

#[derive(Debug)]
struct State {
    connection: Connection,
    /// The channels that someone made.
    channels: HashSet<String>,
    /// Whether an engine has been here.
    is_known: bool,
}

impl State {
    fn new() -> Self {
        Self {
            connection: memory::connect(memory::Options::default()),
            channels: HashSet::new(),
            is_known: false,
        }
    }
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            state: Mutex::new(State::new()),
            signals: memory::connect(memory::Options::default()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present state, for those who make what is missing.
    pub(crate) fn connection(&self) -> Connection {
        self.state().connection.clone()
    }

    /// For signals only.
    pub(crate) fn signals(&self) -> &Connection {
        &self.signals
    }

    /// The present state, if it has this channel.
    pub(crate) fn channel(&self, name: &str) -> Result<Connection, Error> {
        let state = self.state();
        if state.channels.contains(name) {
            Ok(state.connection.clone())
        } else {
            Err(Error::NoChannel {
                channel: name.to_owned(),
            })
        }
    }

    /// Has this channel from now on.
    pub(crate) fn make(&self, name: &str) {
        self.state().channels.insert(name.to_owned());
    }

    /// Whether an engine has been here since the state was lost.
    pub(crate) fn is_known(&self) -> bool {
        self.state().is_known
    }

    /// An engine is here.
    pub(crate) fn know(&self) {
        self.state().is_known = true;
    }

    /// Loses all state.
    pub(crate) async fn wipe(&self) {
        let before = std::mem::replace(&mut *self.state(), State::new());
        before.connection.control.close().await;
    }
}

/// What an error of the broker in memory is over a network: it is never closed, it just does not answer.
pub(crate) fn seen_from_afar(error: Error) -> Error {
    match error {
        Error::Closed => Error::unavailable("simulated", "it has lost its state"),
        other => other,
    }
}
