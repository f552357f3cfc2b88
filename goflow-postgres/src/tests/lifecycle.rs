//! What the port does not show: classes, keys that outlive their tasks, when rows are looked at.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use goflow_core::store::{Claim, Error, HELD_FOR};
use goflow_core::{Deadline, KvStore, State, Unique};
use sqlx::{Connection, PgConnection};

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A push's retention is rounded up to a class, and holds however its task ends.
#[tokio::test]
async fn retention_is_a_class() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let cases = [
        (None, 7, 30),
        (Some(Duration::from_secs(1)), 1, 1),
        (Some(DAY), 1, 1),
        (Some(DAY + Duration::from_millis(1)), 7, 7),
        (Some(8 * DAY), 30, 30),
        (Some(30 * DAY), 30, 30),
        (Some(31 * DAY), 365, 365),
        (Some(366 * DAY), 365, 365),
    ];
    for (retention, done, failed) in cases {
        let spec = || TaskSpec {
            retention,
            ..spec()
        };
        let (a, b, c) = (
            accept(&store, spec()).await,
            accept(&store, spec()).await,
            accept(&store, spec()).await,
        );
        apply(&store, vec![success(a), failure(b, "no")]).await;
        store.cancel(c).await.unwrap();
        let late = TaskSpec {
            deadline: Some(Deadline::At(OffsetDateTime::now_utc() - DAY)),
            ..spec()
        };
        let late = accept(&store, late).await;
        store.claim_due(10, Claim::WaitingOrLate).await.unwrap();
        let rowless = rowless(spec());
        let id = rowless.task;
        apply(&store, vec![rowless]).await;
        for (id, class) in [
            (a, done),
            (b, failed),
            (c, done),
            (late, failed),
            (id, done),
        ] {
            let kept = bench.sql(&format!("select class from gf_history where id = '{id}'"));
            assert_eq!(kept, class.to_string(), "{retention:?}");
        }
    }
    // Classes that come up get their partitions; nothing stays astray.
    store.maintain().await.unwrap();
    let strays = "select count(*) from gf_history where tableoid::regclass::text like '%strays'";
    assert_eq!(bench.sql(strays), "0");
}

/// Tasks without a row get their records together. If one of them has ended, or has a row after all, each is looked at.
#[tokio::test]
async fn what_has_no_row_is_recorded_once() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let rowless = |spec| Outcome {
        dispatch: 3,
        ..rowless(spec)
    };
    let done = Applied::Finished(State::Succeeded);
    let (first, second) = (rowless(of_type("a")), rowless(of_type("b")));
    let together = store.succeed(&[&first, &second]).await.unwrap();
    let both = [first.task.as_uuid(), second.task.as_uuid()];
    assert_eq!(together, both.into_iter().collect());
    let recorded = "select string_agg(concat_ws(' ', type, attempt, attempt_limit, dispatch, crashes, state, class), ', '
        order by id) from gf_history";
    let alike = "3 3 0 succeeded 7";
    assert_eq!(bench.sql(recorded), format!("a 1 {alike}, b 1 {alike}"));

    let fresh = rowless(of_type("c"));
    let answers = apply(&store, vec![first, fresh]).await;
    assert_eq!(answers, [Applied::Stale, done.clone()]);

    let with_row = of_type("d");
    accept(&store, with_row.clone()).await;
    let fresh = rowless(of_type("e"));
    // Of a dispatch that the row does not count; a success of its attempt all the same.
    let answers = apply(&store, vec![rowless(with_row), fresh]).await;
    assert_eq!(answers, [done.clone(), done]);
    let types = "select string_agg(type, '' order by id) from gf_history";
    assert_eq!(bench.sql(types), "abcde");
    assert_eq!(bench.sql("select count(*) from gf_task"), "0");
}

/// More of others than of its own lie between the ids of a batch: each id is looked up.
#[tokio::test]
async fn what_lies_between_does_not_count() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let first = rowless(spec());
    let mut between = Vec::new();
    for _ in 0..20 {
        accept(&store, spec()).await;
        between.push(success(accept(&store, spec()).await));
    }
    apply(&store, between).await;
    let batch = vec![first, rowless(spec())];
    let done = Applied::Finished(State::Succeeded);
    assert_eq!(apply(&store, batch.clone()).await, [done.clone(), done]);
    assert_eq!(apply(&store, batch).await, [Applied::Stale, Applied::Stale]);
    assert_eq!(bench.sql("select count(*) from gf_history"), "22");
}

