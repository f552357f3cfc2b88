//! What can go wrong with a store.

use std::sync::Arc;

use crate::id::{StoreId, TaskId};

/// An error of the store port. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store cannot be reached or did not answer in time. What was asked may have happened.
    #[error("store unavailable: {operation}")]
    Unavailable {
        /// What was asked of it.
        operation: &'static str,
        /// What the driver said.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// It holds as many live tasks as it may.
    #[error("the store holds {limit} unfinished tasks, which is its limit")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The unique key is taken by this task.
    #[error("task {0} has the unique key")]
    Duplicate(TaskId),
    /// A task of this id is there already.
    #[error("a task of this id exists")]
    Exists,
    /// The store will not have it, now or later.
    #[error("store refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// Another process with an in-process broker has the store to itself.
    #[error(
        "another process with a broker of its own uses this store: stop it, or use one shared broker"
    )]
    Claimed,
    /// The broker belongs to another store.
    #[error("the broker belongs to store {bound}, this is store {this}: use the right pair")]
    Foreign {
        /// The store the broker belongs to.
        bound: StoreId,
        /// The store at hand.
        this: StoreId,
    },
    /// The schema is not the one this version needs.
    #[error("the schema of the store is not up to date: run `gf migrate`")]
    Outdated,
}

impl Error {
    /// An [`Error::Unavailable`].
    pub fn unavailable(
        operation: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            operation,
            source: Arc::from(source.into()),
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Full { .. })
    }
}
