//! The wire format: a MessagePack map with a version. Unknown fields are ignored, so that it can grow. What is as it is by
//! default is left out: within a version, the defaults of what travels stay as they are. To leave out more takes another version.

use std::fmt;
use std::hash::Hash;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::id::TaskId;
use crate::limits;
use crate::outcome::OutcomeBatch;
use crate::task::TaskMessage;

/// The version every message carries. A reader refuses a newer one. Before 2 nothing that an attempt needs was left out, and
/// content types were text; that is read, too.
pub const WIRE_VERSION: u32 = 2;

/// Bytes that are no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("undecodable message: {0}")]
pub struct Undecodable(pub String);

/// Longest reason, in characters before they are escaped.
const MAX_REASON: usize = 200;

impl Undecodable {
    /// A reason that may quote what was sent: one line of it, and not as much as there is.
    fn because(reason: &str) -> Self {
        let shown: String = reason.chars().take(MAX_REASON).collect();
        let line = shown.chars().flat_map(|character| {
            let (escaped, plain) = match character.is_control() {
                true => (Some(character.escape_default()), None),
                false => (None, Some(character)),
            };
            escaped.into_iter().flatten().chain(plain)
        });
        Self(line.collect())
    }
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    v: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Incoming<T> {
    v: u32,
    body: T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// A message that a [`Broker`](super::Broker) moves.
pub trait Wire: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What tells it from other messages, and not from another publish of the same.
    type Id: fmt::Display + Hash + Eq + Copy + Send + Sync;

    /// The channel it goes to.
    fn channel(&self) -> String;

    /// Whether it goes to this channel: for less than it costs to name it.
    fn goes_to(&self, channel: &str) -> bool;

    /// A token that says more of it, for subjects: the type of a task.
    fn token(&self) -> &str;

    /// The id by which a broker knows a repeated publish.
    fn id(&self) -> Self::Id;

    /// The room in bytes that is made for it at once: about what it takes, no bound.
    fn room(&self) -> usize;

    /// Refuses what decodes but cannot be meant.
    ///
    /// # Errors
    /// The reason.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// The message as bytes.
    ///
    /// # Errors
    /// What `rmp-serde` says, which for these types is nothing.
    fn encode(&self) -> Result<Vec<u8>, Undecodable> {
        let mut bytes = Vec::with_capacity(self.room());
        let outgoing = Outgoing {
            v: WIRE_VERSION,
            body: self,
        };
        rmp_serde::encode::write_named(&mut bytes, &outgoing)
            .map_err(|e| Undecodable(e.to_string()))?;
        Ok(bytes)
    }

    /// The message that these bytes are.
    ///
    /// # Errors
    /// [`Undecodable`] with the reason, for people.
    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let incoming = match rmp_serde::from_slice::<Incoming<Self>>(bytes) {
            Ok(incoming) => incoming,
            Err(error) => {
                let newer = rmp_serde::from_slice::<Version>(bytes)
                    .is_ok_and(|version| version.v > WIRE_VERSION);
                let hint = if newer { " (from a newer goflow)" } else { "" };
                let Undecodable(reason) = Undecodable::because(&error.to_string());
                return Err(Undecodable(format!("{reason}{hint}")));
            }
        };
        if incoming.v > WIRE_VERSION {
            return Err(Undecodable(format!(
                "wire version {}, {WIRE_VERSION} is the newest known",
                incoming.v
            )));
        }
        let checked = incoming.body.check();
        checked.map_err(|reason| Undecodable::because(&reason))?;
        Ok(incoming.body)
    }
}

/// What a message takes beside its content, if it has no options; an outcome half of it.
const ROOM: usize = 288;

/// The id of a message that asks for an attempt: shown as `<task>:<dispatch>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DispatchId {
    /// The task.
    pub task: TaskId,
    /// Which decision to dispatch it was, from 1.
    pub dispatch: u32,
}

impl fmt::Display for DispatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.task, self.dispatch)
    }
}

impl Wire for TaskMessage {
    type Id = DispatchId;

