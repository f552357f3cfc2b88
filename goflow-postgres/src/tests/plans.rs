//! Plans on a filled history: every list and every look at a task goes by an index.

use goflow_core::State;
use goflow_core::record::{Filter, PageRequest};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use time::Duration;

use super::*;
use crate::sql;

/// 50,000 finished tasks over the last days, and 5,000 unfinished ones.
const FILL: &str = "
    insert into gf_history (id, finished_at, attempt, attempt_limit, dispatch, crashes, max_attempts, class, state,
        namespace, queue, type, content_type, tags, payload)
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n), 19, '0'))::uuid,
        at, 1, 3, 1, 0, 3, case when n % 10 = 0 then 30 else 7 end,
        case when n % 10 = 0 then 'failed' when n % 10 = 1 then 'cancelled' else 'succeeded' end,
        'default', 'queue-' || n % 20, 'type-' || n % 50, 'application/json',
        case when n % 100 = 0 then jsonb_build_object('customer', n::text) end, repeat('x', 100)::bytea
    from (select n, now() - n * interval '2 s' as at from generate_series(1, 50000) n) t;
    insert into gf_task (id, due_at, attempt, attempt_limit, dispatch, max_attempts, waiting, state, namespace, queue,
        type, content_type, payload)
    select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint), 12, '0') || '7a' || lpad(to_hex(n), 18, '0'))::uuid,
        case when n % 2 = 0 then now() + n * interval '1 s' end, 1, 3, 1, 3, n % 2 = 0,
        case when n % 2 = 0 then 'scheduled' else 'queued' end, 'default', 'queue-' || n % 20, 'type-' || n % 50,
        'application/json', repeat('x', 100)::bytea
    from generate_series(1, 5000) n;
    analyze gf_task; analyze gf_history";

/// Whether a plan reads all of a part of the history that holds something.
fn reads_everything(bench: &Bench, plan: &str) -> Option<String> {
    let filled = bench.sql(
        "select relname from pg_class where relkind = 'r' and relname ~ '^gf_history' and reltuples > 100",
    );
    assert!(
        filled.contains("gf_history_30d_2") && filled.contains("gf_history_7d_2"),
        "{filled}"
    );
    plan.lines()
        .filter(|line| line.contains("Seq Scan"))
        .find(|line| {
            filled
                .lines()
                .any(|table| line.contains(&format!("on {table} ")))
        })
        .map(str::to_owned)
}

#[tokio::test]
async fn no_query_reads_all_of_the_history() {
    let bench = Bench::start().await;
    bench.sql(FILL);
    let mut connection = PgConnection::connect(&bench.url).await.unwrap();
    sqlx::raw_sql(sql::QUERY_SESSION)
        .execute(&mut connection)
        .await
        .unwrap();
    let id: Uuid = sqlx::query_scalar("select id from gf_history limit 1")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    let explain = |text: &str| AssertSqlSafe(format!("explain {text}"));
    for generic in ["force_custom_plan", "force_generic_plan"] {
        sqlx::raw_sql(AssertSqlSafe(format!("set plan_cache_mode = '{generic}'")))
            .execute(&mut connection)
            .await
            .unwrap();
        for text in [sql::GET_LIVE, sql::GET] {
            let query = sqlx::query_scalar(explain(text)).bind(id);
            let query = if text == sql::GET {
                query.bind(OffsetDateTime::now_utc() - Duration::days(2))
            } else {
                query
            };
            let plan: Vec<String> = query.fetch_all(&mut connection).await.unwrap();
            let plan = plan.join("\n");
            assert_eq!(
                reads_everything(&bench, &plan),
                None,
                "{generic}\n{text}\n{plan}"
            );
        }
        for text in sql::LISTS.iter() {
            let plan: Vec<String> = sqlx::query_scalar(explain(text))
                .bind("default")
                .bind(Uuid::max())
                .bind(Uuid::nil())
                .bind(51_i64)
                .bind(Some("type-7"))
                .bind(Some("queue-7"))
                .bind(vec!["failed", "cancelled", "scheduled"])
                .bind(16_384_i32)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            let plan = plan.join("\n");
            assert_eq!(
                reads_everything(&bench, &plan),
                None,
                "{generic}\n{text}\n{plan}"
            );
        }
    }
    let tags = "explain select id from goflow_tasks where tags @> '{\"customer\": \"100\"}' and finished_at is not null";
    println!("{}", bench.sql(tags));
}

#[tokio::test]
async fn changes_do_not_read_all_of_a_table_that_was_empty_a_moment_ago() {
    let bench = Bench::start().await;
    // No `analyze`: statistics still say that there is nothing.
    bench.sql("alter table gf_task set (autovacuum_enabled = off)");
    bench.sql(
        FILL.split_once("analyze")
            .unwrap()
            .0
            .trim_end_matches([' ', ';', '\n']),
    );
    let mut connection = PgConnection::connect(&bench.url).await.unwrap();
    sqlx::raw_sql(sql::WRITE_SESSION)
        .execute(&mut connection)
        .await
        .unwrap();
    let statements = [
        sql::FINISH,
        sql::WAIT,
        sql::STARTED,
        sql::CONFIRM,
        sql::CLAIM,
        sql::CLAIM_WAITING,
        sql::LOCK_ROWS,
        sql::WAKE_UNSERVED,
    ];
    sqlx::raw_sql("set plan_cache_mode = 'force_generic_plan'")
        .execute(&mut connection)
        .await
        .unwrap();
    for (at, text) in statements.into_iter().enumerate() {
        let prepare = AssertSqlSafe(format!("prepare s{at} as {text}"));
        sqlx::raw_sql(prepare)
            .execute(&mut connection)
            .await
            .unwrap();
        let parameters = (1..=20)
            .take_while(|n| text.contains(&format!("${n}")))
            .map(|_| "null");
        let call = format!(
            "explain execute s{at} ({})",
            parameters.collect::<Vec<_>>().join(", ")
        );
        let plan: Vec<String> = sqlx::query_scalar(AssertSqlSafe(call))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let plan = plan.join("\n");
        assert!(
            !plan.contains("Seq Scan on gf_task") && !plan.contains("Hash Join"),
            "{text}\n{plan}"
        );
    }
}

#[tokio::test]
async fn lists_go_through_a_filled_history() {
    let bench = Bench::start().await;
    bench.sql(FILL);
    let store = bench.connect().await;
    let filter = Filter {
        states: vec![State::Failed, State::Cancelled],
        ..Filter::default()
    };
    let (mut before, mut seen) = (None, 0);
    let begun = std::time::Instant::now();
    loop {
        let page = store
            .list(&filter, PageRequest { before, limit: 500 })
            .await
            .unwrap();
        seen += page.tasks.len();
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    println!("{seen} tasks in {:?}", begun.elapsed());
    assert_eq!(seen, 10_000);
}
