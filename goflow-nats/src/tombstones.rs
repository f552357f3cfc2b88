//! Tombstones: read to their end, then watched, for as long as someone wants them.

use std::time::Duration;

use async_nats::Message;
use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use bytes::Bytes;
use goflow_core::broker::{Error, Tombstone, Tombstones};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use crate::api;
use crate::link::Link;
use crate::pull;
use crate::topology::TOMBSTONES;

const BATCH: usize = 1_000;
const WAIT: Duration = Duration::from_secs(30);
const BACKLOG: usize = 4_096;
/// The server forgets the consumer of a watcher that has been away for this long.
const INACTIVE: Duration = Duration::from_secs(5 * 60);
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// A consumer of our own, from the first tombstone on.
struct Reader {
    link: Link,
    name: String,
    /// Tombstones between this reader and the end when it began.
    behind: u64,
}

impl Reader {
    async fn open(link: &Link) -> Result<Self, Error> {
        let name = format!("watch-{}", Uuid::new_v4().simple());
        let config = consumer::Config {
            name: Some(name.clone()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            inactive_threshold: INACTIVE,
            memory_storage: true,
            num_replicas: 1,
            ..Default::default()
        };
        let info = api::put_consumer(link, TOMBSTONES, &name, &config).await;
        let info = info.map_err(|failure| failure.translate("read tombstones", TOMBSTONES))?;
        Ok(Self {
            link: link.clone(),
            name,
            behind: info.num_pending,
        })
    }

    async fn next(&self, wait: Duration) -> Result<Vec<Tombstone>, Error> {
        let consumer = (TOMBSTONES, self.name.as_str());
        let mut pulled = pull::pull(&self.link, consumer, TOMBSTONES, BATCH, wait).await?;
        // Without acknowledgements there is nothing to give back.
        Ok(pulled.take().iter().filter_map(decode).collect())
    }

    /// Reads what was there when it was opened.
    async fn catch_up(&self, deadline: Instant) -> Result<Vec<Tombstone>, Error> {
        let mut known = Vec::new();
        while (known.len() as u64) < self.behind {
            let wait = deadline.saturating_duration_since(Instant::now());
            let batch = self.next(wait.min(Duration::from_secs(1))).await?;
            // Fewer than it said: some have been replaced or have aged away meanwhile.
            if batch.is_empty() {
                break;
            }
            known.extend(batch);
        }
        Ok(known)
    }
}

/// JSON, so that `nats stream get GF_CANCEL` shows it.
pub(crate) fn encode(tombstone: &Tombstone) -> Result<Bytes, Error> {
    let unfit = |error: serde_json::Error| Error::unavailable("note a tombstone", error);
    serde_json::to_vec(tombstone)
        .map(Bytes::from)
        .map_err(unfit)
}

fn decode(message: &Message) -> Option<Tombstone> {
    let decoded = serde_json::from_slice(&message.payload);
    decoded
        .inspect_err(|error| tracing::warn!(subject = %message.subject, %error, "not a tombstone"))
        .ok()
}

pub(crate) async fn watch(link: &Link) -> Result<Tombstones, Error> {
    let reader = Reader::open(link).await?;
    let known = reader
        .catch_up(Instant::now() + crate::link::DEADLINE)
        .await?;
    let (sender, later) = mpsc::channel(BACKLOG);
    link.spawn(follow(reader, sender));
    Ok(Tombstones { known, later })
}

/// Forwards what comes. A reader that fails is replaced by one that begins anew: to hear of a tombstone again does no
/// harm, and after the loss of the stream its numbers mean nothing.
async fn follow(mut reader: Reader, watcher: mpsc::Sender<Tombstone>) {
    let link = reader.link.clone();
    let mut pause = SHORTEST_PAUSE;
    let forwarding = async {
        loop {
            match reader.next(WAIT).await {
                Ok(ids) => {
                    pause = SHORTEST_PAUSE;
                    for id in ids {
                        if watcher.send(id).await.is_err() {
                            return;
                        }
                    }
                }
                Err(Error::Closed) => return,
                Err(error) => {
                    tracing::debug!(%error, "tombstones are being read anew");
                    tokio::time::sleep(pause).await;
                    pause = LONGEST_PAUSE.min(pause * 2);
                    if let Ok(fresh) = Reader::open(&link).await {
                        reader = fresh;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = forwarding => {}
        () = watcher.closed() => {}
        () = link.closing().cancelled() => {}
    }
}
