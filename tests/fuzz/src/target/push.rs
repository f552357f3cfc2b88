//! The bodies of requests that change something.

use gf_gateway::fuzzing as gateway;
use goflow_core::limits::MAX_BATCH;
use goflow_core::record::Filter;

use super::Target;
use crate::check;

const WORDS: &[&str] = &[
    "\"type\":",
    "\"payload\":",
    "\"content_type\":",
    "\"text/plain\"",
    "\"image/png\"",
    "\"application/json\"",
    "\"queue\":",
    "\"priority\":",
    "\"delay\":",
    "\"run_at\":",
    "\"max_attempts\":",
    "\"backoff\":",
    "\"fixed\":",
    "\"exponential\":",
    "\"first\":",
    "\"most\":",
    "\"list\":",
    "\"timeout\":",
    "\"deadline\":",
    "\"unique\":",
    "\"key\":",
    "\"period\":",
    "\"on_conflict\":",
    "\"reject\"",
    "\"retention\":",
    "\"heartbeat_timeout\":",
    "\"headers\":",
    "\"tags\":",
    "\"tasks\":",
    "null",
    "\\u0000",
    "\\ud800",
    "[[[[",
    "{\"a\":",
    "\"2030-01-31T12:00:00Z\"",
    "\"9999-12-31T23:59:59-23:59\"",
    "\"0000-01-01T00:00:00+23:59\"",
    "18446744073709551615",
    "-9223372036854775808",
    "1e400",
    "4294967296",
    "\"366d\"",
];

pub(super) const ONE: Target = Target {
    name: "push",
    about: "the body of POST /v1/tasks, a trace before its first NUL (JSON)",
    words: WORDS,
    run: one,
};

pub(super) const MANY: Target = Target {
    name: "push-batch",
    about: "the body of POST /v1/tasks/batch (JSON)",
    words: WORDS,
    run: many,
};

pub(super) const CHANGE: Target = Target {
    name: "change",
    about: "the bodies of bulk cancel and retry, and of purge (JSON)",
    words: &[
        "\"filter\":",
        "\"state\":",
        "\"failed, crashed\"",
        "[\"failed\"]",
        "\"type\":",
        "\"queue\":",
        "\"since\":",
        "\"until\":",
        "\"limit\":",
        "\"confirm\":",
        "18446744073709551615",
        "\"2030-01-31T12:00:00Z\"",
        "\"9999-12-31T23:59:59-23:59\"",
    ],
    run: change,
};

fn one(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == 0);
    let (trace, body) = at.map_or((None, input), |at| (Some(&input[..at]), &input[at + 1..]));
    let trace = trace.and_then(super::text);
    match gateway::one(body, trace) {
        Ok(task) => check::task(task),
        Err(problem) => check::refusal(&problem),
    }
}

fn many(input: &[u8]) {
    match gateway::many(input) {
        Ok(tasks) => {
            assert!((1..=MAX_BATCH).contains(&tasks.len()));
            tasks.into_iter().for_each(check::task);
        }
        Err(problem) => check::refusal(&problem),
    }
}

fn change(input: &[u8]) {
    match gateway::change(input) {
        Ok((filter, _)) => {
            assert_ne!(filter, Filter::default(), "a filter that lets all pass");
            for time in [filter.since, filter.until].into_iter().flatten() {
                check::moment(time);
            }
        }
        Err(problem) => check::refusal(&problem),
    }
    if let Err(problem) = gateway::confirmation(input) {
        check::refusal(&problem);
    }
}
