//! A task as JSON: the one mapping of its record.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use goflow_core::record::{FailedAttempt, MAX_LISTED_CONTENT, Page};
use goflow_core::{Content, Deadline, TaskRecord};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Whether content of this type is shown as a JSON string.
pub(crate) fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/")
}

#[derive(Serialize)]
struct TaskJson<'a> {
    id: String,
    r#type: &'a str,
    namespace: &'a str,
    queue: &'a str,
    priority: u8,
    state: &'a str,
    /// What the handler last reported, while it runs.
    progress: Option<Progress<'a>>,
    attempt: u32,
    max_attempts: u32,
    payload: Option<Shown<'a>>,
    content_type: &'a str,
    result: Option<Shown<'a>>,
    result_content_type: Option<&'a str>,
    error: Option<&'a str>,
    attempts: Vec<AttemptJson<'a>>,
    worker: Option<String>,
    crashes: u32,
    unserved: bool,
    tags: &'a BTreeMap<String, String>,
    headers: &'a BTreeMap<String, String>,
    unique_key: Option<&'a str>,
    retry_of: Option<String>,
    /// As the push said it: a duration after it was accepted, or a time.
    deadline: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    due_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    created_at: OffsetDateTime,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339::option")]
    finished_at: Option<OffsetDateTime>,
    /// Only in lists and events: whether the payload is there but too large for them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    payload_omitted: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    result_omitted: bool,
}

#[derive(Serialize)]
struct AttemptJson<'a> {
    attempt: u32,
    error: &'a str,
    worker: Option<String>,
    #[serde(with = "time::serde::rfc3339::option")]
    started_at: Option<OffsetDateTime>,
    #[serde(with = "time::serde::rfc3339")]
    finished_at: OffsetDateTime,
}

impl<'a> From<&'a TaskRecord> for TaskJson<'a> {
    fn from(record: &'a TaskRecord) -> Self {
        let spec = &record.spec;
        Self {
            id: spec.id.to_string(),
            r#type: spec.task_type.as_str(),
            namespace: spec.namespace.as_str(),
            queue: spec.queue.as_str(),
            priority: spec.priority.get(),
            state: record.state.as_str(),
            progress: record.progress.as_deref().map(Progress),
            attempt: record.attempt,
            max_attempts: record.max_attempts,
            payload: (!record.payload_omitted).then_some(Shown(&spec.payload)),
            content_type: &spec.payload.content_type,
            result: record
                .result
                .as_ref()
                .filter(|_| !record.result_omitted)
                .map(Shown),
            result_content_type: record.result.as_ref().map(|result| &*result.content_type),
            error: record.error.as_deref(),
            attempts: record.attempts.iter().map(AttemptJson::from).collect(),
            worker: record.worker.map(|worker| worker.to_string()),
            crashes: record.crashes,
            unserved: record.unserved,
            tags: &spec.tags,
            headers: &spec.headers,
            unique_key: spec.unique.as_ref().map(|unique| unique.key.as_str()),
            retry_of: spec.retry_of.map(|id| id.to_string()),
            deadline: spec.deadline.and_then(deadline),
            due_at: record.due_at,
            created_at: spec.id.created_at(),
            started_at: record.started_at,
            finished_at: record.finished_at,
            payload_omitted: record.payload_omitted,
            result_omitted: record.result_omitted,
        }
    }
}

impl<'a> From<&'a FailedAttempt> for AttemptJson<'a> {
    fn from(failed: &'a FailedAttempt) -> Self {
        Self {
            attempt: failed.attempt,
            error: &failed.error,
            worker: failed.worker.map(|worker| worker.to_string()),
            started_at: failed.started_at,
            finished_at: failed.finished_at,
        }
    }
}

/// A deadline as a push may say it. Times that RFC 3339 cannot tell are not let in.
fn deadline(deadline: Deadline) -> Option<String> {
    match deadline {
        Deadline::After(duration) => Some(humantime::format_duration(duration).to_string()),
        Deadline::At(time) => time.format(&Rfc3339).ok(),
    }
}

/// What a handler reported: the JSON it is, or a string if a worker sent anything else.
struct Progress<'a>(&'a str);

