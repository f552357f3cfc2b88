//! The statements of lists, one for each kind of question.

use std::sync::LazyLock;

/// What a list asks for: each combination is a statement of its own, so that each gets a plan of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListShape {
    /// Where to look.
    pub(crate) tables: Tables,
    /// Only tasks of some states.
    pub(crate) states: bool,
    /// Only of a type.
    pub(crate) task_type: bool,
    /// Only of a queue.
    pub(crate) queue: bool,
}

/// Where a list looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tables {
    /// Among the unfinished tasks.
    Live,
    /// Among the finished ones.
    History,
    /// Among all.
    Both,
}

impl ListShape {
    fn all() -> impl Iterator<Item = Self> {
        [Tables::Live, Tables::History, Tables::Both]
            .into_iter()
            .flat_map(|tables| {
                (0..8).map(move |flags| Self {
                    tables,
                    states: flags & 1 > 0,
                    task_type: flags & 2 > 0,
                    queue: flags & 4 > 0,
                })
            })
    }

    /// Its place in [`all`](Self::all).
    fn index(self) -> usize {
        let flags = [self.states, self.task_type, self.queue];
        flags
            .iter()
            .rev()
            .fold(self.tables as usize, |index, flag| {
                index * 2 + usize::from(*flag)
            })
    }
}

/// The statement of a list: `$1` namespace, `$2` and `$3` the ids it lies between, `$4` how many, `$5` type, `$6`
/// queue, `$7` states, `$8` the largest content shown.
pub(crate) fn list(shape: ListShape) -> &'static str {
    &LISTS[shape.index()]
}

pub(crate) static LISTS: LazyLock<Vec<String>> =
    LazyLock::new(|| ListShape::all().map(list_text).collect());

fn list_text(shape: ListShape) -> String {
    let mut filter = String::from("namespace = $1 and id < $2 and id >= $3");
    if shape.task_type {
        filter.push_str(" and type = $5");
    }
    if shape.queue {
        filter.push_str(" and queue = $6");
    }
    let content = |result: &str| {
        format!(
            "case when octet_length(payload) <= $8 then payload else '' end as payload,
             octet_length(payload) > $8 as payload_omitted, null::jsonb as attempts, {result}"
        )
    };
    let live = format!(
        "select {}, {} from gf_task where {filter}{} order by id desc limit $4",
        live_record!(),
        content("null::bytea as result, false as result_omitted"),
        if shape.states {
            " and state = any($7)"
        } else {
            ""
        },
    );
    let mut history = format!(
        "select {}, {} from gf_history where {filter}{} order by id desc limit $4",
        history_record!(),
        content(
            "case when octet_length(result) <= $8 then result end as result,
             coalesce(octet_length(result) > $8, false) as result_omitted"
        ),
        if shape.states {
            " and state = s.wanted"
        } else {
            ""
        },
    );
    if shape.states {
        // One ordered walk over the index for each state.
        history = format!(
            "select h.* from unnest($7::text[]) as s (wanted) cross join lateral ({history}) h"
        );
    }
    let rows = match shape.tables {
        Tables::Live => live,
        Tables::History => history,
        Tables::Both => format!("({live}) union all ({history})"),
    };
    format!("select * from ({rows}) t order by id desc limit $4")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_list_is_found_where_it_is() {
        for (at, shape) in ListShape::all().enumerate() {
            assert_eq!(shape.index(), at, "{shape:?}");
        }
    }
}
