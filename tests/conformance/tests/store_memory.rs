//! The store suite on the store in memory.

use std::sync::Arc;

use goflow_conformance::store::Fixture;
use goflow_core::TaskStore;
use goflow_core::store::memory::{MemoryStore, Options};

struct Memory;

impl Fixture for Memory {
    async fn open(&self, max_live: usize) -> Arc<dyn TaskStore> {
        Arc::new(MemoryStore::new(Options {
            max_live,
            ..Options::default()
        }))
    }
}

async fn start() -> Memory {
    Memory
}

// Waits cost nothing on tokio's paused clock.
goflow_conformance::store_suite!(start, start_paused = true);
