//! Cancel and retry.

use std::time::Duration;

use goflow_core::outcome::Verdict;
use goflow_core::record::TaskRecord;
use goflow_core::store::{Applied, Change};
use goflow_core::{Start, State, TaskId, TaskSpec};

use super::{
    Fixture, QUIET, accept, apply_one, dispatched, failure, get, impatient, nothing_is_due, now,
    outcome, roomy, spec, success,
};

fn done(change: Change) -> TaskRecord {
    match change {
        Change::Done(record) => *record,
        other => panic!("{other:?}"),
    }
}

fn forbidden(change: Change) -> TaskRecord {
    match change {
        Change::Forbidden(record) => *record,
        other => panic!("{other:?}"),
    }
}

/// A live task is cancelled wherever it is; one that has ended is not.
pub async fn cancel(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let queued = accept(&*store, spec()).await;
    let scheduled = accept(
        &*store,
        TaskSpec {
            start: Start::After(Duration::from_millis(100)),
            ..spec()
        },
    )
    .await;
    let retrying = accept(&*store, impatient(3)).await;
    apply_one(&*store, outcome(retrying, 1, 1, failure("once"))).await;
    for id in [queued, scheduled, retrying] {
        let record = done(store.cancel(id).await.expect("cancel"));
        assert_eq!(record.state, State::Cancelled);
        let ended = record.finished_at.expect("it ended");
        assert!((now() - ended).abs() < Duration::from_secs(60), "{ended}");
        assert!(record.finished_at.is_some() && record.due_at.is_none() && record.result.is_none());
        assert_eq!(get(&*store, id).await, record);
        assert_eq!(forbidden(store.cancel(id).await.expect("cancel")), record);
    }
    let record = get(&*store, retrying).await;
    assert_eq!(
        (record.error.as_deref(), record.attempts.len()),
        (Some("once"), 1)
    );
    nothing_is_due(&*store, QUIET).await;
    assert_eq!(
        apply_one(&*store, outcome(queued, 1, 1, success())).await,
        Applied::Stale
    );
    let finished = accept(&*store, spec()).await;
    apply_one(&*store, outcome(finished, 1, 1, success())).await;
    assert_eq!(
        forbidden(store.cancel(finished).await.expect("cancel")).state,
        State::Succeeded
    );
    assert_eq!(
        store.cancel(TaskId::new()).await.expect("cancel"),
        Change::Unknown
    );
}

/// A task that ended badly is reopened: next attempt, next dispatch, as many attempts as at first.
pub async fn reopen(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, impatient(2)).await;
    assert_eq!(
        forbidden(store.retry(id).await.expect("retry")).state,
        State::Queued
    );
    apply_one(&*store, outcome(id, 1, 1, failure("one"))).await;
    dispatched(&*store, id).await;
    apply_one(&*store, outcome(id, 2, 2, failure("two"))).await;
    let record = done(store.retry(id).await.expect("retry"));
    assert_eq!(
        (record.state, record.attempt, record.dispatch),
        (State::Queued, 3, 2)
    );
    assert_eq!(
        (record.error.as_deref(), record.finished_at),
        (Some("two"), None)
    );
    assert_eq!(get(&*store, id).await, record);
    assert_eq!(forbidden(store.retry(id).await.expect("retry")), record);
    let dispatch = dispatched(&*store, id).await;
    assert_eq!(
        (
            dispatch.attempt,
            dispatch.dispatch,
            dispatch.spec.max_attempts
        ),
        (3, 3, 2)
    );
    assert_eq!(
        apply_one(&*store, outcome(id, 3, 3, failure("three"))).await,
        Applied::Waits(Duration::ZERO)
    );
    dispatched(&*store, id).await;
    assert_eq!(
        apply_one(&*store, outcome(id, 4, 4, failure("four"))).await,
        Applied::Finished(State::Failed)
    );
    let succeeded = accept(&*store, spec()).await;
    apply_one(&*store, outcome(succeeded, 1, 1, success())).await;
    assert_eq!(
        forbidden(store.retry(succeeded).await.expect("retry")).state,
        State::Succeeded
    );
    let cancelled = accept(&*store, spec()).await;
    store.cancel(cancelled).await.expect("cancel");
    assert_eq!(
        done(store.retry(cancelled).await.expect("retry")).attempt,
        2
    );
    assert_eq!(
        store.retry(TaskId::new()).await.expect("retry"),
        Change::Unknown
    );
}

/// What failed before a retry is kept, and shown once the task has ended again.
pub async fn reopen_keeps_attempts(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, impatient(1)).await;
    for attempt in 1..=3 {
        let applied = apply_one(
            &*store,
            outcome(id, attempt, attempt, failure(&format!("no {attempt}"))),
        )
        .await;
        assert_eq!(applied, Applied::Finished(State::Failed));
        done(store.retry(id).await.expect("retry"));
        assert_eq!(get(&*store, id).await.attempts.len(), attempt as usize);
        dispatched(&*store, id).await;
    }
    assert_eq!(
        apply_one(&*store, outcome(id, 4, 4, success())).await,
        Applied::Finished(State::Succeeded)
    );
    let record = get(&*store, id).await;
    let errors: Vec<_> = record
        .attempts
        .iter()
        .map(|failed| (failed.attempt, failed.error.as_str()))
        .collect();
    assert_eq!(errors, [(1, "no 1"), (2, "no 2"), (3, "no 3")]);
    assert_eq!(
        (record.state, record.attempt, record.error),
        (State::Succeeded, 4, None)
    );
}

/// An outcome of before the retry does not count after it.
pub async fn late_outcome_of_a_reopened_task(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, impatient(1)).await;
    apply_one(&*store, outcome(id, 1, 1, failure("no"))).await;
    done(store.retry(id).await.expect("retry"));
    for verdict in [
        success(),
        failure("again"),
        Verdict::Started,
        Verdict::Released,
    ] {
        assert_eq!(
            apply_one(&*store, outcome(id, 1, 1, verdict)).await,
            Applied::Stale
        );
    }
    assert_eq!(get(&*store, id).await.state, State::Queued);
}

/// Whoever is refused a change is told a state that forbids it, not one that the task got into meanwhile.
pub async fn refusals(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    for n in 0..200 {
        // At another moment of what it meets, each time.
        let moment = async || {
            for _ in 0..n {
                tokio::task::yield_now().await;
            }
        };
        let id = accept(&*store, spec()).await;
        let fail = apply_one(
            &*store,
            outcome(id, 1, 1, Verdict::failed_for_good("useless")),
        );
        let retry = async {
            moment().await;
            store.retry(id).await.expect("retry")
        };
        let (_, retried) = tokio::join!(fail, retry);
        if let Change::Forbidden(record) = retried {
            assert_eq!(record.state, State::Queued, "it was refused a retry");
        }
        if get(&*store, id).await.state == State::Queued {
            done(store.cancel(id).await.expect("cancel"));
        }
        let cancel = async {
            moment().await;
            store.cancel(id).await.expect("cancel")
        };
        let (retried, cancelled) = tokio::join!(store.retry(id), cancel);
        done(retried.expect("retry"));
        if let Change::Forbidden(record) = cancelled {
            assert!(
                record.state.is_terminal(),
                "it was refused a cancel: {}",
                record.state
            );
        }
    }
}
