//! Leases as actors see them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use goflow_core::broker::{Error, Lease};

use crate::gate::Gate;
use crate::plan::Op;
use crate::server::seen_from_afar;

/// A lease behind a gate.
#[derive(Debug)]
pub(crate) struct GatedLease {
    pub(crate) gate: Gate,
    pub(crate) ack: Op,
    pub(crate) inner: Arc<dyn Lease>,
}

#[async_trait]
impl Lease for GatedLease {
    async fn ack(&self) -> Result<(), Error> {
        let ack = async { self.inner.ack().await.map_err(seen_from_afar) };
        self.gate.call(self.ack, ack).await
    }

    async fn nack(&self, delay: Duration) -> Result<(), Error> {
        let nack = async { self.inner.nack(delay).await.map_err(seen_from_afar) };
        self.gate.call(Op::Nack, nack).await
    }

    async fn extend(&self) -> Result<bool, Error> {
        let extend = async { self.inner.extend().await.map_err(seen_from_afar) };
        self.gate.call(Op::Extend, extend).await
    }
}

/// The lease of a message that came once too often: there is nothing to hold.
#[derive(Debug)]
pub(crate) struct NoLease;

#[async_trait]
impl Lease for NoLease {
    async fn ack(&self) -> Result<(), Error> {
        Ok(())
    }

    async fn nack(&self, _: Duration) -> Result<(), Error> {
        Ok(())
    }

    async fn extend(&self) -> Result<bool, Error> {
        Ok(true)
    }
}
