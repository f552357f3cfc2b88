//! What people do to tasks, queues and workers.

use std::time::Duration;

use goflow::record::{Filter, PageRequest};
use goflow::signal::Command;
use goflow::{Error, HandlerError, QueueName, State, Task, Unique, WorkerId};
use goflow_test_servers::eventually;
use time::OffsetDateTime;
use uuid::Uuid;

use super::task;
use crate::PATIENCE;
use crate::deployment::{Combination, Deployment};

fn of_type(task_type: &str) -> Filter {
    Filter {
        task_type: Some(task_type.try_into().unwrap()),
        ..Filter::default()
    }
}

pub(super) async fn many_tasks_are_changed_at_once_and_the_dead_are_grouped(on: Combination) {
    let flow = Deployment::start(on, 4).await;
    flow.register_handler("fail", async |n: u32| {
        Err::<(), _>(format!("no luck with {}", n % 2))
    });
    let failing = |n: u32| Task::json("fail", &n).unwrap().max_attempts(1);
    let tasks = (0..30).map(failing).collect();
    let ids = flow.push_many(tasks).await.unwrap();
    for id in &ids {
        assert_eq!(flow.wait(*id, PATIENCE).await.unwrap().state, State::Failed);
    }
    let since = OffsetDateTime::now_utc() - Duration::from_secs(60);
    let dead = flow.dead(since).await.unwrap();
    let mut groups: Vec<_> = dead.into_iter().map(|g| (g.error, g.count)).collect();
    groups.sort();
    let group = |n: u32| (format!("no luck with {n}"), 15);
    assert_eq!(groups, [group(0), group(1)]);

    let bulk = flow.retry_many(&of_type("fail"), 10).await.unwrap();
    assert_eq!((bulk.changed, bulk.more), (10, true));
    let again = flow.run_again(ids[0]).await.unwrap();
    flow.wait(again, PATIENCE).await.unwrap();
    assert_eq!(flow.get(again).await.unwrap().spec.retry_of, Some(ids[0]));

    let waiting = (0..25).map(|_| task("nobody").delay(PATIENCE)).collect();
    let waiting = flow.push_many(waiting).await.unwrap();
    let bulk = flow.cancel_many(&of_type("nobody"), 1_000).await.unwrap();
    assert_eq!((bulk.changed, bulk.more), (25, false));
    assert_eq!(flow.get(waiting[0]).await.unwrap().state, State::Cancelled);
    let finished = Filter {
        states: vec![State::Succeeded],
        ..Filter::default()
    };
    let refused = flow.cancel_many(&finished, 10).await;
    assert!(matches!(refused, Err(Error::Invalid(_))), "{refused:?}");
    let page = PageRequest::default();
    let page = flow.list(&Filter::default(), page).await.unwrap();
    assert!(page.tasks.len() >= 50);
    flow.close().await;
}

pub(super) async fn a_bulk_retry_passes_over_what_has_lost_its_key(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    flow.register_handler("fail", async |(): ()| Err::<(), _>("no luck"));
    for _ in 0..2 {
        let unique = task("fail").unique(Unique::while_live("report"));
        let id = flow.push(unique.max_attempts(1)).await.unwrap();
        assert_eq!(flow.wait(id, PATIENCE).await.unwrap().state, State::Failed);
    }
    // What is reopened is to stay so.
    flow.pause_queue(&QueueName::default()).await.unwrap();
    let bulk = flow.retry_many(&of_type("fail"), 10).await.unwrap();
    assert_eq!((bulk.changed, bulk.skipped, bulk.more), (1, 1, false));
    let bulk = flow.cancel_many(&of_type("fail"), 10).await.unwrap();
    assert_eq!((bulk.changed, bulk.skipped), (1, 0));
    flow.close().await;
}

pub(super) async fn a_queue_is_purged_to_its_end_or_for_a_while(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    let (full, other) = (QueueName::new("full").unwrap(), QueueName::default());
    let waiting = |queue: &QueueName| {
        let task = task("nobody").queue(queue.as_str()).unwrap();
        task.delay(Duration::from_secs(60))
    };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let tasks = (0..550).map(|_| waiting(&full)).collect();
        ids.extend(flow.push_many(tasks).await.unwrap());
    }
    let kept = flow.push(waiting(&other)).await.unwrap();
    // One round is made however little time there is.
    let purged = flow.purge_queue(&full, Duration::ZERO).await.unwrap();
    let round = (purged.changed, purged.skipped, purged.more);
    assert_eq!(round, (1_000, 0, true));
    let purged = flow.purge_queue(&full, PATIENCE).await.unwrap();
    assert_eq!((purged.changed, purged.more), (100, false));
    for id in [ids[0], ids[1_099]] {
        assert_eq!(flow.get(id).await.unwrap().state, State::Cancelled);
    }
    assert_eq!(flow.get(kept).await.unwrap().state, State::Scheduled);
    let purged = flow.purge_queue(&full, PATIENCE).await.unwrap();
    assert_eq!((purged.changed, purged.more), (0, false));
    flow.cancel(kept).await.unwrap();
    flow.close().await;
}

pub(super) async fn a_quiet_worker_takes_nothing(on: Combination) {
    let flow = Deployment::start(on, 1).await;
    flow.register_handler("nothing", async |(): ()| Ok::<_, HandlerError>(()));
    let worker = eventually(PATIENCE, async || {
        flow.workers().first().map(|seen| seen.status.id)
    });
    let worker = worker.await.unwrap();
    flow.command(worker, Command::Quiet).await.unwrap();
    let quiet = eventually(PATIENCE, async || flow.workers()[0].status.quiet);
    quiet.await.unwrap();
    let id = flow.push(task("nothing")).await.unwrap();
    let waited = flow.wait(id, Duration::from_millis(300)).await;
    assert!(matches!(waited, Err(Error::WaitTimeout(_))), "{waited:?}");
    flow.command(worker, Command::Resume).await.unwrap();
    flow.wait(id, PATIENCE).await.unwrap();
    let nobody = WorkerId(Uuid::nil());
    let refused = flow.command(nobody, Command::Stop).await;
    assert!(matches!(refused, Err(Error::NoWorker(_))), "{refused:?}");
    flow.close().await;
}