impl Serialize for Progress<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_str::<&RawValue>(self.0) {
            Ok(json) => json.serialize(serializer),
            Err(_) => serializer.serialize_str(self.0),
        }
    }
}

/// Content as JSON shows it: JSON as it is, text as a string, anything else as a string of base64.
///
/// Nobody checked the bytes against their type, so what claims to be JSON and is not goes down the same
/// stairs: one odd result must not break the answer that holds it.
struct Shown<'a>(&'a Content);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let content = self.0;
        if content.is_json()
            && let Ok(json) = serde_json::from_slice::<&RawValue>(&content.bytes)
        {
            return json.serialize(serializer);
        }
        match std::str::from_utf8(&content.bytes) {
            Ok(text) if content.is_json() || is_text(&content.content_type) => {
                serializer.serialize_str(text)
            }
            _ => serializer.serialize_str(&BASE64_STANDARD.encode(&content.bytes)),
        }
    }
}

/// The task as JSON.
///
/// # Errors
/// None in practice: every part has a JSON form, but for times beyond the year 9999.
pub(crate) fn to_json(record: &TaskRecord) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&TaskJson::from(record))
}

/// The task as JSON to put into other JSON.
pub(crate) fn to_raw(record: &TaskRecord) -> Option<Box<RawValue>> {
    serde_json::value::to_raw_value(&TaskJson::from(record)).ok()
}

/// A page of tasks as JSON.
pub(crate) fn page_to_json(page: &Page) -> Result<Vec<u8>, serde_json::Error> {
    #[derive(Serialize)]
    struct PageJson<'a> {
        tasks: Vec<TaskJson<'a>>,
        next_cursor: Option<String>,
    }
    let tasks = page.tasks.iter().map(TaskJson::from).collect();
    serde_json::to_vec(&PageJson {
        tasks,
        next_cursor: page.next.map(|id| id.to_string()),
    })
}

/// The record with its large contents left out, as in lists.
pub(crate) fn without_large_contents(mut record: TaskRecord) -> TaskRecord {
    let large = |content: &Content| content.len() > MAX_LISTED_CONTENT;
    if large(&record.spec.payload) {
        Arc::make_mut(&mut record.spec).payload.bytes.clear();
        record.payload_omitted = true;
    }
    if let Some(result) = record.result.as_mut().filter(|result| large(result)) {
        result.bytes.clear();
        record.result_omitted = true;
    }
    record
}

#[cfg(test)]
mod tests {
    use goflow_core::{State, TaskId};

    use super::*;

    fn shown(content: &Content) -> String {
        serde_json::to_string(&Shown(content)).unwrap()
    }

    #[test]
    fn contents_are_shown_as_what_they_are() {
        assert_eq!(
            shown(&Content::new("{\"N\":10,\"x\": 1.00}", "application/json")),
            "{\"N\":10,\"x\": 1.00}"
        );
        assert_eq!(
            shown(&Content::new("1e999", "application/problem+json")),
            "1e999"
        );
        assert_eq!(
            shown(&Content::new("a \"b\" </script>", "text/plain")),
            r#""a \"b\" </script>""#
        );
        assert_eq!(shown(&Content::binary(&b"\xff\x00"[..])), "\"/wA=\"");
    }

    #[test]
    fn what_is_not_what_it_claims_breaks_nothing() {
        assert_eq!(
            shown(&Content::new("{not json", "application/json")),
            "\"{not json\""
        );
        assert_eq!(shown(&Content::new("1 2", "application/json")), "\"1 2\"");
        assert_eq!(shown(&Content::new("", "application/json")), "\"\"");
        assert_eq!(
            shown(&Content::new(&b"\"\xff\""[..], "application/json")),
            "\"Iv8i\""
        );
        assert_eq!(shown(&Content::new(&b"\xff"[..], "text/plain")), "\"/w==\"");
    }

