use goflow_core::record::FailedAttempt;
use goflow_core::{Content, Start};

use super::*;
use crate::store::spec;

const LIMIT: Duration = Duration::from_secs(60);

/// One task, and a watch that knows it.
struct Case {
    spec: TaskSpec,
    watch: Watch,
    /// When it was pushed.
    zero: OffsetDateTime,
}

impl Case {
    fn new() -> Self {
        Self::of(spec())
    }

    fn of(spec: TaskSpec) -> Self {
        let mut watch = Watch::default();
        watch.accepted(&spec);
        let zero = spec.id.created_at();
        Self { spec, watch, zero }
    }

    fn id(&self) -> TaskId {
        self.spec.id
    }

    fn record(&self, state: State, attempt: u32, dispatch: u32) -> TaskRecord {
        TaskRecord {
            state,
            attempt,
            dispatch,
            ..TaskRecord::new(self.spec.clone().into())
        }
    }

    fn dispatch(&self, attempt: u32, dispatch: u32) -> Dispatch {
        Dispatch {
            spec: self.spec.clone().into(),
            attempt,
            dispatch,
        }
    }

    /// Reads it in this state, which is legal.
    fn reads(&mut self, state: State, attempt: u32, dispatch: u32) {
        let record = self.record(state, attempt, dispatch);
        self.watch.read(&record).expect("legal");
    }

    /// What reading it in this state would break.
    fn breaks(&self, state: State, attempt: u32, dispatch: u32) -> &'static str {
        let record = self.record(state, attempt, dispatch);
        broken(self.watch.clone().read(&record))
    }

    /// Reads it as waiting until this time.
    fn waits(&mut self, state: State, attempt: u32, dispatch: u32, until: OffsetDateTime) {
        let due_at = Some(until);
        let record = self.record(state, attempt, dispatch);
        let read = self.watch.read(&TaskRecord { due_at, ..record });
        read.expect("legal");
    }
}

fn broken(checked: Checked) -> &'static str {
    checked.expect_err("it does not hold").invariant
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn i1_what_is_due_and_served_ends_in_time() {
    let case = Case::new();
    let id = case.id();
    let late = |watch: &Watch, healed, now| {
        let violations = watch.unfinished_after_heal(healed, now, LIMIT, |_| true);
        assert!(violations.iter().all(|one| one.invariant == "I1"));
        violations.iter().map(|one| one.task).collect::<Vec<_>>()
    };
    let healed = case.zero;
    assert_eq!(late(&case.watch, healed, healed + seconds(59)), []);
    assert_eq!(late(&case.watch, healed, healed + seconds(61)), [id]);
    let unserved = |_: &TaskSpec| false;
    let far = healed + seconds(1_000);
    assert_eq!(
        case.watch
            .unfinished_after_heal(healed, far, LIMIT, unserved),
        []
    );

    // Nobody was told that it is accepted: it need not be there.
    let mut watch = Watch::default();
    watch.submitted(&case.spec);
    assert_eq!(late(&watch, healed, far), []);
    watch.started(id, 1, healed).expect("it may run");
    assert_eq!(late(&watch, healed, far), [id], "it was there all the same");

    let mut watch = case.watch.clone();
    watch.read(&case.record(State::Failed, 1, 1)).expect("end");
    assert_eq!(late(&watch, healed, far), []);
    let reopened = case.record(State::Queued, 2, 1);
    watch.reopened(&reopened).expect("a retry");
    assert_eq!(late(&watch, healed, far), [id]);
}

#[test]
fn i1_counts_from_when_a_task_is_due() {
    let start = Start::After(seconds(100));
    let mut case = Case::of(TaskSpec { start, ..spec() });
    let late = |case: &Case, after| {
        let now = case.zero + seconds(after);
        let violations = case
            .watch
            .unfinished_after_heal(case.zero, now, LIMIT, |_| true);
        !violations.is_empty()
    };
    assert!(!late(&case, 159));
    assert!(late(&case, 161));
    let later = case.zero + seconds(200);
    case.waits(State::Retrying, 2, 1, later);
    assert!(!late(&case, 259));
    assert!(late(&case, 261));
    case.reads(State::Queued, 2, 2);
    case.watch.cancelled(case.id()).expect("legal");
    assert!(!late(&case, 1_000));
}

