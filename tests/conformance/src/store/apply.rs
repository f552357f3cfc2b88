//! Applying outcomes.

use std::sync::Arc;
use std::time::Duration;

use goflow_core::limits::{MAX_CONTENT_BYTES, MAX_ERROR_BYTES};
use goflow_core::outcome::{Outcome, Verdict};
use goflow_core::record::FailedAttempt;
use goflow_core::state::{CRASH_LIMIT, Policy};
use goflow_core::store::Applied;
use goflow_core::{Backoff, Content, State, TaskId, TaskSpec};

use super::{
    Fixture, accept, apply, apply_one, claim, dispatched, failure, get, impatient, nothing_is_due,
    now, outcome, roomy, spec, success,
};

/// A result is got back as the handler returned it.
pub async fn results_are_kept(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let large: Vec<u8> = (0..MAX_CONTENT_BYTES)
        .map(|i| (i * 17 % 253) as u8)
        .collect();
    let results = [
        Content::binary(""),
        Content::binary(&b"\xff\x00\xfe"[..]),
        Content::binary(large),
        Content::new("\"a\\u0000b\"", "application/json"),
        Content::new("text ä", "text/plain"),
    ];
    let mut outcomes = Vec::new();
    for result in &results {
        let id = accept(&*store, spec()).await;
        outcomes.push(outcome(id, 1, 1, Verdict::Succeeded(result.clone())));
    }
    let applied = apply(&*store, outcomes.clone()).await;
    assert!(
        applied
            .iter()
            .all(|one| *one == Applied::Finished(State::Succeeded)),
        "{applied:?}"
    );
    for (outcome, result) in outcomes.iter().zip(results) {
        let record = get(&*store, outcome.task).await;
        assert_eq!(record.state, State::Succeeded);
        assert_eq!(record.result, Some(result));
        assert_eq!((record.error, record.attempts), (None, vec![]));
        assert_eq!((record.attempt, record.dispatch), (1, 1));
        assert_eq!(
            (record.worker, record.started_at),
            (Some(outcome.worker), outcome.started_at)
        );
        assert_eq!(record.finished_at, Some(outcome.finished_at));
        assert!(record.due_at.is_none() && !record.result_omitted);
    }
}

/// The first outcome counts, whatever the others say, in one batch or in many.
pub async fn duplicate_outcomes(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, spec()).await;
    let first = outcome(id, 1, 1, success());
    let applied = apply(
        &*store,
        vec![
            first.clone(),
            first.clone(),
            outcome(id, 1, 1, failure("no")),
        ],
    )
    .await;
    assert_eq!(
        applied,
        [
            Applied::Finished(State::Succeeded),
            Applied::Stale,
            Applied::Stale
        ]
    );
    let permanent = Verdict::failed_for_good("no");
    for verdict in [
        success(),
        permanent,
        Verdict::Started,
        Verdict::Released,
        Verdict::Unserved,
    ] {
        assert_eq!(
            apply_one(&*store, outcome(id, 1, 1, verdict)).await,
            Applied::Stale
        );
    }
    assert_eq!(
        apply_one(&*store, outcome(TaskId::new(), 1, 1, success())).await,
        Applied::Stale
    );
    let record = get(&*store, id).await;
    assert_eq!(
        (record.state, record.worker),
        (State::Succeeded, Some(first.worker))
    );
}

/// A failed attempt is followed by the next, after the backoff.
pub async fn retries(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let wait = Duration::from_millis(400);
    let id = accept(
        &*store,
        TaskSpec {
            backoff: Backoff::Fixed(wait),
            ..spec()
        },
    )
    .await;
    let failed = outcome(id, 1, 1, failure("boom"));
    let applied = apply_one(&*store, failed.clone()).await;
    let Applied::Waits(waits) = applied else {
        panic!("{applied:?}")
    };
    assert!(
        waits >= wait.mul_f64(0.79) && waits <= wait.mul_f64(1.21),
        "{waits:?}"
    );
    let record = get(&*store, id).await;
    assert_eq!(
        (record.state, record.attempt, record.dispatch),
        (State::Retrying, 2, 1)
    );
    assert_eq!(record.error.as_deref(), Some("boom"));
    assert!(record.due_at.is_some() && record.finished_at.is_none());
    let kept = FailedAttempt {
        attempt: 1,
        error: "boom".into(),
        worker: Some(failed.worker),
        started_at: failed.started_at,
        finished_at: failed.finished_at,
    };
    assert_eq!(record.attempts, std::slice::from_ref(&kept));
    nothing_is_due(&*store, Duration::from_millis(200)).await;
    let dispatch = dispatched(&*store, id).await;
    assert_eq!((dispatch.attempt, dispatch.dispatch), (2, 2));
    let record = get(&*store, id).await;
    assert_eq!((record.state, record.due_at), (State::Queued, None));
    assert_eq!(
        apply_one(&*store, outcome(id, 2, 2, success())).await,
        Applied::Finished(State::Succeeded)
    );
    let record = get(&*store, id).await;
    assert_eq!((record.error, record.attempts), (None, vec![kept]));
}

