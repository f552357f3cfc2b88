//! Partitions: made ahead, dropped when past, and never a reason to lose anything.

use goflow_core::{KvStore, State};

use super::*;
use crate::Retention;

fn partitions(bench: &Bench, class: &str) -> Vec<String> {
    let like = format!("gf_history_{class}_2%");
    let sql = format!(
        "select relname from pg_class where relkind = 'r' and relname like '{like}' order by 1"
    );
    bench.sql(&sql).lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn partitions_lie_ahead() {
    let bench = Bench::start().await;
    let ahead = "select count(*) from pg_class where relkind = 'r' and relname ~ '^gf_history_7d_2'
        and to_date(right(relname, 8), 'YYYYMMDD') > (now() at time zone 'UTC')::date";
    assert_eq!(bench.sql(ahead), "3");
    assert!(partitions(&bench, "30d").len() >= 4);
    assert_eq!(
        partitions(&bench, "365d").len(),
        0,
        "nothing is kept that long"
    );
    let options = Options {
        keep_failed: Retention::Year,
        ..Options::new(&bench.url)
    };
    let store = crate::connect(options).await.unwrap();
    store.maintain().await.unwrap();
    assert!(partitions(&bench, "365d").len() >= 4);
    let before = partitions(&bench, "7d");
    store.maintain().await.unwrap();
    assert_eq!(partitions(&bench, "7d"), before);
}

#[tokio::test]
async fn tasks_are_kept_as_long_as_their_end_says() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let (a, b, c) = (
        accept(&store, spec()).await,
        accept(&store, spec()).await,
        accept(&store, spec()).await,
    );
    apply(&store, vec![success(a), failure(b, "no")]).await;
    store.cancel(c).await.unwrap();
    let strays =
        bench.sql("select count(*) from gf_history where tableoid::regclass::text like '%strays'");
    assert_eq!(strays, "0");
    let classes =
        bench.sql("select string_agg(class || ' ' || state, ', ' order by state) from gf_history");
    assert_eq!(classes, "7 cancelled, 30 failed, 7 succeeded");
}

#[tokio::test]
async fn a_missing_partition_loses_nothing() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let made = partitions(&bench, "7d");
    for partition in &made {
        bench.sql(&format!("drop table {partition}"));
    }
    let id = accept(&store, spec()).await;
    apply(&store, vec![success(id)]).await;
    assert_eq!(bench.sql("select count(*) from gf_history_7d_strays"), "1");
    assert_eq!(
        store.get(&id).await.unwrap().unwrap().state,
        State::Succeeded
    );
    store.maintain().await.unwrap();
    assert_eq!(partitions(&bench, "7d"), made);
    assert_eq!(bench.sql("select count(*) from gf_history_7d_strays"), "0");
    assert_eq!(
        store.get(&id).await.unwrap().unwrap().state,
        State::Succeeded
    );
}

#[tokio::test]
async fn what_is_past_its_days_is_dropped() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let recent = accept(&store, spec()).await;
    apply(&store, vec![success(recent)]).await;
    let old_partition = "
        create table gf_history_7d_20200101 partition of gf_history_7d
            for values from ('2020-01-01 00:00+00') to ('2020-01-02 00:00+00');
        insert into gf_history (id, finished_at, attempt, attempt_limit, dispatch, crashes, max_attempts, class,
            state, namespace, queue, type, content_type, payload)
        select gen_random_uuid(), at, 1, 1, 1, 0, 1, 7, 'succeeded', 'default', 'default', 't', 'text/plain', ''
        from (values ('2020-01-01 10:00+00'::timestamptz), ('2020-03-01 10:00+00')) as t (at)";
    bench.sql(old_partition);
    assert_eq!(bench.sql("select count(*) from gf_history"), "3");
    store.maintain().await.unwrap();
    assert!(!partitions(&bench, "7d").contains(&"gf_history_7d_20200101".to_owned()));
    assert_eq!(bench.sql("select count(*) from gf_history"), "1");
    assert!(store.get(&recent).await.unwrap().is_some());
}

#[tokio::test]
async fn a_worker_whose_clock_is_wrong_is_not_believed() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let (past, future) = (accept(&store, spec()).await, accept(&store, spec()).await);
    let (year, hour) = (time::Duration::days(365), time::Duration::hours(1));
    let now = OffsetDateTime::now_utc();
    let said = |id, finished_at| Outcome {
        finished_at,
        ..success(id)
    };
    apply(
        &store,
        vec![said(past, now - year), said(future, now + year)],
    )
    .await;
    for (id, expected) in [(past, now - time::Duration::DAY), (future, now)] {
        let at = store.get(&id).await.unwrap().unwrap().finished_at.unwrap();
        assert!((at - expected).abs() < hour, "{at}");
    }
}

#[tokio::test]
async fn keys_past_their_day_are_forgotten() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let keyed = |hash| {
        let key = goflow_core::store::IdempotencyKey {
            key: "k".into(),
            body_hash: hash,
        };
        vec![NewTasks {
            tasks: vec![spec().into()],
            key: Some(key),
        }]
    };
    let first = store.accept(&keyed(1)).await.remove(0).unwrap()[0];
    bench.sql("update gf_idempotency set expires_at = now() - interval '1 s'");
    let second = store.accept(&keyed(2)).await.remove(0).unwrap()[0];
    assert!(
        second.dispatch_now && second.id != first.id,
        "an expired key is free"
    );
    bench.sql("update gf_idempotency set expires_at = now() - interval '1 s'");
    store.maintain().await.unwrap();
    assert_eq!(bench.sql("select count(*) from gf_idempotency"), "0");
}
