//! Random sequences: whatever is done in whatever order, the store and the model agree.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use goflow_core::broker::Identity;
use goflow_core::outcome::Verdict;
use goflow_core::store::{Applied, Change, Claim, Error};
use goflow_core::{Deadline, Start, State, TaskId, TaskSpec, TaskStore, Unique};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::model::{Due, Model, holder};
use super::{
    Fixture, accept_request, apply, apply_one, failure, get, impatient, outcome, request, roomy,
    success,
};
use crate::dice::Dice;
use crate::invariants::{Violation, Watch};

/// A deadline that passes, or a wait that ends, during the walk. What happens in its first third happens before it, on a busy machine
/// too; what comes later waits until it has passed.
const SOON: Duration = Duration::from_millis(900);

/// A wait that does not end during the walk.
const LONG: Duration = Duration::from_secs(3_600);

/// Tasks of a walk, at most.
const TASKS: usize = 20;

impl Dice {
    fn wait(&mut self) -> Duration {
        match self.roll(6) {
            0 | 1 => LONG,
            2 => SOON,
            _ => Duration::ZERO,
        }
    }

    fn verdict(&mut self) -> Verdict {
        match self.roll(15) {
            0 => success(),
            1 | 2 => failure("no"),
            3 => Verdict::Failed {
                error: "busy".into(),
                permanent: false,
                retry_after: Some(self.wait()),
            },
            4 => Verdict::failed_for_good("useless"),
            5..=9 => Verdict::Started,
            10 | 11 => Verdict::Snoozed { wait: self.wait() },
            _ => Verdict::Released,
        }
    }

    /// Mostly this number, sometimes the one before or after.
    fn near(&mut self, number: u32) -> u32 {
        match self.roll(8) {
            0 => number.saturating_sub(1),
            1 => number + 1,
            _ => number,
        }
    }
}

struct Walk {
    store: Arc<dyn TaskStore>,
    /// The broker the store is bound to.
    broker: Uuid,
    dice: Dice,
    models: BTreeMap<TaskId, Model>,
    watch: Watch,
    /// When each task last began to wait, by both clocks: a paused one does not move the other.
    waits_since: BTreeMap<TaskId, (OffsetDateTime, Instant)>,
    /// Where it is, for whoever has to find out why it failed.
    place: String,
}

/// Whatever is done to tasks, in whatever order, the store and the model agree, and no invariant breaks.
pub async fn random_walk(fixture: &impl Fixture) {
    let dice = Dice::seeded();
    let seed = dice.seed();
    let mut walk = Walk {
        store: roomy(fixture).await,
        broker: Uuid::nil(),
        dice,
        models: BTreeMap::new(),
        watch: Watch::default(),
        waits_since: BTreeMap::new(),
        place: String::new(),
    };
    for step in 0..400 {
        walk.place = format!("GF_SEED={seed}, step {step}");
        walk.step().await;
    }
    let mut states: BTreeMap<State, usize> = BTreeMap::new();
    for model in walk.models.values() {
        *states.entry(model.state).or_default() += 1;
    }
    println!("{states:?}");
}

impl Walk {
    async fn step(&mut self) {
        if self.models.len() < 3 || (self.models.len() < TASKS && self.dice.one_in(10)) {
            self.accept().await;
        }
        let at = usize::try_from(self.dice.roll(self.models.len() as u64)).expect("small");
        let id = *self.models.keys().nth(at).expect("a task");
        match self.dice.roll(17) {
            0 => self.cancel(id).await,
            1 | 2 => self.reopen(id).await,
            3..=6 => self.claim().await,
            7 => self.confirm(id).await,
            8 => self.doubt().await,
            // Elsewhere no time passes on a paused clock.
            9 => sleep(SOON / 6).await,
            more => self.apply(id, more - 9).await,
        }
        self.compare(id).await;
    }

    fn model(&mut self, id: TaskId) -> &mut Model {
        self.models.get_mut(&id).expect("a task of the walk")
    }

    fn legal(&self, checked: Result<(), Violation>) {
        if let Err(violation) = checked {
            panic!("{}: {violation}", self.place);
        }
    }

