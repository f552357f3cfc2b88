//! Faults: one clear line, in time, and nobody else's loss.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use goflow_core::broker::Identity;
use goflow_core::store::{Claim, Error};
use goflow_core::{KvStore, State};
use goflow_test_servers::eventually;

use super::*;

async fn refusal(url: &str) -> (Error, String) {
    let begun = Instant::now();
    let error = crate::connect(Options::new(url)).await.unwrap_err();
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    let text = match &error {
        Error::Unavailable { source, .. } => format!("{error}: {source}"),
        other => other.to_string(),
    };
    println!("{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    (error, text)
}

#[tokio::test]
async fn what_cannot_be_reached_is_said_in_one_line() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let (error, text) = refusal(&format!("postgres://goflow:hunter2@{closed}/goflow")).await;
    assert!(
        matches!(error, Error::Unavailable { .. }) && text.contains(&closed.to_string()),
        "{text}"
    );
    // It takes the connection and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let (error, text) = refusal(&format!("postgres://goflow:hunter2@{address}/goflow")).await;
    assert!(
        matches!(error, Error::Unavailable { .. }) && text.contains("no answer"),
        "{text}"
    );
    for url in [
        "not a url with hunter2",
        "postgres://goflow:hunter2@127.0.0.1:port/x",
        "mysql://goflow:hunter2@h/d",
    ] {
        let (error, _) = refusal(url).await;
        assert!(
            matches!(error, Error::Refused { .. } | Error::Unavailable { .. }),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_refused_login_is_said_in_one_line() {
    let bench = Bench::start().await;
    let missing = bench.url.replace("test_1", "nowhere");
    let (error, text) = refusal(&missing).await;
    assert!(
        matches!(error, Error::Refused { .. }) && text.contains("\"nowhere\" does not exist"),
        "{text}"
    );
    bench.sql("create role guest login password 'right'");
    let hba = bench.sql("show hba_file");
    bench.sql(&format!(
        "copy (select 'host all all 127.0.0.1/32 scram-sha-256') to '{hba}'"
    ));
    bench.sql("select pg_reload_conf()");
    let url = bench.url.replace("goflow@", "guest:hunter2@");
    goflow_test_servers::eventually(Duration::from_secs(10), async || {
        let (_, text) = refusal(&url).await;
        text.contains("password authentication failed")
    })
    .await
    .unwrap();
}

/// What no check before it finds, the database refuses; the others do not suffer.
#[tokio::test]
async fn one_bad_row_does_not_keep_the_others_out() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    bench.sql("alter table gf_task add constraint picky check (type <> 'bad')");
    bench.sql("alter table gf_history add constraint picky check (error <> 'bad')");
    let requests: Vec<NewTasks> = (0..40)
        .map(|n| one(of_type(if n % 13 == 5 { "bad" } else { "good" })))
        .collect();
    let answers = store.accept(&requests).await;
    for (n, answer) in answers.iter().enumerate() {
        match answer {
            Err(Error::Refused { reason }) => {
                assert!(n % 13 == 5 && reason.contains("picky"), "{n}: {reason}")
            }
            Ok(accepted) => assert!(n % 13 != 5 && accepted.len() == 1),
            Err(other) => panic!("{other}"),
        }
    }
    let ids: Vec<TaskId> = answers
        .into_iter()
        .flatten()
        .flatten()
        .map(|accepted| accepted.id)
        .collect();
    assert_eq!(ids.len(), 37);
    let outcomes = ids
        .iter()
        .enumerate()
        .map(|(n, id)| failure(*id, if n == 7 { "bad" } else { "good" }));
    let applied = apply(&store, outcomes.collect()).await;
    for (n, applied) in applied.iter().enumerate() {
        match applied {
            Applied::Rejected(reason) => {
                assert!(n == 7 && reason.contains("picky"), "{n}: {reason}")
            }
            other => assert!(
                n != 7 && *other == Applied::Finished(State::Failed),
                "{n}: {other:?}"
            ),
        }
    }
    assert_eq!(
        store.get(&ids[7]).await.unwrap().unwrap().state,
        State::Queued
    );
}

/// A newer version has written what this one does not know.
#[tokio::test]
async fn a_row_from_the_future_holds_nobody_up() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(accept(&store, spec()).await);
    }
    let [backoff, options, late, plain] = ids[..] else {
        panic!("{ids:?}")
    };
    bench.sql(&format!(
        "update gf_task set backoff = '{{\"Quadratic\": 1}}' where id = '{backoff}'"
    ));
    bench.sql(&format!(
        "update gf_task set options = '{{\"unique\": 7}}' where id in ('{options}', '{late}')"
    ));
    bench.sql(&format!(
        "update gf_task set deadline_at = now() where id = '{late}'"
    ));
    bench.sql("update gf_task set due_at = now()");
    let due = store
        .claim_due(500, Claim::All(&Default::default()))
        .await
        .unwrap();
    let dispatched: Vec<_> = due.dispatches.iter().map(|due| due.spec.id).collect();
    assert_eq!(dispatched, [plain]);
    let expired: Vec<_> = due.expired.iter().map(|tombstone| tombstone.task).collect();
    assert_eq!(expired, [late]);
    // What a worker of the newer version makes of them counts all the same.
    let applied = apply(&store, vec![failure(backoff, "no"), success(options)]).await;
    assert_eq!(
        applied,
        [
            Applied::Finished(State::Failed),
            Applied::Finished(State::Succeeded)
        ]
    );
}

