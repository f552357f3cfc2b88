//! Groups of tasks that failed, crashed or expired, as JSON.

use goflow_core::record::DeadGroup;
use serde::Serialize;
use time::OffsetDateTime;

#[derive(Serialize)]
pub(crate) struct DeadJson {
    groups: Vec<GroupJson>,
}

#[derive(Serialize)]
struct GroupJson {
    r#type: String,
    state: &'static str,
    error: String,
    count: u64,
    newest: String,
    #[serde(with = "time::serde::rfc3339")]
    last_finished_at: OffsetDateTime,
}

impl From<Vec<DeadGroup>> for DeadJson {
    fn from(groups: Vec<DeadGroup>) -> Self {
        let groups = groups.into_iter().map(|group| GroupJson {
            r#type: group.task_type.into(),
            state: group.state.as_str(),
            error: group.error,
            count: group.count,
            newest: group.newest.to_string(),
            last_finished_at: group.last_finished_at,
        });
        Self {
            groups: groups.collect(),
        }
    }
}
