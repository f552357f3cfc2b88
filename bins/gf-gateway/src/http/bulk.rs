//! `POST /v1/tasks/cancel` and `/v1/tasks/retry`: many tasks at once.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;

use crate::app::App;
use crate::body::{self, Bounds};
use crate::http::{json, query};
use crate::json::bulk::{self, BulkJson};
use crate::problem::Problem;

pub(super) async fn cancel(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    query::none(request.uri())?;
    let body = body::read(request.into_body(), Bounds::ORDER).await?;
    let (filter, limit) = bulk::read(&body)?;
    let bulk = app.engine.cancel_many(&filter, limit).await?;
    Ok(json(StatusCode::OK, &BulkJson::from(bulk)))
}

pub(super) async fn retry(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    query::none(request.uri())?;
    let body = body::read(request.into_body(), Bounds::ORDER).await?;
    let (filter, limit) = bulk::read(&body)?;
    let bulk = app.engine.retry_many(&filter, limit).await?;
    Ok(json(StatusCode::OK, &BulkJson::from(bulk)))
}
