//! The gRPC surface, by the generated client.

use std::collections::HashMap;
use std::time::Duration;

use goflow_proto::client::{self, GoFlowClient};
use goflow_proto::v1::{
    CancelTaskRequest, Content, Filter, GetResultRequest, GetTaskRequest, ListTasksRequest,
    PushTaskRequest, PushTasksRequest, RetryTaskRequest, State, WaitResultRequest,
    WatchTasksRequest, push_task_request::Start,
};
use goflow_proto::{CODE_METADATA, Span};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::support::Gateway;

async fn connect(gateway: &Gateway) -> GoFlowClient<Channel> {
    client::connect(gateway.url("")).await.unwrap()
}

fn push(task_type: &str, payload: &'static str) -> PushTaskRequest {
    let payload = Content {
        data: payload.into(),
        content_type: "application/json".to_owned(),
    };
    PushTaskRequest {
        r#type: task_type.to_owned(),
        payload: Some(payload),
        ..Default::default()
    }
}

fn code(status: &Status) -> (Code, &str) {
    (
        status.code(),
        status
            .metadata()
            .get(CODE_METADATA)
            .map_or("", |code| code.to_str().unwrap()),
    )
}

const UNKNOWN: &str = "01890000-0000-7000-8000-000000000001";

#[tokio::test]
async fn a_task_from_push_to_result() {
    let gateway = Gateway::start().await;
    let mut goflow = connect(&gateway).await;
    let request = PushTaskRequest {
        tags: HashMap::from([("a".to_owned(), "b".to_owned())]),
        ..push("echo", "{ \"N\":10 }")
    };
    let id = goflow.push_task(request).await.unwrap().into_inner().id;
    let wait = WaitResultRequest {
        id: id.clone(),
        timeout: Some(Span {
            seconds: 20,
            nanos: 0,
        }),
    };
    let result = goflow.wait_result(wait).await.unwrap().into_inner();
    assert_eq!(
        (result.state(), result.result.unwrap().data.as_ref()),
        (State::Succeeded, &b"{ \"N\":10 }"[..])
    );
    let result = goflow
        .get_result(GetResultRequest { id: id.clone() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(result.state(), State::Succeeded);

    let task = goflow
        .get_task(GetTaskRequest { id: id.clone() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (task.state(), task.r#type.as_str(), task.attempt),
        (State::Succeeded, "echo", 1)
    );
    assert_eq!(task.payload.unwrap().data.as_ref(), b"{ \"N\":10 }");
    assert_eq!(task.tags["a"], "b");
    assert!(task.created_at.is_some() && task.finished_at.is_some());

    let filter = Filter {
        states: vec![State::Succeeded as i32],
        ..Default::default()
    };
    let list = ListTasksRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let page = goflow.list_tasks(list).await.unwrap().into_inner();
    assert_eq!(
        page.tasks.iter().map(|task| &task.id).collect::<Vec<_>>(),
        [&id]
    );
    // HTTP sees the same task.
    assert_eq!(
        gateway.get(&format!("/v1/tasks/{id}")).await.1["state"],
        "succeeded"
    );
    gateway.stop().await;
}

#[tokio::test]
async fn cancel_and_retry() {
    let gateway = Gateway::idle().await;
    let mut goflow = connect(&gateway).await;
    let later = PushTaskRequest {
        start: Some(Start::Delay(Span {
            seconds: 3600,
            nanos: 0,
        })),
        ..push("echo", "1")
    };
    let id = goflow.push_task(later).await.unwrap().into_inner().id;
    let task = goflow
        .cancel_task(CancelTaskRequest { id: id.clone() })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(task.state(), State::Cancelled);
    let status = goflow
        .cancel_task(CancelTaskRequest { id: id.clone() })
        .await
        .unwrap_err();
    assert_eq!(code(&status), (Code::FailedPrecondition, "wrong_state"));
    let task = goflow
        .retry_task(RetryTaskRequest { id })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(task.attempt, 2);
    gateway.stop().await;
}

#[tokio::test]
async fn batches_and_watches() {
    let gateway = Gateway::start().await;
    let mut goflow = connect(&gateway).await;
    let mut all = goflow
        .watch_tasks(WatchTasksRequest {
            r#type: "echo".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let tasks = vec![push("echo", "1"), push("echo", "2")];
    let mut ids = goflow
        .push_tasks(PushTasksRequest { tasks })
        .await
        .unwrap()
        .into_inner()
        .ids;
    let mut these = goflow
        .watch_tasks(WatchTasksRequest {
            ids: ids.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    let mut seen = Vec::new();
    while let Some(task) = tokio::time::timeout(Duration::from_secs(10), these.message())
        .await
        .unwrap()
        .unwrap()
    {
        assert_eq!(task.state(), State::Succeeded);
        seen.push(task.id);
    }
    seen.sort();
    ids.sort();
    assert_eq!(seen, ids);
    for _ in 0..2 {
        let task = tokio::time::timeout(Duration::from_secs(10), all.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert!(ids.contains(&task.id));
    }
    gateway.begin_shutdown();
    assert!(
        all.message().await.unwrap().is_none(),
        "the stream ends with the gateway"
    );
    drop(goflow);
    gateway.stop().await;
}

#[tokio::test]
async fn mistakes_have_the_codes_of_http() {
    let gateway = Gateway::idle().await;
    let mut goflow = connect(&gateway).await;
    let big = vec![b'1'; 900 * 1024 + 1];
    let over = PushTaskRequest {
        payload: Some(Content {
            data: big.into(),
            ..Default::default()
        }),
        ..push("t", "1")
    };
    let huge = vec![b'1'; 2 * 1024 * 1024];
    let far_over = PushTaskRequest {
        payload: Some(Content {
            data: huge.into(),
            ..Default::default()
        }),
        ..push("t", "1")
    };
    let deep = "[".repeat(10_000) + &"]".repeat(10_000);
    let deep = PushTaskRequest {
        payload: Some(Content {
            data: deep.into(),
            ..Default::default()
        }),
        ..push("t", "1")
    };
    for (request, expected) in [
        (push("", "1"), "invalid_name"),
        (push("a.b", "1"), "invalid_name"),
        (
            PushTaskRequest {
                queue: ">".to_owned(),
                ..push("t", "1")
            },
            "invalid_name",
        ),
        (push("t", "{"), "invalid_body"),
        (deep, "invalid_body"),
        (
            PushTaskRequest {
                timeout: Some(Span {
                    seconds: -1,
                    nanos: 0,
                }),
                ..push("t", "1")
            },
            "invalid",
        ),
        (
            PushTaskRequest {
                max_attempts: 1_001,
                ..push("t", "1")
            },
            "invalid",
        ),
        (over, "too_large"),
        (far_over, "too_large"),
    ] {
        let shown = format!("{} {expected}", request.r#type);
        let status = goflow.push_task(request).await.unwrap_err();
        assert_eq!(
            code(&status),
            (Code::InvalidArgument, expected),
            "{shown}: {status}"
        );
    }
    let status = goflow
        .push_tasks(PushTasksRequest { tasks: vec![] })
        .await
        .unwrap_err();
    assert_eq!(code(&status), (Code::InvalidArgument, "invalid"));
    let status = goflow
        .push_tasks(PushTasksRequest {
            tasks: vec![push("a", "1"), push("b c", "1")],
        })
        .await
        .unwrap_err();
    assert!(status.message().starts_with("tasks[1]"), "{status}");
    let key = "k".to_owned();
    let keyed = PushTaskRequest {
        idempotency_key: key.clone(),
        ..push("t", "1")
    };
    let first = goflow.push_task(keyed.clone()).await.unwrap().into_inner();
    assert_eq!(goflow.push_task(keyed).await.unwrap().into_inner(), first);
    let status = goflow
        .push_task(PushTaskRequest {
            idempotency_key: key,
            ..push("t", "2")
        })
        .await
        .unwrap_err();
    assert_eq!(code(&status), (Code::AlreadyExists, "key_reused"));

    let list = |change: fn(&mut ListTasksRequest, &mut Filter)| {
        let (mut request, mut filter) = (ListTasksRequest::default(), Filter::default());
        change(&mut request, &mut filter);
        request.filter = Some(filter);
        request
    };
    for request in [
        list(|list, _| list.limit = 501),
        list(|list, _| list.cursor = "x".to_owned()),
        list(|_, filter| filter.states = vec![77]),
        list(|_, filter| filter.r#type = "a.b".to_owned()),
    ] {
        assert_eq!(
            goflow.list_tasks(request).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_and_bad_ids_are_told_apart() {
    let gateway = Gateway::idle().await;
    let mut goflow = connect(&gateway).await;
    for (id, expected) in [
        ("nonsense".to_owned(), (Code::InvalidArgument, "invalid_id")),
        (UNKNOWN.to_owned(), (Code::NotFound, "not_found")),
    ] {
        let timeout = Some(Span {
            seconds: 1,
            nanos: 0,
        });
        let statuses = [
            goflow
                .get_task(GetTaskRequest { id: id.clone() })
                .await
                .unwrap_err(),
            goflow
                .get_result(GetResultRequest { id: id.clone() })
                .await
                .unwrap_err(),
            goflow
                .wait_result(WaitResultRequest {
                    id: id.clone(),
                    timeout,
                })
                .await
                .unwrap_err(),
            goflow
                .cancel_task(CancelTaskRequest { id: id.clone() })
                .await
                .unwrap_err(),
            goflow
                .retry_task(RetryTaskRequest { id: id.clone() })
                .await
                .unwrap_err(),
        ];
        for status in &statuses {
            assert_eq!(code(status), expected, "{status}");
        }
        let watch = goflow
            .watch_tasks(WatchTasksRequest {
                ids: vec![id],
                ..Default::default()
            })
            .await;
        let status = match watch {
            Ok(stream) => stream.into_inner().message().await.unwrap_err(),
            Err(status) => status,
        };
        assert_eq!(code(&status), expected, "{status}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn health_and_reflection_are_there() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let gateway = Gateway::start().await;
    let channel = tonic::transport::Endpoint::from_shared(gateway.url(""))
        .unwrap()
        .connect()
        .await
        .unwrap();
    for service in ["", "goflow.v1.GoFlow"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let health = HealthClient::new(channel.clone())
            .check(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::iter([request]))
        .await
        .unwrap()
        .into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list of services")
    };
    let names: Vec<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert!(names.contains(&"goflow.v1.GoFlow".to_owned()), "{names:?}");
    drop((answers, channel));
    gateway.stop().await;
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let gateway = Gateway::idle().await;
    let request = gateway
        .request(reqwest::Method::POST, "/goflow.v1.GoFlow/Nothing")
        .header("content-type", "application/grpc")
        .send()
        .await
        .unwrap();
    assert_eq!(request.headers()["grpc-status"], "12");
    let request = gateway
        .request(reqwest::Method::POST, "/other.Service/Nothing")
        .header("content-type", "application/grpc")
        .send()
        .await
        .unwrap();
    assert_eq!(request.headers()["grpc-status"], "12");
    gateway.stop().await;
}
