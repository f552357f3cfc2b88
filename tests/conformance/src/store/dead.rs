//! Tasks that did not succeed, grouped.

use std::time::Duration;

use goflow_core::outcome::Verdict;
use goflow_core::record::DeadGroup;
use goflow_core::state::CRASH_LIMIT;
use goflow_core::store::{EXPIRED_ERROR, crash_error};
use goflow_core::{Deadline, State, TaskId, TaskSpec, TaskStore};
use time::OffsetDateTime;

use super::{Fixture, accept, apply_one, claim_held, get, now, outcome, roomy, spec, success};

async fn fail(store: &dyn TaskStore, task_type: &str, error: &str) -> TaskId {
    let task_type = task_type.parse().expect("a good name");
    let id = accept(
        store,
        TaskSpec {
            task_type,
            ..spec()
        },
    )
    .await;
    apply_one(store, outcome(id, 1, 1, Verdict::failed_for_good(error))).await;
    id
}

async fn dead(store: &dyn TaskStore, limit: usize) -> Vec<DeadGroup> {
    let since = OffsetDateTime::now_utc() - time::Duration::hours(1);
    store.dead(since, limit).await.expect("dead")
}

/// Groups by type, state and error, the largest first.
pub async fn dead_groups(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    assert_eq!(dead(&*store, 10).await, []);
    let done = accept(&*store, spec()).await;
    apply_one(&*store, outcome(done, 1, 1, success())).await;
    store
        .cancel(accept(&*store, spec()).await)
        .await
        .expect("cancel");
    accept(&*store, spec()).await;
    let long = "ä".repeat(500);
    for _ in 0..2 {
        fail(&*store, "mail", "refused").await;
    }
    let mails = fail(&*store, "mail", "refused").await;
    fail(&*store, "mail", &long).await;
    let longest = fail(&*store, "mail", &format!("{long}, but not the same")).await;
    fail(&*store, "print", "refused").await;
    let crashed = accept(&*store, spec()).await;
    for _ in 0..=CRASH_LIMIT {
        apply_one(&*store, outcome(crashed, 1, 1, Verdict::Started)).await;
    }
    let late = TaskSpec {
        deadline: Some(Deadline::At(now() - Duration::from_secs(1))),
        ..spec()
    };
    let late = accept(&*store, late).await;
    assert_eq!(claim_held(&*store, 10, &[]).await.expired.len(), 1);
    let groups = dead(&*store, 10).await;
    let seen: Vec<_> = groups
        .iter()
        .map(|group| {
            (
                group.task_type.as_str(),
                group.state,
                group.error.as_str(),
                group.count,
            )
        })
        .collect();
    assert_eq!(
        seen[..2],
        [
            ("mail", State::Failed, "refused", 3),
            ("mail", State::Failed, &long[..400], 2),
        ]
    );
    for group in [
        ("print", State::Failed, "refused", 1),
        ("suite", State::Crashed, &crash_error(CRASH_LIMIT), 1),
        ("suite", State::Expired, EXPIRED_ERROR, 1),
    ] {
        assert!(seen[2..].contains(&group), "{group:?} in {seen:?}");
    }
    assert_eq!(groups.len(), 5);
    assert_eq!((groups[0].newest, groups[1].newest), (mails, longest));
    assert_eq!(get(&*store, late).await.state, State::Expired);
    let last = get(&*store, mails).await.finished_at;
    assert_eq!(Some(groups[0].last_finished_at), last);
    assert_eq!(dead(&*store, 2).await, groups[..2]);
}

/// What ended before is not told of; what was reopened is not dead.
pub async fn dead_since(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = fail(&*store, "mail", "no").await;
    let ended = get(&*store, id).await.finished_at.expect("ended");
    let since = |time| store.dead(time, 10);
    assert_eq!(since(ended).await.expect("dead").len(), 1);
    let later = ended + Duration::from_millis(1);
    assert_eq!(since(later).await.expect("dead"), []);
    store.retry(id).await.expect("retry");
    assert_eq!(since(ended).await.expect("dead"), []);
}
