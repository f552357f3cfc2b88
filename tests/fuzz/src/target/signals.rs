//! Signals, tombstones: what travels beside tasks and outcomes, as JSON.

use std::fmt::Debug;

use goflow_core::broker::Tombstone;
use goflow_core::signal::Signal;
use serde::{Serialize, de::DeserializeOwned};

use super::Target;

pub(super) const SIGNAL: Target = Target {
    name: "signal",
    about: "signals and tombstones (JSON)",
    words: &[
        "finished",
        "engine",
        "heartbeat",
        "goodbye",
        "command",
        "quiet",
        "resume",
        "stop",
        "held",
        "part",
        "parts",
        "progress",
        "started_at",
        "lease",
        "\"secs\":",
        "\"nanos\":",
        "1000000000",
        "\"2030-01-31T12:00:00Z\"",
        "\"9999-12-31T23:59:59-23:59\"",
    ],
    run: signal,
};

fn signal(input: &[u8]) {
    both_ways::<Signal>(input);
    both_ways::<Tombstone>(input);
}

/// Holds a value that can be read to being the same after it was written and read.
pub(super) fn both_ways<T: Serialize + DeserializeOwned + Debug + PartialEq>(input: &[u8]) {
    match serde_json::from_slice::<T>(input) {
        Ok(value) => {
            let json = serde_json::to_vec(&value).expect("what was read can be written");
            let again = serde_json::from_slice::<T>(&json).expect("what was written can be read");
            assert_eq!(again, value, "a value changed on its way");
        }
        // Goes to a log, or to nobody: how long it is depends on what was sent, which NATS or Postgres bound.
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
