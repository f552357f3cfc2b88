//! The requests of one pull, and the inbox that the server answers them in.

use std::time::Duration;

use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use goflow_core::broker::Error;
use serde::Serialize;

use crate::error;
use crate::link::{DEADLINE, Life, Link};

const OPERATION: &str = "dequeue";

/// How long the server may take to confirm that a request is withdrawn.
const CONFIRMATION: Duration = Duration::from_secs(3);

/// Most bytes in one request, so that a batch of large messages does not fill the memory.
const MOST_BYTES: usize = 64 << 20;

/// A request that the server refuses at once. It refuses in the inbox, after all it has sent there before.
const MARKER: &[u8] = b"{";

/// Most markers for a request that was not answered at all.
const MOST_MARKERS: usize = 256;

/// What is asked of the server.
#[derive(Serialize)]
struct Next {
    batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_bytes: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_wait: bool,
}

/// An inbox of its own, known to the server: a request is forgotten when nobody listens to its inbox any more.
pub(crate) struct Request {
    link: Link,
    subject: String,
    inbox: String,
    answers: Subscriber,
    /// Answers so far, of all kinds.
    heard: usize,
    /// Answers that may still come.
    outstanding: usize,
}

/// What came of a withdrawn request.
pub(crate) struct Withdrawn {
    /// What was sent before the server knew.
    pub(crate) messages: Vec<Message>,
    /// Whether the server said so; otherwise it does not answer, or cannot be reached.
    pub(crate) confirmed: bool,
}

/// Where requests to a consumer go.
fn subject(link: &Link, (stream, consumer): (&str, &str)) -> String {
    format!(
        "{}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        link.api_prefix()
    )
}

/// Makes a consumer look at its requests. One that is resumed does not serve those that waited meanwhile until
/// another comes; this one is in the name of nobody, so that it takes nothing.
pub(crate) async fn nudge(link: &Link, consumer: (&str, &str)) -> Result<(), Error> {
    let nobody = link.client().new_inbox();
    let question = Bytes::from_static(br#"{"batch":1,"expires":1000000}"#);
    link.publish("resume", subject(link, consumer), Some(nobody), question)
        .await
}

impl Request {
    /// Asks nothing yet.
    pub(crate) async fn open(link: &Link, consumer: (&str, &str)) -> Result<Self, Error> {
        let inbox = link.client().new_inbox();
        let subscribed = link.client().subscribe(inbox.clone());
        let answers = match tokio::time::timeout(DEADLINE, subscribed).await {
            Ok(answers) => answers.map_err(|error| error::subscribe(OPERATION, error))?,
            Err(_) => return Err(Error::unavailable(OPERATION, "timed out")),
        };
        let subject = subject(link, consumer);
        Ok(Self {
            link: link.clone(),
            subject,
            inbox,
            answers,
            heard: 0,
            outstanding: 0,
        })
    }

    /// Asks for what is there, up to `max` messages: the answer ends at once. A paused consumer does not answer.
    pub(crate) async fn ask_for_present(&mut self, max: usize) -> Result<(), Error> {
        self.ask(&Next {
            batch: max,
            max_bytes: self.most_bytes(max),
            expires: None,
            no_wait: true,
        })
        .await
    }

    /// Asks for what is there, up to `max` messages, or for what comes first within `wait`: the answer ends as soon as
    /// there is any. No more than are of use, for it takes as many answers to withdraw.
    pub(crate) async fn ask_for_next(&mut self, max: usize, wait: Duration) -> Result<(), Error> {
        let expires = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).max(1);
        let max = max.min(MOST_MARKERS);
        self.ask(&Next {
            batch: max,
            max_bytes: self.most_bytes(max),
            expires: Some(expires),
            // Beside a time it means: as soon as there is any.
            no_wait: max > 1,
        })
        .await
    }

    fn most_bytes(&self, max: usize) -> Option<usize> {
        // Never less than one message, whatever the server takes.
        (max > 1).then(|| MOST_BYTES.max(2 * self.link.client().max_payload()))
    }

    async fn ask(&mut self, next: &Next) -> Result<(), Error> {
        let question =
            serde_json::to_vec(next).map_err(|error| Error::unavailable(OPERATION, error))?;
        self.outstanding = next.batch;
        self.publish(Bytes::from(question)).await
    }

    async fn publish(&self, question: Bytes) -> Result<(), Error> {
        let (subject, inbox) = (self.subject.clone(), self.inbox.clone());
        self.link
            .publish(OPERATION, subject, Some(inbox), question)
            .await
    }

    /// Whether the server has more to say.
    pub(crate) fn is_open(&self) -> bool {
        self.outstanding > 0
    }

    /// The next answer; none when the connection is closed. Cancel-safe.
    ///
    /// The end of a request says how many of the messages asked for were not sent. A consumer with replicas sends a
    /// message once they agree on it, and the end at once: what was sent is still to come then.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        let answer = self.answers.next().await?;
        self.heard += 1;
        match is_message(&answer) {
            true => self.outstanding = self.outstanding.saturating_sub(1),
            false => {
                self.outstanding -=
                    unsent(&answer).map_or(self.outstanding, |unsent| unsent.min(self.outstanding))
            }
        }
        Some(answer)
    }

    /// Ends it when nobody waits any more. Until the server has heard so, messages may be sent: whoever calls this
    /// gets them, so that they can be given back at once, not when their lease has expired.
    ///
    /// The driver forgets a subscription the moment it is ended, and with it what is under way; but it counts down
    /// one that ends after so many answers. So as many are asked for as may still come: however many of them are
    /// messages, the last one is the last that the server sends.
    pub(crate) async fn withdraw(mut self, life: Life) -> Withdrawn {
        let mut messages = Vec::new();
        // A paused consumer has sent nothing yet, and is not going to send that many within moments.
        let most = if self.heard == 0 {
            MOST_MARKERS
        } else {
            usize::MAX
        };
        let markers = self.outstanding.min(most);
        let last = (self.heard + markers) as u64;
        let mut lives = self.link.lives();
        let withdrawn = async {
            if self.answers.unsubscribe_after(last).await.is_err() {
                return false;
            }
            for _ in 0..markers {
                if self.publish(Bytes::from_static(MARKER)).await.is_err() {
                    return false;
                }
            }
            while let Some(answer) = self.answers.next().await {
                if is_message(&answer) {
                    messages.push(answer);
                }
            }
            true
        };
        let confirmed = tokio::select! {
            confirmed = withdrawn => confirmed,
            // Without a connection nobody confirms the end, and nothing can arrive either.
            _ = lives.wait_for(|now| *now != life) => false,
            () = tokio::time::sleep(CONFIRMATION) => false,
        };
        Withdrawn {
            messages,
            confirmed,
        }
    }
}

/// How many messages the server says it has not sent, at the end of a request.
fn unsent(end: &Message) -> Option<usize> {
    let headers = end.headers.as_ref()?;
    headers.get("Nats-Pending-Messages")?.as_str().parse().ok()
}

pub(crate) fn is_message(answer: &Message) -> bool {
    matches!(answer.status, None | Some(StatusCode::OK))
}
