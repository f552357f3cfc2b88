//! Streams and consumers: their names, what they should be, and bringing them there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy, StorageType};
use async_nats::jetstream::{consumer, stream};
use goflow_core::broker::{DEFAULT_LEASE, Error, MIN_LEASE};
use goflow_core::{Priority, QueueName, Route};
use tokio::time::Instant;
use uuid::Uuid;

use crate::api::{self, Failure};
use crate::link::Link;

pub(crate) const RESULTS: &str = "GF_RES";
pub(crate) const TOMBSTONES: &str = "GF_CANCEL";
pub(crate) const CHECKPOINTS: &str = "GF_CHECKPOINT";
const PASSING_RESULTS: &str = "GF_RES_TMP";
const QUARANTINE: &str = "GF_QUARANTINE";

/// Metadata of [`RESULTS`]: the identity of this broker lives and dies with that stream.
pub(crate) const BROKER_KEY: &str = "goflow.broker";
/// Metadata of [`RESULTS`]: the store that this broker belongs to.
pub(crate) const STORE_KEY: &str = "goflow.store";

/// Outcomes are applied within moments, so they come back soon after an engine died.
const RESULTS_LEASE: Duration = Duration::from_secs(10);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
const PASSING_AGE: Duration = Duration::from_secs(60 * 60);
const PASSING_INACTIVE: Duration = Duration::from_secs(10 * 60);
/// Acknowledged outcomes stay in this stream until they are old, so that a bound is needed.
const PASSING_BYTES: i64 = 1 << 30;
/// Checkpoints of tasks that have ended stay until they are old.
const CHECKPOINT_BYTES: i64 = 1 << 30;

/// How long a stream that was looked at is taken to be as it was: the lanes of a queue are prepared one after the
/// other.
const FRESH: Duration = Duration::from_secs(1);

/// No limit of concurrency: the workers' slots are.
const MAX_ACK_PENDING: i64 = 20_000;
const MAX_WAITING: i64 = 4_096;
const NO_LIMIT: i64 = -1;

/// Where the messages of a channel are.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    pub(crate) channel: Arc<str>,
    /// The queue or the route.
    pub(crate) origin: String,
    pub(crate) stream: String,
    pub(crate) consumer: String,
    /// All of the subject, or all but the type.
    subject: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lane,
    LastingRoute,
    PassingRoute,
}

impl Address {
    /// Of the tasks of one priority in a queue: `<queue>.<priority>`.
    pub(crate) fn of_lane(lane: &str) -> Result<Self, Error> {
        let (queue, priority) = parse_lane(lane).ok_or_else(|| Error::Refused {
            reason: format!("{lane:?} is no lane of a queue, <queue>.<priority>"),
        })?;
        Ok(Self {
            channel: lane.into(),
            stream: format!("GF_Q_{queue}"),
            consumer: format!("lane-{priority}"),
            subject: format!("gf.q.{queue}.{priority}"),
            origin: queue.into(),
            kind: Kind::Lane,
        })
    }

    /// Of the outcomes of a route.
    pub(crate) fn of_route(route: &str) -> Result<Self, Error> {
        let parsed = Route::try_from(route.to_owned());
        let lasting = parsed
            .map_err(|error| Error::Refused {
                reason: error.to_string(),
            })?
            .is_lasting();
        let (stream, prefix, kind) = match lasting {
            true => (RESULTS, "gf.res", Kind::LastingRoute),
            false => (PASSING_RESULTS, "gf.rest", Kind::PassingRoute),
        };
        Ok(Self {
            channel: route.into(),
            origin: route.to_owned(),
            stream: stream.to_owned(),
            consumer: route.to_owned(),
            subject: format!("{prefix}.{route}"),
            kind,
        })
    }

    /// The subject of a message; `token` is its type.
    pub(crate) fn subject(&self, token: &str) -> String {
        match self.kind {
            Kind::Lane => [&self.subject, ".", token].concat(),
            Kind::LastingRoute | Kind::PassingRoute => self.subject.clone(),
        }
    }

