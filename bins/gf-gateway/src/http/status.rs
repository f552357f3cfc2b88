//! `GET /v1/queues` and `/v1/workers`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use crate::app::App;
use crate::http::{json, query};
use crate::json::status::{QueuesJson, WorkersJson};
use crate::problem::Problem;

pub(super) async fn queues(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    query::none(&uri)?;
    Ok(json(
        StatusCode::OK,
        &QueuesJson::from(app.engine.queues().await?),
    ))
}

pub(super) async fn workers(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    query::none(&uri)?;
    Ok(json(
        StatusCode::OK,
        &WorkersJson::from(app.engine.workers()),
    ))
}
