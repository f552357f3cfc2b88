//! The built-in types, which run through the same path as any handler.

use std::time::Duration;

use goflow_core::{Ctx, Error, HandlerError, Handlers, Raw};
use serde::{Deserialize, Serialize};

/// Adds `echo` and `sleep`.
pub(crate) fn register(handlers: &mut Handlers) -> Result<(), Error> {
    handlers.register("echo", echo)?;
    handlers.register("sleep", sleep)
}

/// Returns its payload as it is.
async fn echo(payload: Raw) -> Result<Raw, HandlerError> {
    Ok(payload)
}

#[derive(Debug, Serialize, Deserialize)]
struct Sleep {
    ms: u64,
}

/// Returns its payload after it.
async fn sleep(ctx: Ctx, sleep: Sleep) -> Result<Sleep, HandlerError> {
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(sleep.ms)) => Ok(sleep),
        () = ctx.cancelled() => Err(HandlerError::retry("woken before the time was over")),
    }
}
