//! The HTTP surface: one table of routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Serialize;

use crate::app::App;
use crate::guard::is_grpc;
use crate::problem::{Code, Problem, grpc_response};

mod bulk;
mod dead;
mod events;
pub mod fuzzing;
mod health;
mod metrics;
mod pages;
mod push;
mod query;
mod queues;
mod tasks;
mod workers;

/// The routes. Whatever is not among them gets a problem too.
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/tasks", post(push::one).get(tasks::list))
        .route("/v1/tasks/batch", post(push::many))
        .route("/v1/tasks/{id}", get(tasks::get))
        .route("/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/v1/tasks/{id}/retry", post(tasks::retry))
        .route("/v1/tasks/{id}/run-again", post(tasks::run_again))
        .route("/v1/tasks/cancel", post(bulk::cancel))
        .route("/v1/tasks/retry", post(bulk::retry))
        .route("/v1/dead", get(dead::dead))
        .route("/v1/queues", get(queues::list))
        .route("/v1/queues/{queue}/pause", post(queues::pause))
        .route("/v1/queues/{queue}/resume", post(queues::resume))
        .route("/v1/queues/{queue}/purge", post(queues::purge))
        .route("/v1/workers", get(workers::list))
        .route("/v1/workers/{id}/quiet", post(workers::quiet))
        .route("/v1/workers/{id}/resume", post(workers::resume))
        .route("/v1/workers/{id}/stop", post(workers::stop))
        .route("/v1/events", get(events::events))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(pages::openapi))
        .route("/", get(pages::index))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn unknown_route(request: Request) -> Response {
    let problem = Problem::new(
        Code::UnknownRoute,
        "there is nothing here; /openapi.json says what there is",
    );
    if is_grpc(request.headers()) {
        grpc_response(problem)
    } else {
        problem.into_response()
    }
}

async fn wrong_method(request: Request) -> Problem {
    Problem::new(
        Code::MethodNotAllowed,
        format!(
            "{} does not work here; the Allow header says what does",
            request.method()
        ),
    )
}

/// An answer of JSON that is written already.
fn json_bytes(status: StatusCode, json: Result<Vec<u8>, serde_json::Error>) -> Response {
    match json {
        Ok(json) => {
            let content_type = (
                header::CONTENT_TYPE,
                HeaderValue::from_static("application/json"),
            );
            (status, [content_type], Body::from(json)).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "answer has no JSON form");
            Problem::new(Code::Internal, "the answer has no JSON form").into_response()
        }
    }
}

/// An answer of JSON.
fn json(status: StatusCode, value: &impl Serialize) -> Response {
    json_bytes(status, serde_json::to_vec(value))
}