    /// The subjects of all its messages.
    fn filter(&self) -> String {
        self.subject("*")
    }

    fn stream_config(&self, link: &Link) -> stream::Config {
        match self.kind {
            Kind::Lane => stream::Config {
                name: self.stream.clone(),
                description: Some(format!("goflow: tasks of queue {}", self.origin)),
                subjects: vec![format!("gf.q.{}.*.*", self.origin)],
                retention: RetentionPolicy::WorkQueue,
                discard: DiscardPolicy::New,
                max_messages: limit(link.options().max_queue_messages),
                max_bytes: limit(link.options().max_queue_bytes),
                allow_atomic_publish: true,
                ..basic(link)
            },
            Kind::LastingRoute => results_config(link),
            Kind::PassingRoute => passing_config(link),
        }
    }

    fn default_lease(&self) -> Duration {
        if self.kind == Kind::Lane {
            DEFAULT_LEASE
        } else {
            RESULTS_LEASE
        }
    }
}

/// The queue and the priority of a lane.
fn parse_lane(lane: &str) -> Option<(QueueName, Priority)> {
    let (queue, priority) = lane.split_once('.')?;
    // One digit: "+1" and "01" would be numbers, too.
    let &[digit @ b'0'..=b'9'] = priority.as_bytes() else {
        return None;
    };
    Some((queue.parse().ok()?, Priority::try_from(digit - b'0').ok()?))
}

fn limit(most: u64) -> i64 {
    if most == 0 {
        NO_LIMIT
    } else {
        i64::try_from(most).unwrap_or(NO_LIMIT)
    }
}

fn basic(link: &Link) -> stream::Config {
    stream::Config {
        storage: StorageType::File,
        // Zero would mean 1, also in an update of a stream that has more.
        num_replicas: link.options().replicas.max(1),
        duplicate_window: DUPLICATE_WINDOW,
        allow_batch_publish: true,
        max_messages: NO_LIMIT,
        max_bytes: NO_LIMIT,
        max_messages_per_subject: NO_LIMIT,
        ..Default::default()
    }
}

fn results_config(link: &Link) -> stream::Config {
    stream::Config {
        name: RESULTS.into(),
        description: Some("goflow: outcomes on their way to a durable store".into()),
        subjects: vec!["gf.res.*".into()],
        retention: RetentionPolicy::WorkQueue,
        discard: DiscardPolicy::New,
        max_messages: limit(link.options().max_result_messages),
        metadata: [(BROKER_KEY.to_owned(), Uuid::new_v4().to_string())].into(),
        ..basic(link)
    }
}

fn passing_config(link: &Link) -> stream::Config {
    stream::Config {
        name: PASSING_RESULTS.into(),
        description: Some("goflow: outcomes on their way to a store in memory".into()),
        subjects: vec!["gf.rest.*".into()],
        max_age: PASSING_AGE,
        max_bytes: PASSING_BYTES,
        ..basic(link)
    }
}

fn tombstones_config(link: &Link) -> stream::Config {
    stream::Config {
        name: TOMBSTONES.into(),
        description: Some("goflow: tasks that are not to be started".into()),
        subjects: vec!["gf.cancel.*".into()],
        max_messages_per_subject: 1,
        max_age: 7 * DAY,
        ..basic(link)
    }
}

fn checkpoints_config(link: &Link) -> stream::Config {
    stream::Config {
        name: CHECKPOINTS.into(),
        description: Some("goflow: where tasks can go on".into()),
        subjects: vec!["gf.checkpoint.*".into()],
        max_messages_per_subject: 1,
        max_age: 7 * DAY,
        max_bytes: CHECKPOINT_BYTES,
        allow_direct: true,
        ..basic(link)
    }
}

