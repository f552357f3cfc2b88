//! The gRPC surface.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::{self, Next};
use axum::response::Response as HttpResponse;
use futures_util::StreamExt;
use goflow_core::QueueName;
use goflow_proto::v1::go_flow_server::{GoFlow, GoFlowServer};
use goflow_proto::v1::{
    BulkChange, CancelTaskRequest, CancelTasksRequest, CommandWorkerRequest, CommandWorkerResponse,
    GetResultRequest, GetTaskRequest, ListDeadRequest, ListDeadResponse, ListQueuesRequest,
    ListQueuesResponse, ListTasksRequest, ListTasksResponse, ListWorkersRequest,
    ListWorkersResponse, PauseQueueRequest, PauseQueueResponse, PurgeQueueRequest, PushTaskRequest,
    PushTaskResponse, PushTasksRequest, PushTasksResponse, ResumeQueueRequest, ResumeQueueResponse,
    RetryTaskRequest, RetryTasksRequest, RunAgainRequest, RunAgainResponse, Task, TaskResult,
    WaitResultRequest, WatchTasksRequest,
};
use tonic::metadata::MetadataMap;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::server::HealthReporter;

use crate::app::{self, App, MAX_WAIT};
use crate::body::{self, Bounds};
use crate::json::push::check_batch;
use crate::problem::{Code, Problem, grpc_response};
use crate::trace::{TRACEPARENT, Trace};

mod convert;
pub mod fuzzing;
mod watch;

/// How often the health service looks at the engine.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Most tasks that one stream waits for.
const MAX_WATCHED: usize = 1_000;

/// The services as routes, and the future that keeps the health service up to date.
pub(crate) fn routes(
    app: &Arc<App>,
) -> Result<(Router, impl Future<Output = ()> + Send + use<>), tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(goflow_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let goflow =
        GoFlowServer::new(Service(Arc::clone(app))).max_decoding_message_size(Bounds::BATCH.bytes);
    let routes = Routes::new(goflow)
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .into_axum_router()
        .reset_fallback()
        .layer(middleware::from_fn_with_state(Arc::clone(app), bound));
    Ok((routes, report_health(Arc::clone(app), reporter)))
}

/// Bounds the body of every call, and the number of batches.
async fn bound(State(app): State<Arc<App>>, request: HttpRequest, next: Next) -> HttpResponse {
    let path = request.uri().path();
    let (bounds, is_batch) = match path {
        "/goflow.v1.GoFlow/PushTasks" => (Bounds::BATCH, true),
        _ if path.starts_with("/grpc.reflection.") => (Bounds::CONVERSATION, false),
        _ => (Bounds::SINGLE, false),
    };
    let _permit = if is_batch {
        match app.batch_permit().await {
            Ok(permit) => Some(permit),
            Err(problem) => return grpc_response(problem),
        }
    } else {
        None
    };
    next.run(request.map(|body| body::for_grpc(body, bounds)))
        .await
}

