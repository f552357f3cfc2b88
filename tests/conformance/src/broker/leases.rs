//! Clauses on leases: a message has one holder at a time, and is delivered until it is acknowledged.

use super::*;

/// An acknowledged message is not delivered again.
pub async fn acknowledged_is_gone(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    submit(&connection, message("once")).await;
    next(&connection).await.lease.ack().await.expect("ack");
    sleep(MIN_LEASE).await;
    nothing(&connection).await;
    let depth = connection.tasks.depth(LANE).await.expect("depth");
    assert!(depth.is_empty(), "{depth:?}");
    assert_eq!(depth.settled, depth.submitted);
}

/// A message whose lease has expired comes back, with a higher count, and not before.
pub async fn expired_lease(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    submit(&connection, message("again")).await;
    let first = next(&connection).await;
    assert_eq!(first.count, 1);
    let mut last = first.lease.clone();
    for count in 2..=3 {
        let began = Instant::now();
        let again = next(&connection).await;
        assert!(
            began.elapsed() > MIN_LEASE / 2,
            "it came back after {:?}",
            began.elapsed()
        );
        assert_eq!((&again.message, again.count), (&first.message, count));
        last = again.lease;
    }
    last.ack().await.expect("ack");
    nothing(&connection).await;
}

/// What was put back for later comes back then, not sooner.
pub async fn nack_delay(fixture: &impl Fixture) {
    const DELAY: Duration = Duration::from_millis(600);
    let connection = prepared(fixture).await;
    connection
        .tasks
        .prepare(LANE, Some(Duration::from_secs(30)))
        .await
        .expect("prepare");
    submit(&connection, message("later")).await;
    let delivery = next(&connection).await;
    let began = Instant::now();
    delivery.lease.nack(DELAY).await.expect("nack");
    let again = next(&connection).await;
    let took = began.elapsed();
    assert_eq!((again.message, again.count), (delivery.message, 2));
    assert!(
        took >= DELAY - Duration::from_millis(50) && took < DELAY + Duration::from_secs(5),
        "after {took:?}"
    );
    again.lease.ack().await.expect("ack");
}

/// What was put back comes back at once, also to one who waits already.
pub async fn nack_at_once(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    connection
        .tasks
        .prepare(LANE, Some(Duration::from_secs(30)))
        .await
        .expect("prepare");
    submit(&connection, message("back")).await;
    let delivery = next(&connection).await;
    let tasks = connection.tasks.clone();
    let waiting = tokio::spawn(async move { tasks.dequeue(LANE, 1, PATIENCE).await });
    sleep(QUIET).await;
    let began = Instant::now();
    delivery.lease.nack(Duration::ZERO).await.expect("nack");
    let again = waiting.await.expect("no panic").expect("dequeue");
    assert_eq!(again.len(), 1, "it came back in time");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "it came back after {:?}",
        began.elapsed()
    );
    again[0].lease.ack().await.expect("ack");
}

/// A lease that is extended does not expire; once it is not any more, it does.
pub async fn extension(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    submit(&connection, message("mine")).await;
    let delivery = next(&connection).await;
    let began = Instant::now();
    while began.elapsed() < 3 * MIN_LEASE {
        assert!(delivery.lease.extend().await.expect("extend"));
        let others = connection
            .tasks
            .dequeue(LANE, 1, MIN_LEASE / 3)
            .await
            .expect("dequeue");
        assert!(
            others.is_empty(),
            "delivered to another while the lease was extended"
        );
    }
    let again = next(&connection).await;
    assert_eq!((again.message, again.count), (delivery.message, 2));
    again.lease.ack().await.expect("ack");
}

/// Nothing said of a delivery after its lease has expired, or after its ack, does any harm.
pub async fn late_answers(fixture: &impl Fixture) {
    let connection = prepared(fixture).await;
    let sent = message("twice");
    submit(&connection, sent.clone()).await;
    let first = next(&connection).await;
    let second = next(&connection).await;
    assert_eq!(second.count, 2);
    // From now on it is someone else's, for long.
    connection
        .tasks
        .prepare(LANE, Some(Duration::from_secs(30)))
        .await
        .expect("prepare");
    assert!(second.lease.extend().await.expect("extend"));
    first.lease.nack(Duration::ZERO).await.expect("a late nack");
    assert!(!first.lease.extend().await.expect("a late extension"));
    nothing(&connection).await;
    first.lease.ack().await.expect("a late ack");
    nothing(&connection).await;
    second.lease.ack().await.expect("ack");
    for lease in [&first.lease, &second.lease] {
        lease.ack().await.expect("an ack after the ack");
        lease
            .nack(Duration::ZERO)
            .await
            .expect("a nack after the ack");
        assert!(!lease.extend().await.expect("an extension after the ack"));
    }
    nothing(&connection).await;
    submit(
        &connection,
        TaskMessage {
            dispatch: 2,
            ..sent
        },
    )
    .await;
    next(&connection).await.lease.ack().await.expect("ack");
}

/// The lease is a property of the channel: who sets none changes nothing, the last one that is set counts.
pub async fn lease_of_a_channel(fixture: &impl Fixture) {
    let connection = fixture.connect().await;
    connection.control.identify().await.expect("identify");
    let lease = async || connection.tasks.lease(LANE).await.expect("lease");
    connection.tasks.prepare(LANE, None).await.expect("prepare");
    assert_eq!(lease().await, goflow_core::broker::DEFAULT_LEASE);
    for wanted in [MIN_LEASE, Duration::from_secs(45)] {
        connection
            .tasks
            .prepare(LANE, Some(wanted))
            .await
            .expect("prepare");
        assert_eq!(lease().await, wanted);
        connection.tasks.prepare(LANE, None).await.expect("prepare");
        assert_eq!(lease().await, wanted);
    }
}
