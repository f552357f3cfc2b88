//! Pushing within a transaction of the caller.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goflow_core::store::{Claim, Due};
use goflow_core::{Error, GoFlow, KvStore, State, Task, Unique};
use sqlx::{Connection, PgConnection};

use super::*;
use crate::{push_in, push_many_in};

fn task() -> Task {
    Task::json("mail", "hello").unwrap()
}

async fn due(store: &PostgresStore) -> Due {
    store
        .claim_due(100, Claim::All(&HashSet::new()))
        .await
        .unwrap()
}

async fn connect(bench: &Bench) -> PgConnection {
    PgConnection::connect(&bench.url).await.unwrap()
}

/// Seen by nobody before the commit, and due at once after it.
#[tokio::test]
async fn it_exists_from_the_commit_on() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    bench.sql("create table orders (id int)");
    let mut connection = connect(&bench).await;
    let mut tx = connection.begin().await.unwrap();
    sqlx::query("insert into orders values (1)")
        .execute(&mut *tx)
        .await
        .unwrap();
    let id = push_in(&mut tx, task()).await.unwrap();
    let later = task().delay(Duration::from_secs(60));
    let scheduled = push_in(&mut tx, later).await.unwrap();
    assert_eq!(store.get(&id).await.unwrap(), None);
    assert_eq!(due(&store).await, Due::default());
    tx.commit().await.unwrap();
    let due = due(&store).await;
    let dispatches: Vec<_> = due
        .dispatches
        .iter()
        .map(|one| (one.spec.id, one.attempt, one.dispatch))
        .collect();
    assert_eq!(dispatches, [(id, 1, 1)]);
    let record = store.get(&id).await.unwrap().unwrap();
    assert_eq!(
        (record.state, record.spec.payload.len()),
        (State::Queued, 7)
    );
    let record = store.get(&scheduled).await.unwrap().unwrap();
    assert_eq!((record.state, record.dispatch), (State::Scheduled, 0));
    assert_eq!(
        apply(&store, vec![success(id)]).await,
        [Applied::Finished(State::Succeeded)]
    );
}

/// A transaction that is rolled back, or whose connection is lost, leaves neither tasks nor keys.
#[tokio::test]
async fn it_never_existed_after_a_rollback() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let mut connection = connect(&bench).await;
    let unique = || task().unique(Unique::while_live("k").or_reject());
    for commit in [false, false, true] {
        let mut tx = connection.begin().await.unwrap();
        push_many_in(&mut tx, [task(), unique()]).await.unwrap();
        if commit {
            tx.commit().await.unwrap();
        } else {
            tx.rollback().await.unwrap();
            assert_eq!(
                bench.sql(
                    "select (select count(*) from gf_task) + (select count(*) from gf_unique)"
                ),
                "0"
            );
        }
    }
    let mut tx = connection.begin().await.unwrap();
    push_in(&mut tx, task()).await.unwrap();
    drop(tx);
    connection.close().await.unwrap();
    assert_eq!(due(&store).await.dispatches.len(), 2);
}

/// What is refused leaves the transaction as it was.
#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let holder = TaskSpec {
        unique: Some(Unique::while_live("k")),
        ..spec()
    };
    let holder = accept(&store, holder).await;
    let mut connection = connect(&bench).await;
    let mut tx = connection.begin().await.unwrap();
    let unique = |key: &str| task().unique(Unique::while_live(key).or_reject());
    let refused = push_many_in(&mut tx, [unique("free"), task(), unique("k")]).await;
    assert!(
        matches!(refused, Err(Error::Duplicate(id)) if id == holder),
        "{refused:?}"
    );
    let existing = push_in(&mut tx, task().unique(Unique::while_live("k"))).await;
    assert_eq!(existing.unwrap(), holder);
    let large = Task::new("mail", Content::binary(vec![0; 1_000_000])).unwrap();
    assert!(matches!(
        push_in(&mut tx, large).await,
        Err(Error::TooLarge { .. })
    ));
    for bad in [
        task().idempotency_key("k"),
        task().tag("a", "b\0"),
        unique("a\0"),
        task().timeout(Duration::ZERO),
    ] {
        let refused = push_in(&mut tx, bad).await;
        assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    }
    let many = push_many_in(&mut tx, (0..1_001).map(|_| task())).await;
    assert!(matches!(many, Err(Error::Invalid(_))), "{many:?}");
    assert_eq!(push_many_in(&mut tx, []).await.unwrap(), []);
    let ids = push_many_in(&mut tx, [unique("free"), task()])
        .await
        .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(bench.sql("select count(*) from gf_task"), "3");
    assert_eq!(
        bench.sql("select string_agg(key, ',' order by key) from gf_unique"),
        "free,k"
    );
    for id in ids {
        assert_eq!(store.get(&id).await.unwrap().unwrap().state, State::Queued);
    }
}