async fn report_health(app: Arc<App>, reporter: HealthReporter) {
    loop {
        let ready = app.engine.health().await.ready;
        let status = if ready {
            tonic_health::ServingStatus::Serving
        } else {
            tonic_health::ServingStatus::NotServing
        };
        reporter.set_service_status("", status).await;
        reporter
            .set_service_status(goflow_proto::v1::go_flow_server::SERVICE_NAME, status)
            .await;
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}

#[derive(Debug)]
struct Service(Arc<App>);

fn queue_name(text: &str) -> Result<QueueName, Problem> {
    Ok(QueueName::new(text)?)
}

fn trace(metadata: &MetadataMap) -> Trace {
    Trace::of(
        metadata
            .get(TRACEPARENT)
            .and_then(|value| value.to_str().ok()),
    )
}

#[tonic::async_trait]
impl GoFlow for Service {
    async fn push_task(
        &self,
        request: Request<PushTaskRequest>,
    ) -> Result<Response<PushTaskResponse>, Status> {
        let trace = trace(request.metadata());
        let task = convert::task(request.into_inner(), &trace)?;
        let id = self.0.push(task).await?;
        Ok(Response::new(PushTaskResponse { id: id.to_string() }))
    }

    async fn push_tasks(
        &self,
        request: Request<PushTasksRequest>,
    ) -> Result<Response<PushTasksResponse>, Status> {
        let trace = trace(request.metadata());
        let tasks = request.into_inner().tasks;
        check_batch(tasks.len())?;
        let tasks = tasks.into_iter().enumerate();
        let tasks = tasks.map(|(at, task)| {
            convert::task_of_batch(task, &trace)
                .map_err(|problem| problem.within(format_args!("tasks[{at}]")))
        });
        let ids = self.0.push_many(tasks.collect::<Result<_, _>>()?).await?;
        Ok(Response::new(PushTasksResponse {
            ids: ids.iter().map(ToString::to_string).collect(),
        }))
    }

    async fn get_result(
        &self,
        request: Request<GetResultRequest>,
    ) -> Result<Response<TaskResult>, Status> {
        let id = app::task_id(&request.into_inner().id)?;
        let record = self.0.engine.get(id).await.map_err(Problem::from)?;
        Ok(Response::new(convert::result(record)))
    }

    async fn wait_result(
        &self,
        request: Request<WaitResultRequest>,
    ) -> Result<Response<TaskResult>, Status> {
        let request = request.into_inner();
        let id = app::task_id(&request.id)?;
        let wait = request
            .timeout
            .map(|timeout| convert::duration("timeout", &timeout))
            .transpose()?;
        Ok(Response::new(convert::result(
            self.0.wait(id, wait.unwrap_or(MAX_WAIT)).await?,
        )))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        let id = app::task_id(&request.into_inner().id)?;
        let record = self.0.engine.get(id).await.map_err(Problem::from)?;
        Ok(Response::new(convert::record(record)))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let (filter, page) = convert::list(request.into_inner())?;
        let page = self
            .0
            .engine
            .list(&filter, page)
            .await
            .map_err(Problem::from)?;
        Ok(Response::new(ListTasksResponse {
            tasks: page.tasks.into_iter().map(convert::record).collect(),
            next_cursor: page.next.map(|id| id.to_string()).unwrap_or_default(),
        }))
    }

    async fn cancel_task(
        &self,
        request: Request<CancelTaskRequest>,
    ) -> Result<Response<Task>, Status> {
        let id = app::task_id(&request.into_inner().id)?;
        Ok(Response::new(convert::record(self.0.cancel(id).await?)))
    }

    async fn retry_task(
        &self,
        request: Request<RetryTaskRequest>,
    ) -> Result<Response<Task>, Status> {
        let id = app::task_id(&request.into_inner().id)?;
        Ok(Response::new(convert::record(self.0.retry(id).await?)))
    }

    async fn run_again(
        &self,
        request: Request<RunAgainRequest>,
    ) -> Result<Response<RunAgainResponse>, Status> {
        let id = app::task_id(&request.into_inner().id)?;
        let id = self.0.run_again(id).await?.to_string();
        Ok(Response::new(RunAgainResponse { id }))
    }

    async fn cancel_tasks(
        &self,
        request: Request<CancelTasksRequest>,
    ) -> Result<Response<BulkChange>, Status> {
        let CancelTasksRequest { filter, limit } = request.into_inner();
        let (filter, limit) = convert::filter(filter, limit)?;
        let changed = self.0.engine.cancel_many(&filter, limit).await;
        Ok(Response::new(convert::bulk(
            changed.map_err(Problem::from)?,
        )))
    }

    async fn retry_tasks(
        &self,
        request: Request<RetryTasksRequest>,
    ) -> Result<Response<BulkChange>, Status> {
        let RetryTasksRequest { filter, limit } = request.into_inner();
        let (filter, limit) = convert::filter(filter, limit)?;
        let changed = self.0.engine.retry_many(&filter, limit).await;
        Ok(Response::new(convert::bulk(
            changed.map_err(Problem::from)?,
        )))
    }

    async fn list_dead(
        &self,
        request: Request<ListDeadRequest>,
    ) -> Result<Response<ListDeadResponse>, Status> {
        let since = convert::since(&request.into_inner())?;
        Ok(Response::new(convert::dead(self.0.dead(since).await?)))
    }

    async fn list_queues(
        &self,
        _: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        let queues = self.0.engine.queues().await.map_err(Problem::from)?;
        Ok(Response::new(ListQueuesResponse {
            queues: queues.into_iter().map(convert::queue).collect(),
        }))
    }

    async fn pause_queue(
        &self,
        request: Request<PauseQueueRequest>,
    ) -> Result<Response<PauseQueueResponse>, Status> {
        let queue = queue_name(&request.into_inner().queue)?;
        let paused = self.0.engine.pause_queue(&queue).await;
        paused.map_err(Problem::from)?;
        Ok(Response::new(PauseQueueResponse {}))
    }

    async fn resume_queue(
        &self,
        request: Request<ResumeQueueRequest>,
    ) -> Result<Response<ResumeQueueResponse>, Status> {
        let queue = queue_name(&request.into_inner().queue)?;
        let resumed = self.0.engine.resume_queue(&queue).await;
        resumed.map_err(Problem::from)?;
        Ok(Response::new(ResumeQueueResponse {}))
    }

    async fn purge_queue(
        &self,
        request: Request<PurgeQueueRequest>,
    ) -> Result<Response<BulkChange>, Status> {
        let PurgeQueueRequest { queue, confirm } = request.into_inner();
        let purged = self.0.purge(&queue_name(&queue)?, &confirm).await?;
        Ok(Response::new(convert::bulk(purged)))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        let workers = self.0.engine.workers().into_iter();
        Ok(Response::new(ListWorkersResponse {
            workers: workers.map(convert::worker).collect(),
        }))
    }

    async fn command_worker(
        &self,
        request: Request<CommandWorkerRequest>,
    ) -> Result<Response<CommandWorkerResponse>, Status> {
        let CommandWorkerRequest { worker, command } = request.into_inner();
        let worker = app::worker_id(&worker)?;
        let command = convert::command(command)?;
        let told = self.0.engine.command(worker, command).await;
        told.map_err(Problem::from)?;
        Ok(Response::new(CommandWorkerResponse {}))
    }

    type WatchTasksStream = watch::Tasks;

    async fn watch_tasks(
        &self,
        request: Request<WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let (ids, wanted) = convert::watch(request.into_inner())?;
        if ids.len() > MAX_WATCHED {
            let detail = format!("ids: {} of them, {MAX_WATCHED} is the most", ids.len());
            return Err(Problem::new(Code::Invalid, detail).into());
        }
        let permit = self.0.stream_permit()?;
        let tasks = if ids.is_empty() {
            self.all(wanted)
        } else {
            self.these(ids, wanted)
        };
        // The stream holds its permit for as long as it lives, and ends with the gateway.
        let tasks = tasks.inspect(move |_| {
            let _ = &permit;
        });
        Ok(Response::new(
            tasks
                .take_until(self.0.ending.clone().cancelled_owned())
                .boxed(),
        ))
    }
}