#[test]
fn i2_an_end_never_changes() {
    let mut case = Case::new();
    case.reads(State::Succeeded, 1, 1);
    let end = case.record(State::Succeeded, 1, 1);
    case.watch.read(&end).expect("the same");
    let result = Some(Content::new("1", "application/json"));
    let other = TaskRecord {
        result: result.clone(),
        ..end.clone()
    };
    assert_eq!(broken(case.watch.clone().read(&other)), "I2");
    assert_eq!(broken(case.watch.clone().listed(&other)), "I2");
    let error = Some("another".to_owned());
    let other = TaskRecord { error, ..end };
    assert_eq!(broken(case.watch.read(&other)), "I2");
    assert_eq!(case.breaks(State::Failed, 1, 1), "I2");
}

#[test]
fn a_list_leaves_things_out() {
    let mut case = Case::new();
    let failed = FailedAttempt {
        attempt: 1,
        error: "no".to_owned(),
        worker: None,
        started_at: None,
        finished_at: case.zero,
    };
    let end = TaskRecord {
        result: Some(Content::new("1", "application/json")),
        attempts: vec![failed],
        ..case.record(State::Succeeded, 2, 2)
    };
    let listed = TaskRecord {
        result: None,
        attempts: Vec::new(),
        result_omitted: true,
        ..end.clone()
    };
    case.watch.listed(&listed).expect("first in a list");
    case.watch.read(&end).expect("then whole");
    case.watch.listed(&listed).expect("and in a list again");
    assert_eq!(broken(case.watch.read(&listed)), "I2");
}

#[test]
fn i3_a_task_ends_once() {
    let mut case = Case::new();
    let (id, finished) = (case.id(), Applied::Finished(State::Failed));
    case.watch.applied(id, 1, &finished).expect("legal");
    let again = |checked: &dyn Fn(&mut Watch) -> Checked| broken(checked(&mut case.watch.clone()));
    assert_eq!(again(&|watch| watch.applied(id, 1, &finished)), "I3");
    assert_eq!(again(&|watch| watch.applied(id, 1, &Applied::Noted)), "I3");
    assert_eq!(again(&|watch| watch.ended(id, State::Cancelled)), "I3");
    assert_eq!(again(&|watch| watch.cancelled(id)), "I3");
    assert_eq!(case.breaks(State::Succeeded, 1, 1), "I3");
    assert_eq!(case.breaks(State::Queued, 1, 1), "I3");
    assert_eq!(broken(Case::new().watch.ended(id, State::Queued)), "I6");
    let fresh = Case::new();
    let id = fresh.id();
    assert_eq!(broken(fresh.watch.clone().ended(id, State::Queued)), "I3");
}

#[test]
fn i4_attempts_keep_to_their_number() {
    let mut case = Case::new();
    assert_eq!(case.breaks(State::Queued, 4, 4), "I4");
    assert_eq!(case.breaks(State::Queued, 0, 1), "I4");
    let of = |watch: &Watch, dispatch| broken(watch.clone().dispatched(&dispatch));
    assert_eq!(of(&case.watch, case.dispatch(4, 1)), "I4");
    let mut watch = case.watch.clone();
    assert_eq!(broken(watch.started(case.id(), 4, case.zero)), "I4");
    let failed = |attempt| FailedAttempt {
        attempt,
        error: "no".to_owned(),
        worker: None,
        started_at: None,
        finished_at: case.zero,
    };
    for attempts in [vec![failed(1), failed(1)], vec![failed(3)]] {
        let record = case.record(State::Retrying, 2, 1);
        let record = TaskRecord { attempts, ..record };
        assert_eq!(broken(case.watch.clone().read(&record)), "I4");
    }
    // A retry by hand gives as many again.
    case.reads(State::Failed, 2, 2);
    let reopened = case.record(State::Queued, 3, 2);
    case.watch.reopened(&reopened).expect("legal");
    let (last, beyond) = (case.dispatch(5, 3), case.dispatch(6, 4));
    case.watch.dispatched(&last).expect("its limit is raised");
    assert_eq!(broken(case.watch.dispatched(&beyond)), "I4");
    let far = Case::new();
    let reopened = far.record(State::Queued, 5, 1);
    assert_eq!(broken(far.watch.clone().reopened(&reopened)), "I4");
}