    async fn accept(&mut self) {
        let mut spec = impatient(1 + u32::try_from(self.dice.roll(3)).expect("small"));
        let soon = self.dice.one_in(4);
        spec.deadline = match self.dice.roll(4) {
            _ if soon => Some(Deadline::After(SOON)),
            0 => Some(Deadline::After(LONG)),
            _ => None,
        };
        let rejects = self.dice.one_in(2);
        if self.dice.one_in(3) {
            let unique = Unique::while_live(format!("key-{}", self.dice.roll(3)));
            spec.unique = Some(if rejects { unique.or_reject() } else { unique });
        }
        let taken = spec.unique.as_ref();
        let taken = taken.and_then(|unique| holder(&self.models, &unique.key));
        let waits = self.start(&mut spec);
        let begun = Instant::now();
        let began = (OffsetDateTime::now_utc(), begun);
        let answer = accept_request(&*self.store, request(vec![spec.clone()])).await;
        match (taken, answer) {
            (Some(other), Err(Error::Duplicate(id))) if rejects => {
                assert_eq!(id, other, "{}", self.place)
            }
            (Some(other), Ok(accepted)) if !rejects => {
                let answer = (accepted[0].id, accepted[0].dispatch_now);
                assert_eq!(answer, (other, false), "{}", self.place)
            }
            (None, Ok(accepted)) if accepted[0].id == spec.id => {
                let ended = Instant::now();
                let due = waits.map(|wait| Due::Between(begun + wait, ended + wait));
                let deadline = soon.then(|| (begun + SOON, ended + SOON));
                let model = Model::new(&spec, due, deadline);
                self.models.insert(spec.id, model);
                self.waits_since.insert(spec.id, began);
                self.watch.accepted(&spec);
            }
            (taken, answer) => panic!("{}: {answer:?}, though {taken:?}", self.place),
        }
    }

    /// Chooses when it starts; how long it waits.
    fn start(&mut self, spec: &mut TaskSpec) -> Option<Duration> {
        let now = OffsetDateTime::now_utc();
        let (start, wait) = match self.dice.roll(8) {
            0 => (Start::After(SOON), Some(SOON)),
            1 => (Start::At(now + SOON), Some(SOON)),
            2 => (Start::After(LONG), Some(LONG)),
            3 => (Start::At(now - SOON), None),
            _ => (Start::Now, None),
        };
        spec.start = start;
        wait
    }

    /// The time by the clock that this task's wait goes by.
    fn time(&self, id: TaskId) -> OffsetDateTime {
        let (shown, instant) = self.waits_since[&id];
        shown + instant.elapsed()
    }

    /// Waits until it is clear which deadlines have passed, and which waits have ended.
    async fn settle(&self) {
        let now = Instant::now();
        let unclear = |(earliest, latest): &(Instant, Instant)| {
            now + SOON * 2 / 3 > *earliest && now < *latest
        };
        let times = self.models.values().flat_map(Model::times);
        if let Some(latest) = times.filter(unclear).map(|(_, latest)| latest).max() {
            sleep_until(latest + Duration::from_millis(20)).await;
        }
    }

    async fn cancel(&mut self, id: TaskId) {
        let done = matches!(
            self.store.cancel(id).await.expect("cancel"),
            Change::Done(_)
        );
        let model = self.model(id);
        let live = model.is_live();
        if live {
            model.end(State::Cancelled);
            let checked = self.watch.cancelled(id);
            self.legal(checked);
        }
        assert_eq!(done, live, "{}: cancel {:?}", self.place, self.models[&id]);
    }

    async fn reopen(&mut self, id: TaskId) {
        self.settle().await;
        let answer = self.store.retry(id).await;
        let model = &self.models[&id];
        let may = !model.is_live() && model.state != State::Succeeded;
        let key = model.key.as_deref().filter(|_| may);
        let other = key.and_then(|key| holder(&self.models, key));
        match answer {
            Ok(Change::Done(record)) if may && other.is_none() => {
                self.model(id).reopen();
                let checked = self.watch.reopened(&record);
                self.legal(checked);
            }
            Ok(Change::Forbidden(_)) if !may => {}
            Err(Error::Duplicate(holder)) if Some(holder) == other => {}
            answer => panic!("{}: retry of {model:?} gave {answer:?}", self.place),
        }
    }

