//! One pull request: the messages that are there, or the first that come.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use goflow_core::broker::Error;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error;
use crate::lease;
use crate::link::{DEADLINE, Life, Link};

const OPERATION: &str = "dequeue";

/// How much longer than asked the server may take to say that there is nothing.
const SLACK: Duration = Duration::from_secs(3);

/// Between two requests when the server has none to spare at the moment.
const PAUSE: Duration = Duration::from_millis(20);

/// Most messages in one request.
const MOST_MESSAGES: usize = 10_000;

/// Most bytes in one request, so that a batch of large messages does not fill the memory.
const MOST_BYTES: usize = 64 << 20;

/// What is asked of the server. With `no_wait` *and* `expires` it waits for a first message, then sends what is there
/// and says that this was all: nothing is on its way when the request has ended.
#[derive(Serialize)]
struct Next {
    batch: usize,
    max_bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    no_wait: bool,
}

/// Messages nobody has taken yet; they go back to the queue if nobody ever does.
pub(crate) struct Pulled {
    link: Link,
    messages: Vec<Message>,
    /// When the first came: the leases have run since then.
    pub(crate) received: Instant,
}

impl Pulled {
    pub(crate) fn take(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }
}

impl Drop for Pulled {
    fn drop(&mut self) {
        let messages = self.take();
        if !messages.is_empty() {
            give_back(&self.link, messages);
        }
    }
}

fn give_back(link: &Link, messages: Vec<Message>) {
    let task = link.clone();
    link.spawn(async move {
        for reply in messages.into_iter().filter_map(|message| message.reply) {
            lease::give_back(&task, reply).await;
        }
    });
}

/// Pulls up to `max` messages from a consumer, waiting up to `wait` for the first.
///
/// It runs on the connection's own thread and to its end: when the caller goes away, what still arrives is given back.
pub(crate) async fn pull(
    link: &Link,
    (stream, consumer): (&str, &str),
    channel: &str,
    max: usize,
    wait: Duration,
) -> Result<Pulled, Error> {
    let (sender, receiver) = oneshot::channel();
    let request = Pull {
        subject: format!(
            "{}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
            link.api_prefix()
        ),
        channel: channel.to_owned(),
        max: max.min(MOST_MESSAGES),
        link: link.clone(),
        give_up: Instant::now() + wait,
    };
    link.spawn(request.run(sender));
    receiver.await.unwrap_or(Err(Error::Closed))
}

struct Pull {
    link: Link,
    subject: String,
    channel: String,
    max: usize,
    give_up: Instant,
}

/// How a pull request ended.
enum End {
    /// There is no more, or there was nothing in time.
    Complete,
    /// The server cannot serve it just now.
    Busy,
    Failed(Error),
    /// Nobody waits for it any more.
    Abandoned,
}

impl Pull {
    async fn run(self, mut caller: oneshot::Sender<Result<Pulled, Error>>) {
        let answer = tokio::select! {
            answer = self.attempts(&mut caller) => answer,
            () = self.link.closing().cancelled() => Err(Error::Closed),
        };
        // When the caller has gone, what was pulled is dropped, and with that given back.
        drop(caller.send(answer));
    }

