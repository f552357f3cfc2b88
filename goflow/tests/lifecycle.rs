//! The whole life of a task, in local mode.

#![expect(clippy::unwrap_used, reason = "in a test it says enough")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use goflow::record::{Filter, PageRequest};
use goflow::signal::Command;
use goflow::{
    Backoff, Ctx, Deadline, Error, GoFlow, HandlerError, Priority, QueueName, State, Task, TaskId,
    Unique,
};
use serde_json::json;

const PATIENCE: Duration = Duration::from_secs(20);

/// What a handler has seen, in order.
type Log = Arc<Mutex<Vec<String>>>;

async fn started(workers: usize) -> GoFlow {
    let flow = GoFlow::local().num_workers(workers).build().unwrap();
    flow.start().await.unwrap();
    flow
}

fn task(task_type: &str) -> Task {
    Task::json(task_type, &())
        .unwrap()
        .backoff(Backoff::Fixed(Duration::from_millis(10)))
}

async fn in_state(flow: &GoFlow, id: TaskId, state: State) {
    let seen = async {
        while flow.get(id).await.unwrap().state != state {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, seen).await.unwrap();
}

fn logger(
    log: &Log,
) -> impl Fn(String) -> std::future::Ready<Result<(), HandlerError>> + Send + Sync + 'static {
    let log = log.clone();
    move |line| {
        log.lock().unwrap().push(line);
        std::future::ready(Ok(()))
    }
}

#[tokio::test]
async fn a_handler_says_what_comes_next() {
    let flow = started(1).await;
    let snoozed = Arc::new(Mutex::new(0));
    let count = snoozed.clone();
    flow.register_handler("snooze", move |ctx: Ctx, (): ()| {
        let count = count.clone();
        async move {
            *count.lock().unwrap() += 1;
            assert_eq!(ctx.attempt(), 1);
            if *count.lock().unwrap() < 3 {
                Err(HandlerError::snooze(Duration::from_millis(50)))
            } else {
                Ok("awake")
            }
        }
    })
    .unwrap();
    let before = Instant::now();
    let id = flow.push(task("snooze").max_attempts(1)).await.unwrap();
    assert_eq!(
        flow.wait(id, PATIENCE)
            .await
            .unwrap()
            .json::<String>()
            .unwrap(),
        "awake"
    );
    assert!(before.elapsed() >= Duration::from_millis(100));
    assert_eq!(flow.get(id).await.unwrap().attempts, []);

    flow.register_handler("later", async |ctx: Ctx, (): ()| {
        if ctx.attempt() == 1 {
            return Err(HandlerError::retry_after(
                Duration::from_millis(300),
                "not yet",
            ));
        }
        Ok(())
    })
    .unwrap();
    let before = Instant::now();
    let id = flow.push(task("later")).await.unwrap();
    assert_eq!(
        flow.wait(id, PATIENCE).await.unwrap().state,
        State::Succeeded
    );
    assert!(before.elapsed() >= Duration::from_millis(300));
    flow.close().await.unwrap();
}

