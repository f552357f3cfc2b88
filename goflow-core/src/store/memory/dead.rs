//! Tasks that did not succeed, grouped.

use std::cmp::Reverse;
use std::collections::HashMap;

use time::OffsetDateTime;

use super::MemoryStore;
use super::row::Row;
use super::scan::SLICE;
use crate::name::TaskType;
use crate::record::DeadGroup;
use crate::state::State;

/// Characters of an error that tell groups apart.
const ERROR_CHARS: usize = 200;

type Groups = HashMap<(TaskType, State, String), DeadGroup>;

impl MemoryStore {
    pub(super) async fn group_dead(&self, since: OffsetDateTime, limit: usize) -> Vec<DeadGroup> {
        let mut groups = Groups::new();
        let mut after = None;
        loop {
            let mut last = None;
            {
                let tables = self.tables();
                for (id, ended) in tables.index.order.after(after).take(SLICE) {
                    last = Some(id);
                    if ended && let Some(row) = tables.row(id) {
                        add(&mut groups, row, since);
                    }
                }
            }
            if last.is_none() {
                break;
            }
            after = last;
            tokio::task::yield_now().await;
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_unstable_by_key(|group| Reverse((group.count, group.newest)));
        groups.truncate(limit);
        groups
    }
}

fn add(groups: &mut Groups, row: &Row, since: OffsetDateTime) {
    let Some(finished_at) = row.finished_at.filter(|at| *at >= since) else {
        return;
    };
    if !matches!(
        row.live.state,
        State::Failed | State::Crashed | State::Expired
    ) {
        return;
    }
    let error = row.error().unwrap_or_default();
    let error: String = error.chars().take(ERROR_CHARS).collect();
    let (id, task_type) = (row.spec.id, row.spec.task_type.clone());
    let key = (task_type.clone(), row.live.state, error.clone());
    let group = groups.entry(key).or_insert_with(|| DeadGroup {
        task_type,
        state: row.live.state,
        error,
        count: 0,
        newest: id,
        last_finished_at: finished_at,
    });
    group.count += 1;
    group.newest = group.newest.max(id);
    group.last_finished_at = group.last_finished_at.max(finished_at);
}
