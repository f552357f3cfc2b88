//! Makes a failing input smaller.

use std::time::{Duration, Instant};

use goflow_fuzz::Target;

use crate::fuzz::breaks;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of what a failure says tells it from others: where it is.
const PLACE: usize = 60;

/// A part of `input` that still fails in the same place.
pub(crate) fn shrink(target: &Target, mut input: Vec<u8>, said: &str) -> Vec<u8> {
    let place = |said: &str| said.chars().take(PLACE).collect::<String>();
    let wanted = place(said);
    let begun = Instant::now();
    let mut width = input.len() / 2;
    while width > 0 {
        let mut at = 0;
        while at < input.len() && begun.elapsed() < PATIENCE {
            let mut less = input.clone();
            less.drain(at..(at + width).min(input.len()));
            if breaks(target, &less).is_some_and(|said| place(&said) == wanted) {
                input = less;
            } else {
                at += width;
            }
        }
        width /= 2;
    }
    input
}
