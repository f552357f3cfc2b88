//! The whole life of a task.

use std::time::Duration;

use goflow::{Backoff, Task};

mod handlers;
mod operations;
mod pushes;

use handlers::*;
use operations::*;
use pushes::*;

on_every_combination! {
    a_handler_says_what_comes_next
    progress_is_seen_and_a_checkpoint_handed_on
    a_silent_handler_is_taken_for_hung

    urgent_tasks_go_first
    a_deadline_ends_a_task_wherever_it_is
    a_unique_key_keeps_a_second_task_out

    many_tasks_are_changed_at_once_and_the_dead_are_grouped
    a_bulk_retry_passes_over_what_has_lost_its_key
    a_queue_is_purged_to_its_end_or_for_a_while
    a_quiet_worker_takes_nothing
}

/// A task that is soon tried again.
fn task(task_type: &str) -> Task {
    Task::json(task_type, &())
        .unwrap()
        .backoff(Backoff::Fixed(Duration::from_millis(10)))
}
