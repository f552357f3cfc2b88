//! The schema: statements fit it, versions are told apart, the view is what it promises.

use goflow_core::KvStore;
use goflow_core::limits::MAX_CONTENT_BYTES;
use goflow_core::store::{Claim, Error};
use sqlx::postgres::PgTypeInfo;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, SqlSafeStr};

use super::*;
use crate::sql;

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let bench = Bench::start().await;
    let mut connection = PgConnection::connect(&bench.url).await.unwrap();
    for session in [sql::KEYED_SESSION, sql::QUERY_SESSION] {
        sqlx::raw_sql(session)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    for (name, text) in sql::ALL {
        let prepared = connection
            .prepare(AssertSqlSafe(*text).into_sql_str())
            .await;
        assert!(
            prepared.is_ok(),
            "{name}: {}\n{text}",
            prepared.unwrap_err()
        );
    }
    // A list that has no use for a parameter cannot tell its type.
    let types = [
        "text", "uuid", "uuid", "int8", "text", "text", "text[]", "int4",
    ]
    .map(PgTypeInfo::with_name);
    for text in sql::LISTS.iter() {
        let prepared = connection
            .prepare_with(AssertSqlSafe(text.as_str()).into_sql_str(), &types)
            .await;
        assert!(prepared.is_ok(), "{}\n{text}", prepared.unwrap_err());
    }
}

/// A database knows what each of its migrations was: one that was changed since keeps every engine from it. What is to
/// be changed takes a new one, whose sum is added here.
#[test]
fn a_migration_that_was_applied_somewhere_never_changes() {
    let sums = crate::migrate::MIGRATIONS.iter().map(|migration| {
        let first = migration.checksum.first_chunk().unwrap();
        (migration.version, u32::from_be_bytes(*first))
    });
    let known = [
        (1, 0x46cb_8527),
        (2, 0xe165_ab58),
        (3, 0x99f8_61c6),
        (4, 0x5717_55f9),
        (5, 0xb6db_fac1),
        (6, 0xfbd3_c64a),
        (7, 0x8a2b_7bdb),
        (8, 0x449f_dcb9),
        (9, 0x362a_3ac4),
        (10, 0x4f8f_f4c1),
    ];
    assert_eq!(sums.collect::<Vec<_>>(), known);
}

#[tokio::test]
async fn migrating_reports_what_it_did() {
    let server = Postgres::start().unwrap();
    let url = server.create_database().unwrap();
    let outdated = crate::connect(Options::new(&url)).await.unwrap_err();
    assert!(matches!(outdated, Error::Outdated), "{outdated}");
    // Two at once: one does it, the other waits.
    let (a, b) = tokio::join!(crate::migrate(&url), crate::migrate(&url));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.version, 10);
    assert_eq!(a.version, b.version);
    let again = crate::migrate(&url).await.unwrap();
    assert_eq!((again.applied, again.version), (vec![], 10));
    crate::connect(Options::new(&url))
        .await
        .unwrap()
        .close()
        .await;
    let later =
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (99, 'later', true, '', 0)";
    server.execute(&url, later).unwrap();
    let newer = crate::connect(Options::new(&url))
        .await
        .unwrap_err()
        .to_string();
    assert!(newer.contains("version 99, newer than the 10"), "{newer}");
    let newer = crate::migrate(&url).await.unwrap_err().to_string();
    assert!(newer.contains("newer than the 10"), "{newer}");
    server
        .execute(&url, "delete from _sqlx_migrations where version > 1")
        .unwrap();
    let outdated = crate::connect(Options::new(&url)).await.unwrap_err();
    assert!(matches!(outdated, Error::Outdated), "{outdated}");
}

/// Dashboards and scripts depend on these: add to the end, change nothing.
#[tokio::test]
async fn the_columns_of_the_view_are_pinned() {
    let bench = Bench::start().await;
    let columns = bench.sql(
        "select column_name || ' ' || data_type from information_schema.columns
         where table_name = 'goflow_tasks' order by ordinal_position",
    );
    let expected = [
        "id uuid",
        "namespace text",
        "queue text",
        "type text",
        "state text",
        "attempt integer",
        "max_attempts integer",
        "payload jsonb",
        "result jsonb",
        "content_type text",
        "result_content_type text",
        "payload_bytes bytea",
        "result_bytes bytea",
        "error text",
        "attempts jsonb",
        "worker uuid",
        "crashes integer",
        "unserved boolean",
        "tags jsonb",
        "headers jsonb",
        "due_at timestamp with time zone",
        "created_at timestamp with time zone",
        "started_at timestamp with time zone",
        "finished_at timestamp with time zone",
        "priority smallint",
        "deadline_at timestamp with time zone",
        "retry_of uuid",
        "unique_key text",
    ];
    assert_eq!(columns.lines().collect::<Vec<_>>(), expected);
    let undocumented = bench.sql(
        "select attname from pg_attribute where attrelid = 'goflow_tasks'::regclass
         and col_description(attrelid, attnum) is null",
    );
    assert_eq!(undocumented, "");
}

