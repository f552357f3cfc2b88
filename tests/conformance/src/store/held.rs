//! What live workers hold is not dispatched again.

use std::time::Duration;

use goflow_core::broker::{Identity, Tombstone};
use goflow_core::outcome::Verdict;
use goflow_core::store::{Claim, DISPATCH_DEADLINE, Due, LATE_FOR};
use goflow_core::{Deadline, Start, State, TaskId, TaskSpec, TaskStore};
use tokio::time::sleep;
use uuid::Uuid;

use super::{
    Fixture, QUIET, accept, apply_one, claim, claim_held, get, nothing_is_due, now, outcome, roomy,
    spec,
};

/// Makes every dispatched row due, by another broker, which is given.
async fn doubt_all(store: &dyn TaskStore) -> Uuid {
    let broker = Identity {
        broker: Uuid::new_v4(),
        store: None,
        in_process: false,
    };
    store.bind(&broker).await.expect("bind");
    broker.broker
}

fn sorted(due: &Due) -> Vec<(TaskId, u32)> {
    let dispatches = due.dispatches.iter();
    let mut ids: Vec<_> = dispatches.map(|one| (one.spec.id, one.dispatch)).collect();
    ids.sort_unstable();
    ids
}

/// A dispatch that a worker holds is in no doubt; a row that waits is dispatched whoever holds an earlier one.
pub async fn held_rows_are_left_alone(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (held, lost) = (accept(&*store, spec()).await, accept(&*store, spec()).await);
    let waiting = accept(&*store, spec()).await;
    apply_one(&*store, outcome(waiting, 1, 1, Verdict::Released)).await;
    let late = TaskSpec {
        deadline: Some(Deadline::After(Duration::from_millis(50))),
        ..spec()
    };
    let late = accept(&*store, late).await;
    sleep(Duration::from_millis(100)).await;
    let broker = doubt_all(&*store).await;
    let due = claim_held(&*store, 10, &[held, waiting, late]).await;
    let mut expected = [(lost, 1), (waiting, 2)];
    expected.sort_unstable();
    assert_eq!((sorted(&due), due.looked_at), (expected.to_vec(), 4));
    assert_eq!(
        due.expired,
        [Tombstone {
            task: late,
            dispatch: 1
        }]
    );
    let record = get(&*store, held).await;
    assert_eq!((record.state, record.dispatch), (State::Queued, 1));
    let all = [(lost, 1), (waiting, 2)];
    let confirmed = store.confirm_dispatched(broker, &all).await;
    assert!(confirmed.expect("confirm"));
    // It is looked at again, but not as soon as what was dispatched.
    nothing_is_due(&*store, DISPATCH_DEADLINE + QUIET).await;
}

/// While nobody knows what is held, only those rows are claimed that it does not matter to.
pub async fn unknown_holders(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let claim_blindly = async |limit| {
        store
            .claim_due(limit, Claim::WaitingOrLate)
            .await
            .expect("claim")
    };
    let dispatched = accept(&*store, spec()).await;
    let waiting = accept(&*store, spec()).await;
    apply_one(&*store, outcome(waiting, 1, 1, Verdict::Released)).await;
    let soon = Some(Deadline::After(Duration::from_millis(50)));
    let late = accept(
        &*store,
        TaskSpec {
            deadline: soon,
            ..spec()
        },
    )
    .await;
    let late_and_waiting = TaskSpec {
        deadline: soon,
        start: Start::At(now() + Duration::from_secs(60)),
        ..spec()
    };
    let late_and_waiting = accept(&*store, late_and_waiting).await;
    sleep(Duration::from_millis(100)).await;
    doubt_all(&*store).await;
    let due = claim_blindly(10).await;
    assert_eq!((sorted(&due), due.looked_at), (vec![(waiting, 2)], 3));
    let mut expired: Vec<_> = due.expired.iter().map(|one| one.task).collect();
    let mut expected = [late, late_and_waiting];
    expired.sort_unstable();
    expected.sort_unstable();
    assert_eq!(expired, expected);
    assert_eq!(claim_blindly(10).await, Due::default());
    assert_eq!(claim(&*store, 10).await[0].spec.id, dispatched);
    // No more than was asked for.
    for _ in 0..3 {
        let id = accept(&*store, spec()).await;
        apply_one(&*store, outcome(id, 1, 1, Verdict::Released)).await;
    }
    assert_eq!(claim_blindly(2).await.dispatches.len(), 2);
    assert_eq!(claim_blindly(2).await.dispatches.len(), 1);
}

/// While nothing can be dispatched, deadlines pass all the same, and all else stays as it is.
pub async fn nothing_can_be_dispatched(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let claim_late = async |limit| store.claim_due(limit, Claim::Late).await.expect("claim");
    let (dispatched, waiting) = (accept(&*store, spec()).await, accept(&*store, spec()).await);
    apply_one(&*store, outcome(waiting, 1, 1, Verdict::Released)).await;
    let mut late = Vec::new();
    for start in [Start::Now, Start::At(now() + Duration::from_secs(60))] {
        let deadline = Some(Deadline::After(Duration::from_millis(50)));
        let task = TaskSpec {
            deadline,
            start,
            ..spec()
        };
        late.push(accept(&*store, task).await);
    }
    sleep(Duration::from_millis(100)).await;
    doubt_all(&*store).await;
    // Those come first who can tell whoever runs it.
    assert_eq!(claim_late(10).await, Due::default());
    sleep(LATE_FOR).await;
    let mut ended = Vec::new();
    for _ in 0..2 {
        let due = claim_late(1).await;
        assert_eq!((due.looked_at, &*due.dispatches), (1, &[][..]));
        ended.extend(due.expired.iter().map(|one| one.task));
    }
    ended.sort_unstable();
    late.sort_unstable();
    assert_eq!(ended, late);
    assert_eq!(claim_late(10).await, Due::default());
    let mut expected = [(dispatched, 1), (waiting, 2)];
    expected.sort_unstable();
    assert_eq!(sorted(&claim_held(&*store, 10, &[]).await), expected);
}
