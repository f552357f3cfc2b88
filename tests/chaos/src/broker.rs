//! The broker as a client of NATS sees it, past goflow and past all proxies.

use std::time::Duration;

use anyhow::{Context, Result};
use async_nats::jetstream::{self, context::Context as JetStream};
use futures_util::TryStreamExt;
use goflow_test_servers::eventually;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::work::IN_PROCESS;

/// How long a cluster may take to elect its leader.
const ELECTION: Duration = Duration::from_secs(30);

/// The stream of the tasks that the harness's own workers run.
const QUEUE: &str = "GF_Q_default";

/// The stream of outcomes, with a consumer for each route.
const RESULTS: &str = "GF_RES";

/// Pieces of garbage published at once.
const PIECES: usize = 20;

/// Waits until JetStream answers.
///
/// # Errors
/// When it takes too long.
pub async fn wait_ready(url: &str) -> Result<()> {
    let jetstream = jetstream(url).await?;
    eventually(ELECTION, async || jetstream.query_account().await.map(drop))
        .await
        .context("wait for JetStream")
}

/// The name of the server that leads the queue's stream; none if it has no leader.
///
/// # Errors
/// When the broker does not say.
pub async fn leader(url: &str) -> Result<Option<String>> {
    let stream = jetstream(url)
        .await?
        .get_stream(QUEUE)
        .await
        .context("the queue's stream")?;
    let cluster = stream.cached_info().cluster.as_ref();
    Ok(cluster.and_then(|cluster| cluster.leader.clone()))
}

/// Has the leader of the queue's stream step down.
///
/// # Errors
/// When the broker does not do it.
pub async fn step_down(url: &str) -> Result<()> {
    let nats = async_nats::connect(url).await.context("connect to NATS")?;
    let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{QUEUE}");
    let answer = nats
        .request(subject, "".into())
        .await
        .context("have the leader step down")?;
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload)?;
    anyhow::ensure!(
        answer["success"] == true,
        "the leader does not step down: {answer}"
    );
    Ok(())
}

/// Publishes random bytes, half a MessagePack map and text into the queue's stream and into results.
///
/// # Errors
/// When the broker does not take them.
pub async fn publish_garbage(url: &str, seed: u64) -> Result<()> {
    let rng = &mut StdRng::seed_from_u64(seed);
    let nats = async_nats::connect(url).await.context("connect to NATS")?;
    let results = jetstream::new(nats.clone()).get_stream(RESULTS).await;
    let results = results.context("the stream of results")?;
    let mut routes = results.consumer_names();
    let route = routes
        .try_next()
        .await?
        .context("somebody who takes results")?;
    for _ in 0..PIECES {
        let piece: Vec<u8> = match rng.random_range(0..4) {
            0 => Vec::new(),
            1 => b"{\"type\":\"mark\"}".to_vec(),
            // A map of fifteen that ends after its first key.
            2 => [&[0x8f, 0xa1][..], b"v"].concat(),
            _ => (0..rng.random_range(1..2_000))
                .map(|_| rng.random())
                .collect(),
        };
        let subject = match rng.random_range(0..3) {
            0 => format!("gf.res.{route}"),
            _ => format!("gf.q.default.{}.{IN_PROCESS}", rng.random_range(0..4)),
        };
        let published = nats.publish(subject, piece.into()).await;
        published.context("publish garbage")?;
    }
    nats.flush().await.context("publish garbage")
}

async fn jetstream(url: &str) -> Result<JetStream> {
    let nats = async_nats::connect(url).await.context("connect to NATS")?;
    Ok(jetstream::new(nats))
}