/// A task that has ended is not pushed again, whatever else its transaction does.
#[tokio::test]
async fn what_has_ended_is_not_pushed_again() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let mut connection = connect(&bench).await;
    let ended = task();
    let id = push_in(&mut connection, ended.clone()).await.unwrap();
    due(&store).await;
    apply(&store, vec![success(id)]).await;
    let mut tx = connection.begin().await.unwrap();
    let again = push_many_in(&mut tx, [task(), ended]).await;
    assert!(again.is_err(), "{again:?}");
    let other = push_in(&mut tx, task()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(bench.sql("select id from gf_task"), other.to_string());
}

/// Many at once, half of them rolled back, with keys that overlap those that engines push.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once() {
    let bench = Bench::start().await;
    let store = std::sync::Arc::new(bench.connect().await);
    let mut pushers = tokio::task::JoinSet::new();
    for pusher in 0..4_usize {
        let mut connection = connect(&bench).await;
        pushers.spawn(async move {
            let mut kept = HashSet::new();
            for round in 0..20_usize {
                let mut tx = connection.begin().await.unwrap();
                // In the same order everywhere: a transaction holds the keys it took.
                let key = format!("key-{}", round % 7);
                let unique = task().unique(Unique::while_live(key));
                let (unique_id, plain) = (unique.id(), task());
                let id = push_in(&mut tx, unique).await.unwrap();
                let plain = push_in(&mut tx, plain).await.unwrap();
                if (pusher + round) % 2 == 0 {
                    tx.commit().await.unwrap();
                    kept.insert(plain);
                    kept.extend((id == unique_id).then_some(id));
                } else {
                    tx.rollback().await.unwrap();
                }
            }
            kept
        });
    }
    let mut kept = HashSet::new();
    for round in 0..20 {
        let spec = TaskSpec {
            unique: Some(Unique::while_live(format!("key-{}", round % 7))),
            ..spec()
        };
        let accepted = store.accept(&[one(spec)]).await.remove(0).unwrap()[0];
        kept.extend(accepted.dispatch_now.then_some(accepted.id));
    }
    kept.extend(pushers.join_all().await.into_iter().flatten());
    assert_eq!(
        bench.sql("select count(*) from gf_task"),
        kept.len().to_string()
    );
    assert_eq!(bench.sql("select count(*) from gf_unique"), "7");
    let orphans = "select count(*) from gf_unique u where not exists (select from gf_task t where t.id = u.task)";
    assert_eq!(bench.sql(orphans), "0");
    let twice = "select count(*) from (select from gf_task where options is not null
        group by options->'unique'->>'key' having count(*) > 1) t";
    assert_eq!(bench.sql(twice), "0");
}

/// A push that waits for a caller's transaction holds nobody up who has no key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_transaction_holds_up_its_key_only() {
    let bench = Bench::start().await;
    let store = Arc::new(bench.connect().await);
    let flow = GoFlow::local().results_store(store).build().unwrap();
    flow.start().await.unwrap();
    let mut connection = connect(&bench).await;
    let mut tx = connection.begin().await.unwrap();
    let unique = || task().unique(Unique::while_live("k"));
    push_in(&mut tx, unique()).await.unwrap();
    let waiting = flow.push(unique());
    let others = async {
        // The other push is waiting by now.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let begun = Instant::now();
        for _ in 0..20 {
            flow.push(task()).await.unwrap();
        }
        begun.elapsed()
    };
    let begun = Instant::now();
    let (waiting, others) = tokio::join!(waiting, others);
    let waited = begun.elapsed();
    assert!(others < Duration::from_secs(1), "{others:?}");
    assert!(
        matches!(&waiting, Err(error) if error.is_retryable()),
        "{waiting:?}"
    );
    assert!(
        waited > Duration::from_secs(2) && waited < Duration::from_millis(5_500),
        "{waited:?}"
    );
}
