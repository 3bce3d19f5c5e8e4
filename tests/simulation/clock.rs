//! A member's clocks: the monotonic one runs a little fast or slow and begins anew at each start,
//! the wall clock also jumps.

use std::sync::Arc;

use ottla_common::clock::{Clock, ManualTime};
use ottla_coordinator::consensus::node::Now;

/// The wall clock at the beginning of the world: some day in 2026.
const EPOCH_MS: i64 = 1_800_000_000_000;

/// The clocks of one machine.
#[derive(Debug)]
pub struct Clocks {
    time: Arc<ManualTime>,
    booted_us: u64,
    /// How fast it runs, of a thousand.
    rate: u64,
    wall_offset_ms: i64,
}

impl Clocks {
    /// Clocks that run at `rate` of a thousand.
    pub fn new(rate: u64) -> Self {
        let time = Arc::new(ManualTime::new(0, EPOCH_MS));
        Self { time, booted_us: 0, rate, wall_offset_ms: 0 }
    }

    /// A process starts: its monotonic clock is another one.
    pub fn start(&mut self, now_us: u64) -> Clock {
        self.time = Arc::new(ManualTime::new(0, EPOCH_MS));
        self.booted_us = now_us;
        self.show(now_us);
        Clock::manual(Arc::clone(&self.time))
    }

    /// Lets the clocks show the time of the world.
    pub fn show(&self, now_us: u64) {
        let now = self.at(now_us);
        self.time.set_monotonic_ms(now.monotonic_ms);
        self.time.set_wall_time_ms(now.wall_time_ms);
    }

    /// What they show at a time of the world.
    pub fn at(&self, now_us: u64) -> Now {
        let since_us = (now_us - self.booted_us) * self.rate / 1000;
        let now_ms = i64::try_from(now_us / 1000).unwrap_or(i64::MAX);
        let wall_time_ms = EPOCH_MS + now_ms + self.wall_offset_ms;
        Now { monotonic_ms: since_us / 1000, wall_time_ms }
    }

    /// The wall clock jumps.
    pub fn jump(&mut self, by_ms: i64) {
        self.wall_offset_ms = by_ms;
    }

    /// How long something takes in the world that takes so long by this clock.
    pub fn in_world(&self, us: u64) -> u64 {
        us * 1000 / self.rate
    }
}
