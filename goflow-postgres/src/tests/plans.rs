//! Plans on histories and tables of any past: every list, every look at a task and every change goes by an index.

use goflow_core::State;
use goflow_core::record::{Filter, PageRequest};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgConnection};
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
    let mut connection = session(&bench.url, sql::QUERY_SESSION).await;
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
        let plan: Vec<String> = sqlx::query_scalar(explain(sql::GET))
            .bind([id])
            .bind(OffsetDateTime::now_utc() - Duration::days(2))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let plan = plan.join("\n");
        assert_eq!(reads_everything(&bench, &plan), None, "{generic}\n{plan}");
        for text in sql::LISTS.iter() {
            let states = match text.contains("state <> 'succeeded'") {
                true => ["failed", "cancelled", "scheduled"],
                false => ["succeeded", "cancelled", "scheduled"],
            };
            let plan: Vec<String> = sqlx::query_scalar(explain(text))
                .bind("default")
                .bind(Uuid::max())
                .bind(Uuid::nil())
                .bind(51_i64)
                .bind(Some("type-7"))
                .bind(Some("queue-7"))
                .bind(states.to_vec())
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

/// What a table of unfinished tasks may be taken for: it was empty when somebody looked last, or nobody ever did.
const PASTS: [(&str, &str); 4] = [
    (
        "empty, analyzed",
        "analyze gf_task, gf_attempt, gf_unique, gf_idempotency",
    ),
    ("1,000 rows, never analyzed", "rows 1000"),
    (
        "5,000 rows, analyzed while empty",
        "analyze gf_task; rows 5000",
    ),
    ("5,000 rows, analyzed", "rows 5000; analyze gf_task"),
];

/// How a statement finds rows that are not of the history, one condition for each time it looks for some; `None` where
/// it looks at all.
fn conditions(plan: &Value) -> Vec<Option<String>> {
    let mut found = Vec::new();
    let parts = plan["Plans"].as_array().into_iter().flatten();
    found.extend(parts.flat_map(conditions));
    let tables = ["gf_task", "gf_attempt", "gf_unique", "gf_idempotency"];
    if tables.iter().any(|table| plan["Relation Name"] == *table)
        && plan["Node Type"] != "ModifyTable"
    {
        let kinds = ["Index Cond", "TID Cond", "Recheck Cond"];
        let condition = kinds.iter().find_map(|kind| plan[kind].as_str());
        found.push(condition.map(str::to_owned));
    }
    found
}

#[tokio::test]
async fn changes_do_not_read_all_of_a_table_whatever_it_is_taken_for() {
    let bench = Bench::start().await;
    let by_id = [
        sql::SUCCEED,
        sql::FINISH,
        sql::WAIT,
        sql::STARTED,
        sql::CONFIRM,
        sql::LOCK_ROWS,
        sql::REBIND_ROWS,
        sql::DELETE_TASKS,
        sql::DELETE_ATTEMPTS,
        sql::FIND_KEYS,
        sql::MOVE_KEYS,
        sql::DROP_KEYS,
        sql::FIND_UNIQUE,
        sql::MOVE_UNIQUE,
        sql::DROP_UNIQUE,
        sql::FREE_UNIQUE,
    ];
    let by_time = [
        sql::CLAIM,
        sql::CLAIM_WAITING,
        sql::CLAIM_LATE,
        sql::WAKE_UNSERVED,
        sql::EXPIRE_KEYS,
        sql::EXPIRE_UNIQUE,
    ];
    let (_, rows) = FILL.split_once("insert into gf_task").unwrap();
    let (rows, _) = rows.split_once("5000)").unwrap();
    for (past, steps) in PASTS {
        let url = bench.server.create_database().unwrap();
        crate::migrate(&url).await.unwrap();
        let filled = |number| format!("insert into gf_task{rows}{number}) n");
        let steps = steps
            .replace("rows 1000", &filled(1_000))
            .replace("rows 5000", &filled(5_000));
        let steps = format!("alter table gf_task set (autovacuum_enabled = off); {steps}");
        bench.server.execute(&url, &steps).unwrap();
        let mut connection = session(&url, sql::KEYED_SESSION).await;
        for (at, text) in by_id.into_iter().chain(by_time).enumerate() {
            let prepare = AssertSqlSafe(format!("prepare s{at} as {text}"));
            sqlx::raw_sql(prepare)
                .execute(&mut connection)
                .await
                .unwrap();
            let parameters: Vec<_> = (1..=20)
                .take_while(|n| text.contains(&format!("${n}")))
                .map(|_| "null")
                .collect();
            let arguments = match parameters.is_empty() {
                true => String::new(),
                false => format!("({})", parameters.join(", ")),
            };
            let call = format!("explain (format json) execute s{at} {arguments}");
            let plan: Value = sqlx::query_scalar(AssertSqlSafe(call))
                .fetch_one(&mut connection)
                .await
                .unwrap();
            let found = conditions(&plan[0]["Plan"]);
            let mut allowed = vec!["id =", "key =", "task ="];
            allowed.extend((text == sql::REBIND_ROWS).then_some("id <="));
            if by_time.contains(&text) {
                allowed.extend(["due_at <=", "deadline_at <=", "expires_at <="]);
            }
            let is_bounded = |condition: &Option<String>| {
                let condition = condition.as_deref().unwrap_or_default();
                allowed.iter().any(|part| condition.contains(part))
            };
            assert!(
                !found.is_empty() && found.iter().all(is_bounded),
                "{past}\n{text}\n{found:?}\n{plan:#}"
            );
        }
    }
}

/// How a plan looks into the history: the condition of each walk of an index, and nothing for any other look.
fn looks(plan: &Value) -> Vec<Option<String>> {
    let parts = plan["Plans"].as_array().into_iter().flatten();
    let mut found: Vec<_> = parts.flat_map(looks).collect();
    let relation = plan["Relation Name"].as_str().unwrap_or_default();
    if relation.starts_with("gf_history") {
        let walks = plan["Node Type"] == "Index Scan";
        let condition = plan["Index Cond"].as_str().filter(|_| walks);
        found.push(condition.map(str::to_owned));
    }
    found
}

/// The rows of [`FILL`] that are finished; `alike` if all are of one type and one queue.
fn history(alike: bool) -> String {
    let (history, _) = FILL.split_once("insert into gf_task").unwrap();
    let history = history.trim_end().trim_end_matches(';');
    match alike {
        true => history
            .replace("'type-' || n % 50", "'type-7'")
            .replace("'queue-' || n % 20", "'queue-7'"),
        false => history.to_owned(),
    }
}

/// The plan that a session keeps for a list, of which it had none before.
async fn list_plan(
    connection: &mut PgConnection,
    text: &str,
    options: &str,
    arguments: &str,
) -> Value {
    let types = "(text, uuid, uuid, bigint, text, text, text[], int)";
    let prepare = AssertSqlSafe(format!("deallocate all; prepare list {types} as {text}"));
    sqlx::raw_sql(prepare)
        .execute(&mut *connection)
        .await
        .unwrap();
    let call = format!("explain ({options}, format json) execute list ({arguments})");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(call))
        .persistent(false)
        .fetch_one(connection)
        .await
        .unwrap();
    plan[0]["Plan"].clone()
}

