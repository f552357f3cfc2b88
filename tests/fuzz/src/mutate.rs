//! Makes inputs of inputs.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The longest input that is made, in bytes, but for the rare ones.
pub const MAX_INPUT: usize = 4 * 1024;

/// The longest of the rare ones: beyond every limit on a payload.
const MAX_INFLATED: usize = 2 * 1024 * 1024;

/// How rare: one in so many.
const INFLATED: u32 = 4_000;

/// Bytes that mean something to MessagePack, protobuf, JSON or UTF-8.
const BYTES: &[u8] = &[
    0x00, 0x01, 0x0a, 0x20, 0x22, 0x2c, 0x5b, 0x5c, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0x81, 0x90, 0x9f,
    0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xc4, 0xc5, 0xc6, 0xca, 0xcb, 0xcc, 0xcf, 0xd3, 0xd9, 0xdb, 0xdc,
    0xdd, 0xde, 0xdf, 0xe0, 0xf8, 0xff,
];

/// Numbers at the edges of what types hold.
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "3",
    "4",
    "255",
    "256",
    "1000",
    "1001",
    "65536",
    "921600",
    "2147483648",
    "4294967295",
    "4294967296",
    "9007199254740993",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e19",
    "1e400",
    "0.1",
    "-0.0",
    "1e-400",
];

/// Makes inputs of inputs, the same ones for the same seed.
#[derive(Debug)]
pub struct Mutator {
    random: StdRng,
    words: &'static [&'static str],
}

impl Mutator {
    /// Begins with `seed`; `words` are put in now and then.
    pub fn new(seed: u64, words: &'static [&'static str]) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            words,
        }
    }

    /// An input like one of these, which are not empty, or parts of several.
    pub fn next(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        // The shorter of two: it is quicker, and more of it matters.
        let (one, other) = (self.pick(inputs), self.pick(inputs));
        let mut bytes = if one.len() < other.len() { one } else { other }.clone();
        // One change most of the time, seldom many.
        for _ in 0..1 << self.below(4) {
            self.change(&mut bytes, inputs);
        }
        bytes.truncate(MAX_INPUT);
        if self.random.random_ratio(1, INFLATED) {
            self.inflate(&mut bytes);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        match self.below(15) {
            0 | 1 => self.flip(bytes),
            2 => self.overwrite(bytes),
            3 => bytes.truncate(self.place(bytes)),
            4 => {
                let (from, to) = self.range(bytes);
                bytes.drain(from..to);
            }
            5 => self.repeat(bytes),
            6 => {
                let noise: Vec<u8> = (0..=self.below(8)).map(|_| self.random.random()).collect();
                self.put(bytes, &noise);
            }
            7 | 8 => self.word(bytes),
            9 | 10 => self.number(bytes),
            11 | 12 => self.binary_number(bytes),
            _ => {
                let other = self.pick(inputs);
                self.splice(bytes, other);
            }
        }
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let at = self.below(bytes.len());
            bytes[at] ^= 1 << self.below(8);
        }
    }

    fn overwrite(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let at = self.below(bytes.len());
            bytes[at] = *self.pick(BYTES);
        }
    }

    /// Says a part of it again, up to 200 times: for what is nested or listed.
    fn repeat(&mut self, bytes: &mut Vec<u8>) {
        let (from, to) = self.range(bytes);
        let part = &bytes[from..to.min(from + 64)];
        let times = if self.random.random_ratio(1, 8) {
            200
        } else {
            2
        };
        let repeated = part.repeat(times);
        bytes.splice(to..to, repeated);
    }

    fn word(&mut self, bytes: &mut Vec<u8>) {
        if !self.words.is_empty() {
            let word = *self.pick(self.words);
            self.put(bytes, word.as_bytes());
        }
    }

    /// Another number for one that is there, or a number somewhere.
    fn number(&mut self, bytes: &mut Vec<u8>) {
        let start = self.place(bytes);
        let digits = |bytes: &[u8]| {
            bytes
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count()
        };
        let from = bytes[start..].iter().position(u8::is_ascii_digit);
        let from = from.map_or(start, |at| start + at);
        let to = from + digits(&bytes[from..]);
        let number = *self.pick(NUMBERS);
        bytes.splice(from..to, number.bytes());
    }

    /// A length, count or value that is as great or as small as can be, in 1 to 8 bytes.
    fn binary_number(&mut self, bytes: &mut [u8]) {
        let width = 1 << self.below(4);
        if bytes.len() < width {
            return;
        }
        let at = self.below(bytes.len() - width + 1);
        let near = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let number = *self.pick(&[
            0,
            1,
            0x7f,
            0x80,
            0xff,
            0x7fff,
            0xffff,
            1 << 31,
            u64::MAX,
            near,
        ]);
        let written = number.to_be_bytes();
        bytes[at..at + width].copy_from_slice(&written[8 - width..]);
    }

    /// Goes on like another input.
    fn splice(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let (from, to) = self.range(other);
        if self.random.random() {
            bytes.truncate(self.place(bytes));
        }
        self.put(bytes, &other[from..to]);
    }

    /// Beyond all limits, by a part of itself that comes again and again.
    fn inflate(&mut self, bytes: &mut Vec<u8>) {
        let (from, to) = self.range(bytes);
        let part = bytes[from..to].to_vec();
        if !part.is_empty() {
            let times = self.below(MAX_INFLATED) / part.len();
            bytes.splice(to..to, part.repeat(times));
        }
    }

    /// Puts a part in, or over what is there.
    fn put(&mut self, bytes: &mut Vec<u8>, part: &[u8]) {
        let at = self.place(bytes);
        let until = if self.random.random() {
            bytes.len().min(at + part.len())
        } else {
            at
        };
        bytes.splice(at..until, part.iter().copied());
    }

    fn range(&mut self, bytes: &[u8]) -> (usize, usize) {
        let (a, b) = (self.place(bytes), self.place(bytes));
        (a.min(b), a.max(b))
    }

    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn below(&mut self, limit: usize) -> usize {
        self.random.random_range(0..limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_inputs_and_few_of_them_are_long() {
        let corpus = [b"{\"a\":1}".to_vec(), b"[]".to_vec(), Vec::new()];
        let made = |seed| {
            let mut mutator = Mutator::new(seed, &["word"]);
            let inputs: Vec<_> = (0..10_000).map(|_| mutator.next(&corpus)).collect();
            inputs
        };
        let inputs = made(1);
        assert_eq!(inputs, made(1));
        assert_ne!(inputs, made(2));
        let long = inputs.iter().filter(|input| input.len() > MAX_INPUT);
        assert!((1..10).contains(&long.count()));
        let most = inputs.iter().map(Vec::len).max();
        assert!(most <= Some(MAX_INPUT + MAX_INFLATED), "{most:?}");
        for part in ["word", "18446744073709551615", "[[", "\0"] {
            let is_there = |input: &Vec<u8>| {
                let found = input.windows(part.len());
                found.into_iter().any(|piece| piece == part.as_bytes())
            };
            assert!(inputs.iter().any(is_there), "{part}");
        }
    }
}
