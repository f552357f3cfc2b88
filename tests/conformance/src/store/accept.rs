//! Accepting and getting.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use goflow_core::limits::MAX_CONTENT_BYTES;
use goflow_core::outcome::Verdict;
use goflow_core::record::{Filter, PageRequest};
use goflow_core::store::{Accepted, Applied, Error};
use goflow_core::{
    Backoff, Content, Deadline, Priority, Start, State, TaskId, TaskSpec, TaskStore, Unique,
};
use tokio::time::{Instant, sleep};

use super::{
    Fixture, PATIENCE, accept, accept_request, apply_one, dispatched, get, keyed, now, outcome,
    request, roomy, spec, success,
};

/// A task nobody pushed is absent, which is no error.
pub async fn absent_is_no_error(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    assert_eq!(store.get(&TaskId::new()).await.expect("get"), None);
}

/// Whatever is accepted is got back as it was.
pub async fn accepted_is_got_equal(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let pairs = |n: usize| {
        (0..n)
            .map(|i| (format!("key {i} ä"), format!("\"value\" {i}\n")))
            .collect()
    };
    let large: Vec<u8> = (0..MAX_CONTENT_BYTES)
        .map(|i| (i * 31 % 251) as u8)
        .collect();
    let specs = vec![
        TaskSpec {
            payload: Content::binary(""),
            ..spec()
        },
        TaskSpec {
            payload: Content::binary(&b"\xff\x00\xfe'\\x"[..]),
            ..spec()
        },
        TaskSpec {
            payload: Content::binary(large),
            ..spec()
        },
        TaskSpec {
            payload: Content::new("{broken", "application/json"),
            ..spec()
        },
        TaskSpec {
            headers: pairs(3),
            tags: pairs(2),
            timeout: Some(Duration::from_millis(1_500)),
            ..spec()
        },
        TaskSpec {
            backoff: Backoff::Fixed(Duration::from_millis(10)),
            max_attempts: 1_000,
            ..spec()
        },
        TaskSpec {
            backoff: Backoff::List(vec![Duration::from_nanos(1), Duration::from_secs(7)]),
            ..spec()
        },
        TaskSpec {
            start: Start::After(Duration::from_secs(3_600)),
            ..spec()
        },
        TaskSpec {
            start: Start::At(now() + Duration::from_secs(3_600)),
            ..spec()
        },
        TaskSpec {
            queue: "other".parse().expect("name"),
            namespace: "tenant".parse().expect("name"),
            ..spec()
        },
    ];
    for accepted in store
        .accept(
            &specs
                .iter()
                .cloned()
                .map(|spec| request(vec![spec]))
                .collect::<Vec<_>>(),
        )
        .await
    {
        accepted.expect("accepted");
    }
    for spec in specs {
        assert_eq!(*get(&*store, spec.id).await.spec, spec);
    }
}

/// What a push asked for stays with the task through lists, dispatches, its end and its reopening.
pub async fn options_travel(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (hour, odd) = (Duration::from_secs(3_600), Duration::new(7, 123_456_789));
    let priority = |number| Priority::try_from(number).expect("a priority");
    let specs = [
        TaskSpec {
            priority: priority(0),
            ..spec()
        },
        TaskSpec {
            priority: priority(3),
            retry_of: Some(TaskId::new()),
            ..spec()
        },
        TaskSpec {
            deadline: Some(Deadline::After(hour + odd)),
            ..spec()
        },
        TaskSpec {
            deadline: Some(Deadline::At(now() + hour)),
            ..spec()
        },
        TaskSpec {
            unique: Some(Unique::while_live("a key with \"quotes\" ä")),
            ..spec()
        },
        TaskSpec {
            unique: Some(Unique::within("k", hour).or_reject()),
            ..spec()
        },
        TaskSpec {
            retention: Some(odd),
            heartbeat_timeout: Some(odd),
            ..spec()
        },
    ];
    let requests = specs.iter().map(|spec| request(vec![spec.clone()]));
    for accepted in store.accept(&requests.collect::<Vec<_>>()).await {
        assert!(accepted.expect("accepted")[0].dispatch_now);
    }
    let all = Filter::default();
    for spec in &specs {
        assert_eq!(*get(&*store, spec.id).await.spec, *spec);
        let request = PageRequest {
            before: None,
            limit: specs.len(),
        };
        let page = store.list(&all, request).await.expect("list");
        assert!(page.tasks.iter().any(|task| *task.spec == *spec));
        let failed = outcome(spec.id, 1, 1, Verdict::failed_for_good("no"));
        apply_one(&*store, failed).await;
        let record = get(&*store, spec.id).await;
        assert_eq!((record.state, &*record.spec), (State::Failed, spec));
        assert_eq!(record.progress, None);
        let page = store.list(&all, request).await.expect("list");
        assert!(page.tasks.iter().any(|task| *task.spec == *spec));
        store.retry(spec.id).await.expect("retry");
        assert_eq!(*get(&*store, spec.id).await.spec, *spec);
        assert_eq!(*dispatched(&*store, spec.id).await.spec, *spec);
    }
}

