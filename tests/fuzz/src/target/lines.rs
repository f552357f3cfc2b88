//! The lines of `gf push --batch`, up to the gateway that takes them.

use std::sync::OnceLock;

use clap::Parser;
use gf::{Cli, Command};
use gf_gateway::fuzzing as gateway;
use serde_json::Value;

use super::Target;
use crate::check;

pub(super) const LINES: Target = Target {
    name: "lines",
    about: "the lines of gf push --batch: a byte that says of which content, then lines",
    words: &[
        "\n", "\r\n", "\n\n", "{\"a\":", "\"", "\\u0000", "[[[[", "]]]]", "1e400", "\u{1}",
    ],
    run,
};

const CALL: &[&str] = &["gf", "push", "t", "--batch", "-"];

/// The flags of the call.
const FLAGS: [&[&str]; 4] = [
    &[],
    &["--unique", "k"],
    &["--content-type", "text/plain"],
    &["--content-type", "image/png"],
];

/// The calls, read once.
static CALLS: OnceLock<Vec<Cli>> = OnceLock::new();

fn calls() -> Vec<Cli> {
    let call = |flags: &&[&str]| Cli::parse_from([CALL, flags].concat());
    FLAGS.iter().map(call).collect()
}

fn run(input: &[u8]) {
    let Some((which, lines)) = input.split_first() else {
        return;
    };
    let calls = CALLS.get_or_init(calls);
    let Command::Push(push) = &calls[usize::from(*which) % calls.len()].command else {
        unreachable!("a push is a push");
    };
    for body in gf::push_bodies((**push).clone(), lines).expect("a template") {
        match body {
            Ok(body) => delivered(&body),
            Err(error) => check::reason(&format!("{error:#}")),
        }
    }
}

/// What the command line makes of lines is what the gateway reads, but that it may find a payload too deep.
fn delivered(body: &[u8]) {
    let sent: Value = match serde_json::from_slice(body) {
        Ok(sent) => sent,
        // A payload that is deeper, or a number greater, than a value of this reader can be.
        Err(error) => return assert!(error.is_syntax(), "{error}"),
    };
    let lines = sent["tasks"].as_array().map_or(0, Vec::len);
    match gateway::many(body) {
        Ok(tasks) => {
            assert_eq!(tasks.len(), lines);
            tasks.into_iter().for_each(check::task);
        }
        Err(problem) => {
            check::refusal(&problem);
            let said = String::from_utf8_lossy(&problem.0);
            assert!(said.contains("nested deeper"), "{said}");
        }
    }
}
