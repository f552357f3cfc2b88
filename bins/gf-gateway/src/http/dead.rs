//! `GET /v1/dead`: what failed, crashed or expired.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;

use crate::app::App;
use crate::http::{json, query};
use crate::json::dead::DeadJson;
use crate::problem::Problem;

pub(super) async fn dead(State(app): State<Arc<App>>, uri: Uri) -> Result<Response, Problem> {
    let groups = app.dead(query::since(&uri)?).await?;
    Ok(json(StatusCode::OK, &DeadJson::from(groups)))
}
