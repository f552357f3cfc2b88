//! The contract of the store port, clause by clause.
//!
//! An adapter runs it with [`store_suite!`](crate::store_suite), which makes one test of each clause, each with a
//! fixture of its own.

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use goflow_core::outcome::{Outcome, Verdict};
use goflow_core::record::TaskRecord;
use goflow_core::state::Policy;
use goflow_core::store::{
    Accepted, Applied, Claim, Dispatch, Due, Error, IdempotencyKey, NewTasks,
};
use goflow_core::{Backoff, Content, Priority, Start, TaskId, TaskSpec, TaskStore, WorkerId};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

mod accept;
mod apply;
mod bind;
mod change;
mod dead;
mod deadline;
mod dispatch;
mod held;
mod list;
mod model;
mod pause;
mod rowless;
mod snooze;
mod unique;
mod walk;

pub use accept::{
    absent_is_no_error, accepted_is_got_equal, concurrent_writers, first_state, full_store,
    ids_exist_once, keys_are_folded, keys_repeat, keys_under_contention, large_batch,
    options_travel, requests_are_all_or_none, unfit_requests,
};
pub use apply::{
    bad_outcome, clipped_error, concurrent_appliers, crashes, duplicate_outcomes,
    failures_to_the_end, fences, many_outcomes_of_one, permanent_failure, release,
    results_are_kept, retries, unserved, unserved_but_served,
};
pub use bind::{another_broker, claims, foreign_broker, same_broker};
pub use change::{
    cancel, late_outcome_of_a_reopened_task, refusals, reopen, reopen_keeps_attempts,
};
pub use dead::{dead_groups, dead_since};
pub use deadline::{
    deadline_bounds_waits, deadlines_expire_tasks, deadlines_of_reopened_tasks,
    dispatched_until_its_deadline, late_from_the_start,
};
pub use dispatch::{
    claim_limit, confirmed_is_left_alone, disjoint_claims, late_confirmation, not_before_its_time,
    sweep,
};
pub use held::{held_rows_are_left_alone, nothing_can_be_dispatched, unknown_holders};
pub use list::{counts, filters, large_content_is_omitted, pages, pages_while_tasks_arrive};
pub use pause::paused_queues;
pub use rowless::{
    rowless_duplicates, rowless_failures, rowless_race, rowless_retry, rowless_start,
    rowless_success,
};

pub use snooze::{retry_after, snooze};
pub use unique::{
    freed_keys, unique_and_idempotent, unique_batches, unique_folds, unique_for_a_period,
    unique_under_contention, unique_when_reopened, unique_while_live,
};
pub use walk::random_walk;

/// What the suite needs of an adapter.
pub trait Fixture: Send + Sync {
    /// An empty store that takes this many unfinished tasks.
    fn open(&self, max_live: usize) -> impl Future<Output = Arc<dyn TaskStore>> + Send;
}

/// Makes a test of each clause. Takes the path of an async function that gives a [`Fixture`], and what
/// `#[tokio::test]` is to be told.
#[macro_export]
macro_rules! store_suite {
    ($start:path, $($how:tt)*) => {
        $crate::store_suite! { @clauses $start, ($($how)*),
            absent_is_no_error accepted_is_got_equal concurrent_writers first_state full_store ids_exist_once
            keys_are_folded keys_repeat keys_under_contention large_batch options_travel requests_are_all_or_none unfit_requests
            bad_outcome clipped_error concurrent_appliers crashes duplicate_outcomes failures_to_the_end fences
            many_outcomes_of_one permanent_failure release results_are_kept retries unserved unserved_but_served
            another_broker claims foreign_broker same_broker
            cancel late_outcome_of_a_reopened_task refusals reopen reopen_keeps_attempts
            claim_limit confirmed_is_left_alone disjoint_claims late_confirmation not_before_its_time sweep
            dead_groups dead_since
            deadline_bounds_waits deadlines_expire_tasks deadlines_of_reopened_tasks dispatched_until_its_deadline
            late_from_the_start
            held_rows_are_left_alone nothing_can_be_dispatched unknown_holders
            counts filters large_content_is_omitted pages pages_while_tasks_arrive
            random_walk
            paused_queues
            retry_after snooze
            freed_keys unique_and_idempotent unique_batches unique_folds unique_for_a_period unique_under_contention
            unique_when_reopened unique_while_live
            rowless_duplicates rowless_failures rowless_race rowless_retry rowless_start rowless_success
        }
    };
    (@clauses $start:path, $how:tt, $($clause:ident)+) => {
        $($crate::store_suite! { @clause $start, $how, $clause })+
    };
    (@clause $start:path, ($($how:tt)*), $clause:ident) => {
        #[tokio::test($($how)*)]
        async fn $clause() {
            let fixture = $start().await;
            $crate::store::$clause(&fixture).await;
        }
    };
}

/// Long enough for anything that has to happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// As long as it takes to believe that nothing will come.
const QUIET: Duration = Duration::from_millis(300);

/// More than any clause needs.
const ROOMY: usize = 1_000_000;

async fn roomy(fixture: &impl Fixture) -> Arc<dyn TaskStore> {
    fixture.open(ROOMY).await
}

