//! Queries, and the cursors in them.

use gf_gateway::fuzzing::query;
use goflow_core::record::MAX_PAGE;

use super::Target;
use crate::check;

pub(super) const QUERY: Target = Target {
    name: "query",
    about: "paths with queries, and the cursors in them (percent-encoded text)",
    words: &[
        "/v1/tasks?",
        "state=",
        "failed,crashed",
        "&type=",
        "&queue=",
        "&since=",
        "&until=",
        "&limit=",
        "&cursor=",
        "&wait=",
        "%00",
        "%ff",
        "%0a",
        "+",
        "500",
        "501",
        "01890000-0000-7000-8000-000000000001",
        "2030-01-31T12:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "18446744073709551615",
        "1h",
    ],
    run,
};

fn run(input: &[u8]) {
    let Some(uri) = query::uri(input) else { return };
    match query::list(&uri) {
        Ok((filter, page)) => {
            assert!((1..=MAX_PAGE).contains(&page.limit));
            for time in [filter.since, filter.until].into_iter().flatten() {
                check::moment(time);
            }
        }
        Err(problem) => check::refusal(&problem),
    }
    match query::since(&uri) {
        Ok(since) => since.into_iter().for_each(check::moment),
        Err(problem) => check::refusal(&problem),
    }
    let others = [
        query::events(&uri),
        query::wait(&uri).map(drop),
        query::none(&uri),
    ];
    for problem in others.into_iter().filter_map(Result::err) {
        check::refusal(&problem);
    }
}
