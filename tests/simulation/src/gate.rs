//! What stands between an actor and its servers: every call passes here, or does not.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use goflow_core::{broker, store};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::actor::Actor;
use crate::plan::{Op, What};
use crate::world::{Death, World};

/// How long it takes to notice that a server is away.
const NOTICE: Duration = Duration::from_millis(50);

/// The gate of one life of an actor. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Gate {
    pub(crate) world: Arc<World>,
    pub(crate) actor: Actor,
    pub(crate) life: u32,
    /// Fires at its death: nothing passes any more.
    pub(crate) dead: CancellationToken,
}

/// An error that says nothing of what happened.
pub(crate) trait Away {
    fn away() -> Self;
}

impl Away for broker::Error {
    fn away() -> Self {
        Self::unavailable("simulated", "it does not answer")
    }
}

impl Away for store::Error {
    fn away() -> Self {
        Self::unavailable("simulated", "it does not answer")
    }
}

impl Gate {
    /// Makes a call that may go wrong.
    pub(crate) async fn call<T, E: Away>(
        &self,
        op: Op,
        effect: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        self.noted(op, effect).await.0
    }

    /// The same; tells what went wrong with it, for what can only be done to the answer.
    pub(crate) async fn noted<T, E: Away>(
        &self,
        op: Op,
        effect: impl Future<Output = Result<T, E>> + Send,
    ) -> (Result<T, E>, Option<What>) {
        self.pass().await;
        let what = self.world.fault(self.actor, op);
        match what {
            Some(What::FailBefore) => {
                sleep(NOTICE).await;
                return (Err(E::away()), what);
            }
            Some(What::DieBefore(down)) => self.die(down).await,
            _ => {}
        }
        if self.world.is_away(op.server()) {
            sleep(NOTICE).await;
            return (Err(E::away()), what);
        }
        let result = effect.await;
        (self.answer(result, what).await, what)
    }

    /// Asks for deliveries. Those that bring none are not counted: nothing can go wrong with them.
    pub(crate) async fn deliveries<D>(
        &self,
        op: Op,
        effect: impl Future<Output = Result<Vec<D>, broker::Error>> + Send,
    ) -> Result<(Vec<D>, Option<What>), broker::Error> {
        self.pass().await;
        if self.world.is_away(op.server()) {
            sleep(NOTICE).await;
            return Err(broker::Error::away());
        }
        let taken = effect.await;
        let brings = taken.as_ref().is_ok_and(|taken| !taken.is_empty());
        let what = if brings {
            self.world.fault(self.actor, op)
        } else {
            None
        };
        Ok((self.answer(taken, what).await?, what))
    }

    /// Has an answer go its way.
    async fn answer<T, E: Away>(
        &self,
        mut result: Result<T, E>,
        what: Option<What>,
    ) -> Result<T, E> {
        match what {
            Some(What::FailAfter) => result = Err(E::away()),
            Some(What::DieAfter(down)) => self.die(down).await,
            Some(What::Late(by)) => sleep(by).await,
            _ => {}
        }
        self.pass().await;
        result
    }

    /// Waits while the actor is paused; forever once it is dead.
    async fn pass(&self) {
        self.world.unpaused(self.actor).await;
        if self.dead.is_cancelled() {
            pending::<()>().await;
        }
    }

    async fn die(&self, down: Duration) {
        let (actor, life) = (self.actor, self.life);
        self.dead.cancel();
        self.world.kill(Death { actor, life, down });
        pending::<()>().await;
    }
}
