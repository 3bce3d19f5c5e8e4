//! How long things took: counts in buckets that widen with the time, so that memory is bounded and
//! every percentile is exact to about 1.5 %.

use std::time::Duration;

use serde::Serialize;

/// Buckets within each doubling of the time.
const STEPS: usize = 64;
/// Bits of a bucket's number within its doubling.
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Doublings that are told apart: up to 2^40 µs, twelve days.
const DOUBLINGS: usize = 34;

/// Times in microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

/// The figures of a histogram, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// The mean.
    pub avg_ms: f64,
    /// The median.
    pub p50_ms: f64,
    /// 95 of 100 took at most this.
    pub p95_ms: f64,
    /// 99 of 100.
    pub p99_ms: f64,
    /// 999 of 1000.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; STEPS * (DOUBLINGS + 1)], count: 0, sum_us: 0, max_us: 0 }
    }
}

impl Histogram {
    /// Counts `count` things that took this long.
    pub fn add(&mut self, time: Duration, count: u64) {
        let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let index = bucket_of(time_us).min(self.buckets.len() - 1);
        if let Some(bucket) = self.buckets.get_mut(index) {
            *bucket += count;
        }
        self.count += count;
        self.sum_us = self.sum_us.saturating_add(time_us.saturating_mul(count));
        self.max_us = self.max_us.max(time_us);
    }

    /// How many things were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds what another counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// The figures.
    pub fn percentiles(&self) -> Percentiles {
        if self.count == 0 {
            return Percentiles::default();
        }
        let at = |share: f64| self.quantile_us(share) / 1000.0;
        Percentiles {
            avg_ms: self.sum_us as f64 / self.count as f64 / 1000.0,
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: self.max_us as f64 / 1000.0,
        }
    }

    fn quantile_us(&self, share: f64) -> f64 {
        let wanted = share * self.count as f64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen as f64 >= wanted {
                return (upper_bound_us(index) as f64).min(self.max_us as f64);
            }
        }
        self.max_us as f64
    }
}

/// Times below [`STEPS`] have a bucket each; then each doubling has that many.
fn bucket_of(time_us: u64) -> usize {
    let doubling = (64 - time_us.leading_zeros()).saturating_sub(STEP_BITS);
    if doubling == 0 {
        return time_us as usize;
    }
    // The highest bit is the doubling; the bits below it choose the step, two of which are one.
    let step = (time_us >> doubling) as usize;
    doubling as usize * (STEPS / 2) + step
}

/// The longest time that falls into a bucket.
fn upper_bound_us(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let half = STEPS / 2;
    let doubling = index / half - 1;
    let step = (index - doubling * half) as u64;
    ((step + 1) << doubling) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_narrow_and_in_order() {
        let mut before = 0;
        for time_us in (0..5_000).chain((5_000..100_000_000).step_by(9_973)) {
            let bucket = bucket_of(time_us);
            assert!(bucket >= before, "{time_us}");
            before = bucket;
            let upper = upper_bound_us(bucket);
            assert!(upper >= time_us && upper as f64 <= time_us as f64 * 1.04 + 1.0, "{time_us}");
        }
    }

    #[test]
    fn percentiles_are_those_of_what_was_counted() {
        let mut histogram = Histogram::default();
        let mut other = Histogram::default();
        for ms in 1..=500 {
            histogram.add(Duration::from_millis(ms), 1);
            other.add(Duration::from_millis(ms + 500), 1);
        }
        histogram.merge(&other);
        let got = histogram.percentiles();
        for (value, expected) in
            [(got.p50_ms, 500.0), (got.p95_ms, 950.0), (got.p99_ms, 990.0), (got.avg_ms, 500.5)]
        {
            assert!((value - expected).abs() <= expected * 0.04, "{value} for {expected}");
        }
        assert_eq!(got.max_ms, 1000.0);
        assert_eq!(Histogram::default().percentiles(), Percentiles::default());
    }
}
