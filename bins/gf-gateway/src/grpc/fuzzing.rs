//! What requests are turned into, for `tests/fuzz` alone.

use std::time::Duration;

use goflow_core::record::{Filter, PageRequest};
use goflow_core::{Task, TaskId};
use goflow_proto::v1;
use time::OffsetDateTime;

use super::convert;
use crate::fuzzing::Refused;
use crate::trace::Trace;

/// A `PushTask`.
pub fn push(request: v1::PushTaskRequest) -> Result<Task, Refused> {
    Ok(convert::task(request, &Trace::default())?)
}

/// One task of a `PushTasks`.
pub fn push_of_batch(request: v1::PushTaskRequest) -> Result<Task, Refused> {
    Ok(convert::task_of_batch(request, &Trace::default())?)
}

/// A `ListTasks`.
pub fn list(request: v1::ListTasksRequest) -> Result<(Filter, PageRequest), Refused> {
    Ok(convert::list(request)?)
}

/// A `CancelTasks` or `RetryTasks`.
pub fn change(filter: Option<v1::Filter>, limit: u32) -> Result<(Filter, usize), Refused> {
    Ok(convert::filter(filter, limit)?)
}

/// The tasks of a `WatchTasks`.
pub fn watch(request: v1::WatchTasksRequest) -> Result<Vec<TaskId>, Refused> {
    Ok(convert::watch(request)?.0)
}

/// A `ListDead`.
pub fn since(request: &v1::ListDeadRequest) -> Result<Option<OffsetDateTime>, Refused> {
    Ok(convert::since(request)?)
}

/// The timeout of a `WaitResult`.
pub fn timeout(timeout: &goflow_proto::Span) -> Result<Duration, Refused> {
    Ok(convert::duration("timeout", timeout)?)
}

/// The number of a `CommandWorker`.
pub fn command(number: i32) -> Result<(), Refused> {
    convert::command(number)?;
    Ok(())
}
