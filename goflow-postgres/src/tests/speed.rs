//! How quick it is: printed for whoever changes it (`--no-capture`), and far from slow.

use std::sync::Arc;
use std::time::Instant;

use super::*;

const BATCH: usize = 500;

async fn accept_many(store: &PostgresStore, rounds: usize) -> Vec<Vec<TaskId>> {
    let mut batches = Vec::new();
    for _ in 0..rounds {
        let requests: Vec<NewTasks> = (0..BATCH).map(|_| one(spec())).collect();
        let answers = store.accept(&requests).await;
        batches.push(
            answers
                .into_iter()
                .map(|answer| answer.unwrap()[0].id)
                .collect(),
        );
    }
    batches
}

async fn apply_many(store: &PostgresStore, batches: Vec<Vec<TaskId>>) {
    for ids in batches {
        let applied = apply(store, ids.into_iter().map(success).collect()).await;
        assert!(
            applied
                .iter()
                .all(|one| matches!(one, Applied::Finished(_)))
        );
    }
}

fn rate(what: &str, tasks: usize, begun: Instant) {
    let rate = tasks as f64 / begun.elapsed().as_secs_f64();
    println!("{what}: {rate:.0} tasks/s");
    // A statement a task would be slower than this.
    assert!(rate > 2_000.0, "{what}: {rate:.0} tasks/s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn speed() {
    let bench = Bench::start().await;
    let store = Arc::new(bench.connect().await);
    apply_many(&store, accept_many(&store, 10).await).await;
    let rounds = 20;
    let begun = Instant::now();
    let batches = accept_many(&store, rounds).await;
    rate("accept, one writer", rounds * BATCH, begun);
    let begun = Instant::now();
    for ids in &batches {
        store
            .confirm_dispatched(
                uuid::Uuid::nil(),
                &ids.iter().map(|id| (*id, 1)).collect::<Vec<_>>(),
            )
            .await
            .unwrap();
    }
    rate("confirm", rounds * BATCH, begun);
    let begun = Instant::now();
    apply_many(&store, batches).await;
    rate("apply, one writer", rounds * BATCH, begun);
    let begun = Instant::now();
    let (a, b) = tokio::join!(accept_many(&store, rounds), accept_many(&store, rounds));
    rate("accept, two writers", 2 * rounds * BATCH, begun);
    let begun = Instant::now();
    tokio::join!(apply_many(&store, a), apply_many(&store, b));
    rate("apply, two writers", 2 * rounds * BATCH, begun);
    let begun = Instant::now();
    for _ in 0..rounds {
        let outcomes = (0..BATCH).map(|_| rowless(spec()));
        apply(&store, outcomes.collect()).await;
    }
    rate("apply of tasks without a row", rounds * BATCH, begun);
    println!(
        "{}",
        bench.sql("select pg_size_pretty(pg_total_relation_size('gf_task'))")
    );
}
