//! Every committed input, and some thousands made of them.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use goflow_fuzz::mutate::Mutator;
use goflow_fuzz::{ALL, Target, corpus, find};

/// Inputs made of the corpus of each target: the same ones each time, so that a failure stays.
const MADE: usize = 3_000;

fn hold(name: &str) {
    let target = find(name).unwrap();
    let inputs = corpus::of(target.name).unwrap();
    for input in &inputs {
        run(target, input);
    }
    let mut mutator = Mutator::new(1, target.words);
    for _ in 0..MADE {
        run(target, &mutator.next(&inputs));
    }
}

/// Says which input it was that broke a promise.
fn run(target: &Target, input: &[u8]) {
    let run = std::panic::catch_unwind(|| (target.run)(input));
    if run.is_err() {
        panic!("{} fails at {}", target.name, input.escape_ascii());
    }
}

macro_rules! targets {
    ($($test:ident: $name:literal,)*) => {
        $(
            #[test]
            fn $test() {
                hold($name);
            }
        )*

        const TESTED: &[&str] = &[$($name),*];
    };
}

targets! {
    task_message: "task-message",
    outcomes: "outcomes",
    signal: "signal",
    columns: "columns",
    names: "names",
    durations: "durations",
    push: "push",
    push_batch: "push-batch",
    change: "change",
    query: "query",
    grpc: "grpc",
    control: "control",
    lines: "lines",
    settings: "settings",
    urls: "urls",
}

#[test]
fn every_target_and_every_corpus_is_tested() {
    let mut targets: Vec<&str> = ALL.iter().map(|target| target.name).collect();
    targets.sort_unstable();
    let mut tested = TESTED.to_vec();
    tested.sort_unstable();
    assert_eq!(targets, tested);
    let mut corpora: Vec<String> = std::fs::read_dir(corpus::root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    corpora.sort();
    assert_eq!(targets, corpora);
}
