//! `GET /v1/workers` and what a worker can be told.

use std::sync::Arc;

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use goflow_core::WorkerId;
use goflow_core::signal::Command;
use serde::Serialize;

use crate::app::{self, App};
use crate::http::{json, query};
use crate::json::status::WorkersJson;
use crate::problem::{Code, Problem};

type PathId = Result<Path<String>, PathRejection>;

#[derive(Serialize)]
struct Told {
    id: String,
    command: Command,
}

fn id(path: PathId) -> Result<WorkerId, Problem> {
    let Path(text) = path.map_err(|_| {
        Problem::new(
            Code::InvalidId,
            "the path holds no worker id: ids are UUIDs",
        )
    })?;
    app::worker_id(&text)
}

pub(super) async fn list(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    query::none(&uri)?;
    Ok(json(
        StatusCode::OK,
        &WorkersJson::from(app.engine.workers()),
    ))
}

pub(super) async fn quiet(
    State(app): State<Arc<App>>,
    path: PathId,
    uri: Uri,
) -> Result<Response, Problem> {
    tell(&app, path, &uri, Command::Quiet).await
}

pub(super) async fn resume(
    State(app): State<Arc<App>>,
    path: PathId,
    uri: Uri,
) -> Result<Response, Problem> {
    tell(&app, path, &uri, Command::Resume).await
}

pub(super) async fn stop(
    State(app): State<Arc<App>>,
    path: PathId,
    uri: Uri,
) -> Result<Response, Problem> {
    tell(&app, path, &uri, Command::Stop).await
}

async fn tell(app: &App, path: PathId, uri: &Uri, command: Command) -> Result<Response, Problem> {
    query::none(uri)?;
    let worker = id(path)?;
    app.engine.command(worker, command).await?;
    let id = worker.to_string();
    Ok(json(StatusCode::ACCEPTED, &Told { id, command }))
}
