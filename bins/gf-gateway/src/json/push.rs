//! The body of a push.

use std::borrow::Cow;
use std::collections::BTreeMap;

use goflow_core::limits::MAX_BATCH;
use goflow_core::{Priority, Task};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::json::parse;
use crate::json::span::{Moment, Span, Until};
use crate::problem::{Code, Problem};
use crate::trace::Trace;

mod backoff;
mod payload;
mod unique;

use backoff::BackoffBody;
pub(crate) use backoff::{backoff_list, exponential};
use payload::payload;
pub(crate) use payload::{check_depth, check_size};
use unique::UniqueBody;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushBody<'a> {
    #[serde(rename = "type", borrow)]
    task_type: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    content_type: Option<String>,
    queue: Option<String>,
    priority: Option<i64>,
    delay: Option<Span>,
    run_at: Option<Moment>,
    max_attempts: Option<u32>,
    backoff: Option<BackoffBody>,
    timeout: Option<Span>,
    deadline: Option<Until>,
    unique: Option<UniqueBody>,
    retention: Option<Span>,
    heartbeat_timeout: Option<Span>,
    headers: Option<BTreeMap<String, String>>,
    tags: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody<'a> {
    #[serde(borrow)]
    tasks: Vec<PushBody<'a>>,
}

/// Reads the body of `POST /v1/tasks`.
pub(crate) fn one(body: &[u8], trace: &Trace) -> Result<Task, Problem> {
    parse::<PushBody<'_>>(body)?.into_task(trace)
}

/// Reads the body of `POST /v1/tasks/batch`.
pub(crate) fn many(body: &[u8], trace: &Trace) -> Result<Vec<Task>, Problem> {
    let tasks = parse::<BatchBody<'_>>(body)?.tasks;
    check_batch(tasks.len())?;
    let each = tasks.into_iter().enumerate();
    each.map(|(at, task)| {
        task.into_task(trace)
            .map_err(|problem| problem.within(format_args!("tasks[{at}]")))
    })
    .collect()
}

/// Refuses a batch that is empty or too long.
pub(crate) fn check_batch(tasks: usize) -> Result<(), Problem> {
    match tasks {
        0 => Err(Problem::new(Code::Invalid, "tasks is empty")),
        1..=MAX_BATCH => Ok(()),
        _ => Err(Problem::new(
            Code::TooLarge,
            format!("{tasks} tasks, {MAX_BATCH} is the most"),
        )),
    }
}

/// A priority, as both surfaces give it.
pub(crate) fn priority(number: i64) -> Result<Priority, Problem> {
    let known = u8::try_from(number).ok();
    let known = known.and_then(|number| Priority::try_from(number).ok());
    known.ok_or_else(|| {
        invalid(format!(
            "priority is {number}, use 0 to 3 (3 is the most urgent)"
        ))
    })
}

