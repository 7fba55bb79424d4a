//! The key sequence by which a person leaves a terminal without ending the process in it.

/// What became of some input.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Stay,
    /// The sequence is complete; input after it is discarded.
    Detach,
}

/// Looks for the sequence in a client's input, as Docker does: keys that match its beginning are held
/// back until the match is decided; a mismatch passes them all on, the deciding key included, which
/// is not considered as the beginning of another match.
#[derive(Debug, Default)]
pub struct DetachFilter {
    keys: Vec<u8>,
    matched: usize,
}

impl DetachFilter {
    /// A filter for `keys`; with none it passes everything.
    pub fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// Appends to `out` what of `input` is meant for the process.
    pub fn filter(&mut self, input: &[u8], out: &mut Vec<u8>) -> Verdict {
        if self.keys.is_empty() {
            out.extend_from_slice(input);
            return Verdict::Stay;
        }
        for &byte in input {
            if byte == self.keys[self.matched] {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return Verdict::Detach;
                }
            } else {
                out.extend_from_slice(&self.keys[..self.matched]);
                out.push(byte);
                self.matched = 0;
            }
        }
        Verdict::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PQ: [u8; 2] = [0x10, 0x11];

    fn run(parts: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut filter = DetachFilter::new(PQ.to_vec());
        let mut out = Vec::new();
        for part in parts {
            if filter.filter(part, &mut out) == Verdict::Detach {
                return (out, true);
            }
        }
        (out, false)
    }

    #[test]
    fn a_complete_sequence_is_swallowed_also_over_reads() {
        assert_eq!(run(&[b"ab\x10\x11cd"]), (b"ab".to_vec(), true));
        assert_eq!(run(&[b"ab\x10", b"", b"\x11"]), (b"ab".to_vec(), true));
    }

    #[test]
    fn an_incomplete_sequence_is_passed_on_once_decided() {
        assert_eq!(run(&[b"a\x10"]), (b"a".to_vec(), false));
        assert_eq!(run(&[b"a\x10", b"b"]), (b"a\x10b".to_vec(), false));
        assert_eq!(run(&[b"\x10\x10", b"\x11"]), (b"\x10\x10\x11".to_vec(), false));
        assert_eq!(run(&[b"\x11\x10\x11"]), (b"\x11".to_vec(), true));
    }

    #[test]
    fn without_keys_everything_passes() {
        let mut out = Vec::new();
        assert_eq!(DetachFilter::default().filter(b"\x10\x11", &mut out), Verdict::Stay);
        assert_eq!(out, b"\x10\x11");
    }
}