/// Keys that are over are cleaned up; one whose task is gone keeps nobody out.
#[tokio::test]
async fn keys_do_not_pile_up() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let unique = |unique| TaskSpec {
        unique: Some(unique),
        ..spec()
    };
    accept(
        &store,
        unique(Unique::within("short", Duration::from_millis(1))),
    )
    .await;
    accept(&store, unique(Unique::within("long", DAY))).await;
    let done = accept(&store, unique(Unique::while_live("done"))).await;
    accept(&store, unique(Unique::while_live("live"))).await;
    apply(&store, vec![success(done)]).await;
    let keys = || bench.sql("select string_agg(key, ' ' order by key) from gf_unique");
    assert_eq!(keys(), "live long short");
    store.maintain().await.unwrap();
    assert_eq!(keys(), "live long");
    bench.sql("delete from gf_task where options->'unique'->>'key' = 'live'");
    let spec = unique(Unique::while_live("live"));
    let id = spec.id;
    assert_eq!(accept(&store, spec).await, id);
    let holder = bench.sql("select task from gf_unique where key = 'live'");
    assert_eq!(holder, id.to_string());
}

/// Rows are looked at when the port says, and never later than their deadline.
#[tokio::test]
async fn rows_are_looked_at_in_time() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let plain = accept(&store, spec()).await;
    let soon = TaskSpec {
        deadline: Some(Deadline::After(Duration::from_secs(3))),
        ..spec()
    };
    let soon = accept(&store, soon).await;
    let in_seconds = |id| {
        bench.sql(&format!(
            "select round(extract(epoch from due_at - now())) from gf_task where id = '{id}'"
        ))
    };
    let seconds = |id| in_seconds(id).parse::<f64>().unwrap();
    assert!((4.0..=5.0).contains(&seconds(plain)) && (2.0..=3.0).contains(&seconds(soon)));
    bench.sql("update gf_task set due_at = now()");
    let held = HashSet::from([plain, soon]);
    let due = store.claim_due(10, Claim::All(&held)).await.unwrap();
    assert_eq!(
        (due.looked_at, due.dispatches.len(), due.expired.len()),
        (2, 0, 0)
    );
    let held_for = HELD_FOR.as_secs_f64();
    assert!(
        (held_for - 2.0..=held_for).contains(&seconds(plain))
            && (1.0..=3.0).contains(&seconds(soon))
    );
    store
        .confirm_dispatched(uuid::Uuid::nil(), &[(plain, 1), (soon, 1)])
        .await
        .unwrap();
    assert_eq!(in_seconds(plain), "");
    assert!((1.0..=3.0).contains(&seconds(soon)));
    let untouched = bench.sql("select xmin from gf_task order by id");
    store
        .confirm_dispatched(uuid::Uuid::nil(), &[(plain, 1), (soon, 1)])
        .await
        .unwrap();
    assert_eq!(
        bench.sql("select xmin from gf_task order by id"),
        untouched,
        "nothing to write"
    );
    let later = "select count(*) from gf_task where due_at > deadline_at";
    assert_eq!(bench.sql(later), "0");
}

/// The view tells of priorities, deadlines and keys, before and after the end.
#[tokio::test]
async fn the_view_shows_what_was_asked_for() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let other = accept(&store, spec()).await;
    let spec = TaskSpec {
        priority: 3.try_into().unwrap(),
        deadline: Some(Deadline::After(DAY)),
        unique: Some(Unique::while_live("k")),
        retry_of: Some(other),
        ..spec()
    };
    let id = accept(&store, spec).await;
    let columns = "priority, round(extract(epoch from deadline_at - created_at) / 86400), retry_of, unique_key";
    let shown = |id| {
        bench.sql(&format!(
            "select {columns} from goflow_tasks where id = '{id}'"
        ))
    };
    assert_eq!(shown(other), "1|||");
    let expected = format!("3|1|{other}|k");
    assert_eq!(shown(id), expected);
    apply(&store, vec![failure(id, "no")]).await;
    assert_eq!(shown(id), expected);
    assert_eq!(store.get(&id).await.unwrap().unwrap().state, State::Failed);
}

