//! How fast a listener takes new connections (KIP-612, `max.connection.creation.rate`). Pure: the
//! time comes in as a parameter.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// A burst that has not been used is worth so much time, as Kafka's quota windows are.
const BURST: Duration = Duration::from_secs(1);

/// The limit that listeners of a broker look at; it may change while they listen.
#[derive(Clone, Debug, Default)]
pub struct CreationRate(Arc<AtomicU32>);

impl CreationRate {
    /// Sets how many connections a second each listener takes; `None` for no limit.
    pub fn set(&self, per_second: Option<NonZeroU32>) {
        self.0.store(per_second.map_or(0, NonZeroU32::get), Ordering::Relaxed);
    }

    /// What a listener goes on with: the pace that it had, unless the limit is another by now.
    pub fn paced(&self, before: Option<AcceptRate>, now: Instant) -> Option<AcceptRate> {
        let limit = NonZeroU32::new(self.0.load(Ordering::Relaxed))?;
        let share = Duration::from_secs(1) / limit.get();
        let kept = before.filter(|before| before.share == share);
        Some(kept.unwrap_or_else(|| AcceptRate::per_second(limit.get(), now)))
    }
}

/// Spreads connections over time: each takes its share of a second, and idle time is saved up to a
/// second's worth.
#[derive(Clone, Copy, Debug)]
pub struct AcceptRate {
    share: Duration,
    next_at: Instant,
}

impl AcceptRate {
    /// So many connections a second.
    pub fn per_second(connections: u32, now: Instant) -> Self {
        let share = Duration::from_secs(1) / connections.max(1);
        Self { share, next_at: now.checked_sub(BURST).unwrap_or(now) }
    }

    /// Takes the next place; returns how long the connection has to wait for it.
    pub fn take(&mut self, now: Instant) -> Duration {
        let saved_from = now.checked_sub(BURST).unwrap_or(now);
        let place = self.next_at.max(saved_from) + self.share;
        self.next_at = place;
        place.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_a_seconds_worth_passes_and_the_rest_is_spread() {
        let start = Instant::now() + Duration::from_secs(60);
        let mut rate = AcceptRate::per_second(10, start);
        for _ in 0..10 {
            assert_eq!(rate.take(start), Duration::ZERO);
        }
        assert_eq!(rate.take(start), Duration::from_millis(100));
        assert_eq!(rate.take(start), Duration::from_millis(200));
    }

    #[test]
    fn a_new_limit_holds_from_the_next_connection() {
        let start = Instant::now() + Duration::from_secs(60);
        let limit = CreationRate::default();
        assert!(limit.paced(None, start).is_none(), "no limit");
        limit.set(NonZeroU32::new(2));
        let mut rate = limit.paced(None, start).unwrap();
        assert_eq!((rate.take(start), rate.take(start)), (Duration::ZERO, Duration::ZERO));
        let mut rate = limit.paced(Some(rate), start).unwrap();
        assert_eq!(rate.take(start), Duration::from_millis(500), "what was taken counts");
        limit.set(None);
        assert!(limit.paced(Some(rate), start).is_none());
    }

    #[test]
    fn idle_time_is_saved_for_a_second_only() {
        let start = Instant::now() + Duration::from_secs(60);
        let mut rate = AcceptRate::per_second(2, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!((rate.take(later), rate.take(later)), (Duration::ZERO, Duration::ZERO));
        assert_eq!(rate.take(later), Duration::from_millis(500));
    }
}
