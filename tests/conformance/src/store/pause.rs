//! Paused queues.

use goflow_core::QueueName;

use super::{Fixture, accept, claim, roomy, spec};

/// Pauses are kept, are listed with empty queues too, and change nothing about what is claimed.
pub async fn paused_queues(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let (a, empty): (QueueName, QueueName) =
        (QueueName::default(), "empty".parse().expect("a good name"));
    assert_eq!(store.paused().await.expect("paused"), []);
    for _ in 0..2 {
        store.set_paused(&empty, true).await.expect("pause");
    }
    accept(&*store, spec()).await;
    let counts = store.queue_counts().await.expect("counts");
    let seen: Vec<_> = counts
        .iter()
        .map(|one| (&one.queue, one.queued, one.paused))
        .collect();
    assert_eq!(seen, [(&a, 1, false), (&empty, 0, true)]);
    assert_eq!(counts[1].oldest, None);
    store.set_paused(&a, true).await.expect("pause");
    assert_eq!(
        store.paused().await.expect("paused"),
        [a.clone(), empty.clone()]
    );
    let counts = store.queue_counts().await.expect("counts");
    assert!(counts.iter().all(|one| one.paused), "{counts:?}");
    // Delivering is the broker's: it holds back what it is given.
    let id = accept(&*store, spec()).await;
    super::apply_one(
        &*store,
        super::outcome(id, 1, 1, goflow_core::outcome::Verdict::Released),
    )
    .await;
    assert_eq!(claim(&*store, 10).await.len(), 1);
    for _ in 0..2 {
        store.set_paused(&empty, false).await.expect("resume");
    }
    assert_eq!(store.paused().await.expect("paused"), [a]);
    assert_eq!(store.queue_counts().await.expect("counts").len(), 1);
}