#[test]
fn i5_states_follow_their_path() {
    let mut case = Case::new();
    case.reads(State::Retrying, 2, 1);
    assert_eq!(case.breaks(State::Queued, 2, 1), "I5", "not dispatched");
    assert_eq!(case.breaks(State::Running, 2, 1), "I5", "counts as queued");
    assert_eq!(case.breaks(State::Retrying, 1, 1), "I5");
    case.reads(State::Running, 2, 2);
    assert_eq!(case.breaks(State::Queued, 2, 1), "I5");
    case.reads(State::Queued, 2, 2);
    case.reads(State::Succeeded, 2, 2);
    let dispatch = case.dispatch(2, 3);
    assert_eq!(broken(case.watch.clone().dispatched(&dispatch)), "I5");
    let reopened = case.record(State::Queued, 3, 2);
    assert_eq!(broken(case.watch.reopened(&reopened)), "I5", "it succeeded");
    let mut case = Case::new();
    case.reads(State::Failed, 1, 1);
    let same = case.record(State::Queued, 1, 1);
    assert_eq!(broken(case.watch.reopened(&same)), "I5", "no new attempt");
}

#[test]
fn a_lost_answer_to_a_retry_leaves_both_open() {
    let mut case = Case::new();
    case.watch.cancelled(case.id()).expect("legal");
    case.reads(State::Cancelled, 1, 1);
    let mut watch = case.watch.clone();
    watch.perhaps_reopened(case.id()).expect("known");
    watch
        .clone()
        .read(&case.record(State::Cancelled, 1, 1))
        .expect("it was not");
    watch
        .clone()
        .read(&case.record(State::Succeeded, 2, 2))
        .expect("it was");
    assert_eq!(broken(watch.read(&case.record(State::Queued, 8, 2))), "I4");
    let mut case = Case::new();
    case.reads(State::Succeeded, 1, 1);
    case.watch.perhaps_reopened(case.id()).expect("known");
    assert_eq!(
        case.breaks(State::Queued, 2, 1),
        "I2",
        "a success is for good"
    );
}

#[test]
fn i6_nothing_is_there_that_nobody_pushed() {
    let case = Case::new();
    let mut watch = Watch::default();
    let (id, record) = (case.id(), case.record(State::Queued, 1, 1));
    assert_eq!(broken(watch.read(&record)), "I6");
    assert_eq!(broken(watch.listed(&record)), "I6");
    assert_eq!(broken(watch.dispatched(&case.dispatch(1, 1))), "I6");
    assert_eq!(broken(watch.started(id, 1, case.zero)), "I6");
    assert_eq!(broken(watch.applied(id, 1, &Applied::Noted)), "I6");
    assert_eq!(broken(watch.cancelled(id)), "I6");
    assert_eq!(broken(watch.reopened(&record)), "I6");
    watch.submitted(&case.spec);
    let read = watch.clone().read(&record);
    read.expect("it may be there by now");
    watch.refused(id);
    assert_eq!(broken(watch.read(&record)), "I6");
}

#[test]
fn i7_a_key_gives_one_id() {
    let case = Case::new();
    let mut watch = case.watch.clone();
    watch.keyed("k", case.id()).expect("the first");
    watch.keyed("k", case.id()).expect("the same");
    watch.keyed("other", TaskId::new()).expect("another key");
    assert_eq!(broken(watch.keyed("k", TaskId::new())), "I7");
}

#[test]
fn i8_an_older_attempt_overwrites_nothing() {
    let mut case = Case::new();
    let id = case.id();
    let dispatch = case.dispatch(2, 2);
    case.watch.dispatched(&dispatch).expect("legal");
    let older = [case.dispatch(1, 2), case.dispatch(2, 1)];
    for dispatch in older {
        assert_eq!(broken(case.watch.clone().dispatched(&dispatch)), "I8");
    }
    let waits = Applied::Waits(Duration::ZERO);
    assert_eq!(broken(case.watch.clone().applied(id, 1, &waits)), "I8");
    let dropped = case.watch.applied(id, 1, &Applied::Stale);
    dropped.expect("it had no effect");

    let mut case = Case::new();
    let id = case.id();
    case.watch.started(id, 2, case.zero).expect("legal");
    assert_eq!(case.breaks(State::Failed, 1, 1), "I8");
    case.reads(State::Failed, 2, 2);
    let late = case.watch.started(id, 1, case.zero);
    late.expect("a stale message may run");
    assert_eq!(broken(case.watch.started(id, 3, case.zero)), "I8");
}

