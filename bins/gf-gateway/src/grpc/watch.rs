//! Streams of tasks as they finish.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use goflow_core::{Error, TaskId, TaskRecord};
use goflow_proto::v1;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;
use tonic::Status;

use super::{Service, convert};
use crate::app::{App, MAX_WAIT};
use crate::finished::Wanted;
use crate::problem::Problem;

/// The time between two looks at a task that has no record yet.
const UNRECORDED: Duration = Duration::from_millis(500);

/// A stream of tasks.
pub(super) type Tasks = Pin<Box<dyn Stream<Item = Result<v1::Task, Status>> + Send>>;

impl Service {
    /// Whatever finishes from now on.
    pub(super) fn all(&self, wanted: Wanted) -> Tasks {
        let seen = self.0.feed.watch().filter_map(move |seen| {
            let task = match seen {
                Ok(record) if wanted.matches(&record) => {
                    Some(Ok(convert::record(record.as_ref().clone())))
                }
                Ok(_) => None,
                Err(BroadcastStreamRecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "a watcher reads too slowly");
                    None
                }
            };
            async move { task }
        });
        seen.boxed()
    }

    /// Each of these tasks, once it has finished.
    pub(super) fn these(&self, ids: Vec<TaskId>, wanted: Wanted) -> Tasks {
        let app = Arc::clone(&self.0);
        let at_once = ids.len();
        let ends = stream::iter(ids)
            .map(move |id| end_of(Arc::clone(&app), id))
            .buffer_unordered(at_once);
        let ends = ends.filter_map(move |end| {
            let task = match end {
                Ok(record) if !wanted.matches(&record) => None,
                Ok(record) => Some(Ok(convert::record(record))),
                Err(problem) => Some(Err(Status::from(problem))),
            };
            async move { task }
        });
        ends.boxed()
    }
}

async fn end_of(app: Arc<App>, id: TaskId) -> Result<TaskRecord, Problem> {
    loop {
        match app.engine.wait_record(id, MAX_WAIT).await {
            Ok(record) if record.state.is_terminal() => return Ok(record),
            Ok(_) => {}
            Err(Error::NotRecordedYet(_)) => tokio::time::sleep(UNRECORDED).await,
            Err(error) => return Err(error.into()),
        }
    }
}
