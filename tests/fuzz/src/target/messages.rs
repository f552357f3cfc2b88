//! The envelope: what travels through JetStream, where anybody with access to NATS can publish.

use goflow_core::broker::Wire;
use goflow_core::outcome::OutcomeBatch;
use goflow_core::state::Live;
use goflow_core::{Backoff, Ctx, State, TaskMessage, limits};

use super::Target;
use crate::check;

pub(super) const TASK: Target = Target {
    name: "task-message",
    about: "the message that asks a worker for an attempt (MessagePack)",
    words: &[
        "\u{81}",
        "v",
        "body",
        "spec",
        "id",
        "namespace",
        "queue",
        "type",
        "payload",
        "bytes",
        "content_type",
        "headers",
        "tags",
        "max_attempts",
        "backoff",
        "timeout",
        "start",
        "priority",
        "deadline",
        "unique",
        "retention",
        "heartbeat_timeout",
        "retry_of",
        "attempt",
        "dispatch",
        "route",
        "recorded",
        "lasting-0",
        "fixed",
        "exponential",
        "list",
        "now",
        "after",
        "at",
        "2030-01-31T12:00:00Z",
    ],
    run: task,
};

pub(super) const OUTCOMES: Target = Target {
    name: "outcomes",
    about: "the message with outcomes of attempts (MessagePack)",
    words: &[
        "v",
        "body",
        "id",
        "route",
        "outcomes",
        "task",
        "attempt",
        "dispatch",
        "verdict",
        "worker",
        "started_at",
        "finished_at",
        "spec",
        "succeeded",
        "failed",
        "error",
        "permanent",
        "retry_after",
        "snoozed",
        "wait",
        "started",
        "released",
        "unserved",
        "bytes",
        "content_type",
        "2030-01-31T12:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
    run: outcomes,
};

fn decoded<T: Wire + std::fmt::Debug + PartialEq>(input: &[u8]) -> Option<T> {
    match T::decode(input) {
        Ok(message) => {
            check::travels(&message);
            Some(message)
        }
        Err(undecodable) => {
            check::reason(&undecodable.to_string());
            None
        }
    }
}

fn task(input: &[u8]) {
    let Some(message) = decoded::<TaskMessage>(input) else {
        return;
    };
    // What a broker makes of it.
    check::reason(&message.channel());
    check::reason(&message.id().to_string());
    // What a worker and a store make of it.
    message.spec.id.created_at();
    message.spec.backoff.wait(message.attempt, 0.5);
    limits::check(&message.spec).expect("what arrives is within the limits");
    Ctx::detached(message);
}

fn outcomes(input: &[u8]) {
    let Some(batch) = decoded::<OutcomeBatch>(input) else {
        return;
    };
    for outcome in &batch.outcomes {
        check::moment(outcome.finished_at);
        outcome.started_at.into_iter().for_each(check::moment);
        if let Some(spec) = &outcome.spec {
            limits::check(spec).expect("what arrives is within the limits");
        }
        // The row that fits it, in either of its last attempts.
        for max_attempts in [outcome.attempt, u32::MAX] {
            let row = Live {
                state: State::Queued,
                attempt: outcome.attempt,
                max_attempts,
                dispatch: outcome.dispatch,
                waiting: false,
                starts: 0,
                last_start: None,
                unserved: 0,
            };
            row.next(outcome, &Backoff::default(), false, 0.5);
        }
    }
}
