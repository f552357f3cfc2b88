//! Which broker the rows speak of, and who has the store to itself.

use uuid::Uuid;

use super::Now;
use super::tables::Tables;
use crate::broker::Identity;
use crate::faults::{self, Bug};
use crate::store::{CLAIM_TTL, Error};

impl Tables {
    /// Whether the rows speak of another broker.
    pub(super) fn is_bound_to_other(&self, broker: Uuid) -> bool {
        self.broker.is_some_and(|bound| bound != broker)
    }

    pub(super) fn bind(&mut self, broker: &Identity, now: Now) -> Result<(), Error> {
        if let Some((owner, until)) = self.claim
            && owner != broker.broker
            && until > now.instant
        {
            return Err(Error::Claimed);
        }
        self.claim = broker
            .in_process
            .then(|| (broker.broker, now.instant + CLAIM_TTL));
        let is_new = self.broker.replace(broker.broker) != Some(broker.broker);
        if is_new && !faults::planted(Bug::ReconcileOff) {
            self.redispatch_all(now);
        }
        Ok(())
    }
}