/// The lists that look into the history.
fn lists_of_history() -> impl Iterator<Item = &'static String> {
    sql::LISTS.iter().filter(|it| it.contains("gf_history"))
}

/// What a list asks of the column whose index it walks, as it is written, and as a plan has it.
const WALKS: [(&str, &str); 4] = [
    (
        "(state || '.' || type) = any(array[",
        "((((state || '.'::text) || type) = ANY (ARRAY[",
    ),
    ("state = any(array[", "((state = ANY (ARRAY["),
    ("type = any(array[", "((type = ANY (ARRAY["),
    ("queue = any(array[", "((queue = ANY (ARRAY["),
];

/// A type that is new when the planner last looked is none for it: it must not read all of its tasks, and sort them.
#[tokio::test]
async fn lists_walk_an_index_whatever_the_history_is_taken_for() {
    let bench = Bench::start().await;
    for (past, steps) in [
        ("empty, analyzed", "analyze gf_history"),
        ("never analyzed", "rows"),
        ("analyzed while empty", "analyze gf_history; rows"),
        ("analyzed", "rows; analyze gf_history"),
        ("of one type only", "alike; analyze gf_history"),
        (
            "of one type only, analyzed while there were others",
            "rows; analyze gf_history; delete from gf_history; alike",
        ),
    ] {
        let url = bench.server.create_database().unwrap();
        crate::migrate(&url).await.unwrap();
        bench.server.execute(&url, NO_AUTOVACUUM).unwrap();
        let steps = steps
            .replace("rows", &history(false))
            .replace("alike", &history(true));
        bench.server.execute(&url, &steps).unwrap();
        let mut connection = session(&url, sql::QUERY_SESSION).await;
        for text in lists_of_history() {
            let arguments = "null, null, null, null, null, null, null, null";
            let plan = list_plan(&mut connection, text, "costs", arguments).await;
            let walked = WALKS.iter().find(|(written, _)| text.contains(written));
            let wanted = walked.map_or("((id <", |(_, planned)| planned);
            let found = looks(&plan);
            let is_walk = |condition: &Option<String>| {
                let condition = condition.as_deref().unwrap_or_default();
                condition.starts_with(wanted) && condition.ends_with("(id < $2) AND (id >= $3))")
            };
            assert!(
                found.len() > 10 && found.iter().all(is_walk),
                "{past}\n{text}\n{wanted} {found:?}"
            );
        }
    }
}

