//! Task specs as arrays of columns, for statements that take many rows at once.

use std::collections::BTreeMap;

use goflow_core::{Backoff, Priority, Start, TaskSpec};
use serde::Serialize;
use sqlx::Postgres;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use uuid::Uuid;

use crate::push_options::PushOptions;

/// A query that is being given its arguments.
pub(crate) type Prepared<'q> = Query<'q, Postgres, PgArguments>;

/// The columns of many specs that are null in none: all there are of tasks that ask for nothing unusual. A default
/// priority is null all the same.
#[derive(Debug, Default)]
pub(crate) struct PlainColumns<'a> {
    id: Vec<Uuid>,
    namespace: Vec<&'a str>,
    queue: Vec<&'a str>,
    task_type: Vec<&'a str>,
    payload: Vec<&'a [u8]>,
    content_type: Vec<&'a str>,
    max_attempts: Vec<i32>,
    priority: Vec<Option<i16>>,
}

impl<'a> PlainColumns<'a> {
    pub(crate) fn push(&mut self, spec: &'a TaskSpec) {
        self.id.push(spec.id.as_uuid());
        self.namespace.push(spec.namespace.as_str());
        self.queue.push(spec.queue.as_str());
        self.task_type.push(spec.task_type.as_str());
        self.payload.push(&spec.payload.bytes);
        self.content_type.push(&spec.payload.content_type);
        self.max_attempts.push(int(spec.max_attempts));
        let unusual = spec.priority != Priority::default();
        self.priority
            .push(unusual.then(|| i16::from(spec.priority.get())));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    /// Binds them as `$1` to `$8`.
    pub(crate) fn bind<'q>(self, query: Prepared<'q>) -> Prepared<'q>
    where
        'a: 'q,
    {
        query
            .bind(self.id)
            .bind(self.namespace)
            .bind(self.queue)
            .bind(self.task_type)
            .bind(self.payload)
            .bind(self.content_type)
            .bind(self.max_attempts)
            .bind(self.priority)
    }
}

/// Whether all columns of a task are null but for the [plain](PlainColumns) ones.
pub(crate) fn is_plain(spec: &TaskSpec) -> bool {
    let TaskSpec {
        id: _,
        namespace: _,
        queue: _,
        task_type: _,
        payload: _,
        max_attempts: _,
        priority: _,
        headers,
        tags,
        backoff,
        timeout,
        start,
        deadline,
        unique,
        retention,
        heartbeat_timeout,
        retry_of,
    } = spec;
    headers.is_empty()
        && tags.is_empty()
        && *start == Start::Now
        && timeout.is_none()
        && deadline.is_none()
        && unique.is_none()
        && retention.is_none()
        && heartbeat_timeout.is_none()
        && retry_of.is_none()
        && *backoff == Backoff::default()
}

/// The columns of many specs. Defaults are null.
#[derive(Debug, Default)]
pub(crate) struct SpecColumns<'a> {
    plain: PlainColumns<'a>,
    headers: Vec<Option<String>>,
    tags: Vec<Option<String>>,
    backoff: Vec<Option<String>>,
    timeout_ms: Vec<Option<i64>>,
    start: Vec<Option<String>>,
    retry_of: Vec<Option<Uuid>>,
    options: Vec<Option<String>>,
}

impl<'a> SpecColumns<'a> {
    pub(crate) fn push(&mut self, spec: &'a TaskSpec) -> Result<(), sqlx::Error> {
        self.plain.push(spec);
        self.headers.push(map(&spec.headers)?);
        self.tags.push(map(&spec.tags)?);
        self.backoff
            .push(unless_default(&spec.backoff, &Backoff::default())?);
        // Rounded up: zero would be no time at all.
        let millis = |t: std::time::Duration| t.as_nanos().div_ceil(1_000_000);
        self.timeout_ms.push(
            spec.timeout
                .map(|t| i64::try_from(millis(t)).unwrap_or(i64::MAX)),
        );
        self.start.push(unless_default(&spec.start, &Start::Now)?);
        self.retry_of.push(spec.retry_of.map(|id| id.as_uuid()));
        self.options.push(unless_default(
            &PushOptions::of(spec),
            &PushOptions::default(),
        )?);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.plain.is_empty()
    }

    /// Binds them as `$1` to `$15`.
    pub(crate) fn bind<'q>(self, query: Prepared<'q>) -> Prepared<'q>
    where
        'a: 'q,
    {
        self.plain
            .bind(query)
            .bind(self.headers)
            .bind(self.tags)
            .bind(self.backoff)
            .bind(self.timeout_ms)
            .bind(self.start)
            .bind(self.retry_of)
            .bind(self.options)
    }
}

/// A counter as the schema holds it; nothing real comes near the end.
pub(crate) fn int(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A wait in microseconds.
pub(crate) fn micros(wait: std::time::Duration) -> i64 {
    i64::try_from(wait.as_micros()).unwrap_or(i64::MAX)
}

fn map(map: &BTreeMap<String, String>) -> Result<Option<String>, sqlx::Error> {
    unless_default(map, &BTreeMap::new())
}

fn unless_default<T: Serialize + PartialEq>(
    value: &T,
    default: &T,
) -> Result<Option<String>, sqlx::Error> {
    if value == default {
        return Ok(None);
    }
    serde_json::to_string(value)
        .map(Some)
        .map_err(|error| sqlx::Error::Encode(error.into()))
}