/// When the last attempt has failed, so has the task.
pub async fn failures_to_the_end(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, impatient(3)).await;
    for attempt in 1..=2 {
        let applied = apply_one(
            &*store,
            outcome(id, attempt, attempt, failure(&format!("no {attempt}"))),
        )
        .await;
        assert_eq!(applied, Applied::Waits(Duration::ZERO));
        dispatched(&*store, id).await;
    }
    assert_eq!(
        apply_one(&*store, outcome(id, 3, 3, failure("no 3"))).await,
        Applied::Finished(State::Failed)
    );
    let record = get(&*store, id).await;
    assert_eq!(
        (record.state, record.attempt, record.error.as_deref()),
        (State::Failed, 3, Some("no 3"))
    );
    let errors: Vec<_> = record
        .attempts
        .iter()
        .map(|failed| (failed.attempt, failed.error.as_str()))
        .collect();
    assert_eq!(errors, [(1, "no 1"), (2, "no 2"), (3, "no 3")]);
    assert!(record.result.is_none() && record.finished_at.is_some());
}

/// A permanent failure is the last.
pub async fn permanent_failure(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, spec()).await;
    let verdict = Verdict::failed_for_good("useless");
    assert_eq!(
        apply_one(&*store, outcome(id, 1, 1, verdict)).await,
        Applied::Finished(State::Failed)
    );
    let record = get(&*store, id).await;
    assert_eq!((record.attempt, record.attempts.len()), (1, 1));
}

/// An error keeps its end, and what no text can hold is replaced.
pub async fn clipped_error(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, spec()).await;
    let verdict = Verdict::failed_for_good("ä\0".repeat(MAX_ERROR_BYTES));
    assert_eq!(
        apply_one(&*store, outcome(id, 1, 1, verdict)).await,
        Applied::Finished(State::Failed)
    );
    let error = get(&*store, id).await.error.expect("an error");
    assert!(error.ends_with("ä\u{fffd}") && !error.contains('\0'));
}

/// A terminal outcome needs the attempt, any other the dispatch too.
pub async fn fences(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, impatient(3)).await;
    let stale =
        |attempt, dispatch, verdict| apply_one(&*store, outcome(id, attempt, dispatch, verdict));
    for verdict in [
        success(),
        failure("no"),
        Verdict::Started,
        Verdict::Released,
        Verdict::Unserved,
    ] {
        assert_eq!(
            stale(2, 1, verdict.clone()).await,
            Applied::Stale,
            "{verdict:?} of an attempt to come"
        );
    }
    for verdict in [success(), failure("no")] {
        assert_eq!(
            stale(0, 1, verdict.clone()).await,
            Applied::Stale,
            "{verdict:?} of an attempt there never is"
        );
    }
    for verdict in [
        failure("no"),
        Verdict::Started,
        Verdict::Released,
        Verdict::Unserved,
    ] {
        assert_eq!(
            stale(1, 2, verdict.clone()).await,
            Applied::Stale,
            "{verdict:?} of another dispatch"
        );
    }
    assert_eq!(
        stale(1, 1, failure("no")).await,
        Applied::Waits(Duration::ZERO)
    );
    for verdict in [success(), failure("no")] {
        assert_eq!(
            stale(1, 1, verdict.clone()).await,
            Applied::Stale,
            "{verdict:?} of an attempt that is over"
        );
    }
    dispatched(&*store, id).await;
    assert_eq!(
        stale(2, 2, Verdict::Released).await,
        Applied::Waits(Duration::ZERO)
    );
    dispatched(&*store, id).await;
    assert_eq!(stale(2, 2, failure("late")).await, Applied::Stale);
    assert_eq!(
        stale(2, 2, success()).await,
        Applied::Finished(State::Succeeded),
        "the attempt matches"
    );
}

