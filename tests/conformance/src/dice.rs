//! Numbers that look random and can be had again.

use uuid::Uuid;

/// A generator of numbers that any platform repeats: xorshift.
#[derive(Debug, Clone)]
pub struct Dice {
    seed: u64,
    state: u64,
}

impl Dice {
    /// Seeded by `GF_SEED`, or anew; prints the seed, so that what failed can be done again.
    ///
    /// # Panics
    /// When `GF_SEED` is no number, or zero.
    pub fn seeded() -> Self {
        let given = std::env::var("GF_SEED").ok();
        let seed = given.map(|seed| seed.parse().expect("GF_SEED is a number"));
        let fresh = || (Uuid::new_v4().as_u128() >> 64) as u64 | 1;
        let seed = seed.unwrap_or_else(fresh);
        assert_ne!(seed, 0, "GF_SEED must not be zero");
        println!("GF_SEED={seed}");
        Self { seed, state: seed }
    }

    /// What it started from.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A number below `sides`.
    ///
    /// # Panics
    /// When `sides` is zero.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % sides
    }

    /// True once in `sides` times.
    ///
    /// # Panics
    /// When `sides` is zero.
    pub fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    /// One of these.
    ///
    /// # Panics
    /// When there are none.
    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let index = self.roll(from.len() as u64) as usize;
        &from[index]
    }
}
