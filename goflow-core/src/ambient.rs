//! What the engine takes from around it: the time of day, chance, and new ids. All of it in one place, so that a
//! simulation can give its own. (Spans of time come from tokio's clock, which a simulation pauses.)

use time::OffsetDateTime;
use uuid::Uuid;

#[cfg(feature = "faults")]
mod simulated;

#[cfg(feature = "faults")]
pub use simulated::{Simulated, simulate};

/// The time of day.
pub(crate) fn now_utc() -> OffsetDateTime {
    #[cfg(feature = "faults")]
    if let Some(now) = simulated::now_utc() {
        return now;
    }
    OffsetDateTime::now_utc()
}

/// A number in `0.0..1.0`.
pub(crate) fn chance() -> f64 {
    #[cfg(feature = "faults")]
    if let Some(chance) = simulated::chance() {
        return chance;
    }
    rand::random()
}

/// A new id.
pub(crate) fn new_id() -> Uuid {
    #[cfg(feature = "faults")]
    if let Some(id) = simulated::new_id() {
        return id;
    }
    Uuid::new_v4()
}

/// A new id that carries the present time.
pub(crate) fn new_ordered_id() -> Uuid {
    #[cfg(feature = "faults")]
    if let Some(id) = simulated::new_ordered_id() {
        return id;
    }
    Uuid::now_v7()
}

/// Whether this thread runs a simulation, in which nothing may happen on any other thread.
pub(crate) fn is_simulated() -> bool {
    #[cfg(feature = "faults")]
    return simulated::is_simulated();
    #[cfg(not(feature = "faults"))]
    false
}
