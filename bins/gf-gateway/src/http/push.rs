//! `POST /v1/tasks` and `/v1/tasks/batch`.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::Response;
use serde::Serialize;

use crate::app::App;
use crate::body::{self, Bounds};
use crate::http::json;
use crate::json::push;
use crate::problem::{Code, Problem};
use crate::trace::{TRACEPARENT, Trace};

/// The header with which a client names its push.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The answer to a push.
#[derive(Serialize)]
pub(super) struct Accepted {
    pub(super) id: String,
}

#[derive(Serialize)]
struct AcceptedMany {
    ids: Vec<String>,
}

pub(super) async fn one(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    let key = idempotency_key(request.headers())?;
    let trace = trace(request.headers());
    let body = body::read(request.into_body(), Bounds::SINGLE).await?;
    let mut task = push::one(&body, &trace)?;
    if let Some(key) = key {
        task = task.idempotency_key(key);
    }
    let id = app.push(task).await?;
    Ok(json(StatusCode::ACCEPTED, &Accepted { id: id.to_string() }))
}

pub(super) async fn many(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, Problem> {
    if request.headers().contains_key(IDEMPOTENCY_KEY) {
        return Err(Problem::new(
            Code::NotSupported,
            "Idempotency-Key is for single pushes, not for batches",
        ));
    }
    let trace = trace(request.headers());
    let _permit = app.batch_permit().await?;
    let body = body::read(request.into_body(), Bounds::BATCH).await?;
    let tasks = push::many(&body, &trace)?;
    drop(body);
    let ids = app.push_many(tasks).await?;
    Ok(json(
        StatusCode::ACCEPTED,
        &AcceptedMany {
            ids: ids.iter().map(ToString::to_string).collect(),
        },
    ))
}

fn trace(headers: &HeaderMap) -> Trace {
    Trace::of(
        headers
            .get(TRACEPARENT)
            .and_then(|value| value.to_str().ok()),
    )
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return match headers.contains_key(IDEMPOTENCY_KEY) {
            true => Err(Problem::new(
                Code::Invalid,
                "Idempotency-Key is there more than once",
            )),
            false => Ok(None),
        };
    };
    let key = value
        .to_str()
        .map_err(|_| Problem::new(Code::Invalid, "Idempotency-Key: use visible ASCII"))?;
    Ok(Some(key.to_owned()))
}
