//! Clauses on pauses: a paused channel keeps its messages.

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::lanes::with_lanes;
use super::*;

async fn set_paused(connection: &Connection, paused: bool) {
    connection
        .tasks
        .set_paused(LANE, paused)
        .await
        .expect("pause or resume");
}

async fn counted(connection: &Connection) -> (u64, u64) {
    let depth = connection.tasks.depth(LANE).await.expect("depth");
    (depth.waiting, depth.leased)
}

/// While it is paused a channel takes messages and gives none, whatever else is done to it; what is out may be
/// answered.
pub async fn pause_keeps(fixture: &impl Fixture) {
    let connection = with_lanes(fixture).await;
    submit_all(&connection, vec![message("held"), message("before")]).await;
    let held = next(&connection).await;
    set_paused(&connection, true).await;
    nothing(&connection).await;
    submit(&connection, message("meanwhile")).await;
    assert_eq!(
        counted(&connection).await,
        (2, 1),
        "the depth is what it was"
    );
    // An engine that starts says what it wants of the channel.
    connection
        .tasks
        .prepare(LANE, Some(Duration::from_secs(40)))
        .await
        .expect("prepare");
    connection.tasks.prepare(LANE, None).await.expect("prepare");
    for max in [1, 10] {
        let quick = connection
            .tasks
            .dequeue(LANE, max, Duration::ZERO)
            .await
            .expect("dequeue");
        assert!(quick.is_empty(), "{} came", quick.len());
    }
    nothing(&connection).await;
    assert!(held.lease.extend().await.expect("extend"));
    held.lease.nack(Duration::ZERO).await.expect("nack");
    nothing(&connection).await;
    set_paused(&connection, false).await;
    let mut came = Vec::new();
    for _ in 0..3 {
        let delivery = next(&connection).await;
        delivery.lease.ack().await.expect("ack");
        came.push(delivery.message.spec.payload.bytes.clone());
    }
    came.sort();
    assert_eq!(came, ["before", "held", "meanwhile"]);
    nothing(&connection).await;
}

/// To pause what is paused changes nothing, and one resume ends it; other lanes are not concerned.
pub async fn pause_again(fixture: &impl Fixture) {
    const OTHER: &str = "suite.3";
    let connection = with_lanes(fixture).await;
    set_paused(&connection, false).await;
    set_paused(&connection, true).await;
    set_paused(&connection, true).await;
    let mut urgent = message("urgent");
    Arc::make_mut(&mut urgent.spec).priority = 3.try_into().expect("a priority");
    submit_all(&connection, vec![message("kept"), urgent]).await;
    nothing(&connection).await;
    let urgent = connection
        .tasks
        .dequeue(OTHER, 10, PATIENCE)
        .await
        .expect("dequeue");
    assert_eq!(urgent.len(), 1);
    set_paused(&connection, false).await;
    set_paused(&connection, false).await;
    assert_eq!(next(&connection).await.message.spec.payload.bytes, "kept");
}

/// Who waits already gets nothing that comes while the channel is paused, and all of it when it goes on.
pub async fn resume_wakes(fixture: &impl Fixture) {
    const WAITERS: usize = 3;
    let connection = with_lanes(fixture).await;
    let mut waiters: FuturesUnordered<_> = (1..=WAITERS)
        .map(|max| {
            let tasks = connection.tasks.clone();
            tokio::spawn(async move { tasks.dequeue(LANE, max, PATIENCE).await })
        })
        .collect();
    sleep(QUIET).await;
    set_paused(&connection, true).await;
    submit_all(
        &connection,
        (0..WAITERS).map(|n| message(n.to_string())).collect(),
    )
    .await;
    sleep(QUIET).await;
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    assert_eq!(counted(&connection).await, (WAITERS as u64, 0));
    let began = Instant::now();
    set_paused(&connection, false).await;
    let mut came = 0;
    // Some of them may take more than one.
    while came < WAITERS
        && let Some(taken) = waiters.next().await
    {
        came += taken.expect("no panic").expect("dequeue").len();
    }
    assert_eq!(came, WAITERS);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "after {:?}",
        began.elapsed()
    );
}
