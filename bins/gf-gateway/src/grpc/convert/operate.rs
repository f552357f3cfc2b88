//! What operators ask for, and what they get.

use goflow_core::engine::Bulk;
use goflow_core::record::{DeadGroup, Filter};
use goflow_core::signal::Command;
use goflow_proto::v1;
use goflow_proto::v1::WorkerCommand;
use time::OffsetDateTime;

use super::{invalid, moment, passing, state, timestamp};
use crate::json::bulk::{DEFAULT_LIMIT, check};
use crate::problem::Problem;

/// Which tasks to change, and how many at most.
pub(in crate::grpc) fn filter(
    filter: Option<v1::Filter>,
    limit: u32,
) -> Result<(Filter, usize), Problem> {
    let filter = passing(filter.unwrap_or_default())?;
    check(&filter)?;
    let limit = match limit {
        0 => DEFAULT_LIMIT,
        limit => usize::try_from(limit).unwrap_or(usize::MAX),
    };
    Ok((filter, limit))
}

/// What a bulk change did.
pub(in crate::grpc) fn bulk(bulk: Bulk) -> v1::BulkChange {
    v1::BulkChange {
        changed: bulk.changed,
        skipped: bulk.skipped,
        more: bulk.more,
    }
}

/// Since when the dead are asked for.
pub(in crate::grpc) fn since(
    request: &v1::ListDeadRequest,
) -> Result<Option<OffsetDateTime>, Problem> {
    let since = request.since.as_ref();
    since.map(|time| moment("since", time)).transpose()
}

/// The dead.
pub(in crate::grpc) fn dead(groups: Vec<DeadGroup>) -> v1::ListDeadResponse {
    let groups = groups.into_iter().map(|group| v1::DeadGroup {
        r#type: group.task_type.into(),
        state: state(group.state) as i32,
        error: group.error,
        count: group.count,
        newest: group.newest.to_string(),
        last_finished_at: Some(timestamp(group.last_finished_at)),
    });
    v1::ListDeadResponse {
        groups: groups.collect(),
    }
}

/// What a worker is told.
pub(in crate::grpc) fn command(command: i32) -> Result<Command, Problem> {
    match WorkerCommand::try_from(command) {
        Ok(WorkerCommand::Quiet) => Ok(Command::Quiet),
        Ok(WorkerCommand::Resume) => Ok(Command::Resume),
        Ok(WorkerCommand::Stop) => Ok(Command::Stop),
        Ok(WorkerCommand::Unspecified) | Err(_) => Err(invalid(format!(
            "command is {command}, use 1 (quiet), 2 (resume) or 3 (stop)"
        ))),
    }
}
