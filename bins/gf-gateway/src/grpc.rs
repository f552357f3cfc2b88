//! The gRPC surface.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::middleware::{self, Next};
use axum::response::Response as HttpResponse;
use futures_util::{Stream, StreamExt, stream};
use goflow_core::TaskId;
use goflow_proto::v1;
use goflow_proto::v1::go_flow_server::{GoFlow, GoFlowServer};
use goflow_proto::v1::{
    CancelTaskRequest, GetResultRequest, GetTaskRequest, ListTasksRequest, ListTasksResponse,
    PushTaskRequest, PushTaskResponse, PushTasksRequest, PushTasksResponse, RetryTaskRequest,
    TaskResult, WaitResultRequest, WatchTasksRequest,
};
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::service::Routes;
use tonic::{Request, Response, Status};
use tonic_health::server::HealthReporter;

use crate::app::{self, App, MAX_WAIT};
use crate::body::{self, Bounds};
use crate::finished::Wanted;
use crate::json::push::check_batch;
use crate::problem::{Code, Problem, grpc_response};

mod convert;

/// How often the health service looks at the engine.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Most tasks that one stream waits for.
const MAX_WATCHED: usize = 1_000;

/// The time between two looks at a task that has no record yet.
const UNRECORDED: Duration = Duration::from_millis(500);

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

#[tonic::async_trait]
impl GoFlow for Service {
    async fn push_task(
        &self,
        request: Request<PushTaskRequest>,
    ) -> Result<Response<PushTaskResponse>, Status> {
        let id = self.0.push(convert::task(request.into_inner())?).await?;
        Ok(Response::new(PushTaskResponse { id: id.to_string() }))
    }

    async fn push_tasks(
        &self,
        request: Request<PushTasksRequest>,
    ) -> Result<Response<PushTasksResponse>, Status> {
        let tasks = request.into_inner().tasks;
        check_batch(tasks.len())?;
        let tasks = tasks.into_iter().enumerate();
        let tasks = tasks.map(|(at, task)| {
            convert::task_of_batch(task)
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

    async fn get_task(
        &self,
        request: Request<GetTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
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
    ) -> Result<Response<v1::Task>, Status> {
        let id = app::task_id(&request.into_inner().id)?;
        Ok(Response::new(convert::record(self.0.cancel(id).await?)))
    }

    async fn retry_task(
        &self,
        request: Request<RetryTaskRequest>,
    ) -> Result<Response<v1::Task>, Status> {
        let id = app::task_id(&request.into_inner().id)?;
        Ok(Response::new(convert::record(self.0.retry(id).await?)))
    }

    type WatchTasksStream = Pin<Box<dyn Stream<Item = Result<v1::Task, Status>> + Send>>;

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

impl Service {
    /// Whatever finishes from now on.
    fn all(&self, wanted: Wanted) -> <Self as GoFlow>::WatchTasksStream {
        let seen = self.0.feed.watch().filter_map(move |seen| {
            let task = match seen {
                Ok(record) if wanted.matches(&record) => {
                    Some(Ok(convert::record(record.as_ref().clone())))
                }
                Ok(_) => None,
                Err(BroadcastStreamRecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "a watcher reads too slowly");
                    None
                }
            };
            async move { task }
        });
        seen.boxed()
    }

    /// Each of these tasks, once it has finished.
    fn these(&self, ids: Vec<TaskId>, wanted: Wanted) -> <Self as GoFlow>::WatchTasksStream {
        let app = Arc::clone(&self.0);
        let at_once = ids.len();
        let ends = stream::iter(ids)
            .map(move |id| end_of(Arc::clone(&app), id))
            .buffer_unordered(at_once);
        let ends = ends.filter_map(move |end| {
            let task = match end {
                Ok(record) if !wanted.matches(&record) => None,
                Ok(record) => Some(Ok(convert::record(record))),
                Err(problem) => Some(Err(Status::from(problem))),
            };
            async move { task }
        });
        ends.boxed()
    }
}

async fn end_of(app: Arc<App>, id: TaskId) -> Result<goflow_core::TaskRecord, Problem> {
    loop {
        match app.engine.wait_record(id, MAX_WAIT).await {
            Ok(record) if record.state.is_terminal() => return Ok(record),
            Ok(_) => {}
            Err(goflow_core::Error::NotRecordedYet(_)) => tokio::time::sleep(UNRECORDED).await,
            Err(error) => return Err(error.into()),
        }
    }
}