/// Two that look for what is late at once: each task ends once, and is told of once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_late_ends_once() {
    let bench = Bench::start().await;
    let (a, b) = (bench.connect().await, bench.connect().await);
    let late = || TaskSpec {
        deadline: Some(Deadline::At(OffsetDateTime::now_utc() - DAY)),
        ..spec()
    };
    let requests = (0..300).map(|_| one(late())).collect::<Vec<_>>();
    for answer in a.accept(&requests).await {
        answer.unwrap();
    }
    let all = async |store: &PostgresStore| {
        let mut found = Vec::new();
        for _ in 0..10 {
            let due = store
                .claim_due(100, Claim::All(&HashSet::new()))
                .await
                .unwrap();
            assert_eq!(due.dispatches, []);
            found.extend(due.expired.into_iter().map(|one| one.task));
        }
        found
    };
    let (mine, others) = tokio::join!(all(&a), all(&b));
    let ids: HashSet<TaskId> = mine.iter().chain(&others).copied().collect();
    assert_eq!((mine.len() + others.len(), ids.len()), (300, 300));
    assert_eq!(
        bench.sql("select count(*) from gf_history where state = 'expired'"),
        "300"
    );
}

/// A push that is repeated while its task is about to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ends_meanwhile_is_not_accepted_again() {
    let bench = Bench::start().await;
    let store = Arc::new(bench.connect().await);
    let (spec, other) = (spec(), spec());
    accept(&store, spec.clone()).await;
    let mut ending = PgConnection::connect(&bench.url).await.unwrap();
    let mut tx = ending.begin().await.unwrap();
    let finish = "with d as (delete from gf_task returning *)
        insert into gf_history (id, namespace, queue, type, payload, content_type, max_attempts, attempt, attempt_limit,
            dispatch, state, crashes, finished_at, class)
        select id, namespace, queue, type, payload, content_type, max_attempts, 1, attempt_limit, dispatch,
            'succeeded', 0, now(), 7 from d";
    sqlx::raw_sql(finish).execute(&mut *tx).await.unwrap();
    let requests = vec![one(spec), one(other.clone())];
    let again = tokio::spawn({
        let store = store.clone();
        async move { store.accept(&requests).await }
    });
    let waiting = "select count(*) from pg_locks where not granted";
    let deadline = Instant::now() + Duration::from_secs(2);
    while bench.sql(waiting) == "0" {
        assert!(Instant::now() < deadline, "nobody waits for the end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tx.commit().await.unwrap();
    let answers = again.await.unwrap();
    assert!(
        matches!(answers[..], [Err(Error::Exists), Ok(_)]),
        "{answers:?}"
    );
    let unfinished = bench.sql("select id from gf_task");
    assert_eq!(unfinished, other.id.to_string());
}

/// Found although the ids of many others that ended lie around its own.
#[tokio::test]
async fn what_has_ended_is_found_among_many() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let specs: Vec<_> = (0..100).map(|_| spec()).collect();
    let requests = specs.iter().cloned().map(one).collect::<Vec<_>>();
    store.accept(&requests).await;
    apply(&store, specs.iter().map(|spec| success(spec.id)).collect()).await;
    let new = spec();
    let together = |other: TaskSpec| NewTasks {
        tasks: vec![new.clone().into(), other.into()],
        key: None,
    };
    // All of them lie between the two, then one.
    for repeated in [&specs[0], &specs[98]] {
        let answer = store.accept(&[together(repeated.clone())]).await;
        assert!(matches!(answer[..], [Err(Error::Exists)]), "{answer:?}");
        assert_eq!(bench.sql("select count(*) from gf_task"), "0");
    }
    let before_all = TaskSpec {
        id: TaskId::lower_bound(specs[0].id.created_at()),
        ..spec()
    };
    let answer = store.accept(&[together(before_all)]).await;
    assert!(matches!(answer[..], [Ok(_)]), "{answer:?}");
    assert_eq!(bench.sql("select count(*) from gf_task"), "2");
}
