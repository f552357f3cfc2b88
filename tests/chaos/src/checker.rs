//! The checker: holds what clients were told, what handlers wrote and what the store has against each other and
//! against what is promised.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use goflow_core::TaskId;
use serde::Serialize;

use crate::clock::Micros;
use crate::generator::Load;
use crate::history::Event;
use crate::ledger::Entry;
use crate::member::{Kind, Life, Member};
use crate::nemesis::Deed;
use crate::records::Record;
use crate::usage::Sample;

mod ends;
mod figures;
mod lives;
mod reruns;
mod slots;
mod story;
mod usage;

pub use figures::{Figures, Percentiles};
pub use story::story;

/// A member, as far as the checker has to know it.
#[derive(Debug, Clone, Serialize)]
pub struct Roll {
    /// Its name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: Kind,
    /// Tasks it runs at once.
    pub slots: usize,
    /// Its lives.
    pub lives: Vec<Life>,
}

/// A network later than this is a fault that nobody planned.
const MOST_LAG: Duration = Duration::from_millis(500);

impl From<&Member> for Roll {
    fn from(member: &Member) -> Self {
        Self {
            name: member.name.clone(),
            kind: member.kind,
            slots: member.slots,
            lives: member.lives.clone(),
        }
    }
}

/// All that is known of a run.
#[derive(Debug)]
pub struct Facts {
    /// What was pushed.
    pub load: Load,
    /// Who ran.
    pub members: Vec<Roll>,
    /// What was done to them.
    pub deeds: Vec<Deed>,
    /// What clients asked and were told, by task, then in the order of asking.
    pub events: Vec<Event>,
    /// What handlers wrote, by task, then by time.
    pub ledger: Vec<Entry>,
    /// What the store has, by task; those that are nobody's come last.
    pub records: Vec<Record>,
    /// What the processes used.
    pub usage: Vec<Sample>,
    /// The longest that the harness's own network was late.
    pub lag: Duration,
    /// When all was well again.
    pub healed_at: Micros,
    /// How long it then took until nothing was unfinished; none if it never was.
    pub drained_in: Option<Duration>,
    /// How long it took until all gateways were ready; none if they were not.
    pub ready_in: Option<Duration>,
}

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What does not hold: `I1` to `I12`, `reruns`, `recovery`, `result`.
    pub invariant: String,
    /// The number of the task, if it is about one.
    pub n: Option<u32>,
    /// Its id.
    pub task: Option<TaskId>,
    /// What was seen.
    pub seen: String,
}

impl Finding {
    fn of(invariant: &str, n: u32, task: Option<TaskId>, seen: impl Into<String>) -> Self {
        Self {
            invariant: invariant.to_owned(),
            n: Some(n),
            task,
            seen: seen.into(),
        }
    }

    fn of_run(invariant: &str, seen: impl Into<String>) -> Self {
        Self {
            invariant: invariant.to_owned(),
            n: None,
            task: None,
            seen: seen.into(),
        }
    }
}

/// What the checker has to say of a run.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// What must not be, in the order of tasks.
    pub findings: Vec<Finding>,
    /// What was counted and measured.
    pub figures: Figures,
}

/// Everything about one task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) n: u32,
    pub(crate) events: &'a [Event],
    pub(crate) ledger: &'a [Entry],
    pub(crate) records: &'a [Record],
}

/// After healing, every gateway says that it is ready within this time.
const READY_WITHIN: Duration = Duration::from_secs(15);

impl Facts {
    /// Brings everything into the order that the checker needs.
    pub fn sort(&mut self) {
        self.events.sort_by_key(|event| (event.n, event.asked_at));
        self.ledger.sort_by_key(|entry| (entry.n, entry.at));
        self.records
            .sort_by_key(|record| (number(record), record.id));
    }

    /// A task that succeeded without a row is recorded without its payload: its runs tell which one it was. Before it is
    /// [sorted](Self::sort).
    pub fn name_those_without_payload(&mut self) {
        let runs: HashMap<_, _> = self
            .ledger
            .iter()
            .filter(|entry| self.is_ours(entry.n, entry.seed))
            .map(|entry| (entry.task, entry.n))
            .collect();
        for record in self.records.iter_mut().filter(|it| it.is_without_payload) {
            let n = runs.get(&record.id);
            record.job = n.map(|n| self.load.work(*n).job);
        }
    }

    /// Checks a run.
    pub fn check(&self) -> Verdict {
        let mut findings = Vec::new();
        let mut figures = Figures::default();
        let mut keys = lives::Keys::default();
        let runs = reruns::Workers::new(self);
        for case in self.cases() {
            figures.count(&case);
            ends::check(self, &case, &mut findings);
            lives::check(self, &case, &mut keys, &mut findings);
            runs.check(&case, &mut figures, &mut findings);
        }
        ends::check_strangers(self, &mut findings);
        slots::check(self, &mut findings);
        usage::check(self, &mut findings);
        figures.finish(self, &mut findings);
        if self.lag > MOST_LAG {
            let seen = format!(
                "the harness itself was late by {:?}: its figures say nothing",
                self.lag
            );
            findings.push(Finding::of_run("harness", seen));
        }
        match self.ready_in {
            Some(took) if took <= READY_WITHIN => {}
            Some(took) => findings.push(Finding::of_run("I12", format!("ready after {took:?}"))),
            None => findings.push(Finding::of_run("I12", "the gateways did not get ready")),
        }
        Verdict { findings, figures }
    }

    fn is_ours(&self, n: u32, seed: u64) -> bool {
        n < self.load.tasks && seed == self.load.seed
    }

    /// Each task with all about it.
    pub(crate) fn cases(&self) -> impl Iterator<Item = Case<'_>> {
        (0..self.load.tasks).map(|n| self.case(n))
    }

    pub(crate) fn case(&self, n: u32) -> Case<'_> {
        let ledger = within(&self.ledger, |entry| entry.n, n);
        Case {
            n,
            events: &self.events[within(&self.events, |event| event.n, n)],
            ledger: &self.ledger[ledger],
            records: &self.records[within(&self.records, number, n)],
        }
    }

    /// What each life of each process used, in the order of time.
    pub(crate) fn lives_in_use(&self) -> BTreeMap<(&str, u32), Vec<&Sample>> {
        let mut lives: BTreeMap<(&str, u32), Vec<&Sample>> = BTreeMap::new();
        for sample in &self.usage {
            let life = (&*sample.name, sample.pid);
            lives.entry(life).or_default().push(sample);
        }
        lives
    }

    /// Which member had this process id at this time.
    pub(crate) fn member_of(&self) -> HashMap<u32, &Roll> {
        let all = self.members.iter();
        let lives = all.flat_map(|roll| roll.lives.iter().map(move |life| (life.pid, roll)));
        lives.collect()
    }
}

/// The number of a record's task; of one that is nobody's the highest.
fn number(record: &Record) -> u32 {
    record.job.as_ref().map_or(u32::MAX, |job| job.n)
}

/// Where the items with this number are, in what is sorted by it.
fn within<T>(items: &[T], of: impl Fn(&T) -> u32, n: u32) -> Range<usize> {
    let from = items.partition_point(|item| of(item) < n);
    let to = items.partition_point(|item| of(item) <= n);
    from..to
}
