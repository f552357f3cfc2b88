//! Unique keys: who has one, for how long, and what the others get.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use goflow_core::outcome::Verdict;
use goflow_core::store::{Accepted, Change, Error};
use goflow_core::{Deadline, TaskId, TaskSpec, TaskStore, Unique};
use tokio::time::sleep;

use super::{
    Fixture, accept, accept_request, apply_one, claim_held, get, keyed, outcome, request, roomy,
    spec, success,
};

fn unique(unique: Unique) -> TaskSpec {
    TaskSpec {
        unique: Some(unique),
        ..spec()
    }
}

fn live(key: &str) -> TaskSpec {
    unique(Unique::while_live(key))
}

fn rejecting(key: &str) -> TaskSpec {
    unique(Unique::while_live(key).or_reject())
}

async fn is_kept_out(store: &dyn TaskStore, spec: TaskSpec, holder: TaskId) {
    let (id, rejecting) = (
        spec.id,
        TaskSpec {
            id: TaskId::new(),
            ..spec.clone()
        },
    );
    let accepted = accept_request(store, request(vec![spec]))
        .await
        .expect("accepted");
    let dispatch_now = false;
    assert_eq!(
        accepted,
        [Accepted {
            id: holder,
            dispatch_now
        }]
    );
    if id != holder {
        assert_eq!(store.get(&id).await.expect("get"), None);
    }
    let (id, key) = (rejecting.id, rejecting.unique.map(Unique::or_reject));
    let refused = accept_request(
        store,
        request(vec![TaskSpec {
            unique: key,
            ..rejecting
        }]),
    )
    .await;
    assert!(
        matches!(refused, Err(Error::Duplicate(other)) if other == holder),
        "{refused:?}"
    );
    assert_eq!(store.get(&id).await.expect("get"), None);
}

async fn gets_in(store: &dyn TaskStore, spec: TaskSpec) -> TaskId {
    let id = spec.id;
    let accepted = accept_request(store, request(vec![spec]))
        .await
        .expect("accepted");
    let dispatch_now = true;
    assert_eq!(accepted, [Accepted { id, dispatch_now }]);
    id
}

/// A key is taken for as long as its task is unfinished, within its namespace.
pub async fn unique_while_live(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let first = live("k");
    let id = gets_in(&*store, first.clone()).await;
    is_kept_out(&*store, live("k"), id).await;
    is_kept_out(
        &*store,
        unique(Unique::within("k", Duration::from_secs(1))),
        id,
    )
    .await;
    is_kept_out(&*store, first, id).await;
    gets_in(&*store, live("K")).await;
    let namespace = "tenant".parse().expect("a good name");
    gets_in(
        &*store,
        TaskSpec {
            namespace,
            ..live("k")
        },
    )
    .await;
    apply_one(&*store, outcome(id, 1, 1, Verdict::failed("no"))).await;
    is_kept_out(&*store, live("k"), id).await;
}

/// However its task ends, the key is free at once.
pub async fn freed_keys(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let done = gets_in(&*store, live("k")).await;
    apply_one(&*store, outcome(done, 1, 1, success())).await;
    let failed = gets_in(&*store, rejecting("k")).await;
    apply_one(
        &*store,
        outcome(failed, 1, 1, Verdict::failed_for_good("no")),
    )
    .await;
    let cancelled = gets_in(&*store, live("k")).await;
    store.cancel(cancelled).await.expect("cancel");
    let late = TaskSpec {
        deadline: Some(Deadline::After(Duration::from_millis(50))),
        ..live("k")
    };
    let late = gets_in(&*store, late).await;
    is_kept_out(&*store, live("k"), late).await;
    sleep(Duration::from_millis(100)).await;
    assert_eq!(claim_held(&*store, 10, &[]).await.expired.len(), 1);
    let id = gets_in(&*store, live("k")).await;
    store.maintain().await.expect("maintain");
    is_kept_out(&*store, live("k"), id).await;
}

/// A key that is taken for a while is taken for as long, and no longer, whatever becomes of its task.
pub async fn unique_for_a_period(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let period = Duration::from_millis(500);
    let spec = || unique(Unique::within("k", period));
    let id = gets_in(&*store, spec()).await;
    is_kept_out(&*store, live("k"), id).await;
    apply_one(&*store, outcome(id, 1, 1, success())).await;
    store.maintain().await.expect("maintain");
    is_kept_out(&*store, spec(), id).await;
    sleep(period).await;
    let second = gets_in(&*store, spec()).await;
    sleep(period).await;
    store.maintain().await.expect("maintain");
    let third = gets_in(&*store, live("k")).await;
    assert!(
        !get(&*store, second).await.state.is_terminal(),
        "its period is over all the same"
    );
    apply_one(&*store, outcome(second, 1, 1, success())).await;
    is_kept_out(&*store, spec(), third).await;
}