fn quarantine_config(link: &Link) -> stream::Config {
    stream::Config {
        name: QUARANTINE.into(),
        description: Some("goflow: messages nobody could decode, with the reason".into()),
        subjects: vec!["gf.quarantine.*".into()],
        max_age: 30 * DAY,
        ..basic(link)
    }
}

/// Makes the streams that every deployment has; gives the one that says who the broker is.
pub(crate) async fn ensure_common(link: &Link) -> Result<stream::Info, Error> {
    for config in [
        passing_config(link),
        tombstones_config(link),
        checkpoints_config(link),
        quarantine_config(link),
    ] {
        ensure_stream(link, config).await?;
    }
    ensure_stream(link, results_config(link)).await
}

/// The streams that were looked at lately.
#[derive(Debug, Default)]
pub(crate) struct Prepared(Mutex<HashMap<String, Instant>>);

impl Prepared {
    fn is_fresh(&self, stream: &str) -> bool {
        let streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams
            .get(stream)
            .is_some_and(|looked_at| looked_at.elapsed() < FRESH)
    }

    fn note(&self, stream: &str) {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        streams.insert(stream.to_owned(), Instant::now());
    }
}

/// Makes sure that a channel exists and is what it should be.
pub(crate) async fn ensure_channel(
    link: &Link,
    prepared: &Prepared,
    address: &Address,
    lease: Option<Duration>,
) -> Result<Duration, Error> {
    let lease = lease.map(|lease| lease.max(MIN_LEASE));
    if prepared.is_fresh(&address.stream) {
        match ensure_consumer(link, address, lease).await {
            // The stream has gone since.
            Err(Error::NoChannel { .. }) => {}
            answer => return answer,
        }
    }
    ensure_stream(link, address.stream_config(link)).await?;
    prepared.note(&address.stream);
    ensure_consumer(link, address, lease).await
}

async fn ensure_stream(link: &Link, wanted: stream::Config) -> Result<stream::Info, Error> {
    const OPERATION: &str = "prepare a stream";
    let translate = |failure: Failure| failure.translate(OPERATION, &wanted.name);
    let present = match api::stream_info(link, &wanted.name).await {
        Err(failure) if failure.is_not_found() => match api::create_stream(link, &wanted).await {
            Ok(created) => {
                tracing::info!(stream = wanted.name, "made the stream");
                return Ok(created);
            }
            Err(failure) if failure.is_lost_race() => api::stream_info(link, &wanted.name).await,
            Err(failure) => Err(failure),
        },
        answer => answer,
    };
    let present = present.map_err(translate)?;
    let merged = merge_stream(&present.config, &wanted);
    if merged == present.config {
        return Ok(present);
    }
    let updated = api::update_stream(link, &merged).await.map_err(translate)?;
    tracing::info!(stream = wanted.name, "brought the stream up to date");
    Ok(updated)
}

/// What is present, with what is wanted where goflow cares. All else is the operator's.
fn merge_stream(present: &stream::Config, wanted: &stream::Config) -> stream::Config {
    let mut merged = present.clone();
    merged.description.clone_from(&wanted.description);
    merged.subjects.clone_from(&wanted.subjects);
    merged.discard = wanted.discard;
    merged.max_messages = wanted.max_messages;
    merged.max_bytes = wanted.max_bytes;
    merged.max_messages_per_subject = wanted.max_messages_per_subject;
    merged.max_age = wanted.max_age;
    merged.duplicate_window = wanted.duplicate_window;
    merged.num_replicas = wanted.num_replicas;
    merged.allow_atomic_publish = wanted.allow_atomic_publish;
    merged.allow_batch_publish = wanted.allow_batch_publish;
    merged.allow_direct |= wanted.allow_direct;
    for (key, value) in &wanted.metadata {
        merged
            .metadata
            .entry(key.clone())
            .or_insert_with(|| value.clone());
    }
    merged
}