    /// A record as a store would give it.
    fn record() -> TaskRecord {
        let time = time::macros::datetime!(2030-01-31 12:00:00.25 UTC);
        let id: TaskId = "01890000-0000-7000-8000-000000000001".parse().unwrap();
        let payload = Content::new("{\"N\":10}", "application/json");
        let mut spec = goflow_core::TaskSpec {
            id,
            namespace: goflow_core::Namespace::default(),
            queue: goflow_core::QueueName::default(),
            task_type: goflow_core::TaskType::new("add").unwrap(),
            payload,
            headers: BTreeMap::new(),
            tags: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            max_attempts: 3,
            backoff: goflow_core::Backoff::default(),
            timeout: None,
            start: goflow_core::Start::Now,
            priority: goflow_core::Priority::default(),
            deadline: Some(Deadline::After(std::time::Duration::from_secs(600))),
            unique: Some(goflow_core::Unique::while_live("u")),
            retention: None,
            heartbeat_timeout: None,
            retry_of: Some(id),
        };
        spec.headers.insert("h".to_owned(), "w".to_owned());
        let worker = goflow_core::WorkerId(id.as_uuid());
        TaskRecord {
            spec: spec.into(),
            state: State::Succeeded,
            attempt: 2,
            max_attempts: 3,
            dispatch: 2,
            result: Some(Content::new("55", "application/json")),
            error: None,
            attempts: vec![FailedAttempt {
                attempt: 1,
                error: "no".to_owned(),
                worker: Some(worker),
                started_at: None,
                finished_at: time,
            }],
            worker: Some(worker),
            crashes: 0,
            unserved: false,
            progress: None,
            due_at: None,
            started_at: Some(time),
            finished_at: Some(time),
            payload_omitted: false,
            result_omitted: false,
        }
    }

    #[test]
    fn the_shape_is_pinned() {
        let json = String::from_utf8(to_json(&record()).unwrap()).unwrap();
        let expected = concat!(
            r#"{"id":"01890000-0000-7000-8000-000000000001","type":"add","namespace":"default","queue":"default","#,
            r#""priority":1,"state":"succeeded","progress":null,"attempt":2,"max_attempts":3,"payload":{"N":10},"content_type":"application/json","#,
            r#""result":55,"result_content_type":"application/json","error":null,"attempts":[{"attempt":1,"error":"no","#,
            r#""worker":"01890000-0000-7000-8000-000000000001","started_at":null,"finished_at":"2030-01-31T12:00:00.25Z"}],"#,
            r#""worker":"01890000-0000-7000-8000-000000000001","crashes":0,"unserved":false,"tags":{"k":"v"},"#,
            r#""headers":{"h":"w"},"unique_key":"u","retry_of":"01890000-0000-7000-8000-000000000001","deadline":"10m","#,
            r#""due_at":null,"created_at":"2023-06-28T03:15:47.328Z","#,
            r#""started_at":"2030-01-31T12:00:00.25Z","finished_at":"2030-01-31T12:00:00.25Z"}"#,
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn progress_is_json_whatever_a_worker_sends() {
        let shown = |text: &str| serde_json::to_string(&Progress(text)).unwrap();
        assert_eq!(shown(r#"{"done": 0.5}"#), r#"{"done": 0.5}"#);
        assert_eq!(shown("{half"), r#""{half""#);
    }

    #[test]
    fn deadlines_are_shown_as_they_were_given() {
        let after = Deadline::After(std::time::Duration::from_millis(90_500));
        assert_eq!(deadline(after).unwrap(), "1m 30s 500ms");
        let at = Deadline::At(time::macros::datetime!(2030-01-31 12:00 UTC));
        assert_eq!(deadline(at).unwrap(), "2030-01-31T12:00:00Z");
    }

    #[test]
    fn large_contents_leave_a_mark() {
        let mut record = record();
        Arc::make_mut(&mut record.spec).payload = Content::binary(vec![0; MAX_LISTED_CONTENT + 1]);
        let json: serde_json::Value =
            serde_json::from_slice(&to_json(&without_large_contents(record)).unwrap()).unwrap();
        assert_eq!(
            (&json["payload"], &json["payload_omitted"]),
            (&serde_json::Value::Null, &true.into())
        );
        assert_eq!(json["result"], 55);
    }
}
