//! Ids, names, routes, states: the words of paths, cursors and messages.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use gf_gateway::fuzzing as gateway;
use goflow_core::{MAX_NAME_BYTES, Namespace, QueueName, Route, State, TaskId, TaskType};

use super::{Target, text};
use crate::check;

pub(super) const NAMES: Target = Target {
    name: "names",
    about: "ids, names, routes and states (text)",
    words: &[
        "lasting-",
        "passing-",
        "default",
        "scheduled",
        "queued",
        "running",
        "urn:uuid:",
        "{",
        "}",
        "00000000-0000-1000-8000-000000000000",
        "ffffffff-ffff-6fff-bfff-ffffffffffff",
        "ffffffff-ffff-7fff-bfff-ffffffffffff",
    ],
    run,
};

fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    for name in [
        shown::<QueueName>(text),
        shown::<TaskType>(text),
        shown::<Namespace>(text),
    ] {
        let Some(name) = name else { continue };
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        assert!((1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(legal));
        assert_eq!(name, text);
    }
    if let Some(state) = shown::<State>(text) {
        assert_eq!(state, text);
    }
    match Route::try_from(text.to_owned()) {
        Ok(route) => {
            assert_eq!(route.as_str(), text);
            assert!(!text.contains(['.', '*', '>', ' ', '\0']));
        }
        Err(error) => check::reason(&error.to_string()),
    }
    match gateway::task_id(text) {
        Ok(id) => time_of(id),
        Err(problem) => check::refusal(&problem),
    }
    if let Err(problem) = gateway::worker_id(text) {
        check::refusal(&problem);
    }
}

/// What a text is shown as once it was read, if it can be; that reads as the same.
fn shown<T: FromStr<Err: Display> + Display + PartialEq + Debug>(text: &str) -> Option<String> {
    match text.parse::<T>() {
        Ok(value) => {
            let shown = value.to_string();
            assert_eq!(shown.parse::<T>().ok(), Some(value));
            Some(shown)
        }
        Err(error) => {
            check::reason(&error.to_string());
            None
        }
    }
}

/// Whatever version an id has, it has a time, and a bound that is not above it.
fn time_of(id: TaskId) {
    assert_eq!(id.to_string().parse::<TaskId>().ok(), Some(id));
    let created = id.created_at();
    let bound = TaskId::lower_bound(created);
    match id.as_uuid().get_version_num() {
        7 => {
            assert!(bound <= id, "{bound} bounds {id}");
            check::moment(created);
        }
        _ => assert_eq!(
            created,
            time::OffsetDateTime::UNIX_EPOCH,
            "{id} is no UUIDv7"
        ),
    }
}
