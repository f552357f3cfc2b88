//! Tells lost from slow: which dispatches nobody confirmed may be published again.

use std::collections::HashSet;

use tokio::time::Instant;

use super::Core;
use super::schedule::TICK;
use crate::broker;
use crate::id::TaskId;

/// Two looks at who holds what, with everything that was handed over before the first of them recorded in between.
///
/// A task that neither look shows in a worker's hands has no outcome on its way: the worker that let go of it did so
/// before the first look, and what it handed over has been applied since. Its row would be finished.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    before: Option<Look>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    held: HashSet<TaskId>,
    /// The newest outcome that had been handed over by then.
    submitted: u64,
}

impl Sweep {
    /// The tasks that are in somebody's hands; none when it cannot be said yet, or when it was said a moment ago.
    pub(super) async fn held(&mut self, core: &Core) -> Option<HashSet<TaskId>> {
        if !core.in_process && core.registry.is_deaf() {
            self.before = None;
            return None;
        }
        if self
            .before
            .as_ref()
            .is_some_and(|look| look.at.elapsed() < TICK)
        {
            return None;
        }
        let mut held = core.registry.held();
        let at = Instant::now();
        let depth = core.connection.results.depth(core.route.as_str());
        let depth = match tokio::time::timeout(TICK, depth).await {
            Ok(Ok(depth)) => depth,
            missed => {
                if matches!(missed, Ok(Err(broker::Error::NoChannel { .. }))) {
                    core.prepared.doubt();
                }
                self.before = None;
                return None;
            }
        };
        // Positions start anew with the state of the broker.
        let before = self
            .before
            .take_if(|look| depth.settled >= look.submitted || depth.submitted < look.submitted);
        if self.before.is_none() {
            let (held, submitted) = (held.clone(), depth.submitted);
            self.before = Some(Look {
                at,
                held,
                submitted,
            });
        }
        let before = before.filter(|look| depth.submitted >= look.submitted)?;
        held.extend(before.held);
        Some(held)
    }
}
