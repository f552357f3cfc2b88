//! What is in the server: streams, consumers, and messages that are not ours.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt;
use futures_util::future::join_all;
use goflow_conformance::broker::{
    Fixture, LANE, PATIENCE, QUEUE, message, next, nothing, prepared, submit, submit_all,
};
use goflow_core::broker::{Error, Tombstone};
use goflow_core::{StoreId, TaskId, TaskMessage};
use goflow_nats::{Options, connect};
use goflow_test_servers::eventually;
use tokio::time::timeout;
use uuid::Uuid;

use super::{options, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engines_that_start_at_once_agree() {
    let server = start().await;
    let starting = (0..8).map(|_| async {
        let connection = server.connect().await;
        let identity = connection.control.identify().await.unwrap();
        connection.tasks.prepare(LANE, None).await.unwrap();
        identity.broker
    });
    let brokers = join_all(starting).await;
    assert!(
        brokers.iter().all(|broker| *broker == brokers[0]),
        "{brokers:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_messages_do_not_come_all_at_once() {
    const TASKS: usize = 80;
    let server = start().await;
    let connection = prepared(&server).await;
    connection
        .tasks
        .prepare(LANE, Some(Duration::from_secs(30)))
        .await
        .unwrap();
    submit_all(
        &connection,
        (0..TASKS).map(|_| message(vec![0; 900 * 1024])).collect(),
    )
    .await;
    let first = connection
        .tasks
        .dequeue(LANE, TASKS, PATIENCE)
        .await
        .unwrap();
    assert!((50..TASKS).contains(&first.len()), "{}", first.len());
    let rest = connection
        .tasks
        .dequeue(LANE, TASKS, PATIENCE)
        .await
        .unwrap();
    assert_eq!(first.len() + rest.len(), TASKS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_decoded_is_set_aside() {
    let server = start().await;
    let connection = prepared(&server).await;
    let client = async_nats::connect(server.0.url()).await.unwrap();
    let jetstream = jetstream::new(client);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Origin", "elsewhere");
    headers.insert("Nats-Msg-Id", "original");
    let subject = format!("gf.q.{QUEUE}.1.suite");
    let largest = vec![0xc1_u8; 1024 * 1024 - 100];

    submit(&connection, message("one")).await;
    let bad = jetstream
        .publish_with_headers(subject.clone(), headers, "no message".into())
        .await
        .unwrap();
    bad.await.unwrap();
    jetstream
        .publish(subject.clone(), largest.into())
        .await
        .unwrap()
        .await
        .unwrap();
    submit(&connection, message("two")).await;
    for expected in ["one", "two"] {
        let delivery = next(&connection).await;
        assert_eq!(delivery.message.spec.payload.bytes, expected);
        delivery.lease.ack().await.unwrap();
    }
    let quarantine = jetstream.get_stream("GF_QUARANTINE").await.unwrap();
    eventually(PATIENCE, async || {
        quarantine.get_info().await.unwrap().state.messages == 2
    })
    .await
    .unwrap();
    eventually(PATIENCE, async || {
        connection.tasks.depth(LANE).await.unwrap().is_empty()
    })
    .await
    .unwrap();
    nothing(&connection).await;

    let consumer = quarantine
        .create_consumer(jetstream::consumer::pull::Config::default())
        .await
        .unwrap();
    let mut kept: Vec<_> = consumer
        .fetch()
        .max_messages(2)
        .messages()
        .await
        .unwrap()
        .collect()
        .await;
    let mut kept: Vec<_> = kept.drain(..).map(Result::unwrap).collect();
    kept.sort_by_key(|message| message.payload.len());
    assert_eq!(kept[0].payload, "no message");
    assert_eq!(kept[0].subject.as_str(), format!("gf.quarantine.{QUEUE}"));
    let header = |n: usize, name: &str| {
        kept[n]
            .headers
            .as_ref()
            .unwrap()
            .get(name)
            .map(|value| value.as_str())
    };
    assert!(
        header(0, "Gf-Reason").unwrap().contains("undecodable")
            || !header(0, "Gf-Reason").unwrap().is_empty()
    );
    assert_eq!(header(0, "Gf-Subject"), Some(subject.as_str()));
    assert_eq!(header(0, "Origin"), Some("elsewhere"));
    assert_eq!(header(0, "Gf-Msg-Id"), Some("original"));
    assert_eq!(header(1, "Gf-Clipped-From"), Some("1048476"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_store_is_made_anew() {
    let mut server = start().await;
    let connection = prepared(&server).await;
    let before = connection.control.identify().await.unwrap();
    let store = StoreId(Uuid::new_v4());
    connection.control.bind(store).await.unwrap();
    let mut watch = connection.control.tombstones().await.unwrap();
    submit(&connection, message("lost with the store")).await;

    server.0.wipe_and_restart().unwrap();
    eventually(PATIENCE, async || connection.control.ping().await)
        .await
        .unwrap();
    let gone = connection
        .tasks
        .submit(vec![message("nowhere to go").into()])
        .await;
    assert!(matches!(gone[0], Err(Error::NoChannel { .. })), "{gone:?}");
    let gone = connection
        .tasks
        .dequeue(LANE, 1, Duration::from_secs(1))
        .await;
    assert!(matches!(gone, Err(Error::NoChannel { .. })), "{gone:?}");
    assert!(matches!(
        connection.tasks.lease(LANE).await,
        Err(Error::NoChannel { .. })
    ));

    let after = connection.control.identify().await.unwrap();
    assert_ne!(after.broker, before.broker, "another incarnation");
    assert_eq!(after.store, None);
    connection.control.bind(store).await.unwrap();
    connection.tasks.prepare(LANE, None).await.unwrap();
    submit(&connection, message("after")).await;
    next(&connection).await.lease.ack().await.unwrap();
    let stone = Tombstone {
        task: TaskId::new(),
        dispatch: 1,
    };
    connection.control.entomb(&[stone]).await.unwrap();
    assert_eq!(
        timeout(PATIENCE, watch.later.recv())
            .await
            .expect("watched again"),
        Some(stone)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_brought_up_to_date() {
    let server = start().await;
    let connection = prepared(&server).await;
    submit(&connection, message("kept")).await;
    let other = connect(Options {
        max_queue_messages: 7,
        ..options(&server.0)
    })
    .await
    .unwrap();
    other.tasks.prepare(LANE, None).await.unwrap();
    let jetstream = jetstream::new(async_nats::connect(server.0.url()).await.unwrap());
    let info = jetstream
        .get_stream(format!("GF_Q_{QUEUE}"))
        .await
        .unwrap()
        .get_info()
        .await
        .unwrap();
    assert_eq!((info.config.max_messages, info.state.messages), (7, 1));
    assert_eq!(
        other.tasks.lease(LANE).await.unwrap(),
        Duration::from_secs(1),
        "the lease stays as it was"
    );
    next(&other).await.lease.ack().await.unwrap();
}

/// Streams that differ, messages that are there already, and one that takes no batches.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_out_together_is_stored_once_each() {
    const TASKS: usize = 300;
    let server = start().await;
    let connection = prepared(&server).await;
    let queues = [QUEUE, "other", "single"];
    let lane = |queue: &str| format!("{queue}.1");
    for queue in queues {
        connection.tasks.prepare(&lane(queue), None).await.unwrap();
    }
    let all: Vec<_> = (0..TASKS)
        .map(|n| {
            let mut message = message(n.to_string());
            let queue = queues[if n == 7 { 2 } else { n % 2 }];
            Arc::make_mut(&mut message.spec).queue = queue.parse().unwrap();
            message
        })
        .collect();
    submit_all(&connection, all[100..200].to_vec()).await;
    submit_all(&connection, all.clone()).await;

    let jetstream = jetstream::new(async_nats::connect(server.0.url()).await.unwrap());
    let stored = async |queue: &str| {
        let mut stream = jetstream.get_stream(format!("GF_Q_{queue}")).await.unwrap();
        stream.info().await.unwrap().clone()
    };
    let mut config = stored("other").await.config;
    config.allow_batch_publish = false;
    jetstream.update_stream(&config).await.unwrap();
    let more = all.iter().take(50).map(|message| TaskMessage {
        dispatch: message.dispatch + 1,
        ..message.clone()
    });
    submit_all(&connection, more.collect()).await;
    for (queue, count) in queues.into_iter().zip([150 + 25, 149 + 24, 1 + 1]) {
        assert_eq!(stored(queue).await.state.messages, count, "{queue}");
    }
}
