//! Surroundings that are the same each time: made from a seed and from tokio's clock.

use std::cell::RefCell;
use std::marker::PhantomData;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use time::{Date, Month, OffsetDateTime, Time};
use tokio::time::Instant;
use uuid::Builder;
use uuid::Uuid;

/// When every simulation begins.
const EPOCH: OffsetDateTime = match Date::from_calendar_date(2030, Month::January, 1) {
    Ok(date) => OffsetDateTime::new_utc(date, Time::MIDNIGHT),
    Err(_) => OffsetDateTime::UNIX_EPOCH,
};

thread_local! {
    static SURROUNDINGS: RefCell<Option<Surroundings>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct Surroundings {
    began: Instant,
    chance: StdRng,
    /// Ids made so far: those of one millisecond are in the order in which they were made.
    ids: u32,
}

/// Gives everything of goflow that runs on this thread, until the guard is dropped, a time of day that goes by
/// tokio's clock from the same moment on, and chance and ids that are made from `seed`. Leases are then renewed by a
/// task, not by a thread.
///
/// For use on a current-thread runtime whose clock is paused: called within it.
pub fn simulate(seed: u64) -> Simulated {
    let surroundings = Surroundings {
        began: Instant::now(),
        chance: StdRng::seed_from_u64(seed),
        ids: 0,
    };
    SURROUNDINGS.set(Some(surroundings));
    Simulated(PhantomData)
}

/// A simulation on this thread; dropping it ends it.
#[derive(Debug)]
#[must_use = "the simulation ends with it"]
pub struct Simulated(PhantomData<*const ()>);

impl Simulated {
    /// The time of day in the simulation.
    pub fn now_utc(&self) -> OffsetDateTime {
        now_utc().unwrap_or(EPOCH)
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        SURROUNDINGS.set(None);
    }
}

fn with<T>(take: impl FnOnce(&mut Surroundings) -> T) -> Option<T> {
    SURROUNDINGS.with_borrow_mut(|surroundings| surroundings.as_mut().map(take))
}

pub(super) fn is_simulated() -> bool {
    SURROUNDINGS.with_borrow(Option::is_some)
}

pub(super) fn now_utc() -> Option<OffsetDateTime> {
    with(|surroundings| EPOCH + surroundings.began.elapsed())
}

pub(super) fn chance() -> Option<f64> {
    with(|surroundings| surroundings.chance.random())
}

pub(super) fn new_id() -> Option<Uuid> {
    with(|surroundings| Builder::from_random_bytes(surroundings.chance.random()).into_uuid())
}

pub(super) fn new_ordered_id() -> Option<Uuid> {
    let now = now_utc()?;
    let millis = u64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default();
    with(|surroundings| {
        surroundings.ids += 1;
        let mut rest: [u8; 10] = surroundings.chance.random();
        // The two bits at the front give way to the version and the variant.
        rest[..2].copy_from_slice(&((surroundings.ids >> 6) as u16 & 0xfff).to_be_bytes());
        rest[2] = (surroundings.ids & 0x3f) as u8;
        Builder::from_unix_timestamp_millis(millis, &rest).into_uuid()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::id::TaskId;

    /// What two simulations from one seed give.
    async fn look(seed: u64) -> (Vec<Uuid>, f64, OffsetDateTime) {
        let simulated = simulate(seed);
        let mut ids: Vec<_> = (0..200).map(|_| TaskId::new()).collect();
        tokio::time::sleep(Duration::from_millis(3)).await;
        ids.push(TaskId::new());
        assert!(ids.is_sorted());
        assert_eq!(ids[200].created_at(), simulated.now_utc());
        let mut ids: Vec<_> = ids.iter().map(TaskId::as_uuid).collect();
        ids.push(super::super::new_id());
        (ids, super::super::chance(), simulated.now_utc())
    }

    #[tokio::test(start_paused = true)]
    async fn a_seed_gives_the_same_each_time() {
        let first = look(7).await;
        assert_eq!(first.2, EPOCH + Duration::from_millis(3));
        assert_eq!(first, look(7).await);
        assert_ne!(first.0, look(8).await.0);
        assert_ne!(TaskId::new(), TaskId::new());
        assert!(!is_simulated());
    }
}