/// A task with a small payload and defaults.
///
/// # Panics
/// Never: the names are good.
pub fn spec() -> TaskSpec {
    TaskSpec {
        id: TaskId::new(),
        namespace: Default::default(),
        queue: Default::default(),
        task_type: "suite".parse().expect("a good name"),
        payload: Content::new("{\"n\": 1}", "application/json"),
        headers: BTreeMap::new(),
        tags: BTreeMap::new(),
        max_attempts: 3,
        backoff: Backoff::default(),
        timeout: None,
        start: Start::Now,
        priority: Priority::default(),
        deadline: None,
        unique: None,
        retention: None,
        heartbeat_timeout: None,
        retry_of: None,
    }
}

/// A task whose failed attempts are followed by the next at once.
fn impatient(max_attempts: u32) -> TaskSpec {
    TaskSpec {
        max_attempts,
        backoff: Backoff::Fixed(Duration::ZERO),
        ..spec()
    }
}

fn request(specs: Vec<TaskSpec>) -> NewTasks {
    NewTasks {
        tasks: specs.into_iter().map(Arc::new).collect(),
        key: None,
    }
}

fn keyed(spec: TaskSpec, key: &str, body_hash: u64) -> NewTasks {
    NewTasks {
        tasks: vec![spec.into()],
        key: Some(IdempotencyKey {
            key: key.to_owned(),
            body_hash,
        }),
    }
}

async fn accept_request(store: &dyn TaskStore, request: NewTasks) -> Result<Vec<Accepted>, Error> {
    let mut answers = store.accept(&[request]).await;
    assert_eq!(answers.len(), 1, "one answer for one request");
    answers.remove(0)
}

/// Accepts a task and gives its id.
///
/// # Panics
/// When it is not accepted.
pub async fn accept(store: &dyn TaskStore, spec: TaskSpec) -> TaskId {
    accept_request(store, request(vec![spec]))
        .await
        .expect("accepted")[0]
        .id
}

/// The record of a task that must be there.
///
/// # Panics
/// When it is not.
pub async fn get(store: &dyn TaskStore, id: TaskId) -> TaskRecord {
    store
        .get(&id)
        .await
        .expect("get")
        .expect("a task that is there")
}

/// The present, as exact as any store keeps it.
fn now() -> OffsetDateTime {
    let now = OffsetDateTime::now_utc();
    now.replace_nanosecond(now.nanosecond() / 1_000 * 1_000)
        .expect("fewer nanoseconds")
}

/// What a worker says of an attempt.
pub fn outcome(task: TaskId, attempt: u32, dispatch: u32, verdict: Verdict) -> Outcome {
    Outcome {
        task,
        attempt,
        dispatch,
        verdict,
        worker: WorkerId(Uuid::now_v7()),
        started_at: Some(now()),
        finished_at: now(),
        spec: None,
    }
}

/// A success with a small JSON result.
pub fn success() -> Verdict {
    Verdict::Succeeded(Content::new("{\"ok\": true}", "application/json"))
}

fn failure(error: &str) -> Verdict {
    Verdict::failed(error)
}

/// Applies outcomes and says what each did.
///
/// # Panics
/// When the store does not answer.
pub async fn apply(store: &dyn TaskStore, outcomes: Vec<Outcome>) -> Vec<Applied> {
    let number = outcomes.len();
    let outcomes: Vec<_> = outcomes.iter().collect();
    let applied = store
        .apply(&outcomes, &Policy::default())
        .await
        .expect("apply");
    assert_eq!(applied.len(), number, "one answer for each outcome");
    applied
}

async fn apply_one(store: &dyn TaskStore, outcome: Outcome) -> Applied {
    apply(store, vec![outcome]).await.remove(0)
}

/// Claims what is due while workers hold these; nothing may have expired that is not asked about.
async fn claim_held(store: &dyn TaskStore, limit: usize, held: &[TaskId]) -> Due {
    let held: HashSet<TaskId> = held.iter().copied().collect();
    store
        .claim_due(limit, Claim::All(&held))
        .await
        .expect("claim")
}

/// Claims what is due while no worker holds anything, and gives what is to be dispatched.
async fn claim(store: &dyn TaskStore, limit: usize) -> Vec<Dispatch> {
    claim_held(store, limit, &[]).await.dispatches
}

/// Waits until the store gives out this task, confirms it and gives the dispatch.
async fn dispatched(store: &dyn TaskStore, id: TaskId) -> Dispatch {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for dispatch in claim(store, 100).await {
            store
                .confirm_dispatched(uuid::Uuid::nil(), &[(dispatch.spec.id, dispatch.dispatch)])
                .await
                .expect("confirm");
            if dispatch.spec.id == id {
                return dispatch;
            }
        }
        assert!(Instant::now() < deadline, "task {id} did not come due");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Asks for what is due for a while; nothing may be.
async fn nothing_is_due(store: &dyn TaskStore, for_how_long: Duration) {
    let deadline = Instant::now() + for_how_long;
    while Instant::now() < deadline {
        let due = claim_held(store, 100, &[]).await;
        assert_eq!(due, Due::default(), "due all the same");
        sleep(Duration::from_millis(20)).await;
    }
}
