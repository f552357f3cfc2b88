//! Plans on a history of a million tasks: no question reads all of it.

use std::time::Instant;

use goflow_core::record::{Filter, PageRequest};
use goflow_core::{KvStore, State};
use sqlx::AssertSqlSafe;

use super::*;
use crate::sql;

/// A million finished tasks of the last four days, one in twenty of them failed. Indexes are built once it is there,
/// which is quicker.
const FILL: &str = "
    set synchronous_commit = off;
    create temp table index_texts as
        select indexname, replace(indexdef, ' ON ONLY ', ' ON ') as indexdef from pg_indexes
        where tablename = 'gf_history' and indexname <> 'gf_history_tags';
    do $$ declare one record; begin
        for one in select * from index_texts loop execute format('drop index %I', one.indexname); end loop;
    end $$;
    insert into gf_history (id, finished_at, attempt, attempt_limit, dispatch, crashes, max_attempts, class, state,
        namespace, queue, type, content_type, error, payload)
    select (lpad(to_hex((extract(epoch from at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n), 19, '0'))::uuid,
        at, 1, 3, 1, 0, 3, case when n % 20 = 0 then 30 else 7 end,
        case when n % 20 = 0 then 'failed' when n % 20 = 1 then 'cancelled' else 'succeeded' end,
        'default', 'queue-' || n % 20, 'type-' || n % 50, 'application/json',
        case when n % 20 = 0 then 'error ' || n % 10 end, 'x'
    from (select n, now() - n * interval '345 ms' as at from generate_series(1, 1000000) n) t;
    do $$ declare one record; begin
        for one in select * from index_texts loop execute one.indexdef; end loop;
    end $$;
    analyze gf_history";

/// The parts of the history that hold something.
fn filled(bench: &Bench) -> Vec<String> {
    let tables = bench.sql(
        "select relname from pg_class where relkind = 'r' and relname ~ '^gf_history' and reltuples > 1000",
    );
    tables.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn no_question_reads_a_million_tasks() {
    let bench = Bench::start().await;
    // Partitions from yesterday on are there; the older tasks need theirs.
    bench.sql(
        "do $$ declare at date; begin
            for days in 2..5 loop
                at := (now() at time zone 'UTC')::date - days;
                execute format('create table gf_history_7d_%s partition of gf_history_7d for values from (%L) to (%L)',
                    to_char(at, 'YYYYMMDD'), at::timestamp at time zone 'UTC', (at + 1)::timestamp at time zone 'UTC');
            end loop;
        end $$",
    );
    let begun = Instant::now();
    bench.sql(FILL);
    println!("filled in {:?}", begun.elapsed());
    let filled = filled(&bench);
    assert!(filled.len() >= 5, "{filled:?}");
    let mut connection = session(&bench.url, sql::QUERY_SESSION).await;
    let id = bench
        .sql("select id from gf_history where finished_at < now() - interval '3 days' limit 1");
    let mut calls = vec![
        (
            sql::GET,
            format!("array['{id}']::uuid[], now() - interval '6 days'"),
        ),
        (sql::COUNT_QUEUES, String::new()),
        (sql::COUNT_UNSERVED, String::new()),
        (
            sql::DEAD,
            "now() - interval '1 hour', 20, 100000".to_owned(),
        ),
        (sql::DEAD, "'-infinity', 20, 100000".to_owned()),
        (
            sql::FIND_FINISHED,
            format!("array['{id}']::uuid[], now() - interval '6 days'"),
        ),
        (
            sql::FINISHED_BETWEEN,
            format!("'{id}', '{id}', now() - interval '6 days', 4"),
        ),
        (
            sql::LOST_UNIQUE,
            format!("'{id}', now() - interval '6 days'"),
        ),
    ];
    let (nil, max) = (Uuid::nil(), Uuid::max());
    let of_few = |text: &str| text.contains("state <> 'succeeded'");
    for text in sql::LISTS.iter() {
        let states = match of_few(text) {
            true => "array['failed', 'cancelled', 'scheduled']",
            false => "array['succeeded', 'cancelled', 'scheduled']",
        };
        for (since, until) in [
            (nil.to_string(), max.to_string()),
            (id.clone(), max.to_string()),
            (nil.to_string(), id.clone()),
        ] {
            calls.push((
                text,
                format!(
                    "'default', '{until}', '{since}', 51, 'type-7', 'queue-7', {states}, 16384"
                ),
            ));
        }
    }
    let types = "(text, uuid, uuid, bigint, text, text, text[], int)";
    for plan_for in ["force_custom_plan", "force_generic_plan"] {
        let set = AssertSqlSafe(format!("set plan_cache_mode = '{plan_for}'"));
        sqlx::raw_sql(set).execute(&mut connection).await.unwrap();
        for (text, arguments) in &calls {
            let types = if arguments.starts_with("'default'") {
                types
            } else {
                ""
            };
            let arguments = if arguments.is_empty() {
                String::new()
            } else {
                format!("({arguments})")
            };
            let prepare = format!("deallocate all; prepare question {types} as {text}");
            sqlx::raw_sql(AssertSqlSafe(prepare))
                .execute(&mut connection)
                .await
                .unwrap();
            let explain = AssertSqlSafe(format!("explain execute question {arguments}"));
            let plan: Vec<String> = sqlx::query_scalar(explain)
                .persistent(false)
                .fetch_all(&mut connection)
                .await
                .unwrap();
            let reads_all = plan.iter().any(|line| {
                line.contains("Seq Scan")
                    && filled
                        .iter()
                        .any(|table| line.contains(&format!("on {table} ")))
            });
            assert!(
                !reads_all,
                "{plan_for} {arguments}\n{text}\n{}",
                plan.join("\n")
            );
            // Without another index that names few, the one of the states it is.
            if of_few(text) && !text.contains("$5") && !text.contains("$6") {
                let by_state = plan
                    .iter()
                    .any(|line| line.contains("Index") && line.contains("state_id_idx"));
                assert!(by_state, "{plan_for} {arguments}\n{}", plan.join("\n"));
            }
            if *text == sql::DEAD {
                let by_index = plan
                    .iter()
                    .any(|line| line.contains("Index Scan") && line.contains("finished_at_idx"));
                assert!(by_index, "{}", plan.join("\n"));
            }
        }
    }
    connection.close().await.unwrap();
    let store = bench.connect().await;
    let quick = |what: &str, begun: Instant| {
        println!("{what}: {:?}", begun.elapsed());
        assert!(
            begun.elapsed().as_secs() < 4,
            "{what}: {:?}",
            begun.elapsed()
        );
    };
    let begun = Instant::now();
    let groups = store
        .dead(OffsetDateTime::now_utc() - time::Duration::days(30), 20)
        .await
        .unwrap();
    quick("dead", begun);
    assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), 50_000);
    assert_eq!((groups.len(), groups[0].count), (5, 10_000));
    for states in [
        vec![],
        vec![State::Failed],
        vec![State::Succeeded],
        vec![State::Succeeded, State::Cancelled],
    ] {
        let filter = Filter {
            states,
            queue: Some("queue-0".parse().unwrap()),
            ..Filter::default()
        };
        let begun = Instant::now();
        let page = store.list(&filter, PageRequest::default()).await.unwrap();
        quick("list", begun);
        assert!(page.tasks.len() == 50 || !filter.states.contains(&State::Failed));
    }
    let begun = Instant::now();
    assert!(store.get(&id.parse().unwrap()).await.unwrap().is_some());
    quick("get", begun);
}
