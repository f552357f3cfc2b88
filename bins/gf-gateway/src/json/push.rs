//! The body of a push.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use goflow_core::limits::{MAX_BATCH, MAX_CONTENT_BYTES};
use goflow_core::{Backoff, Content, Task, content};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use crate::json::span::{Moment, Span};
use crate::json::task::is_text;
use crate::json::text;
use crate::problem::{Code, Problem};

/// Most waits of a backoff that lists them.
pub(crate) const MAX_BACKOFF_LIST: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PushBody<'a> {
    #[serde(rename = "type", borrow)]
    task_type: Cow<'a, str>,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
    content_type: Option<String>,
    queue: Option<String>,
    delay: Option<Span>,
    run_at: Option<Moment>,
    max_attempts: Option<u32>,
    backoff: Option<BackoffBody>,
    timeout: Option<Span>,
    headers: Option<BTreeMap<String, String>>,
    tags: Option<BTreeMap<String, String>>,
    priority: Option<IgnoredAny>,
    deadline: Option<IgnoredAny>,
    unique: Option<IgnoredAny>,
    retention: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum BackoffBody {
    Fixed(Span),
    Exponential {
        first: Option<Span>,
        most: Option<Span>,
    },
    List(Vec<Span>),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchBody<'a> {
    #[serde(borrow)]
    tasks: Vec<PushBody<'a>>,
}

/// Reads the body of `POST /v1/tasks`.
pub(crate) fn one(body: &[u8]) -> Result<Task, Problem> {
    parse::<PushBody<'_>>(body)?.into_task()
}

/// Reads the body of `POST /v1/tasks/batch`.
pub(crate) fn many(body: &[u8]) -> Result<Vec<Task>, Problem> {
    let tasks = parse::<BatchBody<'_>>(body)?.tasks;
    check_batch(tasks.len())?;
    let each = tasks.into_iter().enumerate();
    each.map(|(at, task)| {
        task.into_task()
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

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let wrong = |detail: String| Problem::new(Code::InvalidBody, detail);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        match error.path().to_string() {
            path if path == "." => wrong(error.inner().to_string()),
            path => wrong(format!("{path}: {}", error.inner())),
        }
    })?;
    json.end().map_err(|error| wrong(error.to_string()))?;
    Ok(value)
}

impl PushBody<'_> {
    fn into_task(self) -> Result<Task, Problem> {
        self.refuse_later_fields()?;
        let payload = payload(self.payload, self.content_type)?;
        check_size(&payload)?;
        let mut task = Task::new(&self.task_type, payload)?;
        if let Some(queue) = self.queue {
            task = task.queue(queue)?;
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
        let task = self
            .headers
            .into_iter()
            .flatten()
            .fold(task, |task, (name, value)| task.header(name, value));
        Ok(self
            .tags
            .into_iter()
            .flatten()
            .fold(task, |task, (name, value)| task.tag(name, value)))
    }

    fn refuse_later_fields(&self) -> Result<(), Problem> {
        let later = [
            ("priority", &self.priority),
            ("deadline", &self.deadline),
            ("unique", &self.unique),
            ("retention", &self.retention),
        ];
        match later.into_iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(Problem::new(
                Code::NotSupported,
                format!("{name} is not supported yet"),
            )),
            None => Ok(()),
        }
    }
}

impl BackoffBody {
    fn into_backoff(self) -> Result<Backoff, Problem> {
        Ok(match self {
            Self::Fixed(Span(wait)) => Backoff::Fixed(wait),
            Self::Exponential { first, most } => exponential(first.map(|s| s.0), most.map(|s| s.0)),
            Self::List(waits) => backoff_list(waits.into_iter().map(|Span(wait)| wait).collect())?,
        })
    }
}

/// An exponential backoff whose missing parts are those of the default.
pub(crate) fn exponential(first: Option<Duration>, most: Option<Duration>) -> Backoff {
    let first = first.unwrap_or(Duration::from_secs(1));
    Backoff::Exponential {
        first,
        most: most.unwrap_or(Duration::from_secs(600)).max(first),
    }
}

