//! Looking at JetStream from outside: when everything has been acknowledged.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use async_nats::jetstream::{self, stream};

/// How often streams are looked at: not so often that it costs the server anything.
const LOOK: Duration = Duration::from_millis(5);

/// A run that has not ended by then never will.
const PATIENCE: Duration = Duration::from_secs(600);

/// Streams that are empty when all is done, and the first of them fills up with one message a task.
#[derive(Debug)]
pub(crate) struct Watched {
    context: jetstream::Context,
    names: Vec<String>,
    before: u64,
}

impl Watched {
    /// The streams with these names; the first is counted from now on.
    pub(crate) async fn new(context: jetstream::Context, names: &[&str]) -> Result<Self> {
        let mut watched = Self {
            context,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            before: 0,
        };
        watched.restart().await?;
        Ok(watched)
    }

    /// Counts the first anew from now on.
    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.before = self.state(0).await?.map_or(0, |state| state.last_sequence);
        Ok(())
    }

    /// None while there is no such stream.
    async fn state(&self, which: usize) -> Result<Option<stream::State>> {
        match self.context.get_stream(&self.names[which]).await {
            Ok(stream) => Ok(Some(stream.cached_info().state.clone())),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until `tasks` messages have come into the first stream.
    pub(crate) async fn filled(&self, tasks: usize) -> Result<()> {
        self.until(async || {
            let state = self.state(0).await?;
            Ok(state.is_some_and(|state| state.last_sequence - self.before >= tasks as u64))
        })
        .await
    }

    /// Waits until they have, and none is left in any of the streams.
    pub(crate) async fn drained(&self, tasks: usize) -> Result<()> {
        self.filled(tasks).await?;
        for which in 0..self.names.len() {
            self.until(async || {
                Ok(self
                    .state(which)
                    .await?
                    .is_some_and(|state| state.messages == 0))
            })
            .await?;
        }
        Ok(())
    }

    async fn until(&self, condition: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !condition().await? {
            if Instant::now() > end {
                bail!(
                    "{} are not as they should be after {PATIENCE:?}",
                    self.names.join(", ")
                );
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

fn is_absent(error: &jetstream::context::GetStreamError) -> bool {
    use jetstream::{ErrorCode, context::GetStreamErrorKind};
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}
