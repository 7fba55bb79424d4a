//! Changing inputs at random, but the same way every time.

use crate::Target;

/// Inputs do not grow beyond this.
const MAX: usize = 64 * 1024;
const BLOCK: usize = 512;

/// Numbers that look random (xorshift64*, Marsaglia 2003).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// A sequence for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 when that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        match u64::try_from(limit) {
            Ok(limit @ 1..) => usize::try_from((self.number() >> 11) % limit).unwrap_or(0),
            _ => 0,
        }
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }
}

/// A new input from one of the known ones.
pub fn mutate(target: &Target, known: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = random.pick(known).cloned().unwrap_or_default();
    for _ in 0..=random.below(6) {
        step(target, known, &mut input, random);
    }
    input.truncate(MAX);
    if target.tar && random.below(4) > 0 {
        fix_sums(&mut input);
    }
    input
}

fn step(target: &Target, known: &[Vec<u8>], input: &mut Vec<u8>, random: &mut Random) {
    const BYTES: &[u8] = b"\0\xff\x7f\x80 \n\t/.:-,=\"'{}[]()%\\0123789AZaz@#*";
    let at = random.below(input.len() + 1);
    let end = at + random.below((input.len() - at).min(64) + 1);
    match random.below(9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        1 => {
            if let (Some(byte), Some(new)) = (input.get_mut(at), random.pick(BYTES)) {
                *byte = *new;
            }
        }
        2 => {
            if let Some(new) = random.pick(BYTES) {
                input.insert(at, *new);
            }
        }
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            for _ in 0..=random.below(8) {
                insert(input, at, &piece);
            }
        }
        5 | 6 => {
            if let Some(word) = random.pick(target.words) {
                let over = if random.below(2) == 0 { at } else { end };
                input.drain(at..over);
                insert(input, at, word.as_bytes());
            }
        }
        7 => {
            if let Some(other) = random.pick(known) {
                let from = random.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
        }
        _ => input.truncate(at),
    }
}

fn insert(input: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if input.len() + piece.len() <= MAX {
        input.splice(at..at, piece.iter().copied());
    }
}

/// Puts the sums of headers right, so that what they say is looked at (POSIX `pax`, ustar format).
fn fix_sums(input: &mut [u8]) {
    for header in input.chunks_exact_mut(BLOCK) {
        if header[257..262] != *b"ustar" {
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
