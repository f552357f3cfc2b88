//! Lanes on a real pool: who gets what while all of them are full.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use goflow::worker::LaneOrder;
use goflow::{HandlerError, Priority, Task};
use goflow_test_servers::eventually;

use crate::PATIENCE;
use crate::deployment::{Combination, Servers, holds};

on! { memory_memory: MemoryMemory, weighted_lanes_all_get_their_share strict_lanes_get_all_or_nothing }
on! { nats_memory: NatsMemory, weighted_lanes_all_get_their_share strict_lanes_get_all_or_nothing }

/// Which share of the first `count` tasks came from each lane, when each lane has as many: none runs empty.
async fn shares(on: Combination, order: LaneOrder, count: usize) -> BTreeMap<u8, f64> {
    let servers = Servers::start(on).await;
    let flow = servers.engine().await;
    for priority in 0..4 {
        let lane = Priority::try_from(priority).unwrap();
        let task = |n| Task::json("log", &(priority, n)).unwrap().priority(lane);
        flow.push_many((0..count).map(task).collect())
            .await
            .unwrap();
    }
    holds(&flow, "default", 4 * count).await;
    let log = Arc::new(Mutex::new(Vec::new()));
    let lanes = log.clone();
    let handler = move |(lane, n): (u8, u64)| {
        lanes.lock().unwrap().push(lane);
        async move {
            // So long that nothing is taken ahead, and spread, so that slots ask one by one.
            tokio::time::sleep(Duration::from_millis(51 + n % 40)).await;
            Ok::<_, HandlerError>(())
        }
    };
    let worker = servers
        .workers()
        .await
        .lane_order(order)
        .num_workers(16)
        .handler("log", handler)
        .build()
        .unwrap();
    worker.start().await.unwrap();
    eventually(PATIENCE, async || {
        let ran = log.lock().unwrap().len();
        (ran >= count).then_some(()).ok_or(format!("{ran} ran"))
    })
    .await
    .unwrap();
    let mut shares = BTreeMap::new();
    for lane in &log.lock().unwrap()[..count] {
        *shares.entry(*lane).or_default() += 1.0 / count as f64;
    }
    worker.close().await.unwrap();
    flow.close().await.unwrap();
    shares
}

async fn weighted_lanes_all_get_their_share(on: Combination) {
    let shares = shares(on, LaneOrder::Weighted, 1_000).await;
    // 8 : 4 : 2 : 1, give or take what some hundred requests may be off by.
    let expected = [
        (3, 0.40..0.66),
        (2, 0.15..0.39),
        (1, 0.06..0.24),
        (0, 0.02..0.14),
    ];
    for (lane, expected) in expected {
        let share = shares.get(&lane).copied().unwrap_or_default();
        assert!(expected.contains(&share), "lane {lane} of {shares:?}");
    }
}

async fn strict_lanes_get_all_or_nothing(on: Combination) {
    let shares = shares(on, LaneOrder::Strict, 200).await;
    assert_eq!(shares.keys().copied().collect::<Vec<_>>(), [3]);
}