async fn ensure_consumer(
    link: &Link,
    address: &Address,
    lease: Option<Duration>,
) -> Result<Duration, Error> {
    let translate = |failure: Failure| failure.translate("prepare a consumer", &address.channel);
    let present = match api::consumer_info(link, &address.stream, &address.consumer).await {
        Ok(info) => Some(info.config),
        Err(failure) if failure.is_not_found() => None,
        Err(failure) => return Err(translate(failure)),
    };
    let mut wanted = present.clone().unwrap_or_else(|| consumer::Config {
        name: Some(address.consumer.clone()),
        durable_name: Some(address.consumer.clone()),
        ack_policy: consumer::AckPolicy::Explicit,
        ack_wait: address.default_lease(),
        ..Default::default()
    });
    let before = wanted.ack_wait;
    wanted.ack_wait = lease.unwrap_or(before);
    wanted.filter_subject = address.filter();
    // The engine counts crashes. JetStream would leave the message in the queue, invisible.
    wanted.max_deliver = NO_LIMIT;
    wanted.max_ack_pending = MAX_ACK_PENDING;
    wanted.max_waiting = MAX_WAITING;
    if address.kind == Kind::PassingRoute {
        wanted.inactive_threshold = PASSING_INACTIVE;
    }
    if present.as_ref() != Some(&wanted) {
        api::put_consumer(link, &address.stream, &address.consumer, &wanted)
            .await
            .map_err(translate)?;
        if present.is_some() && wanted.ack_wait != before {
            tracing::info!(channel = %address.channel, lease = ?wanted.ack_wait, ?before, "changed the lease");
        } else {
            tracing::info!(channel = %address.channel, lease = ?wanted.ack_wait, "made or updated the consumer");
        }
    }
    Ok(wanted.ack_wait)
}

/// The subject of a tombstone.
pub(crate) fn tombstone_subject(task: impl std::fmt::Display) -> String {
    format!("gf.cancel.{task}")
}

/// The subject of a checkpoint.
pub(crate) fn checkpoint_subject(task: impl std::fmt::Display) -> String {
    format!("gf.checkpoint.{task}")
}

/// The subject of a quarantined message; `origin` is its queue or route.
pub(crate) fn quarantine_subject(origin: &str) -> String {
    format!("gf.quarantine.{origin}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_have_addresses() {
        let lane = Address::of_lane("images.3").unwrap();
        assert_eq!(
            (lane.stream.as_str(), lane.consumer.as_str()),
            ("GF_Q_images", "lane-3")
        );
        assert_eq!(lane.subject("resize"), "gf.q.images.3.resize");
        assert_eq!(lane.filter(), "gf.q.images.3.*");
        let route = Address::of_route("passing-abc").unwrap();
        assert_eq!(
            (route.stream.as_str(), route.subject("outcomes").as_str()),
            ("GF_RES_TMP", "gf.rest.passing-abc")
        );
        assert_eq!(Address::of_route("lasting-abc").unwrap().stream, "GF_RES");
        for bad in ["", "a.b", "a b", "*", ">"] {
            assert!(
                Address::of_lane(bad).is_err() && Address::of_route(bad).is_err(),
                "{bad:?}"
            );
        }
        for bad in [
            "images",
            "images.",
            "images.4",
            "images.01",
            "images.+1",
            ".1",
            "a.b.1",
            "a.1.1",
            "*.1",
        ] {
            assert!(Address::of_lane(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_the_operator_set_is_kept() {
        let wanted = stream::Config {
            max_messages: 5,
            metadata: [("a".into(), "new".into())].into(),
            ..Default::default()
        };
        let present = stream::Config {
            max_message_size: 7,
            metadata: [("a".into(), "old".into()), ("b".into(), "theirs".into())].into(),
            ..Default::default()
        };
        let merged = merge_stream(&present, &wanted);
        assert_eq!((merged.max_messages, merged.max_message_size), (5, 7));
        assert_eq!(merged.metadata, present.metadata);
    }
}
