//! The decoders of both surfaces, for `tests/fuzz` alone.

use goflow_core::record::Filter;
use goflow_core::{Task, TaskId, WorkerId};

use crate::app;
use crate::json::{bulk, push};
use crate::problem::Problem;
use crate::trace::Trace;

pub use crate::grpc::fuzzing as grpc;
pub use crate::http::fuzzing as query;

/// What a client is told of a mistake: the body of the answer, RFC 9457.
#[derive(Debug)]
pub struct Refused(pub Vec<u8>);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem.body())
    }
}

/// The body of `POST /v1/tasks`.
pub fn one(body: &[u8], traceparent: Option<&str>) -> Result<Task, Refused> {
    Ok(push::one(body, &Trace::of(traceparent))?)
}

/// The body of `POST /v1/tasks/batch`.
pub fn many(body: &[u8]) -> Result<Vec<Task>, Refused> {
    Ok(push::many(body, &Trace::default())?)
}

/// The body of `POST /v1/tasks/cancel` and `/v1/tasks/retry`.
pub fn change(body: &[u8]) -> Result<(Filter, usize), Refused> {
    Ok(bulk::read(body)?)
}

/// The body of `POST /v1/queues/{queue}/purge`.
pub fn confirmation(body: &[u8]) -> Result<String, Refused> {
    Ok(bulk::confirmation(body)?)
}

/// The id of a task in a path.
pub fn task_id(text: &str) -> Result<TaskId, Refused> {
    Ok(app::task_id(text)?)
}

/// The id of a worker in a path.
pub fn worker_id(text: &str) -> Result<WorkerId, Refused> {
    Ok(app::worker_id(text)?)
}

/// What a refusal by the engine becomes.
pub fn refused(error: goflow_core::Error) -> Refused {
    Problem::from(error).into()
}