#[tokio::test]
async fn the_view_shows_content_as_it_is_and_breaks_on_none() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let large = format!("\"{}\"", "x".repeat(MAX_CONTENT_BYTES - 2));
    let contents = [
        (
            Content::new("{\"a\": [1, \"ä\"]}", "application/json"),
            "{\"a\": [1, \"ä\"]}",
        ),
        (Content::new("null", "application/problem+json"), "null"),
        (
            Content::new("say \"hi\"", "text/plain"),
            "\"say \\\"hi\\\"\"",
        ),
        (Content::new("{broken", "application/json"), "none"),
        (Content::new("\"\\u0000\"", "application/json"), "none"),
        (Content::new(&b"\xff"[..], "application/json"), "none"),
        (Content::new(&b"\xff"[..], "text/plain"), "none"),
        (Content::new("a\0b", "text/plain"), "none"),
        (Content::binary("{}"), "none"),
        (
            Content::new(large.clone(), "application/json"),
            large.as_str(),
        ),
    ];
    for (content, shown) in contents {
        let id = accept(
            &store,
            TaskSpec {
                payload: content.clone(),
                ..spec()
            },
        )
        .await;
        let show = |column: &str| {
            bench.sql(&format!(
                "select coalesce(({column})::text, 'none') from goflow_tasks where id = '{id}'"
            ))
        };
        assert_eq!(show("payload"), shown);
        assert_eq!(show("result"), "none");
        apply(
            &store,
            vec![outcome(id, Verdict::Succeeded(content.clone()))],
        )
        .await;
        assert_eq!(
            (show("payload"), show("result")),
            (shown.to_owned(), shown.to_owned())
        );
        assert_eq!(show("sha256(result_bytes) = sha256(payload_bytes)"), "true");
        assert_eq!(store.get(&id).await.unwrap().unwrap().result, Some(content));
    }
    assert_eq!(
        bench.sql("select count(payload) + count(result) from goflow_tasks"),
        "8"
    );
}

/// A function that catches errors fails in a parallel plan, which a larger history gets.
#[tokio::test]
async fn the_view_keeps_out_of_parallel_plans() {
    let bench = Bench::start().await;
    let safety = "select proparallel::text from pg_proc where proname = 'gf_content'";
    assert_eq!(bench.sql(safety).trim(), "u");
}

#[tokio::test]
async fn the_view_tells_the_whole_story() {
    let bench = Bench::start().await;
    let store = bench.connect().await;
    let mut spec = TaskSpec {
        max_attempts: 2,
        backoff: goflow_core::Backoff::Fixed(Default::default()),
        ..spec()
    };
    spec.tags.insert("customer".into(), "7".into());
    let id = accept(&store, spec).await;
    let shows = |columns: &str| {
        bench.sql(&format!(
            "select {columns} from goflow_tasks where id = '{id}'"
        ))
    };
    let retryable = Verdict::failed("first");
    apply(&store, vec![outcome(id, retryable)]).await;
    assert_eq!(
        shows("state, attempt, error, jsonb_array_length(attempts), due_at is null"),
        "retrying|2|first|1|f"
    );
    store
        .claim_due(1, Claim::All(&Default::default()))
        .await
        .unwrap();
    apply(
        &store,
        vec![Outcome {
            attempt: 2,
            dispatch: 2,
            ..failure(id, "second")
        }],
    )
    .await;
    assert_eq!(
        shows(
            "state, attempt, max_attempts, error, attempts->0->>'error', attempts->1->>'attempt', tags->>'customer'"
        ),
        "failed|2|2|second|first|2|7"
    );
    assert_eq!(
        shows("finished_at >= started_at, now() - created_at < interval '1 minute', queue, type"),
        "t|t|default|bench"
    );
    store.retry(id).await.unwrap();
    assert_eq!(
        shows("state, attempt, max_attempts, jsonb_array_length(attempts)"),
        "queued|3|4|2"
    );
    store.cancel(id).await.unwrap();
    assert_eq!(shows("state, jsonb_array_length(attempts)"), "cancelled|2");
    assert_eq!(bench.sql("select count(*) from gf_attempt"), "0");
    assert_eq!(
        bench.sql("select count(*) from goflow_tasks where tags @> '{\"customer\": \"7\"}'"),
        "1"
    );
}
