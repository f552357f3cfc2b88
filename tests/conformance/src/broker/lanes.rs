//! Clauses on lanes: the priorities of a queue are channels of their own.

use goflow_core::Priority;

use super::*;

/// A connection with all lanes of [`QUEUE`] prepared, with leases longer than any clause.
pub(super) async fn with_lanes(fixture: &impl Fixture) -> Connection {
    let connection = fixture.connect().await;
    connection.control.identify().await.expect("identify");
    let lease = Some(Duration::from_secs(30));
    for lane in names() {
        connection
            .tasks
            .prepare(&lane, lease)
            .await
            .expect("prepare a lane");
    }
    connection
}

/// The most urgent first.
fn names() -> [String; 4] {
    let queue = QUEUE.parse().expect("a good name");
    Priority::ALL.map(|priority| priority.lane(&queue))
}

fn message_at(priority: Priority) -> TaskMessage {
    let mut message = message("urgent or not");
    Arc::make_mut(&mut message.spec).priority = priority;
    message
}

/// Each lane gets its own tasks and no others, and is counted apart.
pub async fn lanes_are_apart(fixture: &impl Fixture) {
    let connection = with_lanes(fixture).await;
    let sent = Priority::ALL.map(message_at);
    submit_all(&connection, sent.to_vec()).await;
    for (lane, sent) in names().iter().zip(sent) {
        assert_eq!(sent.channel(), *lane);
        let depth = connection.tasks.depth(lane).await.expect("depth");
        assert_eq!((depth.waiting, depth.leased), (1, 0), "{lane}");
        let deliveries = connection
            .tasks
            .dequeue(lane, 10, PATIENCE)
            .await
            .expect("dequeue");
        assert_eq!(deliveries.len(), 1, "{lane}");
        assert_eq!(*deliveries[0].message, sent);
        let depth = connection.tasks.depth(lane).await.expect("depth");
        assert_eq!((depth.waiting, depth.leased), (0, 1), "{lane}");
        deliveries[0].lease.ack().await.expect("ack");
    }
}

/// Who waits for all lanes at once and drops the others when one has something gets every task, soon after it was
/// submitted, however often that is done.
pub async fn lanes_raced(fixture: &impl Fixture) {
    const TASKS: usize = 400;
    let connection = with_lanes(fixture).await;
    let names = names();
    let take = async || {
        let waits = names
            .iter()
            .map(|lane| Box::pin(connection.tasks.dequeue(lane, 4, PATIENCE)));
        let (first, _, losers) = futures_util::future::select_all(waits).await;
        drop(losers);
        first.expect("dequeue")
    };
    let mut times = Vec::new();
    let (mut sent, mut received) = (HashSet::new(), HashSet::new());
    for n in 0..TASKS {
        let message = message_at(Priority::ALL[n % 4]);
        sent.insert(message.spec.id);
        let began = Instant::now();
        let ((), deliveries) = timeout(PATIENCE, async {
            futures_util::future::join(submit(&connection, message), take()).await
        })
        .await
        .expect("a delivery in time");
        times.push(began.elapsed());
        for delivery in deliveries {
            delivery.lease.ack().await.expect("ack");
            assert!(received.insert(delivery.message.spec.id), "delivered once");
        }
    }
    assert_eq!(received, sent);
    times.sort();
    let (median, longest) = (times[TASKS / 2], times[TASKS - 1]);
    println!("a task taken from four lanes: median {median:?}, longest {longest:?}");
    assert!(
        median < Duration::from_millis(50) && longest < Duration::from_secs(2),
        "{median:?}, {longest:?}"
    );
}

/// A queue is no channel, and neither is a priority that does not exist.
pub async fn no_lane(fixture: &impl Fixture) {
    let connection = fixture.connect().await;
    for name in [
        "suite",
        "suite.",
        "suite.4",
        "suite.01",
        ".1",
        "a b.1",
        "suite.1.1",
    ] {
        let prepared = connection.tasks.prepare(name, None).await;
        assert!(
            matches!(prepared, Err(Error::Refused { .. })),
            "{name:?}: {prepared:?}"
        );
        let taken = connection.tasks.dequeue(name, 1, Duration::ZERO).await;
        assert!(
            matches!(taken, Err(Error::Refused { .. })),
            "{name:?}: {taken:?}"
        );
        let paused = connection.tasks.set_paused(name, true).await;
        assert!(
            matches!(paused, Err(Error::Refused { .. })),
            "{name:?}: {paused:?}"
        );
    }
}
