//! Servers that go, hang or come back.

use std::time::Duration;

use goflow_conformance::broker::{LANE, PATIENCE, message, next, nothing, prepared, submit};
use goflow_core::broker::{Error, Tombstone};
use goflow_core::signal::Signal;
use goflow_core::{TaskId, WorkerId};
use goflow_test_servers::eventually;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::start;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_nothing() {
    let mut server = start().await;
    let connection = prepared(&server).await;
    let mut listener = connection.control.listen().await.unwrap();
    let mut watch = connection.control.tombstones().await.unwrap();
    submit(&connection, message("before")).await;
    let held = next(&connection).await;
    submit(&connection, message("waits")).await;
    let tasks = connection.tasks.clone();
    let waiting = tokio::spawn(async move { tasks.dequeue("elsewhere.1", 1, PATIENCE).await });

    server.0.stop().unwrap();
    let submitting = {
        let tasks = connection.tasks.clone();
        tokio::spawn(async move { tasks.submit(vec![message("during").into()]).await })
    };
    server.0.start_again().unwrap();

    assert!(
        submitting.await.unwrap()[0].is_ok(),
        "a submit outlasts a short absence"
    );
    assert!(waiting.await.unwrap().is_err());
    held.lease.ack().await.unwrap();
    let mut came = Vec::new();
    while came.len() < 2 {
        let delivery = eventually(PATIENCE, async || {
            let mut deliveries = connection
                .tasks
                .dequeue(LANE, 1, Duration::from_secs(2))
                .await
                .ok()?;
            deliveries.pop()
        });
        let delivery = delivery.await.unwrap();
        delivery.lease.ack().await.unwrap();
        came.push(delivery.message.spec.payload.bytes.clone());
    }
    came.sort();
    assert_eq!(came, ["during", "waits"]);
    nothing(&connection).await;

    // Subscriptions have come back with the connection.
    let goodbye = Signal::Goodbye(WorkerId(Uuid::new_v4()));
    eventually(PATIENCE, async || {
        connection.control.signal(goodbye.clone()).await.ok()?;
        timeout(Duration::from_millis(200), listener.next())
            .await
            .ok()?
    })
    .await
    .unwrap();
    let stone = Tombstone {
        task: TaskId::new(),
        dispatch: 1,
    };
    connection.control.entomb(&[stone]).await.unwrap();
    let heard = timeout(PATIENCE, async {
        while watch.later.recv().await.unwrap() != stone {}
    });
    heard.await.expect("tombstones are still watched");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_dequeue_ends_when_the_server_does() {
    let mut server = start().await;
    let connection = prepared(&server).await;
    let tasks = connection.tasks.clone();
    let waiting =
        tokio::spawn(async move { tasks.dequeue(LANE, 1, Duration::from_secs(60)).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    server.0.kill().unwrap();
    let lost = timeout(Duration::from_secs(5), waiting)
        .await
        .expect("soon")
        .unwrap();
    assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    // Until it is back every call has an end, and an error that says so.
    let began = Instant::now();
    let lost = connection
        .tasks
        .dequeue(LANE, 1, Duration::from_secs(1))
        .await;
    assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    let lost = connection.control.ping().await;
    assert!(matches!(lost, Err(Error::Unavailable { .. })), "{lost:?}");
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "{:?}",
        began.elapsed()
    );
    let lost = connection.tasks.submit(vec![message("lost").into()]).await;
    assert!(
        matches!(lost[0], Err(Error::Unavailable { .. })),
        "{lost:?}"
    );
    assert!(
        began.elapsed() < Duration::from_secs(14),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_outlasts_the_server() {
    let mut server = start().await;
    let connection = prepared(&server).await;
    connection.tasks.set_paused(LANE, true).await.unwrap();
    submit(&connection, message("kept")).await;
    server.0.restart().unwrap();
    eventually(PATIENCE, async || connection.tasks.lease(LANE).await)
        .await
        .unwrap();
    nothing(&connection).await;
    connection.tasks.prepare(LANE, None).await.unwrap();
    nothing(&connection).await;
    let waiting = {
        let tasks = connection.tasks.clone();
        tokio::spawn(async move { tasks.dequeue(LANE, 1, PATIENCE).await })
    };
    connection.tasks.set_paused(LANE, false).await.unwrap();
    let deliveries = waiting.await.unwrap().unwrap();
    assert_eq!(deliveries[0].message.spec.payload.bytes, "kept");
}

/// Whether every thread of a process has stopped: the signal takes a moment.
fn stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process");
    let states = threads
        .flatten()
        .map(|thread| std::fs::read_to_string(thread.path().join("stat")));
    states.flatten().all(|stat| {
        stat.rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('T'))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_unavailable() {
    let mut server = start().await;
    let connection = prepared(&server).await;
    submit(&connection, message("held")).await;
    let held = next(&connection).await;
    server.0.pause().unwrap();
    eventually(PATIENCE, async || stopped(server.0.pid()))
        .await
        .unwrap();
    let began = Instant::now();
    let (dequeued, submitted, acked, pinged) = tokio::join!(
        connection.tasks.dequeue(LANE, 1, Duration::from_secs(1)),
        connection.tasks.submit(vec![message("lost").into()]),
        held.lease.ack(),
        connection.control.ping(),
    );
    let took = began.elapsed();
    server.0.resume().unwrap();
    assert!(took < Duration::from_secs(7), "{took:?}");
    assert!(
        matches!(dequeued, Err(Error::Unavailable { .. })),
        "{dequeued:?}"
    );
    assert!(
        matches!(submitted[0], Err(Error::Unavailable { .. })),
        "{submitted:?}"
    );
    assert!(matches!(acked, Err(Error::Unavailable { .. })), "{acked:?}");
    assert!(
        matches!(pinged, Err(Error::Unavailable { .. })),
        "{pinged:?}"
    );
    eventually(PATIENCE, async || connection.control.ping().await)
        .await
        .unwrap();
}

/// The application's only thread is busy; the server is answered all the same.
#[tokio::test]
async fn a_busy_application_does_not_lose_its_connection() {
    let server = start().await;
    let connection = prepared(&server).await;
    let renewer = {
        let connection = connection.clone();
        submit(&connection, message("mine")).await;
        let held = next(&connection).await;
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let began = Instant::now();
                while began.elapsed() < Duration::from_secs(3) {
                    assert!(held.lease.extend().await.unwrap());
                    tokio::time::sleep(Duration::from_millis(300)).await;
                }
                held.lease.ack().await.unwrap();
            });
        })
    };
    // Blocks the thread on purpose, as a handler that computes would.
    renewer.join().unwrap();
    nothing(&connection).await;
}
