//! Pauses that double, with some chance in them, so that many clients do not come back at once.

use std::time::Duration;

/// The chance in a pause: it is this part longer or shorter, at most.
const JITTER: f64 = 0.2;

/// The pauses between attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    first: Duration,
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `first_ms` to `longest_ms`.
    pub fn new(first_ms: u64, longest_ms: u64) -> Self {
        let first = Duration::from_millis(first_ms.max(1));
        let longest = Duration::from_millis(longest_ms).max(first);
        Self { first, next: first, longest }
    }

    /// The next pause. `random` is in 0..1.
    pub fn next(&mut self, random: f64) -> Duration {
        let pause = self.next;
        self.next = (self.next * 2).min(self.longest);
        pause.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0))
    }

    /// Begins again with the first pause.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(100, 350);
        let mut next = |random| backoff.next(random).as_millis();
        assert_eq!([next(0.5), next(0.5), next(0.5), next(0.5)], [100, 200, 350, 350]);
        assert_eq!([next(0.0), next(1.0)], [280, 420]);
        backoff.reset();
        assert_eq!(backoff.next(0.5).as_millis(), 100);
    }
}
