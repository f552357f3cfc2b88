//! Hears from instrumented code which parts of it ran.
//!
//! `scripts/fuzz` has the compiler give goflow's crates a counter for each branch (LLVM's inline 8-bit counters). A
//! build without them, as every other one, has no counters, and nothing is new.

#![expect(
    unsafe_code,
    reason = "the compiler hands counters over as the ends of an array"
)]

use std::ptr;
use std::sync::Mutex;

/// Where the counters of each crate are.
static REGIONS: Mutex<Vec<Region>> = Mutex::new(Vec::new());

/// An array of counters that lives as long as the process.
#[derive(Debug, Clone, Copy)]
struct Region {
    start: *mut u8,
    length: usize,
}

// SAFETY: a place in memory that is there for ever; who reads and writes it, and when, is said where that is done.
unsafe impl Send for Region {}

/// Called by each instrumented crate before `main`.
///
/// # Safety
/// The two are the ends of one array that lives as long as the process, as LLVM promises.
#[unsafe(no_mangle)]
unsafe extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    let length = end.addr().saturating_sub(start.addr());
    if let Ok(mut regions) = REGIONS.lock()
        && !regions.iter().any(|known| known.start == start)
    {
        regions.push(Region { start, length });
    }
}

/// What has been seen of the code so far.
#[derive(Debug)]
pub(crate) struct Seen {
    regions: Vec<Region>,
    /// How often each counter has counted: a bit for each order of magnitude.
    magnitudes: Vec<u8>,
    /// The counters after the last run.
    counted: Vec<u8>,
}

/// Counters that are looked at together: most are zero.
const BLOCK: usize = 64;

impl Seen {
    /// Nothing so far. There is one at a time, and what it looks at runs on its thread.
    pub(crate) fn nothing() -> Self {
        let regions = REGIONS.lock().map(|all| all.clone()).unwrap_or_default();
        let length: usize = regions.iter().map(|region| region.length).sum();
        Self {
            regions,
            magnitudes: vec![0; length.next_multiple_of(BLOCK)],
            counted: vec![0; length.next_multiple_of(BLOCK)],
        }
    }

    /// Whether there is anything to see.
    pub(crate) fn is_blind(&self) -> bool {
        self.regions.is_empty()
    }

    /// How many branches have been taken.
    pub(crate) fn branches(&self) -> usize {
        self.magnitudes.iter().filter(|seen| **seen != 0).count()
    }

    /// The branches that were taken by what ran last.
    pub(crate) fn taken(&self) -> Vec<usize> {
        let counted = self.counted.iter().enumerate();
        let taken = counted.filter(|(_, count)| **count != 0);
        taken.map(|(branch, _)| branch).collect()
    }

    /// Forgets what the counters say, before something runs.
    pub(crate) fn begin(&self) {
        for region in &self.regions {
            // SAFETY: the array is as long as that, and no instrumented code runs now.
            unsafe { ptr::write_bytes(region.start, 0, region.length) };
        }
    }

    /// Whether what ran took a branch that was not taken before, or much more often.
    pub(crate) fn is_new(&mut self) -> bool {
        let mut rest = &mut self.counted[..];
        for region in &self.regions {
            let (here, behind) = rest.split_at_mut(region.length);
            // SAFETY: both are as long as that, apart from each other, and no instrumented code runs now.
            unsafe { ptr::copy_nonoverlapping(region.start, here.as_mut_ptr(), region.length) };
            rest = behind;
        }
        let mut new = false;
        let blocks = self.counted.chunks_exact(BLOCK);
        for (counted, seen) in blocks.zip(self.magnitudes.chunks_exact_mut(BLOCK)) {
            if counted != [0; BLOCK] {
                new |= note(counted, seen);
            }
        }
        new
    }
}

/// Notes what was counted; whether that is new.
fn note(counted: &[u8], seen: &mut [u8]) -> bool {
    let mut new = false;
    for (count, seen) in counted.iter().zip(seen) {
        if *count != 0 {
            let magnitude = 1 << count.ilog2();
            new |= *seen & magnitude == 0;
            *seen |= magnitude;
        }
    }
    new
}
