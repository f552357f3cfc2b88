//! Queries, for `tests/fuzz` alone.

use std::time::Duration;

use axum::http::Uri;
use goflow_core::record::{Filter, PageRequest};
use time::OffsetDateTime;

use super::query;
use crate::fuzzing::Refused;

/// A path and query as they stand in a request; none if HTTP itself refuses them.
pub fn uri(path_and_query: &[u8]) -> Option<Uri> {
    Uri::try_from(path_and_query).ok()
}

/// The query of `GET /v1/tasks`.
pub fn list(uri: &Uri) -> Result<(Filter, PageRequest), Refused> {
    Ok(query::list(uri)?)
}

/// Whether the query of `GET /v1/events` is one.
pub fn events(uri: &Uri) -> Result<(), Refused> {
    query::wanted(uri)?;
    Ok(())
}

/// The query of `GET /v1/tasks/{id}`.
pub fn wait(uri: &Uri) -> Result<Option<Duration>, Refused> {
    Ok(query::wait(uri)?)
}

/// The query of `GET /v1/dead`.
pub fn since(uri: &Uri) -> Result<Option<OffsetDateTime>, Refused> {
    Ok(query::since(uri)?)
}

/// The query where there may be none.
pub fn none(uri: &Uri) -> Result<(), Refused> {
    Ok(query::none(uri)?)
}
