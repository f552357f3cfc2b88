//! Messages that cannot be decoded are kept where people can look at them, out of the way of the others.

use std::time::Duration;

use async_nats::{HeaderMap, Message};
use goflow_core::broker::{Lease, Undecodable};
use tokio::time::Instant;

use crate::lease::NatsLease;
use crate::link::{DEADLINE, Link};
use crate::publish;
use crate::topology::{self, Address};

/// The room for headers: a message as large as may be would not fit together with its reason.
const HEADER_ROOM: usize = 8 * 1024;

const LONGEST_REASON: usize = 1024;

/// Why it is here.
const REASON: &str = "Gf-Reason";
/// Where it was.
const SUBJECT: &str = "Gf-Subject";
/// Its original length, when not all of it is here.
const CLIPPED: &str = "Gf-Clipped-From";
/// Its own message id: under the original name it would count as this stream's.
const MESSAGE_ID: &str = "Gf-Msg-Id";

/// Quarantines a message of `channel`, under `origin`, on the connection's own time. When that fails, it comes back when its lease has expired.
pub(crate) fn quarantine(
    link: &Link,
    address: &Address,
    message: Message,
    lease: Duration,
    reason: &Undecodable,
) {
    let channel = address.channel.clone();
    tracing::warn!(%channel, subject = %message.subject, %reason, bytes = message.payload.len(), "quarantined a message");
    let headers = headers(&message, &reason.0);
    let subject = topology::quarantine_subject(&address.origin);
    let task = link.clone();
    link.spawn(async move {
        let Some(reply) = message.reply.clone() else {
            return;
        };
        let began = Instant::now();
        let most = task.client().max_payload().saturating_sub(HEADER_ROOM);
        let mut headers = headers;
        let mut payload = message.payload;
        if payload.len() > most {
            headers.insert(CLIPPED, payload.len().to_string());
            payload.truncate(most);
        }
        let kept = publish::publish(
            &task,
            &channel,
            &subject,
            || headers.clone(),
            payload,
            began + DEADLINE,
        )
        .await;
        let done = match kept {
            Ok(()) => {
                NatsLease::new(task, channel.clone(), reply, lease, began)
                    .ack()
                    .await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(%channel, %error, "an undecodable message will be quarantined again");
        }
    });
}

fn headers(message: &Message, reason: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut room = HEADER_ROOM / 2;
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        let name: &str = name.as_ref();
        let size = values
            .iter()
            .map(|value| value.as_str().len() + name.len())
            .sum::<usize>();
        if size > room {
            continue;
        }
        room -= size;
        // The server would act upon its own.
        let name = if name == "Nats-Msg-Id" {
            MESSAGE_ID
        } else {
            name
        };
        if !name.starts_with("Nats-") {
            values
                .iter()
                .for_each(|value| headers.append(name, value.clone()));
        }
    }
    let one_line = reason.chars().map(|c| if c.is_control() { ' ' } else { c });
    headers.insert(REASON, one_line.take(LONGEST_REASON).collect::<String>());
    headers.insert(SUBJECT, message.subject.as_str());
    headers
}
