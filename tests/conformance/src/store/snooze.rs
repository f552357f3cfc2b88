//! Waits that a handler asks for.

use std::time::Duration;

use goflow_core::outcome::Verdict;
use goflow_core::store::Applied;
use goflow_core::{Backoff, State, TaskSpec};

use super::{
    Fixture, QUIET, accept, apply_one, dispatched, get, nothing_is_due, outcome, roomy, spec,
    success,
};

/// A snoozed task is scheduled, and comes back as the same attempt.
pub async fn snooze(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let once = TaskSpec {
        max_attempts: 1,
        ..spec()
    };
    let id = accept(&*store, once).await;
    apply_one(&*store, outcome(id, 1, 1, Verdict::Started)).await;
    let wait = QUIET + Duration::from_millis(200);
    let snoozed = outcome(id, 1, 1, Verdict::Snoozed { wait });
    assert_eq!(
        apply_one(&*store, snoozed.clone()).await,
        Applied::Waits(wait)
    );
    assert_eq!(apply_one(&*store, snoozed.clone()).await, Applied::Stale);
    let record = get(&*store, id).await;
    assert_eq!(
        (
            record.state,
            record.attempt,
            record.dispatch,
            record.crashes
        ),
        (State::Scheduled, 1, 1, 0)
    );
    assert!(record.due_at.is_some() && record.error.is_none() && record.attempts.is_empty());
    assert_eq!(record.worker, Some(snoozed.worker));
    assert_eq!(store.queue_counts().await.expect("counts")[0].scheduled, 1);
    nothing_is_due(&*store, QUIET).await;
    let dispatch = dispatched(&*store, id).await;
    assert_eq!((dispatch.attempt, dispatch.dispatch), (1, 2));
    assert_eq!(apply_one(&*store, snoozed).await, Applied::Stale);
    assert_eq!(
        apply_one(&*store, outcome(id, 1, 2, success())).await,
        Applied::Finished(State::Succeeded)
    );
}

/// A failure may say when the next attempt comes, whatever the backoff says.
pub async fn retry_after(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let spec = TaskSpec {
        backoff: Backoff::Fixed(Duration::from_secs(300)),
        max_attempts: 2,
        ..spec()
    };
    let id = accept(&*store, spec).await;
    let busy = |wait| Verdict::Failed {
        error: "busy".into(),
        permanent: false,
        retry_after: Some(wait),
    };
    let wait = Duration::from_millis(50);
    assert_eq!(
        apply_one(&*store, outcome(id, 1, 1, busy(wait))).await,
        Applied::Waits(wait)
    );
    let record = get(&*store, id).await;
    assert_eq!((record.state, record.attempts.len()), (State::Retrying, 1));
    let dispatch = dispatched(&*store, id).await;
    assert_eq!((dispatch.attempt, dispatch.dispatch), (2, 2));
    assert_eq!(
        apply_one(&*store, outcome(id, 2, 2, busy(wait))).await,
        Applied::Finished(State::Failed),
        "it was the last attempt"
    );
}
