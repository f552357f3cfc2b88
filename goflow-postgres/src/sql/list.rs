//! The statements of lists, one for each kind of question.

use std::sync::LazyLock;

/// What a list asks for: each combination is a statement of its own, so that each gets a plan of its own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ListShape {
    /// Where to look.
    pub(crate) tables: Tables,
    /// In which states.
    pub(crate) states: States,
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

/// The states that a list asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum States {
    /// All.
    Any,
    /// Some, and succeeded is among them: most tasks are.
    Some,
    /// Some others.
    Unsuccessful,
}

impl ListShape {
    fn all() -> impl Iterator<Item = Self> {
        [Tables::Live, Tables::History, Tables::Both]
            .into_iter()
            .flat_map(|tables| {
                [States::Any, States::Some, States::Unsuccessful].map(|states| (tables, states))
            })
            .flat_map(|(tables, states)| {
                (0..4).map(move |flags| Self {
                    tables,
                    states,
                    task_type: flags & 1 > 0,
                    queue: flags & 2 > 0,
                })
            })
    }

    /// Its place in [`all`](Self::all).
    fn index(self) -> usize {
        let flags = usize::from(self.task_type) + 2 * usize::from(self.queue);
        (self.tables as usize * 3 + self.states as usize) * 4 + flags
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
    let by_state = (shape.states == States::Unsuccessful).then_some(("state", "s.wanted"));
    let by_type = shape.task_type.then_some(("type", "$5"));
    let by_queue = shape.queue.then_some(("queue", "$6"));
    let content = |result: &str| {
        format!(
            "case when octet_length(payload) <= $8 then payload else '' end as payload,
             octet_length(payload) > $8 as payload_omitted, null::jsonb as attempts, {result}"
        )
    };
    let live = format!(
        "select {}, {} from gf_task where namespace = $1 and id < $2 and id >= $3{}{} order by id desc limit $4",
        live_record!(),
        content("null::bytea as result, false as result_omitted"),
        equal([by_type, by_queue]),
        match shape.states {
            States::Any => "",
            States::Some | States::Unsuccessful => " and state = any($7)",
        },
    );
    let by_both = by_state.zip(by_type).map(|_| STATE_AND_TYPE);
    let walked = by_both.or(by_state).or(by_type).or(by_queue);
    // The planner has no say in which index is walked: what it knows of a type that is new is that there are none, and it
    // would read all of them to sort them. An equality would make the column a constant, and any index with the id would
    // have the order then; to be any of one is none.
    let (of, order) = match walked {
        Some((column, value)) => (
            format!("{column} = any(array[{value}]) and "),
            format!("{column} desc, "),
        ),
        None => Default::default(),
    };
    let mut history = format!(
        "select {}, {} from gf_history where namespace = $1 and {of}id < $2 and id >= $3{}{}
            order by {order}id desc limit $4",
        history_record!(),
        content(
            "case when octet_length(result) <= $8 then result end as result,
             coalesce(octet_length(result) > $8, false) as result_omitted"
        ),
        equal([by_type, by_queue].map(|limit| limit.filter(|_| limit != walked))),
        match shape.states {
            States::Any => "",
            States::Some => " and state = any($7)",
            // What the index is limited to, in its words.
            States::Unsuccessful => " and state <> 'succeeded'",
        },
    );
    if shape.states == States::Unsuccessful {
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

/// A column, and what it is to be equal to.
type Limit = (&'static str, &'static str);

/// State and type as one: an index of two columns before the id would have no order that an id bounds.
const STATE_AND_TYPE: Limit = ("(state || '.' || type)", "s.wanted || '.' || $5");

/// These conditions.
fn equal(limits: [Option<Limit>; 2]) -> String {
    let conditions = limits.into_iter().flatten();
    let conditions = conditions.map(|(column, value)| format!(" and {column} = {value}"));
    conditions.collect()
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