/// A task that may start is queued and dispatched, any other scheduled.
pub async fn first_state(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let starts = [
        (Start::Now, State::Queued),
        (Start::At(now() - Duration::from_secs(60)), State::Queued),
        (Start::After(Duration::from_secs(60)), State::Scheduled),
        (Start::At(now() + Duration::from_secs(60)), State::Scheduled),
    ];
    for (start, state) in starts {
        let spec = TaskSpec { start, ..spec() };
        let id = spec.id;
        let accepted = accept_request(&*store, request(vec![spec]))
            .await
            .expect("accepted");
        let at_once = state == State::Queued;
        assert_eq!(
            accepted,
            [Accepted {
                id,
                dispatch_now: at_once
            }]
        );
        let record = get(&*store, id).await;
        assert_eq!(
            (record.state, record.attempt, record.dispatch),
            (state, 1, u32::from(at_once))
        );
        assert_eq!(record.due_at.is_some(), !at_once);
        assert_eq!(
            (record.result, record.error, record.worker),
            (None, None, None)
        );
        assert_eq!(
            (record.finished_at, record.started_at, record.attempts),
            (None, None, vec![])
        );
    }
}

/// Writers do not lose each other's tasks.
pub async fn concurrent_writers(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..10 {
                let requests = (0..5)
                    .map(|_| request(vec![spec(), spec()]))
                    .collect::<Vec<_>>();
                for answer in store.accept(&requests).await {
                    ids.extend(
                        answer
                            .expect("accepted")
                            .into_iter()
                            .map(|accepted| accepted.id),
                    );
                }
            }
            ids
        });
    }
    let ids: Vec<TaskId> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 800);
    for id in &ids {
        get(&*store, *id).await;
    }
    assert_eq!(store.queue_counts().await.expect("counts")[0].queued, 800);
}

/// A request is accepted as a whole or not at all, and does not keep others from being accepted.
pub async fn requests_are_all_or_none(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let there = accept(&*store, spec()).await;
    let (before, bad, after) = (
        spec(),
        [
            spec(),
            TaskSpec {
                id: there,
                ..spec()
            },
            spec(),
        ],
        spec(),
    );
    let ids: Vec<TaskId> = bad.iter().map(|spec| spec.id).collect();
    let twice = spec();
    let answers = store
        .accept(&[
            request(vec![before.clone()]),
            request(bad.to_vec()),
            request(vec![twice.clone(), twice.clone()]),
            request(vec![after.clone()]),
        ])
        .await;
    assert!(answers[0].is_ok() && answers[3].is_ok(), "{answers:?}");
    assert!(matches!(&answers[1], Err(Error::Exists)), "{answers:?}");
    assert!(matches!(&answers[2], Err(Error::Exists)), "{answers:?}");
    get(&*store, before.id).await;
    get(&*store, after.id).await;
    for id in [ids[0], ids[2], twice.id] {
        assert_eq!(store.get(&id).await.expect("get"), None);
    }
}

/// An id is accepted once, even when its task has ended since.
pub async fn ids_exist_once(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let spec = spec();
    accept(&*store, spec.clone()).await;
    for finish in [true, false] {
        let answer = accept_request(&*store, request(vec![spec.clone()])).await;
        assert!(matches!(answer, Err(Error::Exists)), "{answer:?}");
        if finish {
            let applied = apply_one(&*store, outcome(spec.id, 1, 1, success())).await;
            assert_eq!(applied, Applied::Finished(State::Succeeded));
        }
    }
}

/// What no store can keep is refused, each request for itself.
pub async fn unfit_requests(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let mut nul = spec();
    nul.tags.insert("a".into(), "b\0c".into());
    let mut two = keyed(spec(), "k", 1);
    two.tasks.push(spec().into());
    let answers = store
        .accept(&[
            request(vec![nul]),
            request(vec![]),
            two,
            request(vec![spec()]),
        ])
        .await;
    for answer in &answers[..3] {
        assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
    }
    assert!(answers[3].is_ok(), "{answers:?}");
}

