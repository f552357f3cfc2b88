//! What an executable handler writes into its pipe.

use gf_worker::executable::{control_line, control_pieces};
use goflow_core::{Content, Ctx, Route, StoreId, Task, TaskMessage};
use uuid::Uuid;

use super::Target;
use crate::check;

pub(super) const CONTROL: Target = Target {
    name: "control",
    about: "lines that a handler writes to GF_CONTROL (JSON)",
    words: &[
        "{\"progress\":",
        "{\"checkpoint\":",
        "{\"heartbeat\":true}",
        "\"heartbeat\":",
        "null",
        "\n",
        "\r\n",
        "[[[[",
        "\\ud800",
        "1e400",
        "0.5",
        "{\"",
        "\":",
    ],
    run,
};

fn ctx() -> Ctx {
    let task = Task::new("t", Content::binary("x")).expect("a name");
    Ctx::detached(TaskMessage {
        spec: task.into_spec().expect("a task within the limits").into(),
        attempt: 1,
        dispatch: 1,
        route: Route::of_store(StoreId(Uuid::nil()), true),
        recorded: true,
    })
}

fn run(input: &[u8]) {
    let ctx = ctx();
    for line in input.split(|byte| *byte == b'\n') {
        if let Err(reason) = control_line(&ctx, line) {
            check::reason(&reason);
        }
    }
    // However a pipe cuts it.
    let whole = control_pieces(&ctx, &[input]);
    let middle = input.len() / 2;
    let pieces: Vec<&[u8]> = input.chunks(input.len() / 7 + 1).collect();
    assert_eq!(
        control_pieces(&ctx, &[&input[..middle], &input[middle..]]),
        whole
    );
    assert_eq!(control_pieces(&ctx, &pieces), whole);
}