/// A page far back costs what the first one does: none goes through all that is newer. Nor does one of what is new go
/// through all that is older.
#[tokio::test]
async fn a_page_is_found_where_it_is() {
    let bench = Bench::start().await;
    bench.sql(&history(true));
    bench.sql("vacuum analyze gf_history");
    let far_back = bench.sql("select id from gf_history order by id offset 100 limit 1");
    let recent = bench.sql("select id from gf_history order by id desc offset 100 limit 1");
    let (nil, max) = (Uuid::nil().to_string(), Uuid::max().to_string());
    let mut connection = session(&bench.url, sql::QUERY_SESSION).await;
    for text in lists_of_history() {
        let mut page = async |before: &str, since: &str, limit: i32| {
            let states = "array['failed', 'cancelled', 'succeeded']";
            let arguments = format!(
                "'default', '{before}', '{since}', {limit}, 'type-7', 'queue-7', {states}, 16384"
            );
            list_plan(&mut connection, text, "analyze, buffers", &arguments).await
        };
        let (first, back, new) = (
            page(&max, &nil, 11).await,
            page(&far_back, &nil, 11).await,
            page(&max, &recent, 1_000).await,
        );
        let rows = |plan: &Value| plan["Actual Rows"].as_u64().unwrap();
        assert_eq!((rows(&first), rows(&back)), (11, 11), "{text}");
        assert!((10..=101).contains(&rows(&new)), "{text}\n{new:#}");
        let [first, back, new] = [first, back, new].map(|plan| blocks(&plan));
        assert!(back < first + 50, "{back} blocks after {first}\n{text}");
        assert!(new < first + 50, "{new} blocks after {first}\n{text}");
    }
}

/// Blocks of the tables and indexes that a plan was run with.
fn blocks(plan: &Value) -> u64 {
    let blocks = ["Shared Hit Blocks", "Shared Read Blocks"];
    blocks.map(|kind| plan[kind].as_u64().unwrap()).iter().sum()
}

/// What failed of other types is not gone through.
#[tokio::test]
async fn the_failed_tasks_of_a_type_are_not_looked_for_among_all() {
    let bench = Bench::start().await;
    bench.sql(&history(false));
    bench.sql("vacuum analyze gf_history");
    let mut connection = session(&bench.url, sql::QUERY_SESSION).await;
    let of_type = lists_of_history().filter(|text| text.contains("state || '.' || type"));
    let mut lists = 0;
    for text in of_type {
        lists += 1;
        for (task_type, found) in [("type-7", 0), ("type-10", 11)] {
            let (nil, max, states) = (Uuid::nil(), Uuid::max(), "array['failed']");
            let arguments = format!(
                "'default', '{max}', '{nil}', 11, '{task_type}', 'queue-10', {states}, 16384"
            );
            let plan = list_plan(&mut connection, text, "analyze, buffers", &arguments).await;
            assert_eq!(plan["Actual Rows"], found, "{text}\n{plan:#}");
            // Of each part of the history the way down its index; 5,000 have failed.
            assert!(blocks(&plan) < 300, "{task_type}\n{text}\n{plan:#}");
        }
    }
    assert_eq!(lists, 4);
}

/// Nobody analyzes the parts of the history by himself.
const NO_AUTOVACUUM: &str = "
    do $$ declare part regclass; begin
        for part in select oid from pg_class where relkind = 'r' and relname ~ '^gf_history' loop
            execute format('alter table %s set (autovacuum_enabled = off)', part);
        end loop;
    end $$";

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