/// Deliveries that start and say nothing more are counted; too many end the task.
pub async fn crashes(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (unlucky, lucky) = (accept(&*store, spec()).await, accept(&*store, spec()).await);
    for starts in 1..=CRASH_LIMIT {
        let both = [unlucky, lucky]
            .map(|id| outcome(id, 1, 1, Verdict::Started))
            .to_vec();
        assert_eq!(apply(&*store, both).await, [Applied::Noted, Applied::Noted]);
        let record = get(&*store, unlucky).await;
        assert_eq!((record.state, record.crashes), (State::Queued, starts - 1));
    }
    let applied = apply_one(&*store, outcome(unlucky, 1, 1, Verdict::Started)).await;
    assert_eq!(applied, Applied::Finished(State::Crashed));
    let record = get(&*store, unlucky).await;
    assert_eq!(
        (record.state, record.attempt, record.crashes),
        (State::Crashed, 1, CRASH_LIMIT)
    );
    assert!(record.error.is_some() && record.finished_at.is_some() && record.attempts.is_empty());
    assert_eq!(
        apply_one(&*store, outcome(lucky, 1, 1, success())).await,
        Applied::Finished(State::Succeeded)
    );
    assert_eq!(get(&*store, lucky).await.crashes, CRASH_LIMIT - 1);
}

/// A task that is given back is dispatched again at once: same attempt, next dispatch, no crash.
pub async fn release(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, spec()).await;
    apply_one(&*store, outcome(id, 1, 1, Verdict::Started)).await;
    assert_eq!(
        apply_one(&*store, outcome(id, 1, 1, Verdict::Released)).await,
        Applied::Waits(Duration::ZERO)
    );
    assert_eq!(
        apply_one(&*store, outcome(id, 1, 1, Verdict::Released)).await,
        Applied::Stale
    );
    let record = get(&*store, id).await;
    assert_eq!(
        (
            record.state,
            record.attempt,
            record.crashes,
            record.unserved
        ),
        (State::Queued, 1, 0, false)
    );
    let dispatch = dispatched(&*store, id).await;
    assert_eq!((dispatch.attempt, dispatch.dispatch), (1, 2));
    assert!(get(&*store, id).await.attempts.is_empty());
}

/// A task without a worker of its type waits, seen by all, until there is one.
pub async fn unserved(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (id, other) = (accept(&*store, spec()).await, accept(&*store, spec()).await);
    let both = [id, other]
        .map(|id| outcome(id, 1, 1, Verdict::Unserved))
        .to_vec();
    for applied in apply(&*store, both).await {
        let Applied::Waits(wait) = applied else {
            panic!("{applied:?}")
        };
        assert!(
            wait >= Duration::from_millis(790) && wait <= Duration::from_millis(1_210),
            "{wait:?}"
        );
    }
    let record = get(&*store, id).await;
    assert!(record.unserved && record.due_at.is_some(), "{record:?}");
    assert_eq!((record.state, record.attempt), (State::Queued, 1));
    let counts = store.queue_counts().await.expect("counts");
    assert_eq!(counts[0].unserved, [(record.spec.task_type.clone(), 2)]);
    let (queue, elsewhere) = (
        record.spec.queue.clone(),
        "elsewhere".parse().expect("name"),
    );
    let types = [record.spec.task_type.clone()];
    assert_eq!(
        store.wake_unserved(&elsewhere, &types).await.expect("wake"),
        0
    );
    assert_eq!(
        store
            .wake_unserved(&queue, &["b".parse().expect("name")])
            .await
            .expect("wake"),
        0
    );
    assert_eq!(store.wake_unserved(&queue, &types).await.expect("wake"), 2);
    let due = claim(&*store, 10).await;
    assert_eq!(due.len(), 2, "due at once");
    assert!(
        due.iter()
            .all(|dispatch| (dispatch.attempt, dispatch.dispatch) == (1, 2))
    );
    assert!(!get(&*store, id).await.unserved, "it is with the broker");
    assert_eq!(store.wake_unserved(&queue, &types).await.expect("wake"), 0);
    let applied = apply_one(&*store, outcome(id, 1, 2, Verdict::Unserved)).await;
    let Applied::Waits(longer) = applied else {
        panic!("{applied:?}")
    };
    assert!(longer > Duration::from_millis(1_500), "{longer:?}");
}