    fn channel(&self) -> String {
        self.spec.lane()
    }

    fn goes_to(&self, channel: &str) -> bool {
        self.spec.priority.is_lane(&self.spec.queue, channel)
    }

    fn token(&self) -> &str {
        self.spec.task_type.as_str()
    }

    fn id(&self) -> DispatchId {
        DispatchId {
            task: self.spec.id,
            dispatch: self.dispatch,
        }
    }

    fn room(&self) -> usize {
        ROOM + self.spec.size()
    }

    fn check(&self) -> Result<(), String> {
        if self.attempt == 0 || self.dispatch == 0 {
            return Err("attempt and dispatch start at 1".into());
        }
        limits::check(&self.spec).map_err(|error| error.to_string())
    }
}

impl Wire for OutcomeBatch {
    type Id = Uuid;

    fn channel(&self) -> String {
        self.route.as_str().to_owned()
    }

    fn goes_to(&self, channel: &str) -> bool {
        self.route.as_str() == channel
    }

    fn token(&self) -> &str {
        "outcomes"
    }

    fn id(&self) -> Uuid {
        self.id
    }

    fn room(&self) -> usize {
        let outcomes = self.outcomes.iter();
        ROOM + outcomes
            .map(|one| ROOM / 2 + one.content_size())
            .sum::<usize>()
    }