    async fn claim(&mut self) {
        self.settle().await;
        let mut held = HashSet::new();
        for id in self.models.keys() {
            if self.dice.one_in(3) {
                held.insert(*id);
            }
        }
        let claim = match (self.dice.one_in(8), self.dice.one_in(4)) {
            (true, _) => Claim::Late,
            (_, true) => Claim::WaitingOrLate,
            _ => Claim::All(&held),
        };
        let due = self.store.claim_due(100, claim).await.expect("claim");
        let may_dispatch = !matches!(claim, Claim::Late);
        let is_held = |id: &TaskId| match claim {
            Claim::All(held) => Some(held.contains(id)),
            Claim::WaitingOrLate | Claim::Late => None,
        };
        for expired in &due.expired {
            let model = self.model(expired.task);
            let rightly = model.is_live() && model.is_late();
            let dispatch = model.dispatch;
            model.end(State::Expired);
            assert_eq!(
                (rightly, dispatch),
                (true, expired.dispatch),
                "{}: {expired:?}",
                self.place
            );
            let checked = self.watch.ended(expired.task, State::Expired);
            self.legal(checked);
        }
        for dispatch in &due.dispatches {
            let id = dispatch.spec.id;
            let model = self.models.get_mut(&id).expect("a task of the walk");
            let before = model.clone();
            let rightly = may_dispatch
                && !model.is_late()
                && model.claim(dispatch.attempt, dispatch.dispatch, is_held(&id));
            assert!(rightly, "{}: {before:?} was given out", self.place);
            let checked = self.watch.dispatched_at(dispatch, self.time(id));
            self.legal(checked);
        }
        let given: HashSet<TaskId> = due.dispatches.iter().map(|one| one.spec.id).collect();
        for (id, model) in self.models.iter_mut().filter(|(id, _)| !given.contains(id)) {
            let before = model.clone();
            // What is late is left for a while to those who can tell of it.
            let rightly = !may_dispatch
                || !(model.is_live() && model.is_late()) && model.pass_over(is_held(id));
            assert!(rightly, "{}: {before:?} was passed over", self.place);
        }
    }

    async fn confirm(&mut self, id: TaskId) {
        let dispatch = self.models[&id].dispatch;
        let dispatch = self.dice.near(dispatch);
        let confirmed = self
            .store
            .confirm_dispatched(self.broker, &[(id, dispatch)])
            .await;
        assert!(
            confirmed.expect("confirm"),
            "{}: not the broker",
            self.place
        );
        let model = self.model(id);
        if model.is_live() && !model.waiting && model.dispatch == dispatch {
            model.due = Due::Never;
        }
    }

    /// The broker is another one: nobody knows any more which dispatches it has.
    async fn doubt(&mut self) {
        let (broker, in_process) = (Uuid::new_v4(), false);
        let identity = Identity {
            broker,
            store: None,
            in_process,
        };
        self.store.bind(&identity).await.expect("bind");
        let before = std::mem::replace(&mut self.broker, broker);
        let all: Vec<_> = self
            .models
            .iter()
            .map(|(id, model)| (*id, model.dispatch))
            .collect();
        let late = self.store.confirm_dispatched(before, &all).await;
        assert!(
            !late.expect("confirm"),
            "{}: the broker before confirmed",
            self.place
        );
        for model in self.models.values_mut() {
            if model.is_live() && !model.waiting {
                model.due = Due::Now;
            }
        }
    }

    async fn apply(&mut self, id: TaskId, number: u64) {
        let Self { models, dice, .. } = self;
        let model = models.get_mut(&id).expect("a task of the walk");
        let before = model.clone();
        let mut batch = Vec::new();
        for _ in 0..number {
            let (attempt, dispatch) = (dice.near(model.attempt), dice.near(model.dispatch));
            batch.push(outcome(id, attempt, dispatch, dice.verdict()));
        }
        let expected: Vec<_> = batch
            .iter()
            .map(|one| model.apply(one.attempt, one.dispatch, &one.verdict))
            .collect();
        let begun = (OffsetDateTime::now_utc(), Instant::now());
        let applied = match &batch[..] {
            [one] => vec![apply_one(&*self.store, one.clone()).await],
            _ => apply(&*self.store, batch.clone()).await,
        };
        assert_eq!(
            applied, expected,
            "{}: {before:?} and {batch:?}",
            self.place
        );
        if applied.contains(&Applied::Waits(SOON)) {
            self.waits_since.insert(id, begun);
            self.model(id).due_by(Instant::now() + SOON);
        }
        for (one, applied) in batch.iter().zip(&applied) {
            let checked = self.watch.applied(id, one.attempt, applied);
            self.legal(checked);
        }
    }

    async fn compare(&mut self, id: TaskId) {
        let record = get(&*self.store, id).await;
        let model = &self.models[&id];
        let failures = record.attempts.len();
        assert_eq!(
            (record.state, record.attempt, record.dispatch, failures),
            (model.state, model.attempt, model.dispatch, model.failures),
            "{}",
            self.place
        );
        let seen = (record.due_at.is_some(), record.finished_at.is_some());
        assert_eq!(seen, (model.waiting, !model.is_live()), "{}", self.place);
        let checked = self.watch.read(&record);
        self.legal(checked);
    }
}