/// A repeated key gives the first id; with another body it is refused.
pub async fn keys_repeat(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let first = spec();
    let accepted = accept_request(&*store, keyed(first.clone(), "order-1", 7))
        .await
        .expect("accepted");
    assert_eq!(
        accepted,
        [Accepted {
            id: first.id,
            dispatch_now: true
        }]
    );
    let other = spec();
    for again in [first.clone(), other.clone()] {
        let accepted = accept_request(&*store, keyed(again, "order-1", 7))
            .await
            .expect("accepted");
        assert_eq!(
            accepted,
            [Accepted {
                id: first.id,
                dispatch_now: false
            }]
        );
    }
    assert_eq!(store.get(&other.id).await.expect("get"), None);
    let refused = accept_request(&*store, keyed(spec(), "order-1", u64::MAX)).await;
    assert!(matches!(refused, Err(Error::KeyReused)), "{refused:?}");
    apply_one(&*store, outcome(first.id, 1, 1, success())).await;
    let accepted = accept_request(&*store, keyed(spec(), "order-1", 7))
        .await
        .expect("accepted");
    assert_eq!(
        accepted[0].id, first.id,
        "the task has ended, the key stands"
    );
    let mut elsewhere = spec();
    elsewhere.namespace = "tenant".parse().expect("name");
    let accepted = accept_request(&*store, keyed(elsewhere.clone(), "order-1", 9))
        .await
        .expect("accepted");
    assert_eq!(
        accepted[0].id, elsewhere.id,
        "another namespace has keys of its own"
    );
}

/// Equal keys within one call are one task.
pub async fn keys_are_folded(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let known = accept_request(&*store, keyed(spec(), "known", 1))
        .await
        .expect("accepted")[0]
        .id;
    let (a, b) = (spec(), spec());
    let answers = store
        .accept(&[
            keyed(b.clone(), "b", 2),
            keyed(a.clone(), "a", 1),
            keyed(spec(), "a", 1),
            keyed(spec(), "a", 3),
            keyed(spec(), "known", 1),
            keyed(spec(), "known", 2),
            request(vec![spec()]),
        ])
        .await;
    let id = |at: usize| answers[at].as_ref().expect("accepted")[0];
    assert_eq!(
        id(0),
        Accepted {
            id: b.id,
            dispatch_now: true
        }
    );
    assert_eq!(
        id(1),
        Accepted {
            id: a.id,
            dispatch_now: true
        }
    );
    assert_eq!(
        id(2),
        Accepted {
            id: a.id,
            dispatch_now: false
        }
    );
    assert!(matches!(answers[3], Err(Error::KeyReused)), "{answers:?}");
    assert_eq!(
        id(4),
        Accepted {
            id: known,
            dispatch_now: false
        }
    );
    assert!(matches!(answers[5], Err(Error::KeyReused)), "{answers:?}");
    assert!(id(6).dispatch_now);
}

/// Many writers with the same keys, in any order, agree on the ids.
pub async fn keys_under_contention(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_usize {
        let store = Arc::clone(&store);
        writers.spawn(async move {
            let order = (0..20).map(|i| (i * 7 + writer * 3) % 20);
            let requests = order
                .clone()
                .map(|i| keyed(spec(), &format!("key-{i}"), 1))
                .collect::<Vec<_>>();
            let answers = store.accept(&requests).await;
            let ids = answers
                .into_iter()
                .map(|answer| answer.expect("accepted")[0].id);
            let mut ids: Vec<_> = order.zip(ids).collect();
            ids.sort_unstable();
            ids
        });
    }
    let found = writers.join_all().await;
    for ids in &found {
        assert_eq!(ids, &found[0]);
    }
    assert_eq!(store.queue_counts().await.expect("counts")[0].queued, 20);
}

/// The largest request there is.
pub async fn large_batch(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let specs: Vec<TaskSpec> = (0..goflow_core::limits::MAX_BATCH)
        .map(|_| spec())
        .collect();
    let accepted = accept_request(&*store, request(specs.clone()))
        .await
        .expect("accepted");
    let ids: Vec<TaskId> = accepted.iter().map(|accepted| accepted.id).collect();
    assert_eq!(
        ids,
        specs.iter().map(|spec| spec.id).collect::<Vec<_>>(),
        "in the order of the request"
    );
}

/// Beyond its limit a store refuses what is new, and takes it again when tasks have ended.
pub async fn full_store(fixture: &impl Fixture) {
    let store = fixture.open(3).await;
    let first = accept_request(&*store, keyed(spec(), "k", 1))
        .await
        .expect("accepted")[0]
        .id;
    let answers = store
        .accept(&[
            request(vec![spec(), spec(), spec()]),
            request(vec![spec(), spec()]),
        ])
        .await;
    assert!(
        matches!(answers[0], Err(Error::Full { limit: 3 })),
        "{answers:?}"
    );
    assert!(answers[1].is_ok(), "{answers:?}");
    let refused = accept_request(&*store, request(vec![spec()])).await;
    assert!(
        matches!(refused, Err(Error::Full { limit: 3 })),
        "{refused:?}"
    );
    let repeated = accept_request(&*store, keyed(spec(), "k", 1))
        .await
        .expect("a repetition needs no room");
    assert_eq!(repeated[0].id, first);
    apply_one(&*store, outcome(first, 1, 1, success())).await;
    takes_again(&*store).await;
}

async fn takes_again(store: &dyn TaskStore) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = accept_request(store, request(vec![spec()])).await {
        assert!(
            matches!(error, Error::Full { .. }) && Instant::now() < deadline,
            "{error}"
        );
        sleep(Duration::from_millis(50)).await;
    }
}
