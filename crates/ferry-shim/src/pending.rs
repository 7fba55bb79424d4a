//! Bytes a descriptor did not take yet.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::io::Errno;

/// A queue of bytes in front of a non-blocking descriptor. Bytes are only copied into it when the
/// descriptor is full; once empty it holds no memory.
#[derive(Debug, Default)]
pub struct Pending {
    bytes: Vec<u8>,
    start: usize,
}

impl Pending {
    /// Number of queued bytes.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    /// Whether nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes `head` and `body`, queueing what the descriptor does not take now.
    pub fn send(&mut self, fd: impl AsFd, head: &[u8], body: &[u8]) -> io::Result<()> {
        let mut taken = 0;
        if self.is_empty() {
            let parts = [IoSlice::new(head), IoSlice::new(body)];
            let parts = if head.is_empty() { &parts[1..] } else { &parts[..] };
            taken = match retry(|| rustix::io::writev(&fd, parts)) {
                Ok(n) => n,
                Err(Errno::AGAIN) => 0,
                Err(e) => return Err(e.into()),
            };
        } else if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        let head_left = head.get(taken..).unwrap_or_default();
        let body_left = &body[taken.saturating_sub(head.len())..];
        self.bytes.extend_from_slice(head_left);
        self.bytes.extend_from_slice(body_left);
        Ok(())
    }

    /// Writes queued bytes until none is left or the descriptor is full.
    pub fn flush(&mut self, fd: impl AsFd) -> io::Result<()> {
        while !self.is_empty() {
            match retry(|| rustix::io::write(&fd, &self.bytes[self.start..])) {
                Ok(n) => self.start += n,
                Err(Errno::AGAIN) => return Ok(()),
                Err(e) => return Err(e.into()),
            }
        }
        self.clear();
        Ok(())
    }

    /// Forgets what is queued.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Repeats a call that a signal interrupted.
pub fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_full_descriptor_loses_and_reorders_nothing() {
        let (a, mut b) = UnixStream::pair().unwrap();
        a.set_nonblocking(true).unwrap();
        let mut pending = Pending::default();
        let mut expected = Vec::new();
        for i in 0..100u32 {
            let body = vec![i as u8; 7000];
            pending.send(&a, &i.to_le_bytes(), &body).unwrap();
            expected.extend(i.to_le_bytes());
            expected.extend(body);
        }
        assert!(!pending.is_empty());
        let reader = std::thread::spawn(move || {
            let mut got = Vec::new();
            b.read_to_end(&mut got).unwrap();
            got
        });
        while !pending.is_empty() {
            pending.flush(&a).unwrap();
            std::thread::yield_now();
        }
        assert_eq!(pending.bytes.capacity(), 0);
        drop(a);
        assert!(reader.join().unwrap() == expected);
    }
}
