//! What keeps a second task out.

use goflow_core::{OnConflict, Unique};
use serde::Deserialize;

use crate::json::span::Span;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UniqueBody {
    key: String,
    period: Option<Span>,
    on_conflict: Option<OnConflict>,
}

impl From<UniqueBody> for Unique {
    fn from(body: UniqueBody) -> Self {
        Self {
            key: body.key,
            period: body.period.map(|Span(period)| period),
            on_conflict: body.on_conflict.unwrap_or_default(),
        }
    }
}
