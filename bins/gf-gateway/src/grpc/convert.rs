//! Between protobuf messages and the types of the engine: the one mapping of the gRPC surface.

use std::sync::Arc;
use std::time::Duration;

use goflow_core::record::{FailedAttempt, Filter, MAX_PAGE, PageRequest};
use goflow_core::{Content, Deadline, State, TaskId, TaskRecord};
use goflow_proto::v1;
use time::OffsetDateTime;

use crate::app::task_id;
use crate::finished::Wanted;
use crate::problem::{Code, Problem};

mod operate;
mod push;
mod status;

pub(super) use operate::{bulk, command, dead, filter, since};
pub(super) use push::{task, task_of_batch};
pub(super) use status::{queue, worker};

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Invalid, detail)
}

pub(super) fn duration(field: &str, duration: &goflow_proto::Span) -> Result<Duration, Problem> {
    goflow_proto::duration_from(duration).map_err(|error| invalid(format!("{field}: {error}")))
}

fn moment(field: &str, moment: &goflow_proto::Moment) -> Result<OffsetDateTime, Problem> {
    let nanos = goflow_proto::timestamp_from(moment)
        .map_err(|error| invalid(format!("{field}: {error}")))?;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .map_err(|error| invalid(format!("{field}: {error}")))?;
    // What RFC 3339 cannot tell could be neither stored nor shown.
    if !(0..=9999).contains(&time.year()) {
        return Err(invalid(format!("{field}: time out of range")));
    }
    Ok(time)
}

/// The filter and page of a list.
pub(super) fn list(request: v1::ListTasksRequest) -> Result<(Filter, PageRequest), Problem> {
    let v1::ListTasksRequest {
        filter,
        limit,
        cursor,
    } = request;
    let filter = passing(filter.unwrap_or_default())?;
    let mut page = PageRequest::default();
    if !cursor.is_empty() {
        let before = cursor
            .parse()
            .map_err(|_| invalid("cursor: not from a page of this list"))?;
        page.before = Some(before);
    }
    if limit > 0 {
        let known = usize::try_from(limit)
            .ok()
            .filter(|limit| *limit <= MAX_PAGE);
        page.limit = known.ok_or_else(|| invalid(format!("limit: use 1 to {MAX_PAGE}")))?;
    }
    Ok((filter, page))
}

/// A filter, which may let everything pass.
fn passing(filter: v1::Filter) -> Result<Filter, Problem> {
    let Wanted {
        states,
        task_type,
        queue,
    } = wanted(&filter.states, &filter.r#type, &filter.queue)?;
    let time = |field, time: Option<&goflow_proto::Moment>| {
        time.map(|time| moment(field, time)).transpose()
    };
    Ok(Filter {
        states,
        task_type,
        queue,
        since: time("since", filter.since.as_ref())?,
        until: time("until", filter.until.as_ref())?,
        ..Filter::default()
    })
}

/// What a watcher wants to see.
pub(super) fn watch(request: v1::WatchTasksRequest) -> Result<(Vec<TaskId>, Wanted), Problem> {
    let mut ids = request
        .ids
        .iter()
        .map(|id| task_id(id))
        .collect::<Result<Vec<_>, _>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok((
        ids,
        wanted(&request.states, &request.r#type, &request.queue)?,
    ))
}

fn wanted(states: &[i32], task_type: &str, queue: &str) -> Result<Wanted, Problem> {
    let states = states
        .iter()
        .map(|state| state_from(*state))
        .collect::<Result<_, _>>()?;
    let task_type = if task_type.is_empty() {
        None
    } else {
        Some(task_type.parse()?)
    };
    let queue = if queue.is_empty() {
        None
    } else {
        Some(queue.parse()?)
    };
    Ok(Wanted {
        states,
        task_type,
        queue,
    })
}

fn state_from(state: i32) -> Result<State, Problem> {
    let known = State::ALL
        .into_iter()
        .find(|known| self::state(*known) as i32 == state);
    known.ok_or_else(|| invalid(format!("states: {state} is no state")))
}

fn state(state: State) -> v1::State {
    match state {
        State::Scheduled => v1::State::Scheduled,
        State::Queued => v1::State::Queued,
        State::Running => v1::State::Running,
        State::Retrying => v1::State::Retrying,
        State::Succeeded => v1::State::Succeeded,
        State::Failed => v1::State::Failed,
        State::Cancelled => v1::State::Cancelled,
        State::Crashed => v1::State::Crashed,
        State::Expired => v1::State::Expired,
    }
}

fn content(content: Content) -> v1::Content {
    v1::Content {
        data: content.bytes,
        content_type: content.content_type.into_owned(),
    }
}

fn timestamp(time: OffsetDateTime) -> goflow_proto::Moment {
    goflow_proto::timestamp(time.unix_timestamp_nanos())
}

/// A task's end, or how far it is.
pub(super) fn result(record: TaskRecord) -> v1::TaskResult {
    v1::TaskResult {
        id: record.spec.id.to_string(),
        state: state(record.state) as i32,
        result: record.result.map(content),
        error: record.error,
    }
}

/// A task.
pub(super) fn record(record: TaskRecord) -> v1::Task {
    let spec = Arc::unwrap_or_clone(record.spec);
    let deadline = spec.deadline.map(|deadline| match deadline {
        Deadline::After(after) => v1::task::Deadline::DeadlineAfter(goflow_proto::duration(after)),
        Deadline::At(time) => v1::task::Deadline::DeadlineAt(timestamp(time)),
    });
    v1::Task {
        id: spec.id.to_string(),
        r#type: spec.task_type.into(),
        namespace: spec.namespace.into(),
        queue: spec.queue.into(),
        state: state(record.state) as i32,
        attempt: record.attempt,
        max_attempts: record.max_attempts,
        payload: (!record.payload_omitted).then(|| content(spec.payload)),
        result: record
            .result
            .filter(|_| !record.result_omitted)
            .map(content),
        error: record.error,
        attempts: record.attempts.into_iter().map(attempt).collect(),
        worker: record.worker.map(|worker| worker.to_string()),
        crashes: record.crashes,
        unserved: record.unserved,
        tags: spec.tags.into_iter().collect(),
        headers: spec.headers.into_iter().collect(),
        due_at: record.due_at.map(timestamp),
        created_at: Some(timestamp(spec.id.created_at())),
        started_at: record.started_at.map(timestamp),
        finished_at: record.finished_at.map(timestamp),
        payload_omitted: record.payload_omitted,
        result_omitted: record.result_omitted,
        priority: spec.priority.get().into(),
        progress: record.progress,
        deadline,
        retry_of: spec.retry_of.map(|id| id.to_string()),
        unique_key: spec.unique.map(|unique| unique.key),
    }
}

fn attempt(failed: FailedAttempt) -> v1::FailedAttempt {
    v1::FailedAttempt {
        attempt: failed.attempt,
        error: failed.error,
        worker: failed.worker.map(|worker| worker.to_string()),
        started_at: failed.started_at.map(timestamp),
        finished_at: Some(timestamp(failed.finished_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_go_both_ways() {
        for known in State::ALL {
            assert_eq!(state_from(state(known) as i32).ok(), Some(known));
        }
        for unknown in [0, -1, 10] {
            assert!(state_from(unknown).is_err());
        }
    }
}