/// Given back by one worker while another serves its type, it comes back soon.
pub async fn unserved_but_served(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let spec = spec();
    let served = [(spec.queue.clone(), spec.task_type.clone())].into();
    let id = accept(&*store, spec).await;
    let outcome = outcome(id, 1, 1, Verdict::Unserved);
    let applied = store
        .apply(&[&outcome], &Policy { served })
        .await
        .expect("apply");
    assert!(
        matches!(applied[0], Applied::Waits(wait) if wait < Duration::from_millis(300)),
        "{applied:?}"
    );
    assert_eq!(dispatched(&*store, id).await.dispatch, 2);
}

/// Outcomes of one task in one batch take effect in their order.
pub async fn many_outcomes_of_one(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (a, b) = (
        accept(&*store, impatient(3)).await,
        accept(&*store, impatient(3)).await,
    );
    let applied = apply(
        &*store,
        vec![
            outcome(a, 1, 1, Verdict::Started),
            outcome(b, 1, 1, Verdict::Released),
            outcome(a, 1, 1, failure("first")),
            outcome(b, 1, 1, Verdict::Started),
            outcome(a, 1, 1, success()),
            outcome(b, 1, 1, success()),
        ],
    )
    .await;
    let (waits, done) = (
        Applied::Waits(Duration::ZERO),
        Applied::Finished(State::Succeeded),
    );
    assert_eq!(
        applied,
        [
            Applied::Noted,
            waits.clone(),
            waits,
            Applied::Stale,
            Applied::Stale,
            done
        ]
    );
    let record = get(&*store, a).await;
    assert_eq!(
        (record.state, record.attempt, record.crashes),
        (State::Retrying, 2, 0)
    );
    assert_eq!(record.attempts.len(), 1);
    assert_eq!(get(&*store, b).await.state, State::Succeeded);
}

/// An outcome that cannot be kept is rejected alone.
pub async fn bad_outcome(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (a, b, c) = (
        accept(&*store, spec()).await,
        accept(&*store, spec()).await,
        accept(&*store, spec()).await,
    );
    let bad = Verdict::Succeeded(Content::new("x", "text/\0plain"));
    let batch = vec![
        outcome(a, 1, 1, success()),
        outcome(b, 1, 1, bad),
        outcome(c, 1, 1, success()),
    ];
    let applied = apply(&*store, batch).await;
    assert!(matches!(applied[1], Applied::Rejected(_)), "{applied:?}");
    for (at, id) in [(0, a), (2, c)] {
        assert_eq!(applied[at], Applied::Finished(State::Succeeded));
        assert_eq!(get(&*store, id).await.state, State::Succeeded);
    }
    assert_eq!(get(&*store, b).await.state, State::Queued);
}

/// However many apply the same outcomes, in whatever order, each takes effect once.
pub async fn concurrent_appliers(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for _ in 0..100 {
        outcomes.push(outcome(accept(&*store, spec()).await, 1, 1, success()));
    }
    let mut appliers = tokio::task::JoinSet::new();
    for applier in 0..4 {
        let (store, mut mine) = (Arc::clone(&store), outcomes.clone());
        mine.rotate_left(applier * 25);
        if applier % 2 == 1 {
            mine.reverse();
        }
        appliers.spawn(async move { apply(&*store, mine).await });
    }
    let applied: Vec<Applied> = appliers.join_all().await.into_iter().flatten().collect();
    let finished = applied
        .iter()
        .filter(|one| **one == Applied::Finished(State::Succeeded))
        .count();
    assert_eq!((finished, applied.len()), (100, 400));
    assert!(
        get(&*store, outcomes[0].task)
            .await
            .finished_at
            .is_some_and(|at| at <= now())
    );
}
