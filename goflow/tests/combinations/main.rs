//! The engine on every combination of adapters: memory or NATS, memory or Postgres.

#![expect(clippy::unwrap_used, reason = "in a test it says enough")]

/// Makes a test of each case on each combination of adapters, in a module named after it.
macro_rules! on_every_combination {
    ($($case:ident)+) => {
        on! { memory_memory: MemoryMemory, $($case)+ }
        on! { memory_postgres: MemoryPostgres, $($case)+ }
        on! { nats_memory: NatsMemory, $($case)+ }
        on! { nats_postgres: NatsPostgres, $($case)+ }
    };
}

/// The same on one of them.
macro_rules! on {
    ($module:ident: $combination:ident, $($case:ident)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case($crate::deployment::Combination::$combination).await;
                }
            )+
        }
    };
}

mod checkpoints;
mod deployment;
mod lanes;
mod lifecycle;
mod pauses;
mod walk;

/// Long enough for anything that has to happen.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