/// More rows than are handed over in one commit.
#[tokio::test]
async fn a_new_broker_gets_a_large_backlog() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    for _ in 0..25 {
        store
            .accept(&[NewTasks {
                tasks: (0..1_000).map(|_| spec().into()).collect(),
                key: None,
            }])
            .await
            .remove(0)
            .unwrap();
    }
    bench.sql("update gf_task set due_at = null");
    let broker = Identity {
        broker: Uuid::new_v4(),
        store: None,
        in_process: false,
    };
    store.bind(&broker).await.unwrap();
    assert_eq!(
        bench.sql("select count(*) from gf_task where due_at <= now() and dispatch = 1"),
        "25000"
    );
    assert_eq!(bench.sql("select rebind_from is null from gf_meta"), "t");
    // Half done when its engine died: the next one that binds or claims goes on.
    bench.sql("update gf_task set due_at = null");
    bench.sql("update gf_meta set rebind_from = (select id from gf_task order by id offset 12499 limit 1)");
    store.bind(&broker).await.unwrap();
    assert_eq!(
        bench.sql("select count(*) from gf_task where due_at <= now()"),
        "12500"
    );
}

/// An engine that stops in the middle of a transaction holds the others up for a moment only.
#[tokio::test]
async fn a_paused_engine_stops_nobody_for_long() {
    let bench = Bench::start().await;
    let (paused, store) = (bench.connect().await, bench.connect().await);
    let id = accept(&store, spec()).await;
    let mut tx = paused.pools.begin().await.unwrap();
    sqlx::query(crate::sql::LOCK_ROWS)
        .bind(vec![id.as_uuid()])
        .fetch_all(&mut *tx)
        .await
        .unwrap();
    let begun = Instant::now();
    goflow_test_servers::eventually(Duration::from_secs(12), async || {
        store.apply(&[&success(id)], &Policy::default()).await
    })
    .await
    .unwrap();
    println!("{:?}", begun.elapsed());
    assert_eq!(
        store.get(&id).await.unwrap().unwrap().state,
        State::Succeeded
    );
    drop(tx);
}

/// A call that is given up at any point leaves no connection in a transaction: what the next one says in there would be gone
/// with it.
#[tokio::test]
async fn a_call_that_is_given_up_leaves_no_transaction() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let id = accept(&store, spec()).await;
    let open = "select count(*) from pg_stat_activity
        where datname = current_database() and state like 'idle in transaction%'";
    for waits in 1..20 {
        let mut left = waits;
        let mut call = store.retry(id);
        poll_fn(|context| match call.as_mut().poll(context) {
            Poll::Pending if left > 1 => {
                left -= 1;
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
        .await;
        drop(call);
        // A server ends them after 5 s of silence; these are to be over at once.
        eventually(Duration::from_secs(2), async || match &*bench.sql(open) {
            "0" => Ok(()),
            open => Err(format!("{open} in a transaction after {waits} waits")),
        })
        .await
        .unwrap();
    }
    // What is said next is committed.
    accept(&store, spec()).await;
    assert_eq!(bench.sql("select count(*) from gf_task"), "2");
}
