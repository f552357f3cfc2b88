//! Lists and counts.

use std::time::Duration;

use goflow_core::outcome::Verdict;
use goflow_core::record::{Filter, MAX_LISTED_CONTENT, MAX_PAGE, PageRequest};
use goflow_core::{Content, Start, State, TaskId, TaskSpec, TaskStore};

use super::{
    Fixture, accept, accept_request, apply_one, failure, get, outcome, request, roomy, spec,
    success,
};

async fn list(store: &dyn TaskStore, filter: &Filter) -> Vec<TaskId> {
    let page = store
        .list(filter, PageRequest::default())
        .await
        .expect("list");
    assert_eq!(page.next, None);
    page.tasks.into_iter().map(|task| task.spec.id).collect()
}

/// Pages are in order, complete, and say when there are no more.
pub async fn pages(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let empty = store
        .list(&Filter::default(), PageRequest::default())
        .await
        .expect("list");
    assert_eq!((empty.tasks, empty.next), (vec![], None));
    let specs: Vec<TaskSpec> = (0..25).map(|_| spec()).collect();
    let mut ids: Vec<TaskId> = specs.iter().map(|spec| spec.id).collect();
    accept_request(&*store, request(specs))
        .await
        .expect("accepted");
    // Finished and unfinished ones are listed together.
    for id in ids.iter().step_by(3) {
        apply_one(&*store, outcome(*id, 1, 1, success())).await;
    }
    ids.sort_unstable();
    ids.reverse();
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store
            .list(&Filter::default(), PageRequest { before, limit: 10 })
            .await
            .expect("list");
        assert!(page.tasks.len() == 10 || page.next.is_none());
        found.extend(page.tasks.iter().map(|task| task.spec.id));
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(found, ids);
    let all = store
        .list(
            &Filter::default(),
            PageRequest {
                before: None,
                limit: usize::MAX,
            },
        )
        .await
        .expect("list");
    assert!(all.tasks.len() <= MAX_PAGE && all.next.is_none());
    let exact = store
        .list(
            &Filter::default(),
            PageRequest {
                before: None,
                limit: 25,
            },
        )
        .await
        .expect("list");
    assert_eq!((exact.tasks.len(), exact.next), (25, None));
}

/// Tasks that arrive, end or change while someone pages do not move what comes next.
pub async fn pages_while_tasks_arrive(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(accept(&*store, spec()).await);
    }
    ids.sort_unstable();
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = store
            .list(&Filter::default(), PageRequest { before, limit: 6 })
            .await
            .expect("list");
        found.extend(page.tasks.iter().map(|task| task.spec.id));
        accept(&*store, spec()).await;
        for id in [ids[0], ids[10]] {
            apply_one(&*store, outcome(id, 1, 1, success())).await;
        }
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    ids.reverse();
    assert_eq!(found, ids);
}

/// Every filter, and all of them together.
pub async fn filters(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let name = |text: &str| text.parse().expect("a good name");
    let old = accept(&*store, spec()).await;
    // Times in ids are in milliseconds.
    while TaskId::new().created_at() <= old.created_at() {
        tokio::task::yield_now().await;
    }
    let failed = accept(
        &*store,
        TaskSpec {
            task_type: name("mail"),
            ..spec()
        },
    )
    .await;
    let scheduled = accept(
        &*store,
        TaskSpec {
            start: Start::After(Duration::from_secs(60)),
            queue: "slow".parse().expect("name"),
            ..spec()
        },
    )
    .await;
    let tenant = accept(
        &*store,
        TaskSpec {
            namespace: "tenant".parse().expect("name"),
            ..spec()
        },
    )
    .await;
    let permanent = Verdict::failed_for_good("no");
    apply_one(&*store, outcome(failed, 1, 1, permanent)).await;
    let retrying = accept(
        &*store,
        TaskSpec {
            task_type: name("mail"),
            ..spec()
        },
    )
    .await;
    apply_one(&*store, outcome(retrying, 1, 1, failure("no"))).await;
    let newest_first = |mut ids: Vec<TaskId>| {
        ids.sort_unstable();
        ids.reverse();
        ids
    };
    let states = |states: &[State]| Filter {
        states: states.to_vec(),
        ..Filter::default()
    };
    let all = newest_first(vec![old, failed, scheduled, retrying]);
    let cases = [
        (Filter::default(), all.clone()),
        (
            Filter {
                namespace: "tenant".parse().expect("name"),
                ..Filter::default()
            },
            vec![tenant],
        ),
        (states(&[State::Queued]), vec![old]),
        (states(&[State::Failed]), vec![failed]),
        (
            states(&[State::Failed, State::Failed, State::Scheduled]),
            newest_first(vec![failed, scheduled]),
        ),
        (states(&[State::Retrying, State::Crashed]), vec![retrying]),
        (states(&[State::Succeeded]), vec![]),
        (states(&[State::Running]), vec![]),
        (states(&State::ALL), all.clone()),
        (
            Filter {
                task_type: Some(name("mail")),
                ..Filter::default()
            },
            newest_first(vec![failed, retrying]),
        ),
        (
            Filter {
                queue: Some("slow".parse().expect("name")),
                ..Filter::default()
            },
            vec![scheduled],
        ),
        (
            Filter {
                since: Some(failed.created_at()),
                ..Filter::default()
            },
            all[..3].to_vec(),
        ),
        (
            Filter {
                until: Some(failed.created_at()),
                ..Filter::default()
            },
            vec![old],
        ),
        (
            Filter {
                since: Some(failed.created_at()),
                until: Some(old.created_at()),
                ..Filter::default()
            },
            vec![],
        ),
        (
            Filter {
                states: vec![State::Failed],
                task_type: Some(name("mail")),
                queue: Some(Default::default()),
                since: Some(old.created_at()),
                until: Some(failed.created_at() + Duration::from_secs(1)),
                ..Filter::default()
            },
            vec![failed],
        ),
        (
            Filter {
                states: vec![State::Failed],
                task_type: Some(name("other")),
                ..Filter::default()
            },
            vec![],
        ),
    ];
    for (filter, expected) in cases {
        assert_eq!(list(&*store, &filter).await, expected, "{filter:?}");
    }
}

