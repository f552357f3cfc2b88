//! Clauses on messages: what goes in comes out.

use super::*;

/// Payloads and everything around them arrive as they were sent: empty, any bytes, as large as may be.
pub async fn intact(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let largest = vec![0xff; MAX_CONTENT_BYTES];
    for payload in [
        Vec::new(),
        every_byte,
        b"\xc3\x28 not UTF-8".to_vec(),
        largest,
    ] {
        let mut sent = message(payload);
        let spec = Arc::make_mut(&mut sent.spec);
        spec.payload.content_type = "application/x-suite; v=\"1\"".into();
        spec.headers
            .insert("Trace Parent".into(), "00-\r\n-é".into());
        spec.headers.insert(String::new(), String::new());
        spec.tags.insert("tenant".into(), "ü".into());
        spec.timeout = Some(Duration::from_nanos(1_000_000_001));
        (sent.attempt, sent.dispatch, sent.recorded) = (7, u32::MAX, false);
        submit(&connection, sent.clone()).await;
        let delivery = next(&connection).await;
        assert_eq!(*delivery.message, sent);
        assert_eq!(delivery.count, 1);
        delivery.lease.ack().await.expect("ack");
    }
    let limit = connection.tasks.max_message_bytes();
    assert!(
        limit > MAX_CONTENT_BYTES,
        "the largest payload fits with its envelope"
    );
    if limit < usize::MAX {
        let results = connection
            .tasks
            .submit(vec![message(vec![0; limit]).into(), message("fits").into()])
            .await;
        assert!(
            matches!(results[0], Err(Error::TooLarge { limit: said, .. }) if said == limit),
            "{results:?}"
        );
        assert!(
            results[1].is_ok(),
            "one that is too large does not keep others out: {results:?}"
        );
    }
}

/// Consumers of one queue get different tasks, and all of them together get every task.
pub async fn competing_consumers(fixture: &impl Fixture) {
    const CONSUMERS: usize = 4;
    const TASKS: usize = 200;
    let connection = prepared(fixture).await;
    // Nobody is to be so slow that a lease expires.
    connection
        .tasks
        .prepare(LANE, Some(Duration::from_secs(30)))
        .await
        .expect("prepare");
    let consume = async || {
        let connection = if fixture.outlives_connections() {
            fixture.connect().await
        } else {
            connection.clone()
        };
        let mut taken = Vec::new();
        loop {
            let deliveries = connection
                .tasks
                .dequeue(LANE, 7, Duration::from_secs(1))
                .await
                .expect("dequeue");
            if deliveries.is_empty() {
                return taken;
            }
            for delivery in deliveries {
                delivery.lease.ack().await.expect("ack");
                taken.push(delivery.message.spec.id);
            }
        }
    };
    let sent: Vec<_> = (0..TASKS).map(|n| message(n.to_string())).collect();
    let ids: HashSet<_> = sent.iter().map(|message| message.spec.id).collect();
    let consumers = futures_util::future::join_all((0..CONSUMERS).map(|_| consume()));
    let (taken, ()) = timeout(
        PATIENCE,
        futures_util::future::join(consumers, submit_all(&connection, sent)),
    )
    .await
    .expect("all is consumed in time");
    let taken = taken.concat();
    assert_eq!(taken.len(), TASKS, "each task once");
    assert_eq!(taken.into_iter().collect::<HashSet<_>>(), ids);
}

/// A dequeue that waits gives what comes, long before its time is up and without waiting for more.
pub async fn waiting_dequeue(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    let tasks = connection.tasks.clone();
    let began = Instant::now();
    let waiting = tokio::spawn(async move { tasks.dequeue(LANE, 100, PATIENCE * 4).await });
    sleep(QUIET).await;
    let sent = message("at last");
    submit(&connection, sent.clone()).await;
    let deliveries = timeout(PATIENCE, waiting)
        .await
        .expect("in time")
        .expect("no panic")
        .expect("dequeue");
    assert_eq!(deliveries.len(), 1);
    assert_eq!(*deliveries[0].message, sent);
    assert!(
        began.elapsed() < QUIET + Duration::from_secs(2),
        "at once, not after {:?}",
        began.elapsed()
    );
    deliveries[0].lease.ack().await.expect("ack");

    let began = Instant::now();
    nothing(&connection).await;
    assert!(
        began.elapsed() >= QUIET - Duration::from_millis(50),
        "it waits as long as asked: {:?}",
        began.elapsed()
    );
    assert!(
        connection
            .tasks
            .dequeue(LANE, 10, Duration::ZERO)
            .await
            .expect("dequeue")
            .is_empty()
    );
}

/// The same message id is confirmed again and delivered once; another dispatch of the task is another message.
pub async fn repeated_id(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    let first = message("once");
    submit_all(&connection, vec![first.clone(), first.clone()]).await;
    submit(&connection, first.clone()).await;
    let retry = TaskMessage {
        attempt: 2,
        dispatch: 2,
        ..first.clone()
    };
    submit(&connection, retry.clone()).await;
    let mut came = Vec::new();
    for _ in 0..2 {
        let delivery = next(&connection).await;
        delivery.lease.ack().await.expect("ack");
        came.push(delivery.message);
    }
    assert_eq!(came, [first, retry].map(Arc::new));
    nothing(&connection).await;
}

