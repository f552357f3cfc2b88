//! Random sequences, and a small model that says what must come of them.

use std::collections::HashMap;
use std::time::Duration;

use goflow_core::outcome::Verdict;
use goflow_core::state::CRASH_LIMIT;
use goflow_core::store::{Applied, Change};
use goflow_core::{State, TaskId};

use super::{Fixture, accept, apply, apply_one, failure, get, impatient, outcome, roomy, success};

/// What the port's documentation says a task is, in as few words as possible.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    state: State,
    attempt: u32,
    limit: u32,
    dispatch: u32,
    waiting: bool,
    starts: u32,
    failures: usize,
}

impl Model {
    fn wait(&mut self, state: State) -> Applied {
        (self.state, self.waiting, self.starts) = (state, true, 0);
        Applied::Waits(Duration::ZERO)
    }

    fn end(&mut self, state: State) -> Applied {
        (self.state, self.waiting) = (state, false);
        Applied::Finished(state)
    }

    fn apply(&mut self, attempt: u32, dispatch: u32, verdict: &Verdict) -> Applied {
        let current = dispatch == self.dispatch && !self.waiting;
        if self.state.is_terminal() || attempt != self.attempt {
            return Applied::Stale;
        }
        match verdict {
            Verdict::Succeeded(_) => self.end(State::Succeeded),
            Verdict::Failed { permanent, .. } if *permanent || attempt >= self.limit => {
                self.failures += 1;
                self.end(State::Failed)
            }
            _ if !current => Applied::Stale,
            Verdict::Failed { .. } => {
                self.failures += 1;
                self.attempt += 1;
                self.wait(State::Retrying)
            }
            Verdict::Started if self.starts == CRASH_LIMIT => self.end(State::Crashed),
            Verdict::Started => {
                self.starts += 1;
                Applied::Noted
            }
            _ => self.wait(State::Queued),
        }
    }
}

/// A generator of numbers that any platform repeats: xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn verdict(&mut self) -> Verdict {
        match self.roll(12) {
            0 => success(),
            1..=3 => failure("no"),
            4 => Verdict::Failed {
                error: "useless".into(),
                permanent: true,
            },
            5..=9 => Verdict::Started,
            _ => Verdict::Released,
        }
    }
}

/// Whatever is done to tasks, in whatever order, the store and the model agree.
pub async fn random_walk(fixture: &impl Fixture) {
    let store = roomy(fixture).await;
    let seed = u64::from_ne_bytes(
        uuid::Uuid::new_v4().into_bytes()[..8]
            .try_into()
            .expect("8 bytes"),
    ) | 1;
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let mut tasks: Vec<TaskId> = Vec::new();
    let mut models: HashMap<TaskId, Model> = HashMap::new();
    for step in 0..300 {
        if tasks.len() < 3 || (dice.roll(20) == 0 && tasks.len() < 12) {
            let limit = 1 + u32::try_from(dice.roll(3)).expect("small");
            let id = accept(&*store, impatient(limit)).await;
            tasks.push(id);
            let (state, waiting) = (State::Queued, false);
            models.insert(
                id,
                Model {
                    state,
                    attempt: 1,
                    limit,
                    dispatch: 1,
                    waiting,
                    starts: 0,
                    failures: 0,
                },
            );
        }
        let id = tasks[usize::try_from(dice.roll(tasks.len() as u64)).expect("small")];
        let limit = get(&*store, id).await.spec.max_attempts;
        let model = models.get_mut(&id).expect("known");
        match dice.roll(10) {
            0 => {
                let done = matches!(store.cancel(id).await.expect("cancel"), Change::Done(_));
                assert_eq!(
                    done,
                    !model.state.is_terminal(),
                    "seed {seed}, step {step}: cancel {model:?}"
                );
                if done {
                    model.end(State::Cancelled);
                }
            }
            1 | 2 => {
                let done = matches!(store.retry(id).await.expect("retry"), Change::Done(_));
                let may = model.state.is_terminal() && model.state != State::Succeeded;
                assert_eq!(done, may, "seed {seed}, step {step}: retry {model:?}");
                if done {
                    model.limit = model.attempt + limit;
                    model.attempt += 1;
                    model.wait(State::Queued);
                }
            }
            3 | 4 => {
                for due in store.claim_due(100).await.expect("claim") {
                    let model = models.get_mut(&due.spec.id).expect("known");
                    if model.waiting {
                        (model.state, model.waiting) = (State::Queued, false);
                        model.dispatch += 1;
                    }
                    let seen = (model.state, model.attempt, model.dispatch);
                    assert_eq!(
                        (State::Queued, due.attempt, due.dispatch),
                        seen,
                        "seed {seed}, step {step}"
                    );
                }
                assert!(
                    models.values().all(|model| !model.waiting),
                    "seed {seed}, step {step}: {models:?}"
                );
            }
            more => {
                // Mostly of the present dispatch, sometimes of one before or to come.
                let near = |dice: &mut Dice, number: u32| match dice.roll(8) {
                    0 => number.saturating_sub(1),
                    1 => number + 1,
                    _ => number,
                };
                let batch: Vec<_> = (4..more)
                    .map(|_| {
                        let (attempt, dispatch) = (
                            near(&mut dice, model.attempt),
                            near(&mut dice, model.dispatch),
                        );
                        outcome(id, attempt, dispatch, dice.verdict())
                    })
                    .collect();
                let expected: Vec<_> = batch
                    .iter()
                    .map(|o| model.apply(o.attempt, o.dispatch, &o.verdict))
                    .collect();
                let applied = if let [one] = &batch[..] {
                    vec![apply_one(&*store, one.clone()).await]
                } else {
                    apply(&*store, batch.clone()).await
                };
                assert_eq!(applied, expected, "seed {seed}, step {step}: {batch:?}");
            }
        }
        let record = get(&*store, id).await;
        let model = &models[&id];
        let seen = (
            record.state,
            record.attempt,
            record.dispatch,
            record.attempts.len(),
        );
        assert_eq!(
            seen,
            (model.state, model.attempt, model.dispatch, model.failures),
            "seed {seed}, step {step}"
        );
        assert_eq!(
            record.due_at.is_some(),
            model.waiting,
            "seed {seed}, step {step}"
        );
        assert_eq!(
            record.finished_at.is_some(),
            model.state.is_terminal(),
            "seed {seed}, step {step}"
        );
    }
}
