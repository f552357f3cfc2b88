//! JSON columns of the store: what rows hold of a task beside plain values. Their reader over a connection, which
//! takes what it does not know for absent, cannot be called without one.

use std::collections::BTreeMap;

use goflow_core::record::FailedAttempt;
use goflow_core::{Backoff, Deadline, Start, Unique};

use super::Target;
use super::signals::both_ways;

pub(super) const COLUMNS: Target = Target {
    name: "columns",
    about: "JSON columns of the store",
    words: &[
        "\"fixed\":",
        "\"exponential\":",
        "\"list\":",
        "\"first\":",
        "\"most\":",
        "\"secs\":",
        "\"nanos\":",
        "18446744073709551615",
        "1000000000",
        "\"after\":",
        "\"at\":",
        "\"now\"",
        "\"key\":",
        "\"period\":",
        "\"on_conflict\":",
        "\"existing\"",
        "\"reject\"",
        "\"2030-01-31T12:00:00Z\"",
        "\"9999-12-31T23:59:59-23:59\"",
    ],
    run,
};

fn run(input: &[u8]) {
    both_ways::<Backoff>(input);
    both_ways::<Start>(input);
    both_ways::<Deadline>(input);
    both_ways::<Unique>(input);
    both_ways::<BTreeMap<String, String>>(input);
    both_ways::<Vec<FailedAttempt>>(input);
    if let Ok(backoff) = serde_json::from_slice::<Backoff>(input) {
        for attempt in [1, 2, 33, u32::MAX] {
            assert!(backoff.wait(attempt, 1.0) <= goflow_core::backoff::MAX_BACKOFF * 2);
        }
    }
}
