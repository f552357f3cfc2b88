//! `GET /v1/tasks`, `GET /v1/tasks/{id}` and what can be done to a task.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use goflow_core::{TaskId, TaskRecord};

use crate::app::{self, App};
use crate::http::push::Accepted;
use crate::http::{json, json_bytes, query};
use crate::json::task;
use crate::problem::{Code, Problem};

type PathId = Result<Path<String>, PathRejection>;

fn id(path: PathId) -> Result<TaskId, Problem> {
    let Path(text) = path
        .map_err(|_| Problem::new(Code::InvalidId, "the path holds no task id: ids are UUIDs"))?;
    app::task_id(&text)
}

fn found(record: &TaskRecord) -> Response {
    json_bytes(StatusCode::OK, task::to_json(record))
}

pub(super) async fn get(
    State(app): State<Arc<App>>,
    path: PathId,
    uri: Uri,
) -> Result<Response, Problem> {
    let id = id(path)?;
    let record = match query::wait(&uri)? {
        Some(wait) if !wait.is_zero() => app.wait(id, wait).await?,
        _ => app.engine.get(id).await?,
    };
    Ok(found(&record))
}

pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let (filter, page) = query::list(&uri)?;
    let page = app.engine.list(&filter, page).await?;
    Ok(json_bytes(StatusCode::OK, task::page_to_json(&page)))
}

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    path: PathId,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    Ok(found(&app.cancel(id(path)?).await?))
}

pub(super) async fn retry(
    State(app): State<Arc<App>>,
    path: PathId,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    Ok(found(&app.retry(id(path)?).await?))
}

pub(super) async fn run_again(
    State(app): State<Arc<App>>,
    path: PathId,
    uri: Uri,
) -> Result<Response, Problem> {
    query::none(&uri)?;
    let id = app.run_again(id(path)?).await?;
    Ok(json(StatusCode::ACCEPTED, &Accepted { id: id.to_string() }))
}
