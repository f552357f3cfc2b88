//! Options and operations over gRPC.

use std::collections::HashMap;
use std::time::Duration;

use goflow_proto::client::{self, GoFlowClient};
use goflow_proto::v1::{
    CancelTasksRequest, CommandWorkerRequest, Filter, GetTaskRequest, ListDeadRequest,
    ListQueuesRequest, ListWorkersRequest, OnConflict, PauseQueueRequest, PurgeQueueRequest,
    PushTaskRequest, ResumeQueueRequest, RetryTasksRequest, RunAgainRequest, State, Task, Unique,
    WaitResultRequest, Worker, WorkerCommand, push_task_request::Deadline, task,
};
use goflow_proto::{CODE_METADATA, EXISTING_METADATA, Moment, Span};
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::support::Gateway;

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000001";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

async fn connect(gateway: &Gateway) -> GoFlowClient<Channel> {
    client::connect(gateway.url("")).await.unwrap()
}

fn code(status: &Status) -> (Code, &str) {
    let code = status.metadata().get(CODE_METADATA);
    (
        status.code(),
        code.map_or("", |code| code.to_str().unwrap()),
    )
}

fn push(task_type: &str) -> PushTaskRequest {
    PushTaskRequest {
        r#type: task_type.to_owned(),
        ..Default::default()
    }
}

fn seconds(seconds: i64) -> Span {
    Span { seconds, nanos: 0 }
}

async fn id_of(goflow: &mut GoFlowClient<Channel>, request: PushTaskRequest) -> String {
    goflow.push_task(request).await.unwrap().into_inner().id
}

async fn task(goflow: &mut GoFlowClient<Channel>, id: &str) -> Task {
    let request = GetTaskRequest { id: id.to_owned() };
    goflow.get_task(request).await.unwrap().into_inner()
}

async fn state_after(goflow: &mut GoFlowClient<Channel>, id: &str, timeout: Span) -> State {
    let request = WaitResultRequest {
        id: id.to_owned(),
        timeout: Some(timeout),
    };
    goflow.wait_result(request).await.unwrap().get_ref().state()
}

#[tokio::test]
async fn options_are_kept_and_shown() {
    let gateway = Gateway::idle().await;
    let mut goflow = connect(&gateway).await;
    let unique = |on_conflict: OnConflict| Unique {
        key: "k".to_owned(),
        period: Some(seconds(3600)),
        on_conflict: on_conflict.into(),
    };
    let request = PushTaskRequest {
        priority: Some(0),
        deadline: Some(Deadline::DeadlineAfter(seconds(7200))),
        unique: Some(unique(OnConflict::Unspecified)),
        retention: Some(seconds(86_400)),
        heartbeat_timeout: Some(seconds(60)),
        ..push("t")
    };
    let mut traced = Request::new(request.clone());
    traced
        .metadata_mut()
        .insert("traceparent", TRACE.parse().unwrap());
    let id = goflow.push_task(traced).await.unwrap().into_inner().id;
    let shown = task(&mut goflow, &id).await;
    assert_eq!(
        (shown.priority, shown.unique_key.as_deref()),
        (0, Some("k"))
    );
    assert_eq!(
        shown.deadline,
        Some(task::Deadline::DeadlineAfter(seconds(7200)))
    );
    assert_eq!(
        shown.headers,
        HashMap::from([("traceparent".to_owned(), TRACE.to_owned())])
    );
    assert_eq!((shown.retry_of, shown.progress), (None, None));
    assert_eq!(id_of(&mut goflow, request).await, id, "the key is taken");

    let reject = PushTaskRequest {
        unique: Some(unique(OnConflict::Reject)),
        ..push("t")
    };
    let status = goflow.push_task(reject).await.unwrap_err();
    assert_eq!(code(&status), (Code::AlreadyExists, "duplicate"));
    assert_eq!(
        status.metadata().get(EXISTING_METADATA).unwrap(),
        id.as_str()
    );

    let at = Moment {
        seconds: 4_070_908_800,
        nanos: 0,
    };
    let request = PushTaskRequest {
        deadline: Some(Deadline::DeadlineAt(at)),
        ..push("t")
    };
    let id = id_of(&mut goflow, request).await;
    let shown = task(&mut goflow, &id).await;
    assert_eq!(shown.priority, 1);
    assert_eq!(shown.deadline, Some(task::Deadline::DeadlineAt(at)));
    gateway.stop().await;
}

