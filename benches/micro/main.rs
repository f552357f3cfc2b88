//! The parts alone: the envelope, the state function, the memory broker, the executor of local mode.

use std::sync::Arc;
use std::time::Duration;

use divan::{Bencher, black_box, counter::ItemsCount};
use goflow::broker::{Connection, Wire, memory};
use goflow::outcome::{Outcome, OutcomeBatch, Verdict};
use goflow::state::Live;
use goflow::{
    Backoff, Content, GoFlow, HandlerError, Raw, Route, State, StoreId, TaskMessage, WorkerId,
};
use goflow_bench::Payload;
use time::OffsetDateTime;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// Messages of one batch.
const BATCH: usize = 100;

fn main() {
    divan::main();
}

fn message(number: usize, payload: usize) -> TaskMessage {
    let task = Payload::new(payload).task(number).expect("a task");
    TaskMessage {
        spec: task.into_spec().expect("a task within the limits").into(),
        attempt: 1,
        dispatch: 1,
        route: Route::of_store(StoreId(Uuid::nil()), true),
        recorded: true,
    }
}

fn outcome(message: &TaskMessage) -> Outcome {
    Outcome {
        task: message.spec.id,
        attempt: message.attempt,
        dispatch: message.dispatch,
        verdict: Verdict::Succeeded(message.spec.payload.clone()),
        worker: WorkerId(Uuid::nil()),
        started_at: Some(OffsetDateTime::now_utc()),
        finished_at: OffsetDateTime::now_utc(),
        spec: None,
    }
}

fn outcomes() -> OutcomeBatch {
    OutcomeBatch {
        id: Uuid::now_v7(),
        route: Route::of_store(StoreId(Uuid::nil()), true),
        outcomes: (0..BATCH)
            .map(|number| outcome(&message(number, 100)))
            .collect(),
    }
}

#[divan::bench(args = [100, 10_000])]
fn encode_task(bencher: Bencher<'_, '_>, payload: usize) {
    let message = message(1, payload);
    bencher.bench_local(|| black_box(&message).encode());
}

#[divan::bench(args = [100, 10_000])]
fn decode_task(bencher: Bencher<'_, '_>, payload: usize) {
    let bytes = message(1, payload).encode().expect("a message");
    bencher.bench_local(|| TaskMessage::decode(black_box(&bytes)));
}

#[divan::bench]
fn encode_outcomes(bencher: Bencher<'_, '_>) {
    let batch = outcomes();
    let bencher = bencher.counter(ItemsCount::new(BATCH));
    bencher.bench_local(|| black_box(&batch).encode());
}

#[divan::bench]
fn decode_outcomes(bencher: Bencher<'_, '_>) {
    let bytes = outcomes().encode().expect("a message");
    let bencher = bencher.counter(ItemsCount::new(BATCH));
    bencher.bench_local(|| OutcomeBatch::decode(black_box(&bytes)));
}

#[divan::bench]
fn next_state(bencher: Bencher<'_, '_>) {
    let live = Live {
        state: State::Queued,
        attempt: 1,
        max_attempts: 3,
        dispatch: 1,
        waiting: false,
        starts: 0,
        last_start: None,
        unserved: 0,
    };
    let (outcome, backoff) = (outcome(&message(1, 100)), Backoff::default());
    bencher.bench_local(|| black_box(&live).next(black_box(&outcome), &backoff, true, 0.5));
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn through(broker: &Connection, messages: Vec<TaskMessage>) {
    let channel = messages[0].channel();
    let messages = messages.into_iter().map(Arc::new).collect();
    for submitted in broker.tasks.submit(messages).await {
        submitted.expect("room for a message");
    }
    let taken = broker.tasks.dequeue(&channel, BATCH, Duration::ZERO).await;
    for delivery in taken.expect("the messages") {
        delivery.lease.ack().await.expect("an ack");
    }
}

#[divan::bench]
fn memory_broker(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let broker = memory::connect(memory::Options::default());
    let channel = message(0, 100).channel();
    let prepared = runtime.block_on(broker.tasks.prepare(&channel, None));
    prepared.expect("a channel");
    bencher
        .counter(ItemsCount::new(BATCH))
        .with_inputs(|| {
            (0..BATCH)
                .map(|number| message(number, 100))
                .collect::<Vec<_>>()
        })
        .bench_local_values(|messages| runtime.block_on(through(&broker, messages)));
}

async fn echo(payload: Raw) -> Result<Raw, HandlerError> {
    Ok(payload)
}

/// One task at a time, from its push to its result.
#[divan::bench]
fn executor(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let flow = GoFlow::local()
        .handler("echo", echo)
        .build()
        .expect("a queue");
    runtime.block_on(flow.start()).expect("a start");
    bencher
        .with_inputs(|| goflow::Task::new("echo", Content::binary(vec![1; 100])).expect("a task"))
        .bench_local_values(|task| {
            runtime.block_on(async {
                let id = flow.push(task).await.expect("an id");
                flow.wait(id, Duration::from_secs(5))
                    .await
                    .expect("a result")
            })
        });
    runtime.block_on(flow.close()).expect("a close");
}
