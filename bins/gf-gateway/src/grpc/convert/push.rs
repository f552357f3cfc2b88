//! What a push says.

use bytes::Bytes;
use goflow_core::{Backoff, Content, Task, Unique, content};
use goflow_proto::v1;
use goflow_proto::v1::OnConflict;
use goflow_proto::v1::push_task_request::{Deadline, Start};
use serde_json::value::RawValue;

use super::{duration, invalid, moment};
use crate::json::push::{backoff_list, check_depth, check_size, exponential, priority};
use crate::problem::{Code, Problem};
use crate::trace::Trace;

/// A push of its own.
pub(in crate::grpc) fn task(
    mut request: v1::PushTaskRequest,
    trace: &Trace,
) -> Result<Task, Problem> {
    let key = std::mem::take(&mut request.idempotency_key);
    let task = task_of_batch(request, trace)?;
    Ok(if key.is_empty() {
        task
    } else {
        task.idempotency_key(key)
    })
}

/// A push among others.
pub(in crate::grpc) fn task_of_batch(
    request: v1::PushTaskRequest,
    trace: &Trace,
) -> Result<Task, Problem> {
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
    if let Some(number) = request.priority {
        task = task.priority(priority(number.into())?);
    }
    task = match &request.deadline {
        Some(Deadline::DeadlineAfter(after)) => task.deadline(goflow_core::Deadline::After(
            duration("deadline_after", after)?,
        )),
        Some(Deadline::DeadlineAt(time)) => {
            task.deadline(goflow_core::Deadline::At(moment("deadline_at", time)?))
        }
        None => task,
    };
    if let Some(kept) = request.unique {
        task = task.unique(unique(kept)?);
    }
    if let Some(retention) = &request.retention {
        task = task.retention(duration("retention", retention)?);
    }
    if let Some(timeout) = &request.heartbeat_timeout {
        task = task.heartbeat_timeout(duration("heartbeat_timeout", timeout)?);
    }
    if let Some((name, value)) = trace.header(request.headers.keys()) {
        task = task.header(name, value);
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

fn unique(unique: v1::Unique) -> Result<Unique, Problem> {
    let on_conflict = match OnConflict::try_from(unique.on_conflict) {
        Ok(OnConflict::Unspecified | OnConflict::Existing) => goflow_core::OnConflict::Existing,
        Ok(OnConflict::Reject) => goflow_core::OnConflict::Reject,
        Err(_) => {
            let number = unique.on_conflict;
            return Err(invalid(format!(
                "unique: on_conflict is {number}, which means nothing"
            )));
        }
    };
    let period = unique.period.as_ref();
    Ok(Unique {
        key: unique.key,
        period: period
            .map(|period| duration("unique", period))
            .transpose()?,
        on_conflict,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

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
            task(request, &Trace::default()).map(|_| ())
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
        assert!(named(|request| request.priority = Some(0)).is_ok());
        assert!(named(|request| request.priority = Some(4)).is_err());
        assert!(
            named(|request| request.unique = Some(v1::Unique {
                key: "k".to_owned(),
                on_conflict: 7,
                ..Default::default()
            }))
            .is_err()
        );
        // Year -1: no text holds it.
        assert!(
            named(
                |request| request.deadline = Some(Deadline::DeadlineAt(goflow_proto::Moment {
                    seconds: -62_200_000_000,
                    nanos: 0
                }))
            )
            .is_err()
        );
    }
}
