//! How often something took how long, in buckets that are 3 % wide at most.

use std::time::Duration;

/// Buckets of each doubling of the duration.
const PARTS: u64 = 32;

/// Durations up to about an hour.
const BUCKETS: usize = 1024;

/// Counts of durations, in microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, longest: Duration::ZERO }
    }
}

impl Histogram {
    /// Counts a duration.
    pub fn record(&mut self, took: Duration) {
        let bucket = bucket_of(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if let Some(count) = self.counts.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
        self.total += 1;
        self.longest = self.longest.max(took);
    }

    /// Adds another one's counts.
    pub fn merge(&mut self, other: &Self) {
        for (own, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *own += theirs;
        }
        self.total += other.total;
        self.longest = self.longest.max(other.longest);
    }

    /// How many were counted.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The longest of them, in milliseconds.
    pub fn longest_ms(&self) -> f64 {
        self.longest.as_secs_f64() * 1e3
    }

    /// What this share of the durations (of 1,000) does not exceed, in milliseconds.
    pub fn per_mille_ms(&self, share: u64) -> f64 {
        let wanted = (self.total * share).div_ceil(1000);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return Duration::from_micros(end_of(bucket)).as_secs_f64() * 1e3;
            }
        }
        self.longest_ms()
    }
}

/// Below `PARTS` each microsecond has its bucket; above, each doubling has `PARTS` of them.
fn bucket_of(micros: u64) -> usize {
    let doublings = (micros / PARTS).checked_ilog2().map_or(0, |log| log + 1);
    let part = if doublings == 0 { micros } else { micros >> (doublings - 1) };
    let start = PARTS * u64::from(doublings.saturating_sub(1));
    usize::try_from(start + part).unwrap_or(usize::MAX)
}

/// The first duration that is longer than those of a bucket, in microseconds.
fn end_of(bucket: usize) -> u64 {
    let bucket = u64::try_from(bucket).unwrap_or(u64::MAX);
    let doublings = (bucket / PARTS).saturating_sub(1);
    let part = bucket - PARTS * doublings;
    (part + 1) << doublings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_lies_in_a_bucket_that_ends_a_little_behind_it() {
        for micros in (0..5_000).chain((5_000..50_000_000).step_by(9_973)) {
            let end = end_of(bucket_of(micros));
            assert!(end > micros && end <= micros + 1 + micros / 16, "{micros} ends at {end}");
        }
    }

    #[test]
    fn percentiles_are_told_in_milliseconds() {
        let mut histogram = Histogram::default();
        for micros in 1..=1_000 {
            histogram.record(Duration::from_micros(micros));
        }
        assert!((histogram.per_mille_ms(500) - 0.5).abs() < 0.04);
        assert!((histogram.per_mille_ms(990) - 0.99).abs() < 0.04);
        assert!((histogram.longest_ms() - 1.0).abs() < 1e-9);
    }
}
