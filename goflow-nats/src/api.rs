//! The JetStream API: questions and answers in JSON.

use async_nats::Request;
use async_nats::jetstream::{consumer, stream};
use bytes::Bytes;
use goflow_core::broker::Error;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::error::{ApiError, NoAnswer};
use crate::link::Link;

/// Why the API gave nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It said no.
    Refused(ApiError),
    /// It said nothing.
    NoAnswer(NoAnswer),
}

impl Failure {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_not_found())
    }

    pub(crate) fn is_lost_race(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_lost_race())
    }

    pub(crate) fn translate(self, operation: &'static str, channel: &str) -> Error {
        match self {
            Self::Refused(error) => error.translate(operation, channel),
            // The API itself has no responders: JetStream is not there, which is no matter of channels.
            Self::NoAnswer(NoAnswer::NoResponders) => {
                Error::unavailable(operation, "JetStream does not answer")
            }
            Self::NoAnswer(none) => none.translate(operation, channel),
        }
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer<T> {
    // First, because an answer that asks little of its fields would take a refusal for a good one.
    Refused { error: ApiError },
    Good(T),
}

async fn ask<T: DeserializeOwned>(
    link: &Link,
    subject: &str,
    question: Option<&(impl Serialize + Sync)>,
    deadline: Instant,
) -> Result<T, Failure> {
    let unfit = |error: serde_json::Error| Failure::NoAnswer(NoAnswer::Unavailable(error.into()));
    let payload = question
        .map(serde_json::to_vec)
        .transpose()
        .map_err(unfit)?
        .unwrap_or_default();
    let subject = format!("{}.{subject}", link.api_prefix());
    let request = Request::new().payload(Bytes::from(payload));
    let answer = link
        .request(subject, request, deadline)
        .await
        .map_err(Failure::NoAnswer)?;
    match serde_json::from_slice(&answer.payload).map_err(unfit)? {
        Answer::Good(good) => Ok(good),
        Answer::Refused { error } => Err(Failure::Refused(error)),
    }
}

fn soon(link: &Link) -> Instant {
    Instant::now() + link.options().request_timeout
}

/// Whether JetStream is there.
pub(crate) enum Probe {
    Answers,
    NoJetStream,
    NoAnswer,
}

pub(crate) async fn probe(link: &Link, deadline: Instant) -> Probe {
    match ask::<serde_json::Value>(link, "INFO", None::<&()>, deadline).await {
        Ok(_) => Probe::Answers,
        Err(Failure::Refused(error)) if error.is_no_jetstream() => Probe::NoJetStream,
        Err(Failure::NoAnswer(NoAnswer::NoResponders)) => Probe::NoJetStream,
        Err(_) => Probe::NoAnswer,
    }
}

pub(crate) async fn stream_info(link: &Link, name: &str) -> Result<stream::Info, Failure> {
    ask(
        link,
        &format!("STREAM.INFO.{name}"),
        None::<&()>,
        soon(link),
    )
    .await
}

pub(crate) async fn create_stream(
    link: &Link,
    config: &stream::Config,
) -> Result<stream::Info, Failure> {
    ask(
        link,
        &format!("STREAM.CREATE.{}", config.name),
        Some(config),
        soon(link),
    )
    .await
}

pub(crate) async fn update_stream(
    link: &Link,
    config: &stream::Config,
) -> Result<stream::Info, Failure> {
    ask(
        link,
        &format!("STREAM.UPDATE.{}", config.name),
        Some(config),
        soon(link),
    )
    .await
}

pub(crate) async fn consumer_info(
    link: &Link,
    stream: &str,
    consumer: &str,
) -> Result<consumer::Info, Failure> {
    ask(
        link,
        &format!("CONSUMER.INFO.{stream}.{consumer}"),
        None::<&()>,
        soon(link),
    )
    .await
}

#[derive(Serialize)]
struct Pause {
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_until: Option<&'static str>,
}

/// Stops a consumer until a time in RFC 3339, or lets it go on.
pub(crate) async fn pause_consumer(
    link: &Link,
    stream: &str,
    consumer: &str,
    pause_until: Option<&'static str>,
) -> Result<(), Failure> {
    let subject = format!("CONSUMER.PAUSE.{stream}.{consumer}");
    let question = Pause { pause_until };
    ask::<serde::de::IgnoredAny>(link, &subject, Some(&question), soon(link))
        .await
        .map(drop)
}

#[derive(Serialize)]
struct PutConsumer<'a> {
    stream_name: &'a str,
    config: &'a consumer::Config,
}

/// Makes the consumer, or changes it.
pub(crate) async fn put_consumer(
    link: &Link,
    stream: &str,
    name: &str,
    config: &consumer::Config,
) -> Result<consumer::Info, Failure> {
    let filter = &config.filter_subject;
    let dot = if filter.is_empty() { "" } else { "." };
    let subject = format!("CONSUMER.CREATE.{stream}.{name}{dot}{filter}");
    ask(
        link,
        &subject,
        Some(&PutConsumer {
            stream_name: stream,
            config,
        }),
        soon(link),
    )
    .await
}
