//! Waiting for a condition instead of sleeping and hoping.

use std::fmt::Display;
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep, timeout_at};

/// What a condition may give: `bool`, `Option<T>` or `Result<T, E>`.
pub trait Condition {
    /// What is known once it is met.
    type Value;

    /// The value, or why it is not met yet.
    ///
    /// # Errors
    /// What is missing, in words.
    fn met(self) -> Result<Self::Value, String>;
}

impl Condition for bool {
    type Value = ();

    fn met(self) -> Result<(), String> {
        if self {
            Ok(())
        } else {
            Err("it is false".into())
        }
    }
}

impl<T> Condition for Option<T> {
    type Value = T;

    fn met(self) -> Result<T, String> {
        self.ok_or_else(|| "there is none".into())
    }
}

impl<T, E: Display> Condition for std::result::Result<T, E> {
    type Value = T;

    fn met(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// Asks until the condition is met; a `Result` that is an error counts as not met yet.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> anyhow::Result<()> {
/// # use std::time::Duration;
/// let mut tries = 0;
/// goflow_test_servers::eventually(Duration::from_secs(5), async || {
///     tries += 1;
///     tries == 3
/// })
/// .await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// When it is not met within `deadline`; says what the last answer was.
pub async fn eventually<C: Condition>(
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> C,
) -> Result<C::Value> {
    let end = Instant::now() + deadline;
    let mut pause = Duration::from_millis(5);
    let mut last = "no answer".to_owned();
    loop {
        match timeout_at(end, condition()).await.map(Condition::met) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(reason)) => last = reason,
            Err(_) => {
                bail!("not within {deadline:?}: the last check did not return; before it: {last}")
            }
        }
        if Instant::now() + pause > end {
            bail!("not within {deadline:?}: {last}");
        }
        sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
