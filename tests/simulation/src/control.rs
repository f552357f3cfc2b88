//! The control port as an actor sees it.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use goflow_core::broker::{Control, Error, Identity, Signals, Tombstone, Tombstones};
use goflow_core::signal::Signal;
use goflow_core::{StoreId, TaskId};

use crate::gate::Gate;
use crate::plan::{Op, What};
use crate::server::seen_from_afar;

/// Control behind a gate.
#[derive(Debug)]
pub(crate) struct GatedControl(pub(crate) Gate);

impl GatedControl {
    fn inner(&self) -> Arc<dyn Control> {
        self.0.world.broker.connection().control
    }

    fn signals(&self) -> &dyn Control {
        self.0.world.broker.signals().control.as_ref()
    }
}

#[async_trait]
impl Control for GatedControl {
    async fn identify(&self) -> Result<Identity, Error> {
        let identify = async {
            let identity = self.inner().identify().await.map_err(seen_from_afar)?;
            self.0.world.broker.know();
            // Other processes know its messages too.
            Ok(Identity {
                in_process: false,
                ..identity
            })
        };
        self.0.call(Op::OtherOfBroker, identify).await
    }

    async fn bind(&self, store: StoreId) -> Result<(), Error> {
        let bind = async {
            // It makes what the broker needs, as `identify` does.
            self.0.world.broker.know();
            self.inner().bind(store).await.map_err(seen_from_afar)
        };
        self.0.call(Op::OtherOfBroker, bind).await
    }

    async fn ping(&self) -> Result<(), Error> {
        self.0.call(Op::OtherOfBroker, async { Ok(()) }).await
    }

    async fn signal(&self, signal: Signal) -> Result<(), Error> {
        let again = signal.clone();
        let (signalled, what) = self
            .0
            .noted(Op::Signal, self.signals().signal(signal))
            .await;
        if what == Some(What::Twice) {
            self.signals().signal(again).await?;
        }
        signalled
    }

    async fn listen(&self) -> Result<Signals, Error> {
        self.0
            .call(Op::OtherOfBroker, self.signals().listen())
            .await
    }

    async fn commands(&self) -> Result<Signals, Error> {
        self.0
            .call(Op::OtherOfBroker, self.signals().commands())
            .await
    }

    async fn save_checkpoint(&self, task: TaskId, checkpoint: Bytes) -> Result<(), Error> {
        let save = async {
            self.inner()
                .save_checkpoint(task, checkpoint)
                .await
                .map_err(seen_from_afar)
        };
        self.0.call(Op::OtherOfBroker, save).await
    }

    async fn checkpoint(&self, task: TaskId) -> Result<Option<Bytes>, Error> {
        let read = async { self.inner().checkpoint(task).await.map_err(seen_from_afar) };
        self.0.call(Op::OtherOfBroker, read).await
    }

    async fn entomb(&self, tombstones: &[Tombstone]) -> Result<(), Error> {
        let entomb = async {
            self.inner()
                .entomb(tombstones)
                .await
                .map_err(seen_from_afar)
        };
        self.0.call(Op::Entomb, entomb).await
    }

    async fn tombstones(&self) -> Result<Tombstones, Error> {
        let read = async {
            if !self.0.world.broker.is_known() {
                return Err(Error::NoChannel {
                    channel: "tombstones".to_owned(),
                });
            }
            self.inner().tombstones().await.map_err(seen_from_afar)
        };
        self.0.call(Op::Tombstones, read).await
    }

    async fn close(&self) {}
}