/// Ten thousand messages at once: in order, each once, in no more time than such a number takes.
pub async fn batches(fixture: &impl Fixture) {
    const TASKS: usize = 10_000;
    let connection = prepared(fixture).await;
    connection
        .tasks
        .prepare(LANE, Some(Duration::from_secs(30)))
        .await
        .expect("prepare");
    let sent: Vec<_> = (0..TASKS).map(|n| message(n.to_string())).collect();
    let began = Instant::now();
    submit_all(&connection, sent.clone()).await;
    let mut received = Vec::new();
    while received.len() < TASKS {
        let deliveries = connection
            .tasks
            .dequeue(LANE, 1_000, PATIENCE)
            .await
            .expect("dequeue");
        assert!(
            (1..=1_000).contains(&deliveries.len()),
            "{}",
            deliveries.len()
        );
        let acks =
            futures_util::future::join_all(deliveries.iter().map(|delivery| delivery.lease.ack()))
                .await;
        acks.into_iter().for_each(|ack| ack.expect("ack"));
        received.extend(deliveries.into_iter().map(|delivery| delivery.message));
    }
    let took = began.elapsed();
    for (n, (received, sent)) in received.iter().zip(&sent).enumerate() {
        assert_eq!(
            **received, *sent,
            "message {n}: in the order they were submitted"
        );
    }
    assert!(took < PATIENCE, "{TASKS} messages took {took:?}");
}

/// A queue that is full says so, for each message that does not fit, and takes more when there is room.
pub async fn full_channel(fixture: &impl Fixture) {
    let connection = fixture.connect_bounded(3).await;
    connection.tasks.prepare(LANE, None).await.expect("prepare");
    let results = connection
        .tasks
        .submit((0..5).map(|n| message(n.to_string()).into()).collect())
        .await;
    assert_eq!(
        results.iter().filter(|result| result.is_ok()).count(),
        3,
        "{results:?}"
    );
    for result in &results[3..] {
        assert!(
            matches!(result, Err(Error::Full { channel }) if channel == LANE),
            "{results:?}"
        );
        assert!(result.as_ref().is_err_and(Error::is_retryable));
    }
    next(&connection).await.lease.ack().await.expect("ack");
    submit(&connection, message("fits again")).await;
    for _ in 0..3 {
        next(&connection).await.lease.ack().await.expect("ack");
    }
}

/// What waits and what is leased is counted.
pub async fn depth(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    connection
        .tasks
        .prepare(LANE, Some(Duration::from_secs(30)))
        .await
        .expect("prepare");
    submit_all(
        &connection,
        (0..5).map(|n| message(n.to_string())).collect(),
    )
    .await;
    let (one, two) = (next(&connection).await, next(&connection).await);
    let counted = async || {
        let depth = connection.tasks.depth(LANE).await.expect("depth");
        (depth.waiting, depth.leased)
    };
    assert_eq!(counted().await, (3, 2));
    one.lease.ack().await.expect("ack");
    two.lease.ack().await.expect("ack");
    assert_eq!(counted().await, (3, 0));
}

/// Outcomes travel on their route, whether it lasts or passes, and on no other.
pub async fn outcomes(fixture: &impl Fixture) {
    let connection = fixture.connect().await;
    connection.control.identify().await.expect("identify");
    let routes = [route(true), route(true), route(false), route(false)];
    let batch = |route: &Route| {
        Arc::new(OutcomeBatch {
            id: Uuid::new_v4(),
            route: route.clone(),
            outcomes: vec![Outcome {
                task: TaskId::new(),
                attempt: 1,
                dispatch: 1,
                verdict: Verdict::Succeeded(Content::binary(vec![0xfe, 0])),
                worker: WorkerId(Uuid::new_v4()),
                started_at: None,
                finished_at: OffsetDateTime::UNIX_EPOCH,
                spec: None,
            }],
        })
    };
    let sent: Vec<_> = routes.iter().map(batch).collect();
    for route in &routes {
        connection
            .results
            .prepare(route.as_str(), None)
            .await
            .expect("prepare a route");
    }
    for result in connection.results.submit(sent.clone()).await {
        result.expect("submit outcomes");
    }
    for sent in sent {
        let route = sent.route.as_str();
        let deliveries = connection
            .results
            .dequeue(route, 10, PATIENCE)
            .await
            .expect("dequeue outcomes");
        assert_eq!(deliveries.len(), 1);
        assert_eq!(deliveries[0].message, sent);
        deliveries[0].lease.ack().await.expect("ack");
        assert!(
            connection
                .results
                .dequeue(route, 10, QUIET)
                .await
                .expect("dequeue")
                .is_empty()
        );
    }
}

/// Closing lets what was handed over be sent.
pub async fn close_drains(fixture: &impl Fixture) {
    const TASKS: usize = 2_000;
    let connection = prepared(fixture).await;
    let tasks = connection.tasks.clone();
    let sent = (0..TASKS).map(|n| message(n.to_string()).into()).collect();
    let submitting = tokio::spawn(async move { tasks.submit(sent).await });
    tokio::task::yield_now().await;
    let began = Instant::now();
    connection.control.close().await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "close took {:?}",
        began.elapsed()
    );
    let results = timeout(PATIENCE, submitting)
        .await
        .expect("in time")
        .expect("no panic");
    let confirmed = results.iter().filter(|result| result.is_ok()).count();
    for failed in results.iter().filter_map(|result| result.as_ref().err()) {
        assert!(
            matches!(failed, Error::Closed),
            "nothing is left in doubt: {failed}"
        );
    }
    if fixture.outlives_connections() {
        let connection = prepared(fixture).await;
        let depth = connection.tasks.depth(LANE).await.expect("depth");
        assert_eq!(
            depth.waiting, confirmed as u64,
            "what was confirmed is there, and nothing else"
        );
    }
}