impl PushBody<'_> {
    fn into_task(self, trace: &Trace) -> Result<Task, Problem> {
        let payload = payload(self.payload, self.content_type)?;
        check_size(&payload)?;
        let mut task = Task::new(&self.task_type, payload)?;
        if let Some(queue) = self.queue {
            task = task.queue(queue)?;
        }
        if let Some(number) = self.priority {
            task = task.priority(priority(number)?);
        }
        task = match (self.delay, self.run_at) {
            (Some(_), Some(_)) => return Err(invalid("delay and run_at exclude each other")),
            (Some(Span(delay)), None) => task.delay(delay),
            (None, Some(Moment(time))) => task.run_at(time),
            (None, None) => task,
        };
        match self.max_attempts {
            Some(0) => return Err(invalid("max_attempts is 0, use 1 or more")),
            Some(attempts) => task = task.max_attempts(attempts),
            None => {}
        }
        if let Some(backoff) = self.backoff {
            task = task.backoff(backoff.into_backoff()?);
        }
        if let Some(Span(timeout)) = self.timeout {
            task = task.timeout(timeout);
        }
        if let Some(Until(deadline)) = self.deadline {
            task = task.deadline(deadline);
        }
        if let Some(unique) = self.unique {
            task = task.unique(unique.into());
        }
        if let Some(Span(retention)) = self.retention {
            task = task.retention(retention);
        }
        if let Some(Span(timeout)) = self.heartbeat_timeout {
            task = task.heartbeat_timeout(timeout);
        }
        let headers = self.headers.unwrap_or_default();
        if let Some((name, value)) = trace.header(headers.keys()) {
            task = task.header(name, value);
        }
        let task = headers
            .into_iter()
            .fold(task, |task, (name, value)| task.header(name, value));
        Ok(self
            .tags
            .into_iter()
            .flatten()
            .fold(task, |task, (name, value)| task.tag(name, value)))
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Invalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &[u8]) -> Result<Task, Problem> {
        super::one(body, &Trace::default())
    }

    fn many(body: &[u8]) -> Result<Vec<Task>, Problem> {
        super::many(body, &Trace::default())
    }

    fn refused(body: &str) -> String {
        let problem = one(body.as_bytes()).expect_err(body);
        String::from_utf8(problem.body()).unwrap()
    }

    #[test]
    fn every_option_is_taken() {
        let body = br#"{"type":"t","queue":"q","delay":"10s","max_attempts":7,"timeout":2.5,"payload":[1],
            "backoff":{"exponential":{"first":"1s","most":"10m"}},"headers":{"a":"b"},"tags":{"c":"d"},
            "priority":3,"deadline":"10m","retention":"2d","heartbeat_timeout":30,
            "unique":{"key":"k","period":"1h","on_conflict":"reject"}}"#;
        one(body).unwrap();
        for deadline in ["60", "2.5", "\"10m\"", "\"2030-01-01T00:00:00Z\""] {
            one(format!(r#"{{"type":"t","deadline":{deadline}}}"#).as_bytes()).unwrap();
        }
        for backoff in [
            r#"{"fixed":"5s"}"#,
            r#"{"list":["1s",5]}"#,
            r#"{"exponential":{}}"#,
        ] {
            one(
                format!(r#"{{"type":"t","backoff":{backoff},"run_at":"2030-01-01T00:00:00Z"}}"#)
                    .as_bytes(),
            )
            .unwrap();
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (body, named) in [
            (r#"{"type":"t","colour":"red"}"#, "colour"),
            (r#"{"type":"t","priority":4}"#, "priority is 4, use 0 to 3"),
            (r#"{"type":"t","priority":-1}"#, "priority is -1"),
            (r#"{"type":"t","priority":"high"}"#, "priority"),
            (r#"{"type":"t","unique":"k"}"#, "unique"),
            (r#"{"type":"t","unique":{"period":"1h"}}"#, "key"),
            (
                r#"{"type":"t","unique":{"key":"k","on_conflict":"replace"}}"#,
                "on_conflict",
            ),
            (r#"{"type":"t","deadline":"soon"}"#, "deadline"),
            (r#"{"type":"t","deadline":-1}"#, "deadline"),
            (r#"{"type":"t","retention":"long"}"#, "retention"),
            (
                r#"{"type":"t","heartbeat_timeout":[]}"#,
                "heartbeat_timeout",
            ),
            (r#"{"type":"t","delay":"soon"}"#, "delay"),
            (r#"{"type":"t","max_attempts":-1}"#, "max_attempts"),
            (r#"{"type":"t","max_attempts":0}"#, "max_attempts"),
            (r#"{"type":"t","tags":["a"]}"#, "tags"),
            (r#"{"type":"t","headers":{"a":1}}"#, "headers.a"),
            (r#"{"type":"t","backoff":{"list":[]}}"#, "backoff"),
            (r#"{"type":"t","backoff":"fast"}"#, "backoff"),
            (
                r#"{"type":"t","delay":1,"run_at":"2030-01-01T00:00:00Z"}"#,
                "delay and run_at",
            ),
            (r#"{"type":"a.b"}"#, "invalid_name"),
            (r#"{"payload":1}"#, "type"),
            (r#"{"type":"t"} trailing"#, "trailing"),
            (r#"{"type":"t","type":"u"}"#, "duplicate field"),
            ("[]", "invalid_body"),
            ("", "invalid_body"),
        ] {
            let problem = refused(body);
            assert!(problem.contains(named), "{body}: {problem}");
        }
    }

    #[test]
    fn deep_json_is_refused() {
        let deep = |levels| "[".repeat(levels) + &"]".repeat(levels);
        one(format!(r#"{{"type":"t","payload":{}}}"#, deep(128)).as_bytes()).unwrap();
        assert!(
            refused(&format!(r#"{{"type":"t","payload":{}}}"#, deep(10_000))).contains("nested")
        );
        refused(&format!(r#"{{"type":{}}}"#, deep(10_000)));
        refused(&deep(10_000));
    }

    #[test]
    fn batches_name_the_task_at_fault() {
        assert_eq!(
            many(br#"{"tasks":[{"type":"a"},{"type":"b"}]}"#)
                .unwrap()
                .len(),
            2
        );
        let problem = many(br#"{"tasks":[{"type":"a"},{"type":"b c"}]}"#).unwrap_err();
        assert!(
            String::from_utf8(problem.body())
                .unwrap()
                .contains("tasks[1]")
        );
        assert!(many(br#"{"tasks":[]}"#).is_err());
    }
}
