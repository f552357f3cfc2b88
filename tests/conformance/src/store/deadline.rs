//! Deadlines: a task that has not finished by then ends as expired.

use std::time::Duration;

use goflow_core::broker::Tombstone;
use goflow_core::outcome::Verdict;
use goflow_core::store::{Accepted, Applied, Change, DISPATCH_DEADLINE, Due, EXPIRED_ERROR};
use goflow_core::{Backoff, Deadline, Start, State, TaskId, TaskSpec, TaskStore};
use tokio::time::{Instant, sleep};

use super::{
    Fixture, PATIENCE, QUIET, accept, accept_request, apply, apply_one, claim_held, dispatched,
    failure, get, nothing_is_due, now, outcome, request, roomy, spec, success,
};

const SOON: Duration = Duration::from_millis(500);

fn expiring(limit: Duration) -> TaskSpec {
    TaskSpec {
        deadline: Some(Deadline::After(limit)),
        ..spec()
    }
}

/// Looks for what is due until something expires.
async fn expired(store: &dyn TaskStore) -> Vec<Tombstone> {
    let until = Instant::now() + PATIENCE;
    loop {
        let due = claim_held(store, 10, &[]).await;
        assert_eq!(due.looked_at, due.dispatches.len() + due.expired.len());
        if !due.expired.is_empty() {
            return due.expired;
        }
        assert!(Instant::now() < until, "nothing expired");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Wherever it is when its deadline passes, it ends, with what is known of it.
pub async fn deadlines_expire_tasks(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let begun = Instant::now();
    let patient = TaskSpec {
        backoff: Backoff::Fixed(Duration::from_secs(600)),
        ..expiring(SOON)
    };
    let at = TaskSpec {
        deadline: Some(Deadline::At(now() + SOON)),
        start: Start::After(Duration::from_secs(60)),
        ..spec()
    };
    let (queued, scheduled) = (
        accept(&*store, expiring(SOON)).await,
        accept(&*store, at).await,
    );
    let retrying = accept(&*store, patient).await;
    let confirmed = accept(&*store, expiring(SOON)).await;
    let finished = accept(&*store, expiring(SOON)).await;
    let endless = accept(&*store, expiring(Duration::from_secs(3_600))).await;
    let failed = outcome(retrying, 1, 1, failure("once"));
    apply(
        &*store,
        vec![failed.clone(), outcome(finished, 1, 1, success())],
    )
    .await;
    let dispatches = [(confirmed, 1), (endless, 1)];
    store
        .confirm_dispatched(uuid::Uuid::nil(), &dispatches)
        .await
        .expect("confirm");
    let mut all = Vec::new();
    while all.len() < 4 {
        all.extend(expired(&*store).await);
    }
    assert!(begun.elapsed() >= SOON - Duration::from_millis(50));
    let tombstone = |task, dispatch| Tombstone { task, dispatch };
    for expected in [
        tombstone(queued, 1),
        tombstone(scheduled, 0),
        tombstone(retrying, 1),
        tombstone(confirmed, 1),
    ] {
        assert!(all.contains(&expected), "{expected:?} in {all:?}");
        let record = get(&*store, expected.task).await;
        assert_eq!(
            (record.state, record.error.as_deref(), record.due_at),
            (State::Expired, Some(EXPIRED_ERROR), None)
        );
        assert!(record.finished_at.is_some() && record.spec.deadline.is_some());
        let late = outcome(expected.task, record.attempt, record.dispatch, success());
        assert_eq!(apply_one(&*store, late).await, Applied::Stale);
    }
    let record = get(&*store, retrying).await;
    assert_eq!((record.attempt, record.attempts.len()), (2, 1));
    assert_eq!(record.worker, Some(failed.worker));
    assert_eq!(get(&*store, finished).await.state, State::Succeeded);
    assert_eq!(get(&*store, endless).await.state, State::Queued);
    nothing_is_due(&*store, QUIET).await;
}

/// What is told of waits never lies beyond the deadline.
pub async fn deadline_bounds_waits(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let limit = Duration::from_secs(60);
    let waits: [(&str, TaskSpec, Option<Verdict>); 4] = [
        (
            "start",
            TaskSpec {
                start: Start::After(2 * limit),
                ..expiring(limit)
            },
            None,
        ),
        (
            "backoff",
            TaskSpec {
                backoff: Backoff::Fixed(5 * limit),
                ..expiring(limit)
            },
            Some(failure("no")),
        ),
        (
            "snooze",
            expiring(limit),
            Some(Verdict::Snoozed { wait: 2 * limit }),
        ),
        (
            "retry_after",
            expiring(limit),
            Some(Verdict::Failed {
                error: "busy".into(),
                permanent: false,
                retry_after: Some(2 * limit),
            }),
        ),
    ];
    for (what, spec, verdict) in waits {
        let id = accept(&*store, spec).await;
        if let Some(verdict) = verdict {
            apply_one(&*store, outcome(id, 1, 1, verdict)).await;
        }
        let due_at = get(&*store, id).await.due_at.expect("it waits");
        let (soonest, latest) = (now() + limit / 2, now() + limit + Duration::from_secs(5));
        assert!(due_at > soonest && due_at < latest, "{what}: {due_at}");
    }
}

/// A deadline does not keep a task from being dispatched before it.
pub async fn dispatched_until_its_deadline(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let begun = Instant::now();
    let limit = DISPATCH_DEADLINE + Duration::from_secs(1);
    let id = accept(&*store, expiring(limit)).await;
    apply_one(&*store, outcome(id, 1, 1, Verdict::Released)).await;
    assert_eq!(dispatched(&*store, id).await.dispatch, 2);
    nothing_is_due(&*store, QUIET).await;
    store
        .confirm_dispatched(uuid::Uuid::nil(), &[(id, 1)])
        .await
        .expect("confirm");
    apply_one(&*store, outcome(id, 1, 2, Verdict::Started)).await;
    assert_eq!(
        expired(&*store).await,
        [Tombstone {
            task: id,
            dispatch: 2
        }]
    );
    assert!(begun.elapsed() >= limit - Duration::from_millis(50));
}

/// A task whose deadline has passed when it is pushed is accepted, is never dispatched and ends.
pub async fn late_from_the_start(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let late = |start| TaskSpec {
        start,
        deadline: Some(Deadline::At(now() - Duration::from_secs(60))),
        ..spec()
    };
    let specs = vec![late(Start::Now), late(Start::After(Duration::from_secs(9)))];
    let mut ids: Vec<TaskId> = specs.iter().map(|spec| spec.id).collect();
    let accepted = accept_request(&*store, request(specs))
        .await
        .expect("accepted");
    let dispatch_now = false;
    assert_eq!(
        accepted,
        [ids[0], ids[1]].map(|id| Accepted { id, dispatch_now })
    );
    let due = claim_held(&*store, 10, &[]).await;
    let mut expired: Vec<_> = due.expired.iter().map(|one| one.task).collect();
    expired.sort_unstable();
    ids.sort_unstable();
    assert_eq!((expired, due.looked_at), (ids, 2));
    assert_eq!(due.dispatches, []);
}

/// A deadline that has passed does not end the task again that someone reopened; one to come still counts.
pub async fn deadlines_of_reopened_tasks(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = accept(&*store, expiring(Duration::from_millis(50))).await;
    expired(&*store).await;
    let Change::Done(record) = store.retry(id).await.expect("retry") else {
        panic!("it can be reopened")
    };
    assert_eq!((record.state, record.attempt), (State::Queued, 2));
    assert_eq!(
        (record.spec.deadline, record.error.as_deref()),
        (None, Some(EXPIRED_ERROR))
    );
    let dispatch = dispatched(&*store, id).await;
    assert_eq!((dispatch.attempt, dispatch.spec.deadline), (2, None));
    nothing_is_due(&*store, QUIET).await;
    assert_eq!(
        apply_one(&*store, outcome(id, 2, dispatch.dispatch, success())).await,
        Applied::Finished(State::Succeeded)
    );
    let waiting = accept(&*store, expiring(Duration::from_secs(1))).await;
    store.cancel(waiting).await.expect("cancel");
    store.retry(waiting).await.expect("retry");
    assert!(get(&*store, waiting).await.spec.deadline.is_some());
    assert_eq!(expired(&*store).await[0].task, waiting);
    let due = claim_held(&*store, 10, &[]).await;
    assert_eq!(due, Due::default());
}
