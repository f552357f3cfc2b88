//! `/livez` and `/readyz`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use crate::app::App;
use crate::http::json;
use crate::json::status::ReadyJson;

/// The process answers: it never depends on servers, or a restart would be the answer to their absence.
pub(super) async fn live() -> &'static str {
    "ok\n"
}

pub(super) async fn ready(State(app): State<Arc<App>>) -> Response {
    let ready = ReadyJson::new(
        app.engine.health().await,
        app.record,
        app.ending.is_cancelled(),
    );
    let status = if ready.ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, &ready)
}
