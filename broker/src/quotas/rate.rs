//! What one client has used: a rate over the last windows, as Kafka's `Rate`, and a bucket of
//! tokens, as its `TokenBucket`. Pure: times come in as parameters, in milliseconds.

use std::collections::VecDeque;

/// How long the past is that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// How many windows are kept, the present one among them.
    pub count: u32,
    /// How long each is.
    pub size_ms: u64,
}

impl Windows {
    /// All of them together.
    fn span_ms(self) -> u64 {
        self.size_ms.saturating_mul(u64::from(self.count))
    }

    /// All of them together, in seconds.
    fn span_s(self) -> f64 {
        self.span_ms() as f64 / 1000.0
    }

    /// How much of a quota fits into the windows but for the present one, which may just have
    /// begun: more at once is always too much.
    pub fn capacity(self, per_second: f64) -> f64 {
        per_second * f64::from(self.count.saturating_sub(1)) * (self.size_ms as f64 / 1000.0)
    }
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began_ms: u64,
    sum: f64,
}

/// How much was used, in windows that begin with the first use in each.
#[derive(Clone, Debug, Default)]
pub struct SampledRate {
    /// The oldest first.
    windows: VecDeque<Window>,
}

impl SampledRate {
    /// Counts a use. A negative one takes back an earlier one.
    pub fn record(&mut self, windows: Windows, value: f64, now_ms: u64) {
        self.forget(windows, now_ms);
        match self.windows.back_mut() {
            Some(last) if now_ms.saturating_sub(last.began_ms) < windows.size_ms => {
                last.sum += value;
            }
            _ => self.windows.push_back(Window { began_ms: now_ms, sum: value }),
        }
        while self.windows.len() > usize::try_from(windows.count).unwrap_or(usize::MAX) {
            self.windows.pop_front();
        }
    }

    /// How long to wait until the rate is `per_second` again, in milliseconds, if nothing more is
    /// used meanwhile; 0 if it is not more now. With O used a second over the time W, that is the X
    /// for which O × W / (W + X) is the quota.
    pub fn throttle_ms(&mut self, windows: Windows, per_second: f64, now_ms: u64) -> u64 {
        self.forget(windows, now_ms);
        let elapsed_ms = self.elapsed_ms(windows, now_ms);
        if elapsed_ms == 0 {
            // One window alone that has just begun: Kafka divides by nothing here.
            return 0;
        }
        let used: f64 = self.windows.iter().map(|window| window.sum).sum();
        let rate = used / (elapsed_ms as f64 / 1000.0);
        if rate <= per_second {
            return 0;
        }
        whole((rate - per_second) / per_second * elapsed_ms as f64)
    }

    /// Whether nothing was used in any of the windows.
    pub fn is_at_rest(&mut self, windows: Windows, now_ms: u64) -> bool {
        self.forget(windows, now_ms);
        self.windows.iter().all(|window| window.sum <= 0.0)
    }

    /// The time that the rate is over. Windows that are missing count as windows without use, or
    /// the first use after a pause would be an endless rate.
    fn elapsed_ms(&self, windows: Windows, now_ms: u64) -> u64 {
        let began_ms = self.windows.front().map_or(now_ms, |oldest| oldest.began_ms);
        let elapsed_ms = now_ms.saturating_sub(began_ms);
        let full = elapsed_ms / windows.size_ms.max(1);
        let missing = u64::from(windows.count.saturating_sub(1)).saturating_sub(full);
        elapsed_ms.saturating_add(missing.saturating_mul(windows.size_ms))
    }

    fn forget(&mut self, windows: Windows, now_ms: u64) {
        let is_old = |window: &Window| now_ms.saturating_sub(window.began_ms) >= windows.span_ms();
        while self.windows.front().is_some_and(is_old) {
            self.windows.pop_front();
        }
    }
}

/// Tokens that come at a rate and are kept up to what comes in all windows together (KIP-599). A
/// use may take more than there are; then nothing is left until the debt is paid.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenBucket {
    tokens: f64,
    /// `None` for never: then the bucket is full.
    filled_at_ms: Option<u64>,
}

impl TokenBucket {
    fn fill(&mut self, windows: Windows, per_second: f64, now_ms: u64) -> f64 {
        let burst = per_second * windows.span_s();
        let tokens = match self.filled_at_ms {
            Some(at_ms) => {
                self.tokens + per_second * (now_ms.saturating_sub(at_ms) as f64 / 1000.0)
            }
            None => burst,
        };
        self.tokens = tokens.min(burst);
        self.filled_at_ms = Some(now_ms);
        burst
    }

    /// Takes tokens, whether they are there or not.
    pub fn take(&mut self, windows: Windows, (per_second, count): (f64, f64), now_ms: u64) {
        let burst = self.fill(windows, per_second, now_ms);
        self.tokens = (self.tokens - count).min(burst);
    }