    async fn attempts(
        &self,
        caller: &mut oneshot::Sender<Result<Pulled, Error>>,
    ) -> Result<Pulled, Error> {
        loop {
            let life = self.link.connected(OPERATION, self.give_up + SLACK).await?;
            let inbox = self.link.client().new_inbox();
            let subscribed = self.link.client().subscribe(inbox.clone());
            let mut answers = match tokio::time::timeout(DEADLINE, subscribed).await {
                Ok(answers) => answers.map_err(|error| error::subscribe(OPERATION, error))?,
                Err(_) => return Err(Error::unavailable(OPERATION, "timed out")),
            };
            let wait = self.give_up.saturating_duration_since(Instant::now());
            let expires = u64::try_from(wait.as_nanos())
                .ok()
                .filter(|nanos| *nanos > 0);
            let next = Next {
                batch: self.max,
                // Never less than one message, whatever the server takes.
                max_bytes: MOST_BYTES.max(2 * self.link.client().max_payload()),
                expires,
                no_wait: true,
            };
            let next =
                serde_json::to_vec(&next).map_err(|error| Error::unavailable(OPERATION, error))?;
            self.link
                .publish(
                    OPERATION,
                    self.subject.clone(),
                    Some(inbox),
                    Bytes::from(next),
                )
                .await?;

            let mut pulled = Pulled {
                link: self.link.clone(),
                messages: Vec::new(),
                received: Instant::now(),
            };
            match self.collect(&mut answers, &mut pulled, life, caller).await {
                _ if !pulled.messages.is_empty() => return Ok(pulled),
                End::Complete => return Ok(pulled),
                End::Failed(error) => return Err(error),
                End::Abandoned => {
                    self.abandon(answers).await;
                    return Ok(pulled);
                }
                End::Busy if Instant::now() + PAUSE >= self.give_up => return Ok(pulled),
                End::Busy => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    async fn collect(
        &self,
        answers: &mut Subscriber,
        pulled: &mut Pulled,
        life: Life,
        caller: &mut oneshot::Sender<Result<Pulled, Error>>,
    ) -> End {
        let mut lives = self.link.lives();
        let lost = |detail: &'static str| End::Failed(Error::unavailable(OPERATION, detail));
        let overdue = tokio::time::sleep_until(self.give_up + SLACK);
        tokio::pin!(overdue);
        while pulled.messages.len() < self.max {
            let answer = tokio::select! {
                biased;
                answer = answers.next() => answer,
                _ = lives.wait_for(|now| *now != life) => return lost("the connection was lost"),
                () = &mut overdue => return lost("the server did not answer"),
                () = caller.closed(), if pulled.messages.is_empty() => return End::Abandoned,
            };
            let Some(answer) = answer else {
                return lost("the connection was closed");
            };
            match answer.status {
                None | Some(StatusCode::OK) => {
                    if pulled.messages.is_empty() {
                        pulled.received = Instant::now();
                    }
                    pulled.messages.push(answer);
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(status) => {
                    return self.end(status, answer.description.as_deref().unwrap_or_default());
                }
            }
        }
        End::Complete
    }

    fn end(&self, status: StatusCode, description: &str) -> End {
        let no_channel = || {
            End::Failed(Error::NoChannel {
                channel: self.channel.clone(),
            })
        };
        match (status, description) {
            // Others wait for the few messages that are there: they are as good as taken.
            (StatusCode::TIMEOUT, "Requests Pending") => End::Busy,
            (StatusCode::TIMEOUT | StatusCode::NOT_FOUND, _) => End::Complete,
            (StatusCode::NO_RESPONDERS, _) => no_channel(),
            (_, "Consumer Deleted") => no_channel(),
            (_, "Message Size Exceeds MaxBytes") => End::Complete,
            (_, "Exceeded MaxWaiting") => End::Busy,
            (status, description) => End::Failed(Error::unavailable(
                OPERATION,
                format!("{description} (status {status})"),
            )),
        }
    }

    /// Ends a request nobody waits for. The server forgets it as soon as nobody listens, but until it has heard so
    /// messages may be sent: they are given back at once, not when their lease has expired.
    async fn abandon(&self, mut answers: Subscriber) {
        let mut late = Vec::new();
        let drained = async {
            if answers.drain().await.is_ok() {
                while let Some(answer) = answers.next().await {
                    if matches!(answer.status, None | Some(StatusCode::OK)) {
                        late.push(answer);
                    }
                }
            }
        };
        // Without a connection nobody confirms the end, and nothing can arrive either.
        drop(tokio::time::timeout(SLACK, drained).await);
        if !late.is_empty() {
            give_back(&self.link, late);
        }
    }
}