    fn check(&self) -> Result<(), String> {
        for outcome in &self.outcomes {
            limits::check_time("finished_at", outcome.finished_at)
                .and_then(|()| match outcome.started_at {
                    Some(time) => limits::check_time("started_at", time),
                    None => Ok(()),
                })
                .and_then(|()| outcome.spec.as_deref().map_or(Ok(()), limits::check))
                .map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::content::Content;
    use crate::id::{Route, StoreId};
    use crate::outcome::{Outcome, Verdict};
    use crate::task::Task;

    fn message() -> TaskMessage {
        let task = Task::new("echo", Content::binary(&b"\xff\x00"[..]))
            .unwrap()
            .header("a", "b");
        let route = Route::of_store(StoreId(uuid::Uuid::nil()), true);
        TaskMessage {
            spec: task.spec,
            attempt: 1,
            dispatch: 1,
            route,
            recorded: true,
        }
    }

    fn started(task: TaskId) -> Outcome {
        Outcome {
            task,
            attempt: 1,
            dispatch: 1,
            verdict: Verdict::Started,
            worker: crate::WorkerId(uuid::Uuid::nil()),
            started_at: None,
            finished_at: time::OffsetDateTime::UNIX_EPOCH,
            spec: None,
        }
    }

    fn spec_of(message: &mut TaskMessage) -> &mut crate::task::TaskSpec {
        std::sync::Arc::make_mut(&mut message.spec)
    }

    #[test]
    fn messages_read_as_they_are_written() {
        let message = message();
        assert_eq!(TaskMessage::decode(&message.encode().unwrap()), Ok(message));
    }

    /// A server writes each message to a file, some of them twice.
    #[test]
    fn a_plain_message_has_little_beside_its_payload() {
        let task = Task::new("echo", Content::new("{}", "application/json")).unwrap();
        let route = Route::of_store(StoreId(uuid::Uuid::nil()), true);
        let message = TaskMessage {
            spec: task.spec,
            attempt: 1,
            dispatch: 1,
            route: route.clone(),
            recorded: true,
        };
        let bytes = message.encode().unwrap();
        assert!(bytes.len() <= 160, "{} bytes", bytes.len());
        assert_eq!(TaskMessage::decode(&bytes), Ok(message.clone()));

        let outcome = Outcome {
            verdict: Verdict::Succeeded(Content::new("{}", "application/json")),
            started_at: Some(time::OffsetDateTime::UNIX_EPOCH),
            ..started(message.spec.id)
        };
        let batch = OutcomeBatch {
            id: uuid::Uuid::nil(),
            route,
            outcomes: vec![outcome; 100],
        };
        let bytes = batch.encode().unwrap();
        assert!(bytes.len() <= 13_000, "{} bytes", bytes.len());
        assert_eq!(OutcomeBatch::decode(&bytes), Ok(batch));
    }

    /// What a newer goflow of the same wire version may write: more fields than this one knows.
    #[test]
    fn unknown_fields_are_ignored() {
        #[derive(Serialize)]
        struct Newer {
            v: u32,
            body: Body,
            extra: &'static str,
        }
        #[derive(Serialize)]
        struct Body {
            #[serde(flatten)]
            message: TaskMessage,
            priority: u8,
        }
        let newer = Newer {
            v: WIRE_VERSION,
            body: Body {
                message: message(),
                priority: 3,
            },
            extra: "x",
        };
        let bytes = rmp_serde::to_vec_named(&newer).unwrap();
        assert_eq!(
            TaskMessage::decode(&bytes).unwrap().spec.payload,
            message().spec.payload
        );
    }

    /// As version 1 wrote it: nothing that an attempt needs is left out, and content types are text.
    #[test]
    fn the_version_before_is_read() {
        let mut message = message();
        spec_of(&mut message).id = TaskId::from(uuid::Uuid::nil());
        let written = b"\x82\xa1v\x01\xa4body\x85\
            \xa4spec\x86\xa2id\xc4\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\xa5queue\xa7default\xa4type\xa4echo\
            \xa7payload\x82\xa5bytes\xc4\x02\xff\x00\xaccontent_type\xb8application/octet-stream\
            \xa7headers\x81\xa1a\xa1b\xacmax_attempts\x03\
            \xa7attempt\x01\xa8dispatch\x01\xa5route\xd9(lasting-00000000000000000000000000000000\xa8recorded\xc3";
        assert_eq!(TaskMessage::decode(written), Ok(message));
    }

    #[test]
    fn a_newer_version_is_refused_by_name() {
        #[derive(Serialize, Deserialize)]
        struct Future {
            v: u32,
            body: u32,
        }
        let bytes = rmp_serde::to_vec_named(&Future {
            v: WIRE_VERSION + 1,
            body: 1,
        })
        .unwrap();
        let refused = TaskMessage::decode(&bytes).unwrap_err().to_string();
        assert!(refused.contains("newer goflow"), "{refused}");
    }

    /// What would have a worker's clock, or a store's, overflow.
    #[test]
    fn what_is_beyond_the_limits_is_refused() {
        let beyond = time::macros::datetime!(9999-12-31 23:59:59 -23:59);
        let mut forged = message();
        spec_of(&mut forged).timeout = Some(std::time::Duration::MAX);
        assert!(TaskMessage::decode(&forged.encode().unwrap()).is_err());
        let mut forged = message();
        spec_of(&mut forged).deadline = Some(crate::Deadline::At(beyond));
        assert!(TaskMessage::decode(&forged.encode().unwrap()).is_err());
        let batch = OutcomeBatch {
            id: uuid::Uuid::nil(),
            route: forged.route,
            outcomes: vec![Outcome {
                finished_at: beyond,
                ..started(forged.spec.id)
            }],
        };
        assert!(OutcomeBatch::decode(&batch.encode().unwrap()).is_err());
    }

    #[test]
    fn a_reason_is_one_short_line() {
        let bytes = rmp_serde::to_vec_named(&std::collections::BTreeMap::from([(
            "v".to_owned(),
            "\n\u{1b}".repeat(100_000),
        )]));
        let reason = TaskMessage::decode(&bytes.unwrap()).unwrap_err().0;
        assert!(
            reason.len() < 2_000 && !reason.contains(char::is_control),
            "{reason}"
        );
    }

    #[test]
    fn garbage_is_an_error_with_a_reason() {
        let mut forged = message();
        forged.attempt = 0;
        let forged = forged.encode().unwrap();
        for bytes in [
            &b""[..],
            b"hello",
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
            &[0xc6, 0xff, 0xff, 0xff, 0xff],
            &forged,
        ] {
            assert!(!TaskMessage::decode(bytes).unwrap_err().0.is_empty());
        }
    }
}