/// A backoff that lists its waits, of a length that a message can bear.
pub(crate) fn backoff_list(waits: Vec<Duration>) -> Result<Backoff, Problem> {
    if waits.is_empty() || waits.len() > MAX_BACKOFF_LIST {
        return Err(invalid(format!(
            "backoff: list has {} waits, use 1 to {MAX_BACKOFF_LIST}",
            waits.len()
        )));
    }
    Ok(Backoff::List(waits))
}

/// The payload, its bytes exactly as they stand in the body.
fn payload(raw: Option<&RawValue>, content_type: Option<String>) -> Result<Content, Problem> {
    let json = raw.map_or("null", RawValue::get);
    let content_type = content_type.unwrap_or_else(|| content::JSON.to_owned());
    let content = Content::new(Bytes::new(), content_type);
    if content.is_json() {
        check_depth(json)?;
        return Ok(Content {
            bytes: Bytes::copy_from_slice(json.as_bytes()),
            ..content
        });
    }
    let as_string = || serde_json::from_str::<String>(json).ok();
    if is_text(&content.content_type) {
        let text = as_string().ok_or_else(|| invalid("payload: text goes into a JSON string"))?;
        return Ok(Content {
            bytes: text.into(),
            ..content
        });
    }
    let decoded = as_string().and_then(|text| BASE64_STANDARD.decode(text).ok());
    let bytes = decoded.ok_or_else(|| {
        invalid("payload: content that is neither JSON nor text goes into a string of base64")
    })?;
    Ok(Content {
        bytes: bytes.into(),
        ..content
    })
}

/// Refuses a payload that is too large, alone and in a batch alike.
pub(crate) fn check_size(payload: &Content) -> Result<(), Problem> {
    match payload.len() {
        0..=MAX_CONTENT_BYTES => Ok(()),
        bytes => Err(Problem::new(
            Code::TooLarge,
            format!("payload of {bytes} bytes, {MAX_CONTENT_BYTES} is the most"),
        )),
    }
}

/// Refuses JSON that is nested deeper than readers take.
pub(crate) fn check_depth(json: &str) -> Result<(), Problem> {
    if text::depth(json) > text::MAX_DEPTH {
        let detail = format!("payload: nested deeper than {} levels", text::MAX_DEPTH);
        return Err(Problem::new(Code::InvalidBody, detail));
    }
    Ok(())
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Invalid, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(body: &str) -> String {
        let problem = one(body.as_bytes()).expect_err(body);
        String::from_utf8(problem.body()).unwrap()
    }

    #[test]
    fn payload_bytes_stay_as_they_are() {
        let payload = r#"{ "N":10, "big": 12345678901234567890123.0e400,  "N":11 }"#;
        let body = format!(r#"{{"payload":{payload},"type":"echo"}}"#);
        let content = super::payload(
            parse::<PushBody<'_>>(body.as_bytes()).unwrap().payload,
            None,
        )
        .unwrap();
        assert_eq!(content.bytes, payload.as_bytes());
        let content = super::payload(
            parse::<PushBody<'_>>(br#"{"type":"echo"}"#)
                .unwrap()
                .payload,
            None,
        )
        .unwrap();
        assert_eq!(content.bytes, "null");
    }

    #[test]
    fn other_contents_travel_in_strings() {
        let raw: &RawValue = serde_json::from_str(r#""aGk\u003d""#).unwrap();
        assert_eq!(
            super::payload(Some(raw), Some("image/png".into()))
                .unwrap()
                .bytes,
            "hi"
        );
        assert_eq!(
            super::payload(Some(raw), Some("text/plain".into()))
                .unwrap()
                .bytes,
            "aGk="
        );
        let raw: &RawValue = serde_json::from_str("[1]").unwrap();
        assert!(super::payload(Some(raw), Some("image/png".into())).is_err());
        assert!(super::payload(Some(raw), Some("text/plain".into())).is_err());
    }

    #[test]
    fn every_option_is_taken() {
        let body = br#"{"type":"t","queue":"q","delay":"10s","max_attempts":7,"timeout":2.5,"payload":[1],
            "backoff":{"exponential":{"first":"1s","most":"10m"}},"headers":{"a":"b"},"tags":{"c":"d"}}"#;
        one(body).unwrap();
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
            (
                r#"{"type":"t","priority":1}"#,
                "priority is not supported yet",
            ),
            (
                r#"{"type":"t","unique":{"a":1}}"#,
                "unique is not supported yet",
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
