//! What each server can do alone.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, Consumer, pull},
    stream,
};
use bytes::Bytes;
use futures_util::StreamExt;
use serde::Serialize;
use uuid::Uuid;

use super::tables::{self, Row, Tables};
use crate::args::Plan;
use crate::rig::Rig;

const STREAM: &str = "BARE_LIMIT";
const SUBJECT: &str = "bare.limit";

/// Publishes under way at once, and messages of one pull.
const WINDOW: usize = 1_024;

/// Rows or messages of a batch.
const BATCH: usize = 500;

/// What a server did alone.
#[derive(Debug, Clone, Serialize)]
pub struct Limit {
    /// What was measured.
    pub case: &'static str,
    /// Messages or rows a second.
    pub per_second: f64,
}

/// Measures all of them once.
///
/// # Errors
/// What a server says.
pub async fn all(rig: &Rig, plan: &Plan) -> Result<Vec<Limit>> {
    let rate = |case, took: Duration| Limit {
        case,
        per_second: plan.tasks as f64 / took.as_secs_f64(),
    };
    Ok(vec![
        rate("jetstream: publish in a window", publish(rig, plan).await?),
        rate("jetstream: fetch and acknowledge", fetch(rig, plan).await?),
        rate(
            "jetstream: publish and consume at once",
            both(rig, plan).await?,
        ),
        rate("postgres: batches by COPY", copy(rig, plan).await?),
        rate("postgres: batches by UNNEST", unnest(rig, plan).await?),
    ])
}

async fn fresh(rig: &Rig) -> Result<(jetstream::Context, Consumer<pull::Config>)> {
    let context = rig.jetstream().await?;
    if context.get_stream(STREAM).await.is_ok() {
        context.delete_stream(STREAM).await?;
    }
    let config = stream::Config {
        name: STREAM.to_owned(),
        subjects: vec![SUBJECT.to_owned()],
        retention: stream::RetentionPolicy::WorkQueue,
        storage: stream::StorageType::File,
        ..Default::default()
    };
    let stream = context.create_stream(config).await?;
    let config = pull::Config {
        durable_name: Some("bare".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 50_000,
        ..Default::default()
    };
    Ok((context, stream.create_consumer(config).await?))
}

async fn send(context: &jetstream::Context, plan: &Plan) -> Result<()> {
    let body: Bytes = plan.payload().numbered(0);
    let mut under_way = VecDeque::with_capacity(WINDOW);
    for _ in 0..plan.tasks {
        if under_way.len() == WINDOW
            && let Some(oldest) = under_way.pop_front()
        {
            let oldest: jetstream::context::PublishAckFuture = oldest;
            oldest.await?;
        }
        under_way.push_back(context.publish(SUBJECT, body.clone()).await?);
    }
    for last in under_way {
        last.await?;
    }
    Ok(())
}

async fn receive(consumer: &Consumer<pull::Config>, plan: &Plan) -> Result<()> {
    let mut messages = consumer
        .stream()
        .max_messages_per_batch(WINDOW)
        .messages()
        .await?;
    for _ in 0..plan.tasks {
        let message = messages.next().await.context("the consumer has ended")??;
        message.ack().await.map_err(anyhow::Error::from_boxed)?;
    }
    drop(messages);
    while consumer.get_info().await?.num_ack_pending > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn publish(rig: &Rig, plan: &Plan) -> Result<Duration> {
    let (context, _) = fresh(rig).await?;
    let begun = Instant::now();
    send(&context, plan).await?;
    Ok(begun.elapsed())
}

async fn fetch(rig: &Rig, plan: &Plan) -> Result<Duration> {
    let (context, consumer) = fresh(rig).await?;
    send(&context, plan).await?;
    let begun = Instant::now();
    receive(&consumer, plan).await?;
    Ok(begun.elapsed())
}

async fn both(rig: &Rig, plan: &Plan) -> Result<Duration> {
    let (_, consumer) = fresh(rig).await?;
    let publisher = rig.jetstream().await?;
    let begun = Instant::now();
    tokio::try_join!(send(&publisher, plan), receive(&consumer, plan))?;
    Ok(begun.elapsed())
}

async fn copy(rig: &Rig, plan: &Plan) -> Result<Duration> {
    let database = rig.database()?;
    tables::create(&database)?;
    let mut tables = Tables::connect(database.url()).await?;
    let begun = Instant::now();
    for rows in batches(plan) {
        tables.push(&rows).await?;
    }
    let took = begun.elapsed();
    counted(&database.execute("select count(*) from live")?, plan)?;
    Ok(took)
}

async fn unnest(rig: &Rig, plan: &Plan) -> Result<Duration> {
    let database = rig.database()?;
    tables::create(&database)?;
    let mut tables = Tables::connect(database.url()).await?;
    let begun = Instant::now();
    for rows in batches(plan) {
        let ids = rows.iter().map(|(id, _)| *id).collect();
        let results = rows.iter().map(|(_, payload)| payload.as_ref()).collect();
        tables.finish(ids, results, false).await?;
    }
    let took = begun.elapsed();
    counted(&database.execute("select count(*) from done")?, plan)?;
    Ok(took)
}

fn batches(plan: &Plan) -> impl Iterator<Item = Vec<Row>> {
    let (payload, tasks) = (plan.payload(), plan.tasks);
    (0..tasks).step_by(BATCH).map(move |first| {
        let numbers = first..tasks.min(first + BATCH);
        numbers
            .map(|number| (Uuid::now_v7(), payload.numbered(number)))
            .collect()
    })
}

fn counted(rows: &str, plan: &Plan) -> Result<()> {
    if rows != plan.tasks.to_string() {
        bail!("{rows} rows instead of {}", plan.tasks);
    }
    Ok(())
}