#[test]
fn i9_nothing_runs_before_its_time() {
    let start = Start::After(seconds(10));
    let mut case = Case::of(TaskSpec { start, ..spec() });
    let id = case.id();
    let (early, due) = (case.zero + seconds(9), case.zero + seconds(10));
    let first = case.dispatch(1, 1);
    assert_eq!(broken(case.watch.clone().started(id, 1, early)), "I9");
    let at = |watch: &Watch, dispatch, at| watch.clone().dispatched_at(dispatch, at);
    assert_eq!(broken(at(&case.watch, &first, early)), "I9");
    let by_another_clock = due - CLOCK_TOLERANCE;
    at(&case.watch, &first, by_another_clock).expect("near enough");
    let mut exact = Watch::with_clock_tolerance(Duration::ZERO);
    exact.accepted(&case.spec);
    assert_eq!(broken(exact.started(id, 1, by_another_clock)), "I9");
    case.watch.started(id, 1, due).expect("legal");

    // What waits for its next attempt, or was snoozed, has its time too.
    let (due, later) = (due + seconds(10), due + seconds(20));
    case.waits(State::Retrying, 2, 1, due);
    assert_eq!(broken(case.watch.clone().started(id, 2, early)), "I9");
    let second = case.dispatch(2, 2);
    assert_eq!(broken(at(&case.watch, &second, early)), "I9");
    case.watch.dispatched_at(&second, due).expect("legal");
    case.watch.started(id, 2, due).expect("legal");
    case.waits(State::Scheduled, 2, 2, later);
    let third = case.dispatch(2, 3);
    assert_eq!(broken(at(&case.watch, &third, due)), "I9");
    case.watch.dispatched_at(&third, later).expect("legal");

    let at = Start::At(case.zero + seconds(10));
    let case = Case::of(TaskSpec {
        start: at,
        ..case.spec
    });
    assert_eq!(broken(case.watch.clone().started(id, 1, early)), "I9");
}

#[test]
fn i9_a_retry_by_hand_is_due_at_once() {
    let start = Start::After(seconds(10));
    let mut case = Case::of(TaskSpec { start, ..spec() });
    case.waits(State::Scheduled, 1, 0, case.zero + seconds(10));
    case.watch.cancelled(case.id()).expect("legal");
    let reopened = case.record(State::Queued, 2, 0);
    case.watch.reopened(&reopened).expect("legal");
    let dispatch = case.dispatch(2, 1);
    let dispatched = case.watch.dispatched_at(&dispatch, case.zero);
    dispatched.expect("legal");
    let started = case.watch.started(case.id(), 2, case.zero);
    started.expect("legal");
}

#[test]
fn i10_a_cancel_is_never_followed_by_a_success() {
    let mut case = Case::new();
    let (id, success) = (case.id(), Applied::Finished(State::Succeeded));
    case.watch.cancelled(id).expect("legal");
    assert_eq!(broken(case.watch.clone().applied(id, 1, &success)), "I10");
    assert_eq!(case.breaks(State::Succeeded, 1, 1), "I10");
    let record = case.record(State::Succeeded, 1, 1);
    assert_eq!(broken(case.watch.clone().listed(&record)), "I10");
    let late = case.watch.started(id, 1, case.zero);
    late.expect("a run that nobody could stop any more");
    case.reads(State::Cancelled, 1, 1);
    // A retry by hand opens it again.
    let reopened = case.record(State::Queued, 2, 1);
    case.watch.reopened(&reopened).expect("legal");
    case.watch.applied(id, 2, &success).expect("legal");
    case.reads(State::Succeeded, 2, 2);
}

#[test]
fn i12_nothing_is_left_behind() {
    let mut case = Case::new();
    let left = [case.record(State::Queued, 1, 1)];
    case.watch.drained(&left).expect("it is still to end");
    assert_eq!(broken(Watch::default().drained(&left)), "I12");
    case.watch.cancelled(case.id()).expect("legal");
    assert_eq!(broken(case.watch.drained(&left)), "I12");
    let done = [case.record(State::Cancelled, 1, 1)];
    case.watch.drained(&done).expect("it has ended");
}
