//! Durations: of flags, and of clients, which have a form more.

use std::time::Duration;

use gf_gateway::fuzzing as gateway;
use serde_json::json;

use super::{Target, text};
use crate::check;

pub(super) const DURATIONS: Target = Target {
    name: "durations",
    about: "durations and times (text)",
    words: &[
        "1h 30m",
        "250ms",
        "years",
        "18446744073709551615",
        "18446744073709551616s",
        "1e400",
        "inf",
        "nan",
        "-0",
        "0x1",
        "2030-01-31T12:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "0000-01-01T00:00:00+23:59",
    ],
    run,
};

fn run(input: &[u8]) {
    let Some(text) = text(input) else { return };
    let flag = gf_process::duration(text);
    match &flag {
        Ok(duration) => assert_eq!(gf_process::duration(&written(*duration)), Ok(*duration)),
        Err(error) => check::reason(error),
    }
    // The same text where clients write a duration, or a time, or either.
    for field in ["delay", "timeout", "deadline", "run_at"] {
        let body = json!({ "type": "t", field: text }).to_string();
        match gateway::one(body.as_bytes(), None) {
            Ok(task) => check::task(task),
            Err(problem) => {
                check::refusal(&problem);
                assert!(
                    field != "delay" || flag.is_err(),
                    "the command line takes {text:?} and the gateway does not"
                );
            }
        }
    }
}

/// A duration as every reader takes it.
fn written(duration: Duration) -> String {
    format!("{}s {}ns", duration.as_secs(), duration.subsec_nanos())
}
