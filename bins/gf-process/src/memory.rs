//! Where memory comes from, and that it goes back.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use mimalloc::MiMalloc;

/// Takes an eighth of the CPU time off an engine, and gives back what a handler took and left.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// How long what is free may stay with the process.
const EVERY: Duration = Duration::from_secs(1);

/// Has what is free given back to the system, every second, until it is dropped.
///
/// mimalloc looks for it when a thread has no more use for a page or ends: a process that has little to do keeps for
/// hours what one task took. So a thread comes and goes.
pub async fn give_back() -> std::convert::Infallible {
    loop {
        tokio::time::sleep(EVERY).await;
        // Over in some microseconds. Should there be no thread to be had, the next one will do.
        let passer_by = thread::Builder::new().name("goflow-memory".to_owned());
        drop(passer_by.spawn(|| drop(black_box(Box::new([0_u8; 64])))));
    }
}
