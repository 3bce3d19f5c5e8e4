//! The only place that reads the clocks. Pure parts take times as parameters; the edges ask here.
//!
//! Parts that a simulator runs as well hold a [`Clock`]; the others ask the functions.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall time in milliseconds since 1970, for timestamps that people and records see. It may jump.
pub fn wall_time_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds on a clock that never goes back, from some moment in this process's life. For
/// timeouts and leases.
pub fn monotonic_ms() -> u64 {
    monotonic_micros() / 1_000
}

fn monotonic_micros() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    u64::try_from(START.elapsed().as_micros()).unwrap_or(u64::MAX)
}

/// A way to tell the time. Clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Clock(Source);

#[derive(Clone, Debug, Default)]
enum Source {
    #[default]
    System,
    Manual(Arc<ManualTime>),
}

/// A time that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualTime {
    monotonic_ms: AtomicU64,
    wall_time_ms: AtomicI64,
}

impl Clock {
    /// The operating system's clocks.
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that shows what `time` is set to.
    pub fn manual(time: Arc<ManualTime>) -> Self {
        Self(Source::Manual(time))
    }

    /// As [`monotonic_ms`].
    pub fn monotonic_ms(&self) -> u64 {
        match &self.0 {
            Source::System => monotonic_ms(),
            Source::Manual(time) => time.monotonic_ms.load(Ordering::Acquire),
        }
    }

    /// The same clock in microseconds, as exact as it is: for figures of how long things took.
    pub fn monotonic_micros(&self) -> u64 {
        match &self.0 {
            Source::System => monotonic_micros(),
            Source::Manual(_) => self.monotonic_ms().saturating_mul(1_000),
        }
    }

    /// As [`wall_time_ms`].
    pub fn wall_time_ms(&self) -> i64 {
        match &self.0 {
            Source::System => wall_time_ms(),
            Source::Manual(time) => time.wall_time_ms.load(Ordering::Acquire),
        }
    }
}

impl ManualTime {
    /// A time that begins at these two.
    pub fn new(monotonic_ms: u64, wall_time_ms: i64) -> Self {
        let (monotonic_ms, wall_time_ms) =
            (AtomicU64::new(monotonic_ms), AtomicI64::new(wall_time_ms));
        Self { monotonic_ms, wall_time_ms }
    }

    /// Sets the monotonic clock. Going back is the caller's mistake.
    pub fn set_monotonic_ms(&self, monotonic_ms: u64) {
        let before = self.monotonic_ms.swap(monotonic_ms, Ordering::AcqRel);
        assert!(before <= monotonic_ms, "a monotonic clock goes back");
    }

    /// Sets the wall clock, to any time.
    pub fn set_wall_time_ms(&self, wall_time_ms: i64) {
        self.wall_time_ms.store(wall_time_ms, Ordering::Release);
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, ms: u64) {
        self.monotonic_ms.fetch_add(ms, Ordering::AcqRel);
        self.wall_time_ms.fetch_add(i64::try_from(ms).unwrap_or(i64::MAX), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_stands_still_until_it_is_set() {
        let time = Arc::new(ManualTime::new(5, 1_000));
        let clock = Clock::manual(Arc::clone(&time));
        assert_eq!((clock.monotonic_ms(), clock.wall_time_ms()), (5, 1_000));
        time.advance(20);
        time.set_wall_time_ms(7);
        assert_eq!((clock.monotonic_ms(), clock.wall_time_ms()), (25, 7));
        assert!(Clock::system().wall_time_ms() > 1_600_000_000_000);
    }
}
