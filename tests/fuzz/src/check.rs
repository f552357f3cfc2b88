//! Promises that several targets hold their decoders to.

use std::fmt::Debug;

use gf_gateway::fuzzing::{Refused, refused};
use goflow_core::broker::Wire;
use goflow_core::{Deadline, Route, Start, StoreId, Task, TaskMessage, TaskSpec, limits};
use time::{OffsetDateTime, UtcOffset};
use uuid::Uuid;

/// The longest error, in bytes: some lines of a terminal, and well below what a header may have.
pub const MAX_REASON: usize = 1024;

/// What JetStream takes by default, in bytes.
const MAX_MESSAGE: usize = 1024 * 1024;

/// Holds an error to what errors are: something, on one line, and not as long as its cause may be.
///
/// # Panics
/// If it is not.
pub fn reason(text: &str) {
    assert!(!text.is_empty(), "an error says nothing");
    let shown: String = text.chars().take(200).collect();
    assert!(
        text.len() <= MAX_REASON,
        "an error of {} bytes: {shown}",
        text.len()
    );
    assert!(
        !text.chars().any(char::is_control),
        "an error with control characters: {shown:?}"
    );
}

/// Holds the gateway's answer to a mistake to its form, and to being the client's fault.
///
/// # Panics
/// If it is not so.
pub fn refusal(Refused(body): &Refused) {
    let body: serde_json::Value = serde_json::from_slice(body).expect("a problem is JSON");
    let status = body["status"].as_u64();
    assert!(
        status.is_some_and(|status| (400..500).contains(&status)),
        "{body}"
    );
    reason(body["detail"].as_str().expect("a problem has a detail"));
}

/// Holds a time to what it may be: one that can be shown, and told in UTC, as Postgres wants it.
///
/// # Panics
/// If it is not.
pub fn moment(time: OffsetDateTime) {
    let utc = time.checked_to_offset(UtcOffset::UTC);
    assert!(
        utc.is_some_and(|utc| (0..=9999).contains(&utc.year())),
        "{time:?} is beyond what can be kept"
    );
}

/// Holds a message to being the same after a journey.
///
/// # Panics
/// If it is not.
pub fn travels<T: Wire + Debug + PartialEq>(message: &T) -> usize {
    let bytes = message.encode().expect("a message can be encoded");
    let arrived = T::decode(&bytes).expect("what was encoded can be decoded");
    assert_eq!(&arrived, message, "a message changed on its way");
    bytes.len()
}

/// Holds a task that a surface let pass to the limits, and to reaching a worker as it is.
///
/// # Panics
/// If it is not so.
pub fn task(task: Task) {
    match task.into_spec() {
        Ok(spec) => accepted(spec),
        Err(error) => refusal(&refused(error)),
    }
}

fn accepted(spec: TaskSpec) {
    limits::check(&spec).expect("an accepted task is within the limits");
    if let Start::At(time) = spec.start {
        moment(time);
    }
    if let Some(Deadline::At(time)) = spec.deadline {
        moment(time);
    }
    let message = TaskMessage {
        spec: spec.into(),
        attempt: 1,
        dispatch: 1,
        route: Route::of_store(StoreId(Uuid::nil()), true),
        recorded: true,
    };
    let bytes = travels(&message);
    assert!(bytes <= MAX_MESSAGE, "a message of {bytes} bytes");
}