#[tokio::test]
async fn bad_options_are_refused() {
    let gateway = Gateway::idle().await;
    let mut goflow = connect(&gateway).await;
    let unique = |key: &str, period, on_conflict| {
        Some(Unique {
            key: key.to_owned(),
            period,
            on_conflict,
        })
    };
    for request in [
        PushTaskRequest {
            priority: Some(4),
            ..push("t")
        },
        PushTaskRequest {
            deadline: Some(Deadline::DeadlineAfter(seconds(0))),
            ..push("t")
        },
        PushTaskRequest {
            retention: Some(seconds(-1)),
            ..push("t")
        },
        PushTaskRequest {
            heartbeat_timeout: Some(seconds(0)),
            ..push("t")
        },
        PushTaskRequest {
            unique: unique("", None, 0),
            ..push("t")
        },
        PushTaskRequest {
            unique: unique("k", Some(seconds(0)), 0),
            ..push("t")
        },
        PushTaskRequest {
            unique: unique("k", None, 9),
            ..push("t")
        },
    ] {
        let shown = format!("{request:?}");
        let status = goflow.push_task(request).await.unwrap_err();
        assert_eq!(
            code(&status),
            (Code::InvalidArgument, "invalid"),
            "{shown}: {status}"
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn many_tasks_are_changed_and_run_again() {
    let gateway = Gateway::idle().await;
    let mut goflow = connect(&gateway).await;
    let id = id_of(&mut goflow, push("t")).await;
    id_of(&mut goflow, push("t")).await;
    let again = RunAgainRequest { id: id.clone() };
    let status = goflow.run_again(again.clone()).await.unwrap_err();
    assert_eq!(code(&status), (Code::FailedPrecondition, "wrong_state"));

    let filter = |states: &[State], task_type: &str| {
        Some(Filter {
            states: states.iter().map(|state| *state as i32).collect(),
            r#type: task_type.to_owned(),
            ..Default::default()
        })
    };
    let cancel = |filter, limit| CancelTasksRequest { filter, limit };
    let request = cancel(filter(&[], "t"), 1);
    let done = goflow.cancel_tasks(request).await.unwrap().into_inner();
    assert_eq!((done.changed, done.skipped, done.more), (1, 0, true));
    let request = cancel(filter(&[State::Queued], ""), 0);
    let done = goflow.cancel_tasks(request).await.unwrap().into_inner();
    assert_eq!((done.changed, done.skipped, done.more), (1, 0, false));
    for request in [
        cancel(None, 0),
        cancel(filter(&[], ""), 0),
        cancel(filter(&[], "a.b"), 0),
        cancel(filter(&[State::Succeeded], ""), 0),
        cancel(filter(&[], "t"), 10_001),
    ] {
        let status = goflow.cancel_tasks(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }

    let new = goflow.run_again(again).await.unwrap().into_inner().id;
    assert_eq!(task(&mut goflow, &new).await.retry_of, Some(id));
    let request = RetryTasksRequest {
        filter: filter(&[State::Cancelled], ""),
        limit: 10,
    };
    let done = goflow.retry_tasks(request).await.unwrap().into_inner();
    assert_eq!((done.changed, done.more), (2, false));
    let status = goflow
        .retry_tasks(RetryTasksRequest::default())
        .await
        .unwrap_err();
    assert_eq!(code(&status), (Code::InvalidArgument, "invalid"));
    for (id, expected) in [
        (UNKNOWN, (Code::NotFound, "not_found")),
        ("x", (Code::InvalidArgument, "invalid_id")),
    ] {
        let request = RunAgainRequest { id: id.to_owned() };
        let status = goflow.run_again(request).await.unwrap_err();
        assert_eq!(code(&status), expected);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn queues_are_paused_resumed_and_purged() {
    let gateway = Gateway::start().await;
    let mut goflow = connect(&gateway).await;
    let queue = "default".to_owned();
    let pause = PauseQueueRequest {
        queue: queue.clone(),
    };
    goflow.pause_queue(pause).await.unwrap();
    let id = id_of(&mut goflow, push("echo")).await;
    let half = Span {
        seconds: 0,
        nanos: 500_000_000,
    };
    assert_eq!(state_after(&mut goflow, &id, half).await, State::Queued);
    let queues = goflow.list_queues(ListQueuesRequest {}).await.unwrap();
    let [seen] = &queues.get_ref().queues[..] else {
        panic!("not one queue: {queues:?}")
    };
    assert_eq!(
        (seen.name.as_str(), seen.paused, seen.queued, seen.workers),
        ("default", true, 1, 1)
    );
    let purge = |confirm: &str| PurgeQueueRequest {
        queue: queue.clone(),
        confirm: confirm.to_owned(),
    };
    let status = goflow.purge_queue(purge("")).await.unwrap_err();
    assert_eq!(code(&status), (Code::InvalidArgument, "invalid"));
    let done = goflow.purge_queue(purge("default")).await.unwrap();
    assert_eq!((done.get_ref().changed, done.get_ref().more), (1, false));

    let resume = ResumeQueueRequest {
        queue: queue.clone(),
    };
    goflow.resume_queue(resume).await.unwrap();
    let id = id_of(&mut goflow, push("echo")).await;
    assert_eq!(
        state_after(&mut goflow, &id, seconds(20)).await,
        State::Succeeded
    );
    let bad = PauseQueueRequest {
        queue: "a.b".to_owned(),
    };
    let status = goflow.pause_queue(bad).await.unwrap_err();
    assert_eq!(code(&status), (Code::InvalidArgument, "invalid_name"));
    gateway.stop().await;
}

async fn worker(goflow: &mut GoFlowClient<Channel>, passes: impl Fn(&Worker) -> bool) -> Worker {
    let looking = async {
        loop {
            let workers = goflow.list_workers(ListWorkersRequest {}).await.unwrap();
            if let Some(worker) = workers.into_inner().workers.into_iter().find(&passes) {
                return worker;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(10), looking).await;
    found.expect("no worker like that")
}

#[tokio::test]
async fn workers_are_told_and_the_dead_are_listed() {
    let gateway = Gateway::start().await;
    let mut goflow = connect(&gateway).await;
    let seen = worker(&mut goflow, |worker| !worker.quiet).await;
    assert_eq!(seen.slots, 5);
    let tell = |worker: &str, command: i32| CommandWorkerRequest {
        worker: worker.to_owned(),
        command,
    };
    let quiet = tell(&seen.id, WorkerCommand::Quiet.into());
    goflow.command_worker(quiet).await.unwrap();
    worker(&mut goflow, |worker| worker.quiet).await;
    let resume = tell(&seen.id, WorkerCommand::Resume.into());
    goflow.command_worker(resume).await.unwrap();
    worker(&mut goflow, |worker| !worker.quiet).await;
    for (request, expected) in [
        (tell(&seen.id, 0), (Code::InvalidArgument, "invalid")),
        (tell(&seen.id, 9), (Code::InvalidArgument, "invalid")),
        (tell("x", 1), (Code::InvalidArgument, "invalid_id")),
        (tell(UNKNOWN, 1), (Code::NotFound, "no_worker")),
    ] {
        let status = goflow.command_worker(request).await.unwrap_err();
        assert_eq!(code(&status), expected, "{status}");
    }

    // Its payload, null, is none it can use.
    let id = id_of(&mut goflow, push("sleep")).await;
    assert_eq!(
        state_after(&mut goflow, &id, seconds(20)).await,
        State::Failed
    );
    let dead = goflow.list_dead(ListDeadRequest::default()).await.unwrap();
    let [group] = &dead.get_ref().groups[..] else {
        panic!("not one group: {dead:?}")
    };
    assert_eq!(
        (
            group.r#type.as_str(),
            group.state(),
            group.count,
            &group.newest
        ),
        ("sleep", State::Failed, 1, &id)
    );
    assert!(group.last_finished_at.is_some() && !group.error.is_empty());
    let bad = ListDeadRequest {
        since: Some(Moment {
            seconds: 0,
            nanos: -1,
        }),
    };
    let status = goflow.list_dead(bad).await.unwrap_err();
    assert_eq!(code(&status), (Code::InvalidArgument, "invalid"));
    gateway.stop().await;
}