#[tokio::test]
async fn urgent_tasks_go_first() {
    let flow = started(1).await;
    let default = QueueName::default();
    flow.pause_queue(&default).await.unwrap();
    let log = Log::default();
    flow.register_handler("log", logger(&log)).unwrap();
    let mut ids = Vec::new();
    for priority in [0, 1, 3, 2, 3] {
        let task = Task::json("log", &priority.to_string())
            .unwrap()
            .priority(Priority::try_from(priority).unwrap());
        ids.push(flow.push(task).await.unwrap());
    }
    let queues = flow.queues().await.unwrap();
    assert!(
        queues
            .iter()
            .any(|queue| queue.counts.queue == default && queue.counts.paused)
    );
    assert!(matches!(
        flow.wait(ids[0], Duration::from_millis(200)).await,
        Err(Error::WaitTimeout(_))
    ));
    flow.resume_queue(&default).await.unwrap();
    for id in ids {
        flow.wait(id, PATIENCE).await.unwrap();
    }
    // The lanes are taken from one after the other, and each request takes what one slot can use.
    let log = log.lock().unwrap().clone();
    assert_eq!(log.iter().filter(|line| *line == "3").count(), 2);
    let place = |wanted: &str| log.iter().position(|line| line == wanted).unwrap();
    assert!(
        place("3") < place("2") && place("2") < place("1") && place("1") < place("0"),
        "{log:?}"
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_deadline_ends_a_task_wherever_it_is() {
    let flow = started(1).await;
    flow.register_handler("wait", async |ctx: Ctx, (): ()| {
        ctx.cancelled().await;
        Ok::<_, HandlerError>(())
    })
    .unwrap();
    let soon = Deadline::After(Duration::from_millis(500));
    let running = flow.push(task("wait").deadline(soon)).await.unwrap();
    in_state(&flow, running, State::Running).await;
    let waiting = flow.push(task("nobody").deadline(soon)).await.unwrap();
    let scheduled = flow
        .push(task("wait").delay(PATIENCE).deadline(soon))
        .await
        .unwrap();
    for id in [running, waiting, scheduled] {
        let result = flow.wait(id, PATIENCE).await.unwrap();
        assert_eq!(
            (result.state, result.error.as_deref()),
            (State::Expired, Some("deadline passed"))
        );
    }
    flow.register_handler("nobody", async |(): ()| Ok::<_, HandlerError>(()))
        .unwrap();
    flow.retry(waiting).await.unwrap();
    assert_eq!(
        flow.wait(waiting, PATIENCE).await.unwrap().state,
        State::Succeeded
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_unique_key_keeps_a_second_task_out() {
    let flow = started(1).await;
    let unique = || task("nobody").unique(Unique::while_live("report"));
    let first = flow.push(unique()).await.unwrap();
    assert_eq!(flow.push(unique()).await.unwrap(), first);
    let rejecting = task("nobody").unique(Unique::while_live("report").or_reject());
    assert!(matches!(flow.push(rejecting).await, Err(Error::Duplicate(id)) if id == first));
    flow.cancel(first).await.unwrap();
    let second = flow.push(unique()).await.unwrap();
    assert_ne!(second, first);
    flow.cancel(second).await.unwrap();

    let daily = || task("nobody").unique(Unique::within("daily", PATIENCE));
    let first = flow.push(daily()).await.unwrap();
    flow.cancel(first).await.unwrap();
    assert_eq!(
        flow.push(daily()).await.unwrap(),
        first,
        "the period is not over"
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn progress_is_seen_and_a_checkpoint_handed_on() {
    let flow = started(1).await;
    flow.register_handler("steps", async |ctx: Ctx, (): ()| {
        match ctx.last_checkpoint() {
            None => {
                ctx.progress(&json!({"done": 3, "of": 10})).unwrap();
                ctx.checkpoint("three").unwrap();
                ctx.checkpoint("four").unwrap();
                tokio::time::sleep(Duration::from_millis(500)).await;
                Err("lost power".to_owned())
            }
            Some(checkpoint) => Ok(String::from_utf8_lossy(checkpoint).into_owned()),
        }
    })
    .unwrap();
    let id = flow.push(task("steps")).await.unwrap();
    let seen = async {
        loop {
            if let Some(progress) = flow.get(id).await.unwrap().progress {
                return progress;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(
        tokio::time::timeout(PATIENCE, seen).await.unwrap(),
        r#"{"done":3,"of":10}"#
    );
    let result = flow.wait(id, PATIENCE).await.unwrap();
    assert_eq!(result.json::<String>().unwrap(), "four");
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_silent_handler_is_taken_for_hung() {
    let flow = started(2).await;
    flow.register_handler("hang", async |ctx: Ctx, (): ()| {
        ctx.cancelled().await;
        Ok::<_, HandlerError>(())
    })
    .unwrap();
    flow.register_handler("busy", async |ctx: Ctx, (): ()| {
        for _ in 0..20 {
            ctx.heartbeat();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok::<_, HandlerError>(())
    })
    .unwrap();
    let limit = Duration::from_millis(200);
    let hang = flow
        .push(task("hang").heartbeat_timeout(limit).max_attempts(1))
        .await
        .unwrap();
    let busy = flow
        .push(task("busy").heartbeat_timeout(limit).max_attempts(1))
        .await
        .unwrap();
    assert_eq!(
        flow.wait(hang, PATIENCE).await.unwrap().error.unwrap(),
        "hung: no heartbeat for 200ms"
    );
    assert_eq!(
        flow.wait(busy, PATIENCE).await.unwrap().state,
        State::Succeeded
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn many_tasks_are_changed_at_once_and_the_dead_are_grouped() {
    let flow = started(4).await;
    flow.register_handler("fail", async |n: u32| {
        Err::<(), _>(format!("no luck with {}", n % 2))
    })
    .unwrap();
    let failing = |n: u32| Task::json("fail", &n).unwrap().max_attempts(1);
    let ids = flow
        .push_many((0..30).map(failing).collect())
        .await
        .unwrap();
    for id in &ids {
        assert_eq!(flow.wait(*id, PATIENCE).await.unwrap().state, State::Failed);
    }
    let since = time::OffsetDateTime::now_utc() - Duration::from_secs(60);
    let groups: Vec<_> = flow
        .dead(since)
        .await
        .unwrap()
        .into_iter()
        .map(|g| (g.error, g.count))
        .collect();
    assert_eq!(groups.len(), 2, "{groups:?}");
    assert!(
        groups.contains(&("no luck with 0".to_owned(), 15)),
        "{groups:?}"
    );

    let filter = Filter {
        task_type: Some("fail".try_into().unwrap()),
        ..Filter::default()
    };
    let bulk = flow.retry_many(&filter, 10).await.unwrap();
    assert_eq!((bulk.changed, bulk.more), (10, true));
    let again = flow.run_again(ids[0]).await.unwrap();
    flow.wait(again, PATIENCE).await.unwrap();
    assert_eq!(flow.get(again).await.unwrap().spec.retry_of, Some(ids[0]));

    let waiting = flow
        .push_many((0..25).map(|_| task("nobody").delay(PATIENCE)).collect())
        .await
        .unwrap();
    let filter = Filter {
        task_type: Some("nobody".try_into().unwrap()),
        ..Filter::default()
    };
    let bulk = flow.cancel_many(&filter, 1_000).await.unwrap();
    assert_eq!((bulk.changed, bulk.more), (25, false));
    assert_eq!(flow.get(waiting[0]).await.unwrap().state, State::Cancelled);
    let filter = Filter {
        states: vec![State::Succeeded],
        ..Filter::default()
    };
    assert!(matches!(
        flow.cancel_many(&filter, 10).await,
        Err(Error::Invalid(_))
    ));
    assert!(
        flow.list(&Filter::default(), PageRequest::default())
            .await
            .unwrap()
            .tasks
            .len()
            >= 50
    );
    flow.close().await.unwrap();
}

#[tokio::test]
async fn a_quiet_worker_takes_nothing() {
    let flow = started(1).await;
    flow.register_handler("log", logger(&Log::default()))
        .unwrap();
    let worker = async {
        loop {
            if let Some(seen) = flow.workers().first() {
                return seen.status.id;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let worker = tokio::time::timeout(PATIENCE, worker).await.unwrap();
    flow.command(worker, Command::Quiet).await.unwrap();
    let quiet = async |wanted: bool| {
        while flow.workers()[0].status.quiet != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, quiet(true)).await.unwrap();
    let id = flow.push(Task::json("log", &"x").unwrap()).await.unwrap();
    assert!(matches!(
        flow.wait(id, Duration::from_millis(300)).await,
        Err(Error::WaitTimeout(_))
    ));
    flow.command(worker, Command::Resume).await.unwrap();
    flow.wait(id, PATIENCE).await.unwrap();
    let nobody = goflow::WorkerId(uuid::Uuid::nil());
    assert!(matches!(
        flow.command(nobody, Command::Stop).await,
        Err(Error::NoWorker(_))
    ));
    flow.close().await.unwrap();
}
