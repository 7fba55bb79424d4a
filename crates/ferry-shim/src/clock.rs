//! Time: of day for records, monotonic for deadlines.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the epoch.
pub fn now() -> i64 {
    let t = clock_gettime(ClockId::Realtime);
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}

/// Milliseconds on a clock that is never set.
pub fn monotonic_ms() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec.cast_unsigned() * 1000 + t.tv_nsec.cast_unsigned() / 1_000_000
}