/// Lists leave out what is large, and say so; attempts too.
pub async fn large_content_is_omitted(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    for (size, omitted) in [(MAX_LISTED_CONTENT, false), (MAX_LISTED_CONTENT + 1, true)] {
        let content = Content::binary(vec![7; size]);
        let live = accept(
            &*store,
            TaskSpec {
                payload: content.clone(),
                ..spec()
            },
        )
        .await;
        let finished = accept(&*store, spec()).await;
        apply_one(
            &*store,
            outcome(finished, 1, 1, Verdict::Succeeded(content.clone())),
        )
        .await;
        let page = store
            .list(
                &Filter::default(),
                PageRequest {
                    before: None,
                    limit: 2,
                },
            )
            .await
            .expect("list");
        let find = |id| {
            page.tasks
                .iter()
                .find(|task| task.spec.id == id)
                .expect("listed")
        };
        let (live, finished) = (find(live), find(finished));
        assert_eq!(
            (live.payload_omitted, live.result_omitted),
            (omitted, false)
        );
        assert_eq!(live.spec.payload.len(), if omitted { 0 } else { size });
        assert_eq!(
            (finished.payload_omitted, finished.result_omitted),
            (false, omitted)
        );
        assert_eq!(finished.result, (!omitted).then_some(content));
    }
    let failed = accept(&*store, spec()).await;
    apply_one(
        &*store,
        outcome(failed, 1, 1, Verdict::failed_for_good("no")),
    )
    .await;
    let page = store
        .list(
            &Filter::default(),
            PageRequest {
                before: None,
                limit: 1,
            },
        )
        .await
        .expect("list");
    assert_eq!(
        (page.tasks[0].spec.id, page.tasks[0].attempts.len()),
        (failed, 0)
    );
    assert_eq!(get(&*store, failed).await.attempts.len(), 1);
}

/// Live tasks by queue.
pub async fn counts(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    assert_eq!(store.queue_counts().await.expect("counts"), []);
    let slow = || TaskSpec {
        queue: "slow".parse().expect("name"),
        ..spec()
    };
    accept(
        &*store,
        TaskSpec {
            start: Start::After(Duration::from_secs(60)),
            ..slow()
        },
    )
    .await;
    let failing = accept(&*store, slow()).await;
    apply_one(&*store, outcome(failing, 1, 1, failure("no"))).await;
    let done = accept(&*store, slow()).await;
    apply_one(&*store, outcome(done, 1, 1, success())).await;
    let first = accept(&*store, spec()).await;
    accept(&*store, spec()).await;
    let unserved = accept(&*store, spec()).await;
    apply_one(&*store, outcome(unserved, 1, 1, Verdict::Unserved)).await;
    let counts = store.queue_counts().await.expect("counts");
    let [a, b] = &counts[..] else {
        panic!("{counts:?}")
    };
    assert_eq!(
        (a.queue.as_str(), a.scheduled, a.queued, a.retrying),
        ("default", 0, 3, 0)
    );
    assert_eq!(a.unserved, [("suite".parse().expect("name"), 1)]);
    let age = time::OffsetDateTime::now_utc() - first.created_at();
    assert!(
        a.oldest
            .is_some_and(|oldest| oldest <= age + Duration::from_secs(1)),
        "{a:?}"
    );
    assert_eq!(
        (b.queue.as_str(), b.scheduled, b.queued, b.retrying),
        ("slow", 1, 0, 1)
    );
    assert_eq!((&b.unserved[..], b.oldest), (&[][..], None));
}
