//! Publishing many messages with one confirmation for each stream: fast ingest, as described in
//! <https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md>.
//!
//! The reply subject of a message says which of its batch it is. The server stores each as it comes, and says how far
//! it has come now and then, and when it has stored the last one.

use std::collections::HashMap;
use std::sync::Arc;

use async_nats::{Message, Subscriber};
use futures_util::{StreamExt, stream};
use goflow_core::broker::Error;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error;
use crate::link::{Link, WINDOW};
use crate::publish::{OPERATION, Outgoing, message_id, try_once};
use crate::topology::Address;

/// Messages after which the server is asked to say how far it has come: more than a batch has, for who publishes one
/// waits for its end. The server says so more often if there are other batches.
const FLOW: usize = WINDOW;

/// What a message does to its batch.
#[derive(Debug, Clone, Copy)]
enum Step {
    Start,
    Append,
    Commit,
}

impl Step {
    /// The end of a reply subject.
    fn suffix(self) -> &'static str {
        match self {
            Self::Start => ".0.$FI",
            Self::Append => ".1.$FI",
            Self::Commit => ".2.$FI",
        }
    }
}

/// What the server says of a batch. What has no type is the confirmation of a publish, or its refusal.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a str>,
    error: Option<IgnoredAny>,
    stream: Option<&'a str>,
    /// Messages stored, from the first on.
    count: Option<usize>,
}

/// Publishes what goes out together, one batch a stream.
pub(crate) struct Batches<'a> {
    link: &'a Link,
    /// Where the server answers; none before there is a batch of two.
    inbox: Option<Inbox>,
    open: Vec<Batch>,
}

/// The messages of one stream.
struct Batch {
    address: Arc<Address>,
    /// The latest one, not sent yet: the last of all is sent in another way.
    latest: Outgoing,
    /// The places of all of them.
    places: Vec<usize>,
}

struct Inbox {
    /// What the reply subjects of all its messages begin with.
    prefix: String,
    answers: Subscriber,
}

impl<'a> Batches<'a> {
    pub(crate) fn new(link: &'a Link) -> Self {
        Self {
            link,
            inbox: None,
            open: Vec::new(),
        }
    }

    /// Adds a message, known by its `place` from here on.
    pub(crate) async fn add(&mut self, place: usize, message: Outgoing) -> Result<(), Error> {
        let stream = &message.address.stream;
        let Some(batch) = self.open.iter_mut().find(|b| b.address.stream == *stream) else {
            self.open.push(Batch {
                address: message.address.clone(),
                latest: message,
                places: vec![place],
            });
            return Ok(());
        };
        let before = std::mem::replace(&mut batch.latest, message);
        let number = batch.places.len();
        batch.places.push(place);
        let step = match number {
            1 => Step::Start,
            _ => Step::Append,
        };
        let inbox = match &self.inbox {
            Some(inbox) => inbox,
            None => self.inbox.insert(Inbox::open(self.link).await?),
        };
        inbox.send(self.link, before, number, step).await
    }

    /// Ends all batches, and tells of each message what became of it, by its place. Those that it does not tell of may
    /// be stored or not.
    pub(crate) async fn end(
        self,
        mut tell: impl FnMut(usize, Result<(), Error>),
    ) -> Result<(), Error> {
        let (single, many): (Vec<_>, Vec<_>) =
            (self.open.into_iter()).partition(|batch| batch.places.len() == 1);
        let link = self.link;
        let mut waiting = HashMap::new();
        if let Some(inbox) = &self.inbox {
            for batch in many {
                let number = batch.places.len();
                inbox.send(link, batch.latest, number, Step::Commit).await?;
                waiting.insert(batch.address.stream.clone(), batch.places);
            }
        }
        let mut single = stream::iter(single)
            .map(|batch| async move { (batch.places, try_once(link, batch.latest).await) })
            .buffer_unordered(WINDOW);
        while let Some((places, result)) = single.next().await {
            places
                .into_iter()
                .for_each(|place| tell(place, result.clone()));
        }
        let Some(mut inbox) = self.inbox else {
            return Ok(());
        };
        while !waiting.is_empty() {
            let answer = inbox.answers.next().await.ok_or(Error::Closed)?;
            let Some((stream, count)) = ended(&answer)? else {
                continue;
            };
            match waiting.remove(stream) {
                Some(places) if places.len() == count => {
                    places.into_iter().for_each(|place| tell(place, Ok(())));
                }
                _ => return Err(not_whole()),
            }
        }
        Ok(())
    }
}

impl Inbox {
    async fn open(link: &Link) -> Result<Self, Error> {
        let subject = link.client().new_inbox();
        let answers = link.client().subscribe(format!("{subject}.>")).await;
        let answers = answers.map_err(|error| error::subscribe(OPERATION, error))?;
        let prefix = format!("{subject}.{FLOW}.fail.");
        Ok(Self { prefix, answers })
    }

    /// Sends a message, the `number`th of its batch. The last token of the inbox is the name of the batch.
    async fn send(
        &self,
        link: &Link,
        message: Outgoing,
        number: usize,
        step: Step,
    ) -> Result<(), Error> {
        let reply = [&self.prefix, number.to_string().as_str(), step.suffix()].concat();
        let headers = message_id(&message.id);
        link.client()
            .publish_with_reply_and_headers(message.subject, reply, headers, message.payload)
            .await
            .map_err(|error| error::publish(OPERATION, error))
    }
}

/// The stream whose batch has ended, and how many of its messages are stored; none if the server only says how far it
/// has come. After anything else nothing is known: a message that there was no room for on the disk is counted with
/// those that came after it.
fn ended(answer: &Message) -> Result<Option<(&str, usize)>, Error> {
    match serde_json::from_slice(&answer.payload) {
        Ok(Answer {
            kind: None,
            error: None,
            stream: Some(stream),
            count: Some(count),
        }) => Ok(Some((stream, count))),
        Ok(Answer {
            kind: Some("ack"), ..
        }) => Ok(None),
        _ => Err(not_whole()),
    }
}

fn not_whole() -> Error {
    Error::unavailable(OPERATION, "a batch was not stored whole")
}
