//! What the conformance suite cannot see: time and the bounds of what is kept.

use std::collections::HashSet;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use time::OffsetDateTime;
use uuid::Uuid;

use super::*;
use crate::content::Content;
use crate::id::WorkerId;
use crate::outcome::Verdict;
use crate::state::State;
use crate::store::{
    CLAIM_TTL, Claim, DISPATCH_DEADLINE, HELD_FOR, IDEMPOTENCY_WINDOW, IdempotencyKey,
};
use crate::task::{Task, TaskSpec};

fn spec() -> TaskSpec {
    Task::new("t", Content::binary("x"))
        .unwrap()
        .into_spec()
        .unwrap()
}

fn one(spec: TaskSpec) -> Vec<NewTasks> {
    vec![NewTasks {
        tasks: vec![spec.into()],
        key: None,
    }]
}

fn success(task: TaskId) -> Outcome {
    Outcome {
        task,
        attempt: 1,
        dispatch: 1,
        verdict: Verdict::Succeeded(Content::binary("y")),
        worker: WorkerId(Uuid::now_v7()),
        started_at: None,
        finished_at: OffsetDateTime::now_utc(),
        spec: None,
    }
}

async fn finish_one(store: &MemoryStore) -> TaskId {
    let id = store.accept(&one(spec())).await.remove(0).unwrap()[0].id;
    let applied = store
        .apply(&[&success(id)], &Policy::default())
        .await
        .unwrap();
    assert_eq!(applied, [Applied::Finished(State::Succeeded)]);
    id
}

