//! Figures that are counted on the hot path and read now and then: a few atomic additions each.

use std::sync::atomic::{AtomicU64, Ordering};

/// The upper bounds of a [`Histogram`]'s buckets, in microseconds. A last bucket holds the rest.
pub const BOUNDS_MICROS: [u64; 19] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
    500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// How long something took, how often.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BOUNDS_MICROS.len() + 1],
    sum_micros: AtomicU64,
}

/// What a [`Histogram`] held at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Durations {
    /// How many were within each of [`BOUNDS_MICROS`] and not within the one before; the last is
    /// the rest.
    pub counts: [u64; BOUNDS_MICROS.len() + 1],
    /// All of them together, in microseconds.
    pub sum_micros: u64,
}

impl Histogram {
    /// Counts one that took so long.
    pub fn observe_micros(&self, micros: u64) {
        let bucket = BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// What it holds now.
    pub fn get(&self) -> Durations {
        let mut durations = Durations::default();
        for (count, counted) in durations.counts.iter_mut().zip(&self.counts) {
            *count = counted.load(Ordering::Relaxed);
        }
        durations.sum_micros = self.sum_micros.load(Ordering::Relaxed);
        durations
    }
}

impl Durations {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// What a share of them (0 to 1) was within, in microseconds: the upper bound of its bucket, so
    /// that it is never told too low (but for the last bucket, which has none).
    pub fn quantile_micros(&self, share: f64) -> u64 {
        let count = self.count();
        let rank = count as f64 * share;
        let mut seen = 0;
        for (count, bound) in self.counts.iter().zip(BOUNDS_MICROS) {
            seen += count;
            if seen > 0 && seen as f64 >= rank {
                return bound;
            }
        }
        if count == 0 { 0 } else { BOUNDS_MICROS.iter().copied().max().unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_fall_into_buckets_and_quantiles_are_bounds() {
        let histogram = Histogram::default();
        assert_eq!(histogram.get().quantile_micros(0.5), 0);
        for micros in [0, 10, 11, 20, 21, 900, 99_000_000] {
            histogram.observe_micros(micros);
        }
        let durations = histogram.get();
        assert_eq!(durations.counts[..4], [2, 2, 1, 0]);
        assert_eq!((durations.count(), durations.counts[19]), (7, 1));
        assert_eq!(durations.sum_micros, 99_000_962);
        assert_eq!(durations.quantile_micros(0.0), 10);
        assert_eq!(durations.quantile_micros(0.5), 20);
        assert_eq!(durations.quantile_micros(0.8), 1_000);
        assert_eq!(durations.quantile_micros(1.0), 10_000_000);
    }
}
