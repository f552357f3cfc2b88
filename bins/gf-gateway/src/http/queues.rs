//! `GET /v1/queues` and what can be done to a queue.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use goflow_core::QueueName;
use serde::Serialize;

use crate::app::App;
use crate::body::{self, Bounds};
use crate::http::{json, query};
use crate::json::bulk::{self, BulkJson};
use crate::json::status::QueuesJson;
use crate::problem::{Code, Problem};

type PathName = Result<Path<String>, PathRejection>;

#[derive(Serialize)]
struct Paused<'a> {
    name: &'a str,
    paused: bool,
}

fn name(path: PathName) -> Result<QueueName, Problem> {
    let Path(text) =
        path.map_err(|_| Problem::new(Code::InvalidName, "the path holds no name of a queue"))?;
    Ok(QueueName::new(text)?)
}

pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    query::none(&uri)?;
    Ok(json(
        StatusCode::OK,
        &QueuesJson::from(app.engine.queues().await?),
    ))
}

pub(super) async fn pause(
    State(app): State<Arc<App>>,
    path: PathName,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let queue = name(path)?;
    app.engine.pause_queue(&queue).await?;
    Ok(now(&queue, true))
}

pub(super) async fn resume(
    State(app): State<Arc<App>>,
    path: PathName,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let queue = name(path)?;
    app.engine.resume_queue(&queue).await?;
    Ok(now(&queue, false))
}

fn now(queue: &QueueName, paused: bool) -> Response {
    let name = queue.as_str();
    json(StatusCode::OK, &Paused { name, paused })
}

pub(super) async fn purge(
    State(app): State<Arc<App>>,
    path: PathName,
    request: Request,
) -> Result<Response, Problem> {
    query::none(request.uri())?;
    let queue = name(path)?;
    let body = body::read(request.into_body(), Bounds::ORDER).await?;
    let purged = app.purge(&queue, &bulk::confirmation(&body)?).await?;
    Ok(json(StatusCode::OK, &BulkJson::from(purged)))
}