#[tokio::test(start_paused = true)]
async fn finished_tasks_go_by_number_and_by_age() {
    let store = MemoryStore::new(Options {
        keep_finished: 2,
        keep_for: Duration::from_secs(10),
        ..Options::default()
    });
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(finish_one(&store).await);
    }
    assert_eq!(store.get(&ids[0]).await.unwrap(), None);
    assert!(store.get(&ids[1]).await.unwrap().is_some());
    tokio::time::advance(Duration::from_secs(10)).await;
    store.maintain().await.unwrap();
    assert_eq!(store.get(&ids[2]).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_dispatch_is_due_again_by_the_paused_clock() {
    let store = MemoryStore::default();
    store.accept(&one(spec())).await.remove(0).unwrap();
    let claim = async || {
        store
            .claim_due(10, Claim::All(&HashSet::new()))
            .await
            .unwrap()
    };
    assert_eq!(claim().await, Due::default());
    tokio::time::advance(DISPATCH_DEADLINE).await;
    assert_eq!(claim().await.dispatches.len(), 1);
    assert_eq!(claim().await, Due::default());
}

/// A task that is accepted and dispatched in one go is due if the broker did not take it, or another broker is bound.
#[tokio::test(start_paused = true)]
async fn what_is_accepted_at_once_is_due_unless_its_broker_has_it() {
    let store = MemoryStore::new(Options {
        max_live: 3,
        ..Options::default()
    });
    let identity = |broker| Identity {
        broker,
        store: None,
        in_process: true,
    };
    let (broker, other) = (Uuid::now_v7(), Uuid::now_v7());
    store.bind(&identity(broker)).await.unwrap();
    let at_once = store.at_once().unwrap();
    let due = async || {
        let claimed = store.claim_due(10, Claim::All(&HashSet::new())).await;
        let due = claimed.unwrap().dispatches.into_iter();
        due.map(|it| (it.spec.id, it.dispatch)).collect::<Vec<_>>()
    };
    let accept = |spec: &Arc<TaskSpec>, broker, dispatched| {
        let mut asked = 0;
        let mut dispatch = || {
            asked += 1;
            // It may be run before anybody else does anything.
            assert!(at_once.record(spec.id).is_some());
            dispatched
        };
        let accepted = at_once.accept_one(spec, broker, &mut dispatch);
        assert_eq!(asked, u32::from(accepted.is_ok()));
        accepted
    };
    let [taken, refused, third, fourth, broken] = [(); 5].map(|()| Arc::new(spec()));
    accept(&taken, broker, true).unwrap();
    accept(&refused, broker, false).unwrap();
    let record = at_once.record(taken.id).unwrap();
    assert_eq!(record, store.get(&taken.id).await.unwrap().unwrap());
    assert_eq!((record.state, record.dispatch), (State::Queued, 1));

    assert!(matches!(accept(&taken, broker, true), Err(Error::Exists)));
    assert!(matches!(accept(&third, other, true), Err(Error::Claimed)));
    assert_eq!(at_once.record(third.id), None);
    let panics = || at_once.accept_one(&broken, broker, &mut || panic!("as it is to"));
    assert!(panic::catch_unwind(AssertUnwindSafe(panics)).is_err());
    let full = accept(&fourth, broker, true);
    assert!(matches!(full, Err(Error::Full { limit: 3 })));

    tokio::time::advance(DISPATCH_DEADLINE - Duration::from_millis(1)).await;
    assert_eq!(due().await, []);
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(due().await, [(refused.id, 1), (broken.id, 1)]);
    tokio::time::advance(CLAIM_TTL).await;
    store.bind(&identity(other)).await.unwrap();
    assert_eq!(due().await.len(), 3, "another broker has none of them");
}

/// However many there are: a third is confirmed, a third ends, and the others are due.
#[tokio::test(start_paused = true)]
async fn those_are_due_that_nobody_confirmed() {
    let store = MemoryStore::default();
    let mut unconfirmed = HashSet::new();
    for number in 0..6_000 {
        let id = match number % 3 {
            0 => finish_one(&store).await,
            _ => store.accept(&one(spec())).await.remove(0).unwrap()[0].id,
        };
        match number % 3 {
            1 => drop(store.confirm_dispatched(Uuid::nil(), &[(id, 1)]).await),
            2 => drop(unconfirmed.insert(id)),
            _ => {}
        }
    }
    let claim = async || {
        store
            .claim_due(6_000, Claim::All(&HashSet::new()))
            .await
            .unwrap()
    };
    tokio::time::advance(DISPATCH_DEADLINE - Duration::from_millis(1)).await;
    assert_eq!(claim().await, Due::default());
    tokio::time::advance(Duration::from_millis(1)).await;
    let due = claim().await.dispatches;
    let due: HashSet<_> = due.iter().map(|dispatch| dispatch.spec.id).collect();
    assert_eq!(due, unconfirmed);
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_holds_is_looked_at_again_by_the_paused_clock() {
    let store = MemoryStore::default();
    let id = store.accept(&one(spec())).await.remove(0).unwrap()[0].id;
    tokio::time::advance(DISPATCH_DEADLINE).await;
    let held = HashSet::from([id]);
    let claim = async |held| store.claim_due(10, held).await.unwrap();
    assert_eq!(claim(Claim::WaitingOrLate).await, Due::default());
    let due = claim(Claim::All(&held)).await;
    assert_eq!((due.looked_at, due.dispatches.len()), (1, 0));
    tokio::time::advance(HELD_FOR - Duration::from_millis(1)).await;
    assert_eq!(claim(Claim::All(&held)).await, Due::default());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(claim(Claim::All(&HashSet::new())).await.dispatches.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_are_forgotten_after_their_window() {
    let store = &MemoryStore::default();
    let keyed = |body_hash| {
        let key = Some(IdempotencyKey {
            key: "k".into(),
            body_hash,
        });
        let tasks = vec![spec().into()];
        async move { store.accept(&[NewTasks { tasks, key }]).await }
    };
    let first = keyed(1).await.remove(0).unwrap()[0].id;
    assert_eq!(keyed(1).await.remove(0).unwrap()[0].id, first);
    tokio::time::advance(IDEMPOTENCY_WINDOW).await;
    assert_ne!(keyed(2).await.remove(0).unwrap()[0].id, first);
}

/// In more slices than one, among others that have ended, and where the newest are all there is.
#[tokio::test]
async fn all_that_has_not_ended_is_counted() {
    let store = MemoryStore::default();
    let queued = async || {
        let counts = store.queue_counts().await.unwrap();
        counts.iter().map(|counts| counts.queued).sum::<u64>()
    };
    finish_one(&store).await;
    assert_eq!(queued().await, 0);
    for number in 1..=12_000 {
        match number % 2 {
            0 => drop(finish_one(&store).await),
            _ => drop(store.accept(&one(spec())).await),
        }
        if number == 1_000 || number == 12_000 {
            assert_eq!(queued().await, number / 2);
        }
    }
}

#[tokio::test]
async fn batches_are_quick() {
    let store = MemoryStore::default();
    let rounds = 500;
    let begun = std::time::Instant::now();
    for _ in 0..rounds {
        let specs: Vec<_> = (0..100).map(|_| spec()).collect();
        let done: Vec<_> = specs.iter().map(|spec| success(spec.id)).collect();
        store
            .accept(&[NewTasks {
                tasks: specs.into_iter().map(Into::into).collect(),
                key: None,
            }])
            .await
            .remove(0)
            .unwrap();
        let done: Vec<_> = done.iter().collect();
        store.apply(&done, &Policy::default()).await.unwrap();
    }
    let rate = f64::from(rounds) * 100.0 / begun.elapsed().as_secs_f64();
    println!("{rate:.0} tasks a second accepted and applied");
    // A tenth of what is expected, for a busy machine: it catches what is quadratic.
    assert!(rate > 20_000.0, "{rate:.0}");
}
