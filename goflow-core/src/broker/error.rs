//! What can go wrong with a broker.

use std::sync::Arc;

/// An error of the broker port. Cheap to clone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The broker cannot be reached or did not answer in time. What was asked may have happened.
    #[error("broker unavailable: {operation}")]
    Unavailable {
        /// What was asked of it.
        operation: &'static str,
        /// What the driver said.
        #[source]
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The channel holds as much as it may.
    #[error("{channel} is full")]
    Full {
        /// Which channel.
        channel: String,
    },
    /// Nobody prepared the channel yet.
    #[error("{channel} does not exist yet: a gateway makes it")]
    NoChannel {
        /// Which channel.
        channel: String,
    },
    /// The message is larger than the broker takes.
    #[error("message of {bytes} bytes, {limit} is the most")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The broker will not have it, now or later.
    #[error("broker refused: {reason}")]
    Refused {
        /// Why.
        reason: String,
    },
    /// The connection was closed by its owner.
    #[error("the connection to the broker is closed")]
    Closed,
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
        matches!(
            self,
            Self::Unavailable { .. } | Self::Full { .. } | Self::NoChannel { .. }
        )
    }
}
