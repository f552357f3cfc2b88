//! What is due, and who gets it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use goflow_core::outcome::Verdict;
use goflow_core::store::DISPATCH_DEADLINE;
use goflow_core::{Start, State, TaskId, TaskSpec};
use tokio::time::Instant;

use super::{
    Fixture, QUIET, accept, accept_request, apply, apply_one, claim, dispatched, get,
    nothing_is_due, now, outcome, request, roomy, spec,
};

/// A scheduled task is not given out before its time, and soon after.
pub async fn not_before_its_time(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let delay = Duration::from_millis(700);
    let begun = Instant::now();
    let after = accept(
        &*store,
        TaskSpec {
            start: Start::After(delay),
            ..spec()
        },
    )
    .await;
    let at = accept(
        &*store,
        TaskSpec {
            start: Start::At(now() + delay),
            ..spec()
        },
    )
    .await;
    nothing_is_due(&*store, QUIET).await;
    let mut missing = HashSet::from([after, at]);
    while !missing.is_empty() {
        for due in claim(&*store, 10).await {
            assert_eq!((due.attempt, due.dispatch), (1, 1));
            assert!(missing.remove(&due.spec.id), "given out twice: {due:?}");
            let record = get(&*store, due.spec.id).await;
            assert_eq!((record.state, record.due_at), (State::Queued, None));
        }
        assert!(
            begun.elapsed() < DISPATCH_DEADLINE,
            "{missing:?} did not come due"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The two clocks are read one after the other.
    assert!(
        begun.elapsed() >= delay - Duration::from_millis(50),
        "{:?}",
        begun.elapsed()
    );
}

/// A dispatch that nobody confirmed is given out again, as the same one, and again.
pub async fn sweep(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let fresh = accept(&*store, spec()).await;
    let waited = accept(&*store, spec()).await;
    apply_one(&*store, outcome(waited, 1, 1, Verdict::Released)).await;
    let due = claim(&*store, 10).await;
    assert_eq!(
        due.iter()
            .map(|dispatch| dispatch.spec.id)
            .collect::<Vec<_>>(),
        [waited]
    );
    nothing_is_due(&*store, QUIET).await;
    let dispatch = dispatched(&*store, fresh).await;
    assert_eq!(
        (dispatch.attempt, dispatch.dispatch),
        (1, 1),
        "nobody decided to dispatch again"
    );
    // `dispatched` may have met the other one and confirmed it.
    assert_eq!(get(&*store, waited).await.dispatch, 2);
}

/// What the broker has is left to it.
pub async fn confirmed_is_left_alone(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, spec()).await;
    store
        .confirm_dispatched(uuid::Uuid::nil(), &[(id, 1)])
        .await
        .expect("confirm");
    store
        .confirm_dispatched(uuid::Uuid::nil(), &[])
        .await
        .expect("confirm nothing");
    nothing_is_due(&*store, DISPATCH_DEADLINE + QUIET).await;
    assert_eq!(get(&*store, id).await.state, State::Queued);
}

/// A confirmation of an earlier dispatch says nothing about the present one.
pub async fn late_confirmation(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, spec()).await;
    apply_one(&*store, outcome(id, 1, 1, Verdict::Released)).await;
    store
        .confirm_dispatched(uuid::Uuid::nil(), &[(id, 1), (TaskId::new(), 1)])
        .await
        .expect("confirm");
    let dispatch = dispatched(&*store, id).await;
    assert_eq!(dispatch.dispatch, 2);
}

/// No more is given out than was asked for.
pub async fn claim_limit(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let ids: Vec<TaskId> = due_at_once(&*store, 10).await;
    let mut claimed = HashSet::new();
    for expected in [4, 4, 2, 0] {
        let due = claim(&*store, 4).await;
        assert_eq!(due.len(), expected);
        claimed.extend(due.into_iter().map(|dispatch| dispatch.spec.id));
    }
    assert_eq!(claimed, ids.into_iter().collect());
}

/// Concurrent callers get different rows, and together all of them.
pub async fn disjoint_claims(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let ids = due_at_once(&*store, 200).await;
    let mut claimers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = Arc::clone(&store);
        claimers.spawn(async move {
            let mut mine = Vec::new();
            // A caller may find all rows locked by others for a moment.
            let mut empty = 0;
            while empty < 5 {
                let due = claim(&*store, 10).await;
                if due.is_empty() {
                    empty += 1;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                mine.extend(due.into_iter().map(|dispatch| dispatch.spec.id));
            }
            mine
        });
    }
    let claimed: Vec<TaskId> = claimers.join_all().await.into_iter().flatten().collect();
    assert_eq!(claimed.len(), 200);
    assert_eq!(
        claimed.into_iter().collect::<HashSet<_>>(),
        ids.into_iter().collect()
    );
}

async fn due_at_once(store: &dyn goflow_core::TaskStore, number: usize) -> Vec<TaskId> {
    let specs: Vec<TaskSpec> = (0..number).map(|_| spec()).collect();
    let ids: Vec<TaskId> = specs.iter().map(|spec| spec.id).collect();
    accept_request(store, request(specs))
        .await
        .expect("accepted");
    apply(
        store,
        ids.iter()
            .map(|id| outcome(*id, 1, 1, Verdict::Released))
            .collect(),
    )
    .await;
    ids
}
