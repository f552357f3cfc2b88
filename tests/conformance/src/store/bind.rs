//! Binding the store to a broker.

use std::time::Duration;

use goflow_core::broker::Identity;
use goflow_core::outcome::Verdict;
use goflow_core::store::{CLAIM_TTL, Error};
use goflow_core::{Start, StoreId, TaskSpec};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{
    Fixture, QUIET, accept, apply_one, claim, dispatched, nothing_is_due, outcome, roomy, spec,
};

fn shared() -> Identity {
    Identity {
        broker: Uuid::new_v4(),
        store: None,
        in_process: false,
    }
}

fn in_process() -> Identity {
    Identity {
        in_process: true,
        ..shared()
    }
}

/// The same broker again changes nothing.
pub async fn same_broker(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let broker = shared();
    store.bind(&broker).await.expect("bind");
    let id = accept(&*store, spec()).await;
    let confirmed = store.confirm_dispatched(broker.broker, &[(id, 1)]).await;
    assert!(confirmed.expect("confirm"));
    let known = Identity {
        store: Some(store.id()),
        ..broker
    };
    store.bind(&known).await.expect("bind");
    nothing_is_due(&*store, QUIET).await;
}

/// A new broker has none of the messages: what was dispatched is due, as it was; what waits goes on waiting.
pub async fn another_broker(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let before = shared();
    store.bind(&before).await.expect("bind");
    let confirmed = accept(&*store, spec()).await;
    store
        .confirm_dispatched(before.broker, &[(confirmed, 1)])
        .await
        .expect("confirm");
    let unconfirmed = accept(&*store, spec()).await;
    let scheduled = accept(
        &*store,
        TaskSpec {
            start: Start::After(Duration::from_secs(60)),
            ..spec()
        },
    )
    .await;
    let unserved = accept(&*store, spec()).await;
    apply_one(&*store, outcome(unserved, 1, 1, Verdict::Unserved)).await;
    store.bind(&shared()).await.expect("bind");
    // Whoever has not heard of it may still tell what the broker before had: that counts for nothing.
    let late = store
        .confirm_dispatched(before.broker, &[(confirmed, 1), (unconfirmed, 1)])
        .await;
    assert!(!late.expect("confirm"));
    let due = claim(&*store, 10).await;
    let mut ids: Vec<_> = due
        .iter()
        .map(|dispatch| (dispatch.spec.id, dispatch.dispatch))
        .collect();
    ids.sort_unstable();
    let mut expected = [(confirmed, 1), (unconfirmed, 1)];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    assert!(super::get(&*store, scheduled).await.due_at.is_some());
    assert_eq!(dispatched(&*store, unserved).await.dispatch, 2);
}

/// A broker of another store is refused.
pub async fn foreign_broker(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let bound = StoreId(Uuid::new_v4());
    let refused = store
        .bind(&Identity {
            store: Some(bound),
            ..shared()
        })
        .await;
    let this = store.id();
    assert!(
        matches!(refused, Err(Error::Foreign { bound: b, this: t }) if b == bound && t == this),
        "{refused:?}"
    );
}

/// An in-process broker has the store to itself until its claim ends or is given back.
pub async fn claims(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (first, second) = (in_process(), in_process());
    store.bind(&first).await.expect("bind");
    let id = accept(&*store, spec()).await;
    let confirmed = store.confirm_dispatched(first.broker, &[(id, 1)]).await;
    assert!(confirmed.expect("confirm"));
    for other in [&second, &shared()] {
        let refused = store.bind(other).await;
        assert!(matches!(refused, Err(Error::Claimed)), "{refused:?}");
    }
    store.bind(&first).await.expect("renew");
    nothing_is_due(&*store, QUIET).await;
    let begun = Instant::now();
    while let Err(error) = store.bind(&second).await {
        assert!(matches!(error, Error::Claimed), "{error}");
        assert!(
            begun.elapsed() < CLAIM_TTL + Duration::from_secs(3),
            "the claim does not end"
        );
        sleep(Duration::from_millis(100)).await;
    }
    assert!(
        begun.elapsed() > CLAIM_TTL - Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(
        dispatched(&*store, id).await.dispatch,
        1,
        "the messages of the first are gone"
    );
    let refused = store.bind(&first).await;
    assert!(matches!(refused, Err(Error::Claimed)), "{refused:?}");
}