/// Within a call the first one wins, be it of the same request or of an earlier one that was accepted.
pub async fn unique_folds(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let there = gets_in(&*store, live("there")).await;
    let (a, b, c) = (live("a"), live("b"), live("c"));
    let ids = [a.id, b.id, c.id];
    let plain = spec();
    let answers = store
        .accept(&[
            // Refused for its second task, so that it takes no key from those behind it.
            request(vec![live("a"), rejecting("there"), live("c")]),
            request(vec![a, live("a"), plain.clone()]),
            request(vec![live("b"), rejecting("b")]),
            request(vec![b, live("there")]),
            request(vec![rejecting("a")]),
            request(vec![c]),
            request(vec![live("c")]),
        ])
        .await;
    let accepted = |at: usize| -> Vec<(TaskId, bool)> {
        let accepted = answers[at].as_ref().expect("accepted").iter();
        accepted.map(|one| (one.id, one.dispatch_now)).collect()
    };
    let duplicate = |at: usize| match &answers[at] {
        Err(Error::Duplicate(id)) => *id,
        other => panic!("{at}: {other:?}"),
    };
    assert_eq!(duplicate(0), there);
    assert_eq!(
        accepted(1),
        [(ids[0], true), (ids[0], false), (plain.id, true)]
    );
    duplicate(2);
    assert_eq!(accepted(3), [(ids[1], true), (there, false)]);
    assert_eq!(duplicate(4), ids[0]);
    assert_eq!(accepted(5), [(ids[2], true)]);
    assert_eq!(accepted(6), [(ids[2], false)]);
    assert_eq!(store.queue_counts().await.expect("counts")[0].queued, 5);
    for (key, id) in [("a", ids[0]), ("b", ids[1]), ("c", ids[2])] {
        is_kept_out(&*store, live(key), id).await;
    }
}

/// A request that is refused leaves nothing behind, neither tasks nor keys.
pub async fn unique_batches(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let taken = gets_in(&*store, live("taken")).await;
    let (free, plain) = (live("free"), spec());
    let batch = vec![free.clone(), plain.clone(), rejecting("taken")];
    let refused = accept_request(&*store, request(batch)).await;
    assert!(
        matches!(refused, Err(Error::Duplicate(id)) if id == taken),
        "{refused:?}"
    );
    for id in [free.id, plain.id] {
        assert_eq!(store.get(&id).await.expect("get"), None);
    }
    gets_in(&*store, live("free")).await;
    // Nor does one that is refused for another reason.
    let exists = TaskSpec {
        id: taken,
        ..spec()
    };
    let refused = accept_request(&*store, request(vec![live("other"), exists])).await;
    assert!(matches!(refused, Err(Error::Exists)), "{refused:?}");
    gets_in(&*store, live("other")).await;
}

/// An idempotency key stands for what its request got.
pub async fn unique_and_idempotent(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let id = gets_in(&*store, live("k")).await;
    let answers = store
        .accept(&[keyed(live("k"), "push", 1), keyed(live("k"), "push", 1)])
        .await;
    for answer in &answers {
        assert_eq!(answer.as_ref().expect("accepted")[0].id, id);
    }
    let answers = store
        .accept(&[
            keyed(rejecting("k"), "refused", 1),
            keyed(rejecting("k"), "refused", 1),
        ])
        .await;
    for answer in &answers {
        assert!(
            matches!(answer, Err(Error::Duplicate(holder)) if *holder == id),
            "{answer:?}"
        );
    }
    apply_one(&*store, outcome(id, 1, 1, success())).await;
    let again = accept_request(&*store, keyed(live("k"), "push", 1))
        .await
        .expect("accepted");
    assert_eq!((again[0].id, again[0].dispatch_now), (id, false));
    // A refusal is not remembered.
    let spec = rejecting("k");
    let accepted = accept_request(&*store, keyed(spec.clone(), "refused", 1))
        .await
        .expect("accepted");
    assert_eq!((accepted[0].id, accepted[0].dispatch_now), (spec.id, true));
}

/// A task that is reopened has its key again, or is not reopened.
pub async fn unique_when_reopened(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let first = gets_in(&*store, live("k")).await;
    store.cancel(first).await.expect("cancel");
    let second = gets_in(&*store, live("k")).await;
    let refused = store.retry(first).await;
    assert!(
        matches!(refused, Err(Error::Duplicate(id)) if id == second),
        "{refused:?}"
    );
    assert!(get(&*store, first).await.finished_at.is_some());
    apply_one(&*store, outcome(second, 1, 1, success())).await;
    assert!(matches!(
        store.retry(first).await.expect("retry"),
        Change::Done(_)
    ));
    is_kept_out(&*store, live("k"), first).await;
    store.cancel(first).await.expect("cancel");
    let third = accept(&*store, live("k")).await;
    is_kept_out(&*store, live("k"), third).await;
}

/// Many writers and finishers of the same keys: never two unfinished tasks of one.
pub async fn unique_under_contention(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..6_usize {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut made = HashSet::new();
            for round in 0..8_usize {
                let order = (0..10).map(|i| (i * 3 + writer + round) % 10);
                let requests = order.map(|i| request(vec![live(&format!("key-{i}"))]));
                for answer in store.accept(&requests.collect::<Vec<_>>()).await {
                    let accepted = answer.expect("accepted")[0];
                    if accepted.dispatch_now {
                        made.insert(accepted.id);
                    }
                }
                // Half of them end, so that their keys change hands.
                for id in made
                    .iter()
                    .copied()
                    .filter(|id| id.as_uuid().as_bytes()[15] % 2 == 0)
                {
                    apply_one(&*store, outcome(id, 1, 1, success())).await;
                }
            }
            made
        });
    }
    let made: Vec<TaskId> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(made.iter().collect::<HashSet<_>>().len(), made.len());
    let mut keys = HashSet::new();
    for id in made {
        let record = get(&*store, id).await;
        if !record.state.is_terminal() {
            let key = record.spec.unique.as_ref().expect("a key").key.clone();
            assert!(keys.insert(key.clone()), "two unfinished tasks of {key}");
        }
    }
    let counts = store.queue_counts().await.expect("counts");
    assert_eq!(
        counts.first().map_or(0, |one| one.queued),
        keys.len() as u64
    );
}
