//! Clauses on dequeues that nobody waits for any more: they lose nothing and hold nothing back.

use super::lanes::with_lanes;
use super::*;

/// A dequeue that nobody waits for any more loses nothing: neither what comes later nor what was on its way.
pub async fn abandoned_dequeue(fixture: &impl Fixture) {
    const TASKS: usize = 50;
    let connection = prepared(fixture).await;
    let tasks: Arc<dyn Broker<TaskMessage>> = connection.tasks.clone();
    let give_up_soon = |patience: Duration| timeout(patience, tasks.dequeue(LANE, 10, PATIENCE));
    assert!(
        give_up_soon(QUIET).await.is_err(),
        "there is nothing to take"
    );
    let sent: HashSet<_> = {
        let sent: Vec<_> = (0..TASKS).map(|n| message(n.to_string())).collect();
        submit_all(&connection, sent.clone()).await;
        sent.into_iter().map(|message| message.spec.id).collect()
    };
    let mut received = HashSet::new();
    let began = Instant::now();
    let mut patience = Duration::from_micros(1);
    while received.len() < TASKS {
        assert!(
            began.elapsed() < PATIENCE,
            "{} of {TASKS} came",
            received.len()
        );
        // Sometimes it is given up before, sometimes while, sometimes after the messages are on their way.
        let Ok(deliveries) = give_up_soon(patience).await else {
            patience = patience * 3 / 2;
            continue;
        };
        for delivery in deliveries.expect("dequeue") {
            delivery.lease.ack().await.expect("ack");
            assert!(
                received.insert(delivery.message.spec.id),
                "delivered again after its ack"
            );
        }
        patience = Duration::from_micros(1);
    }
    assert_eq!(received, sent);
    nothing(&connection).await;
}

/// Takes all of these within 2 s, whoever had them a moment ago.
async fn all_come(connection: &Connection, mut expected: HashSet<TaskId>) {
    let began = Instant::now();
    while !expected.is_empty() {
        let left = Duration::from_secs(2).saturating_sub(began.elapsed());
        assert!(!left.is_zero(), "{} are held back", expected.len());
        for delivery in connection
            .tasks
            .dequeue(LANE, 50, left)
            .await
            .expect("dequeue")
        {
            delivery.lease.ack().await.expect("ack");
            assert!(expected.remove(&delivery.message.spec.id), "delivered once");
        }
    }
}

/// Lets some wait on `waiting`, submits as many messages, and drops those who wait after `patience`. Gives the messages
/// that nobody took.
async fn drop_some(
    connection: &Connection,
    waiting: &Connection,
    some: usize,
    patience: Duration,
) -> HashSet<TaskId> {
    let waiters: Vec<_> = (0..some)
        .map(|n| {
            let tasks = waiting.tasks.clone();
            tokio::spawn(async move { tasks.dequeue(LANE, [1, 2, 20][n % 3], PATIENCE).await })
        })
        .collect();
    // Long enough for them to have asked the broker.
    sleep(Duration::from_millis(5)).await;
    let messages: Vec<_> = (0..some).map(|n| message(n.to_string())).collect();
    let mut sent: HashSet<_> = messages.iter().map(|message| message.spec.id).collect();
    let submitting = tokio::spawn({
        let connection = connection.clone();
        async move { submit_all(&connection, messages).await }
    });
    sleep(patience).await;
    waiters.iter().for_each(|waiter| waiter.abort());
    for waiter in waiters {
        for delivery in waiter
            .await
            .map_or(Vec::new(), |taken| taken.expect("dequeue"))
        {
            sent.remove(&delivery.message.spec.id);
        }
    }
    if !Arc::ptr_eq(&connection.tasks, &waiting.tasks) {
        waiting.control.close().await;
    }
    submitting.await.expect("no panic");
    sent
}

/// Dequeues that are dropped while messages come hold none of them back, however long the lease.
pub async fn dropped_dequeues(fixture: &impl Fixture) {
    const ROUNDS: u64 = 20;
    let connection = with_lanes(fixture).await;
    for round in 0..ROUNDS {
        let patience = Duration::from_micros(round * 100);
        let left = drop_some(&connection, &connection, 10, patience).await;
        all_come(&connection, left).await;
    }
    nothing(&connection).await;
}

/// What is on its way to dropped dequeues when their connection is closed is given back before it is.
pub async fn closing_gives_back(fixture: &impl Fixture) {
    const ROUNDS: u64 = 10;
    if !fixture.outlives_connections() {
        return;
    }
    let connection = with_lanes(fixture).await;
    for round in 0..ROUNDS {
        let leaving = fixture.connect().await;
        let began = Instant::now();
        let left = drop_some(&connection, &leaving, 20, Duration::from_micros(round * 50)).await;
        assert!(
            began.elapsed() < Duration::from_millis(2_500),
            "close took {:?}",
            began.elapsed()
        );
        all_come(&connection, left).await;
    }
}

/// A dequeue that does not wait takes what is there and is back at once.
pub async fn quick_dequeue(fixture: &impl Fixture) {
    const TIMES: u32 = 200;
    let connection = with_lanes(fixture).await;
    let quick = async |max| {
        connection
            .tasks
            .dequeue(LANE, max, Duration::ZERO)
            .await
            .expect("dequeue")
    };
    let began = Instant::now();
    for n in 0..TIMES {
        assert!(quick(1 + n as usize % 2).await.is_empty());
    }
    let each = began.elapsed() / TIMES;
    println!("a dequeue that finds nothing: {each:?}");
    assert!(each < Duration::from_millis(10), "{each:?}");
    submit_all(
        &connection,
        (0..5).map(|n| message(n.to_string())).collect(),
    )
    .await;
    assert_eq!(quick(1).await.len(), 1);
    assert_eq!(quick(3).await.len(), 3);
    assert_eq!(quick(3).await.len(), 1);
    assert!(quick(3).await.is_empty());
}
