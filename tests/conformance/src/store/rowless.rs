//! Outcomes of tasks that the store has no row of: they carry the task.

use std::sync::Arc;
use std::time::Duration;

use goflow_core::outcome::{Outcome, Verdict};
use goflow_core::store::Applied;
use goflow_core::{Content, State, TaskSpec};

use super::{
    Fixture, apply, apply_one, dispatched, failure, get, impatient, outcome, roomy, spec, success,
};

fn rowless(spec: &TaskSpec, attempt: u32, dispatch: u32, verdict: Verdict) -> Outcome {
    Outcome {
        spec: Some(Arc::new(spec.clone())),
        ..outcome(spec.id, attempt, dispatch, verdict)
    }
}

/// A success makes the finished task.
pub async fn rowless_success(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let mut spec = TaskSpec {
        payload: Content::binary(""),
        ..spec()
    };
    spec.tags.insert("a".into(), "b".into());
    let outcome = rowless(&spec, 1, 1, success());
    assert_eq!(
        apply_one(&*store, outcome.clone()).await,
        Applied::Finished(State::Succeeded)
    );
    let record = get(&*store, spec.id).await;
    assert_eq!(
        (record.state, record.attempt, record.dispatch),
        (State::Succeeded, 1, 1)
    );
    assert_eq!(
        (&*record.spec, record.worker),
        (&spec, Some(outcome.worker))
    );
    assert!(record.result.is_some() && record.finished_at.is_some() && record.started_at.is_some());
}

/// A failure with attempts left makes a row that is dispatched again.
pub async fn rowless_retry(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let spec = impatient(3);
    assert_eq!(
        apply_one(&*store, rowless(&spec, 1, 1, failure("no"))).await,
        Applied::Waits(Duration::ZERO)
    );
    let record = get(&*store, spec.id).await;
    assert_eq!(
        (record.state, record.attempt, record.error.as_deref()),
        (State::Retrying, 2, Some("no"))
    );
    assert_eq!(record.attempts.len(), 1);
    let dispatch = dispatched(&*store, spec.id).await;
    assert_eq!(
        (dispatch.attempt, dispatch.dispatch, &*dispatch.spec),
        (2, 2, &spec)
    );
    let applied = apply_one(&*store, outcome(spec.id, 2, 2, success())).await;
    assert_eq!(applied, Applied::Finished(State::Succeeded));
}

/// A failure that is the last makes a finished task with its attempts.
pub async fn rowless_failures(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (once, late) = (impatient(1), impatient(3));
    let failed = rowless(&once, 1, 1, failure("only"));
    let applied = apply(
        &*store,
        vec![failed.clone(), rowless(&late, 3, 5, failure("third"))],
    )
    .await;
    assert_eq!(
        applied,
        [
            Applied::Finished(State::Failed),
            Applied::Finished(State::Failed)
        ]
    );
    let record = get(&*store, once.id).await;
    assert_eq!(
        (record.state, record.error.as_deref()),
        (State::Failed, Some("only"))
    );
    let [kept] = &record.attempts[..] else {
        panic!("{record:?}")
    };
    assert_eq!(
        (kept.attempt, kept.worker, kept.finished_at),
        (1, Some(failed.worker), failed.finished_at)
    );
    let record = get(&*store, late.id).await;
    assert_eq!(
        (record.attempt, record.dispatch, record.attempts.len()),
        (3, 5, 1)
    );
}

/// A start makes a row that counts; giving it back makes one that waits.
pub async fn rowless_start(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (started, released) = (spec(), spec());
    let batch = vec![
        rowless(&started, 1, 1, Verdict::Started),
        rowless(&started, 1, 1, Verdict::Started),
        rowless(&released, 1, 1, Verdict::Unserved),
    ];
    let applied = apply(&*store, batch).await;
    assert_eq!(applied[..2], [Applied::Noted, Applied::Noted]);
    assert!(matches!(applied[2], Applied::Waits(_)), "{applied:?}");
    let record = get(&*store, started.id).await;
    assert_eq!(
        (record.state, record.dispatch, record.crashes),
        (State::Queued, 1, 1)
    );
    assert!(get(&*store, released.id).await.unserved);
    assert_eq!(dispatched(&*store, released.id).await.dispatch, 2);
    let applied = apply_one(&*store, rowless(&started, 1, 1, success())).await;
    assert_eq!(applied, Applied::Finished(State::Succeeded));
}

/// What comes after the end is stale and makes no second task.
pub async fn rowless_duplicates(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let spec = impatient(3);
    let first = rowless(&spec, 1, 1, success());
    let applied = apply(&*store, vec![first.clone(), first.clone()]).await;
    assert_eq!(
        applied,
        [Applied::Finished(State::Succeeded), Applied::Stale]
    );
    for verdict in [
        success(),
        failure("no"),
        Verdict::Started,
        Verdict::Released,
        Verdict::Unserved,
    ] {
        assert_eq!(
            apply_one(&*store, rowless(&spec, 1, 1, verdict)).await,
            Applied::Stale
        );
    }
    assert_eq!(get(&*store, spec.id).await.state, State::Succeeded);
    let queues = store.queue_counts().await.expect("counts");
    assert!(
        queues
            .iter()
            .all(|queue| queue.queued + queue.retrying == 0),
        "{queues:?}"
    );
}

/// However many apply the same outcomes at once, each task ends once.
pub async fn rowless_race(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let outcomes: Vec<Outcome> = (0..50).map(|_| rowless(&spec(), 1, 1, success())).collect();
    let mut appliers = tokio::task::JoinSet::new();
    for applier in 0..4 {
        let (store, mut mine) = (Arc::clone(&store), outcomes.clone());
        mine.rotate_left(applier * 12);
        appliers.spawn(async move { apply(&*store, mine).await });
    }
    let applied: Vec<Applied> = appliers.join_all().await.into_iter().flatten().collect();
    let finished = applied
        .iter()
        .filter(|one| **one == Applied::Finished(State::Succeeded))
        .count();
    assert_eq!((finished, applied.len()), (50, 200));
}
