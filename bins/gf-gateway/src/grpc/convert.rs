//! Between protobuf messages and the types of the engine: the one mapping of the gRPC surface.

use std::time::Duration;

use bytes::Bytes;
use goflow_core::record::{FailedAttempt, Filter, MAX_PAGE, PageRequest};
use goflow_core::{Backoff, Content, State, Task, TaskId, TaskRecord, content};
use goflow_proto::v1;
use goflow_proto::v1::push_task_request::Start;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::app::task_id;
use crate::finished::Wanted;
use crate::json::push::{backoff_list, check_depth, check_size, exponential};
use crate::problem::{Code, Problem};

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Invalid, detail)
}

pub(super) fn duration(field: &str, duration: &goflow_proto::Span) -> Result<Duration, Problem> {
    goflow_proto::duration_from(duration).map_err(|error| invalid(format!("{field}: {error}")))
}

fn moment(field: &str, moment: &goflow_proto::Moment) -> Result<OffsetDateTime, Problem> {
    let nanos = goflow_proto::timestamp_from(moment)
        .map_err(|error| invalid(format!("{field}: {error}")))?;
    OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .map_err(|error| invalid(format!("{field}: {error}")))
}

/// A push of its own.
pub(super) fn task(mut request: v1::PushTaskRequest) -> Result<Task, Problem> {
    let key = std::mem::take(&mut request.idempotency_key);
    let task = task_of_batch(request)?;
    if key.is_empty() {
        return Ok(task);
    }
    Ok(task.idempotency_key(key))
}

/// A push among others.
pub(super) fn task_of_batch(request: v1::PushTaskRequest) -> Result<Task, Problem> {
    if !request.idempotency_key.is_empty() {
        return Err(Problem::new(
            Code::NotSupported,
            "idempotency_key is for single pushes, not for batches",
        ));
    }
    let mut task = Task::new(&request.r#type, payload(request.payload)?)?;
    if !request.queue.is_empty() {
        task = task.queue(request.queue)?;
    }
    task = match &request.start {
        Some(Start::Delay(delay)) => task.delay(duration("delay", delay)?),
        Some(Start::RunAt(time)) => task.run_at(moment("run_at", time)?),
        None => task,
    };
    if request.max_attempts > 0 {
        task = task.max_attempts(request.max_attempts);
    }
    if let Some(kind) = request.backoff.and_then(|backoff| backoff.kind) {
        task = task.backoff(backoff(kind)?);
    }
    if let Some(timeout) = &request.timeout {
        task = task.timeout(duration("timeout", timeout)?);
    }
    let task = request
        .headers
        .into_iter()
        .fold(task, |task, (name, value)| task.header(name, value));
    Ok(request
        .tags
        .into_iter()
        .fold(task, |task, (name, value)| task.tag(name, value)))
}

fn payload(payload: Option<v1::Content>) -> Result<Content, Problem> {
    let v1::Content { data, content_type } = payload.unwrap_or_default();
    if data.is_empty() && content_type.is_empty() {
        return Ok(Content::new(Bytes::from_static(b"null"), content::JSON));
    }
    let content_type = if content_type.is_empty() {
        content::JSON.to_owned()
    } else {
        content_type
    };
    let content = Content::new(data, content_type);
    check_size(&content)?;
    if content.is_json() {
        let json: &RawValue = serde_json::from_slice(&content.bytes).map_err(|error| {
            Problem::new(
                Code::InvalidBody,
                format!("payload: not the JSON it claims to be: {error}"),
            )
        })?;
        check_depth(json.get())?;
    }
    Ok(content)
}

fn backoff(kind: v1::backoff::Kind) -> Result<Backoff, Problem> {
    use v1::backoff::Kind;
    let wait = |wait: &goflow_proto::Span| duration("backoff", wait);
    Ok(match kind {
        Kind::Fixed(fixed) => Backoff::Fixed(wait(&fixed)?),
        Kind::Exponential(v1::backoff::Exponential { first, most }) => exponential(
            first.as_ref().map(wait).transpose()?,
            most.as_ref().map(wait).transpose()?,
        ),
        Kind::List(list) => backoff_list(list.waits.iter().map(wait).collect::<Result<_, _>>()?)?,
    })
}

/// The filter and page of a list.
pub(super) fn list(request: v1::ListTasksRequest) -> Result<(Filter, PageRequest), Problem> {
    let v1::ListTasksRequest {
        states,
        r#type,
        queue,
        since,
        until,
        limit,
        cursor,
    } = request;
    let Wanted {
        states,
        task_type,
        queue,
    } = wanted(&states, &r#type, &queue)?;
    let since = since
        .as_ref()
        .map(|time| moment("since", time))
        .transpose()?;
    let until = until
        .as_ref()
        .map(|time| moment("until", time))
        .transpose()?;
    let filter = Filter {
        states,
        task_type,
        queue,
        since,
        until,
        ..Filter::default()
    };
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
        content_type: content.content_type,
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
    let spec = record.spec;
    v1::Task {
        id: spec.id.to_string(),
        r#type: spec.task_type.into(),
        namespace: spec.namespace.into(),
        queue: spec.queue.into(),
        state: state(record.state) as i32,
        attempt: record.attempt,
        max_attempts: spec.max_attempts,
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

    #[test]
    fn a_payload_is_what_it_says() {
        assert_eq!(payload(None).unwrap().bytes, "null");
        let given = |data: &'static str, content_type: &str| {
            payload(Some(v1::Content {
                data: data.into(),
                content_type: content_type.to_owned(),
            }))
        };
        assert_eq!(
            given("{\"N\":10}", "").unwrap(),
            Content::new("{\"N\":10}", "application/json")
        );
        assert_eq!(
            given("", "image/png").unwrap(),
            Content::new("", "image/png")
        );
        assert!(given("{", "").is_err());
        assert!(given("", "application/json").is_err());
    }

    #[test]
    fn mistakes_are_refused() {
        let named = |change: fn(&mut v1::PushTaskRequest)| {
            let mut request = v1::PushTaskRequest {
                r#type: "echo".to_owned(),
                ..Default::default()
            };
            change(&mut request);
            task(request).map(|_| ())
        };
        assert!(named(|_| {}).is_ok());
        assert!(named(|request| request.r#type.clear()).is_err());
        assert!(named(|request| request.queue = "a.>".to_owned()).is_err());
        assert!(
            named(|request| request.timeout = Some(goflow_proto::Span {
                seconds: -1,
                nanos: 0
            }))
            .is_err()
        );
        assert!(
            named(
                |request| request.start = Some(Start::RunAt(goflow_proto::Moment {
                    seconds: i64::MAX,
                    nanos: 0
                }))
            )
            .is_err()
        );
    }
}