    /// How long to wait until the debt is paid, in milliseconds; 0 if there is none.
    pub fn throttle_ms(&mut self, windows: Windows, per_second: f64, now_ms: u64) -> u64 {
        self.fill(windows, per_second, now_ms);
        if self.tokens >= 0.0 { 0 } else { whole(-self.tokens / per_second * 1000.0) }
    }
}

/// The nearest whole number of milliseconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn whole(ms: f64) -> u64 {
    // A conversion that takes what lies outside to the nearest number that there is.
    ms.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOWS: Windows = Windows { count: 11, size_ms: 1000 };

    #[test]
    fn what_fits_into_the_windows_is_not_throttled() {
        let mut rate = SampledRate::default();
        assert_eq!(WINDOWS.capacity(100.0), 1000.0);
        rate.record(WINDOWS, 1000.0, 50);
        assert_eq!(rate.throttle_ms(WINDOWS, 100.0, 50), 0);
        rate.record(WINDOWS, 500.0, 50);
        // 1500 in 10 s are 150 a second; after 5 s more they are 100.
        assert_eq!(rate.throttle_ms(WINDOWS, 100.0, 50), 5000);
        assert_eq!(rate.throttle_ms(WINDOWS, 100.0, 2050), 5000, "elapsed, but windows were due");
        rate.record(WINDOWS, -500.0, 50);
        assert_eq!(rate.throttle_ms(WINDOWS, 100.0, 50), 0);
    }

    #[test]
    fn what_is_older_than_all_windows_is_forgotten() {
        let mut rate = SampledRate::default();
        rate.record(WINDOWS, 1_000_000.0, 0);
        assert!(rate.throttle_ms(WINDOWS, 1.0, 10_999) > 0);
        assert_eq!(rate.throttle_ms(WINDOWS, 1.0, 11_000), 0);
    }

    #[test]
    fn a_single_window_that_has_just_begun_is_no_rate() {
        let windows = Windows { count: 1, size_ms: 1000 };
        let mut rate = SampledRate::default();
        rate.record(windows, 5.0, 7);
        assert_eq!(rate.throttle_ms(windows, 1.0, 7), 0);
        assert_eq!(rate.throttle_ms(windows, 1.0, 507), 4500);
    }

    #[test]
    fn a_bucket_lends_once_and_is_paid_by_time() {
        let mut bucket = TokenBucket::default();
        let windows = Windows { count: 5, size_ms: 1000 };
        assert_eq!(bucket.throttle_ms(windows, 2.0, 0), 0);
        bucket.take(windows, (2.0, 16.0), 0);
        assert_eq!(bucket.throttle_ms(windows, 2.0, 0), 3000, "10 there were, 6 are owed");
        assert_eq!(bucket.throttle_ms(windows, 2.0, 2000), 1000);
        assert_eq!(bucket.throttle_ms(windows, 2.0, 3000), 0);
        bucket.take(windows, (2.0, 1.0), 3_600_000);
        bucket.take(windows, (2.0, 10.0), 3_600_000);
        assert_eq!(bucket.throttle_ms(windows, 2.0, 3_600_000), 500, "no more than 10 are kept");
    }

    proptest! {
        /// A client that waits as it is told uses hardly more than its quota, but for what is
        /// forgotten while it waits: whoever uses the windows' capacity twice at once waits until
        /// just that is forgotten, and comes to 21/11 of its quota. Kafka has it so.
        #[test]
        fn who_waits_as_told_keeps_to_the_quota(
            sizes in prop::collection::vec(1_u32..20_000, 50..150),
            quota in 100_u32..50_000,
        ) {
            let mut rate = SampledRate::default();
            let (mut now_ms, mut used) = (0_u64, 0.0);
            let quota = f64::from(quota);
            for size in sizes {
                let size = f64::from(size);
                rate.record(WINDOWS, size, now_ms);
                used += size;
                now_ms += rate.throttle_ms(WINDOWS, quota, now_ms) + 1;
                let come = quota * (now_ms as f64 / 1000.0) * 21.0 / 11.0;
                let allowed = come + WINDOWS.capacity(quota) + 20_000.0;
                prop_assert!(used <= allowed, "{used} used, {allowed} allowed");
            }
        }

        #[test]
        fn who_waits_as_told_keeps_to_the_tokens(
            counts in prop::collection::vec(1_u32..50, 1..100),
            per_second in 1_u32..20,
        ) {
            let mut bucket = TokenBucket::default();
            let per_second = f64::from(per_second);
            let (mut now_ms, mut used) = (0_u64, 0.0);
            for count in counts {
                prop_assert_eq!(bucket.throttle_ms(WINDOWS, per_second, now_ms), 0);
                bucket.take(WINDOWS, (per_second, f64::from(count)), now_ms);
                used += f64::from(count);
                // Rounding may lose half a millisecond each time.
                now_ms += bucket.throttle_ms(WINDOWS, per_second, now_ms) + 1;
                let come = per_second * (now_ms as f64 / 1000.0 + 11.0);
                prop_assert!(used <= come + 1e-6, "{used} used, {come} came");
            }
        }
    }
}
