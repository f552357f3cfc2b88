//! Engines and workers: started, killed and started again.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use goflow_core::{GoFlow, Worker};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::actor::Actor;
use crate::broker;
use crate::gate::Gate;
use crate::handler;
use crate::store::GatedStore;
use crate::world::{Death, World};

/// How long an engine that could not start waits before it tries again.
const START_AGAIN: Duration = Duration::from_millis(300);

/// All actors. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Cast {
    world: Arc<World>,
    members: Arc<Mutex<BTreeMap<Actor, Member>>>,
}

#[derive(Debug)]
struct Member {
    life: u32,
    /// None while it is dead.
    alive: Option<Alive>,
}

#[derive(Debug)]
struct Alive {
    dead: CancellationToken,
    role: Role,
    /// Starts it.
    _starting: JoinSet<()>,
}

#[derive(Debug)]
enum Role {
    Engine(GoFlow),
    /// It works for as long as it is kept.
    Worker {
        _worker: Worker,
    },
}

impl Cast {
    /// Everyone, started.
    pub(crate) fn start(world: &Arc<World>) -> anyhow::Result<Self> {
        let cast = Self {
            world: world.clone(),
            members: Arc::default(),
        };
        let engines = (0..world.plan.engines).map(Actor::Engine);
        let workers = (0..world.plan.workers).map(Actor::Worker);
        for actor in engines.chain(workers) {
            cast.raise(actor, 0)?;
        }
        Ok(cast)
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<Actor, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a life of an actor.
    fn raise(&self, actor: Actor, life: u32) -> anyhow::Result<()> {
        let dead = CancellationToken::new();
        let gate = Gate {
            world: self.world.clone(),
            actor,
            life,
            dead: dead.clone(),
        };
        let mut starting = JoinSet::new();
        let role = match actor {
            Actor::Engine(_) => {
                let queue = GoFlow::builder()
                    .broker(broker::connect(&gate))
                    .store(Arc::new(GatedStore(gate)))
                    .build();
                let (started, world) = (queue.clone(), self.world.clone());
                starting.spawn(async move {
                    while let Err(error) = started.start().await {
                        world.note(format_args!("{actor} cannot start: {error}"));
                        sleep(START_AGAIN).await;
                    }
                });
                Role::Engine(queue)
            }
            Actor::Worker(_) => {
                let worker = Worker::builder()
                    .broker(broker::connect(&gate))
                    .handlers(handler::handlers(&self.world, actor)?)
                    .num_workers(self.world.plan.slots)
                    .queues(["default", "elsewhere"])
                    .lease(self.world.plan.lease)
                    .build()?;
                let (started, world) = (worker.clone(), self.world.clone());
                starting.spawn(async move {
                    if let Err(error) = started.start().await {
                        world.note(format_args!("{actor} cannot start: {error}"));
                    }
                });
                Role::Worker { _worker: worker }
            }
        };
        let alive = Some(Alive {
            dead,
            role,
            _starting: starting,
        });
        self.members().insert(actor, Member { life, alive });
        Ok(())
    }

    /// Ends a life of an actor at once, and begins the next one when its time has come.
    pub(crate) async fn kill(&self, death: Death) -> anyhow::Result<()> {
        let Death { actor, life, down } = death;
        let ended = {
            let mut members = self.members();
            let Some(member) = members.get_mut(&actor).filter(|member| member.life == life) else {
                return Ok(());
            };
            member.alive.take()
        };
        let Some(ended) = ended else {
            return Ok(());
        };
        self.world.note(format_args!("{actor} dies for {down:?}"));
        ended.dead.cancel();
        drop(ended);
        sleep(down).await;
        self.world.note(format_args!("{actor} is back"));
        self.raise(actor, life + 1)
    }

    /// The life that an actor lives.
    pub(crate) fn life(&self, actor: Actor) -> u32 {
        self.members().get(&actor).map_or(0, |member| member.life)
    }

    /// Whether nobody is dead.
    pub(crate) fn is_complete(&self) -> bool {
        self.members().values().all(|member| member.alive.is_some())
    }

    /// Has an engine do something; none if it is dead, or dies meanwhile.
    pub(crate) async fn with_engine<T, F: Future<Output = T>>(
        &self,
        number: usize,
        ask: impl FnOnce(GoFlow) -> F,
    ) -> Option<T> {
        let (queue, dead) = {
            let members = self.members();
            let alive = members.get(&Actor::Engine(number))?.alive.as_ref()?;
            let Role::Engine(queue) = &alive.role else {
                return None;
            };
            (queue.clone(), alive.dead.clone())
        };
        dead.run_until_cancelled(ask(queue)).await
    }
}
