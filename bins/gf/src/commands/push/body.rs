//! A task as the gateway wants it.

use std::collections::BTreeMap;
use std::time::Duration;

use goflow_core::OnConflict;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::args::Push;

/// The body of a push, and each task of a batch.
#[derive(Debug, Serialize)]
pub(super) struct Body {
    r#type: String,
    pub(super) payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delay: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<Backoff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timeout: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) unique: Option<Unique>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retention: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_timeout: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

/// The waits between attempts; the last one repeats.
#[derive(Debug, Serialize)]
struct Backoff {
    list: Vec<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Unique {
    pub(super) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<String>,
    on_conflict: OnConflict,
}

impl Body {
    /// The task that these flags ask for, with this payload.
    pub(super) fn new(push: Push, payload: Box<RawValue>) -> Self {
        let span = |span: Duration| humantime::format_duration(span).to_string();
        Self {
            payload,
            r#type: push.task_type,
            content_type: push.content_type,
            queue: push.queue,
            delay: push.delay.map(span),
            run_at: push.run_at,
            max_attempts: push.max_attempts,
            backoff: (!push.backoff.is_empty()).then(|| Backoff {
                list: push.backoff.into_iter().map(span).collect(),
            }),
            timeout: push.timeout_per_attempt.map(span),
            priority: push.priority,
            deadline: push.deadline,
            unique: push.unique.map(|key| Unique {
                key,
                period: push.unique_period.map(span),
                on_conflict: match push.unique_reject {
                    true => OnConflict::Reject,
                    false => OnConflict::Existing,
                },
            }),
            retention: push.retention.map(span),
            heartbeat_timeout: push.heartbeat_timeout.map(span),
            headers: push.header.into_iter().collect(),
            tags: push.tag.into_iter().collect(),
        }
    }
}
