//! How fast replicas that move are copied (KIP-73): so many bytes a second for what this broker
//! sends as a leader, and so many for what it fetches as a follower.
//!
//! Only replicas count that a topic names in `leader.replication.throttled.replicas` or
//! `follower.replication.throttled.replicas`, and only while they are not in sync: a member of the
//! ISR is never held up, or producers would wait for it. What is sent is paid for afterwards, so
//! something is always sent at last, however low the rate is.

use std::sync::Arc;
use std::time::Duration;

use ottla_common::clock::Clock;
use ottla_common::types::BrokerId;
use parking_lot::Mutex;

use super::log_dir_moves::RateSource;
use crate::storage::cleaner::pace::Allowance;

/// The topic config that names the replicas that are throttled where their leaders are.
pub const LEADER_REPLICAS: &str = "leader.replication.throttled.replicas";

/// Likewise where the followers are.
pub const FOLLOWER_REPLICAS: &str = "follower.replication.throttled.replicas";

/// The longest that is waited before the rate is looked at again.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// One of the two.
pub struct Throttle {
    rate: RateSource,
    clock: Clock,
    /// As of a rate.
    allowance: Mutex<(u64, Allowance)>,
}

impl Throttle {
    /// At most as many bytes a second as `rate` says at any time.
    pub fn new(rate: RateSource, clock: Clock) -> Self {
        Self { rate, clock, allowance: Mutex::new((u64::MAX, Allowance::new(u64::MAX))) }
    }

    /// Counts so many bytes. Returns how long to wait before more; not at all if it is zero.
    pub fn count(&self, bytes: u64) -> Duration {
        let (mut allowance, rate) = (self.allowance.lock(), (self.rate)());
        if allowance.0 != rate {
            // What was owed at the former rate is forgiven: it may have been far lower.
            *allowance = (rate, Allowance::new(rate));
        }
        let wait_micros = allowance.1.spend(bytes, self.clock.monotonic_micros());
        Duration::from_micros(wait_micros).min(WAIT_MAX)
    }

    /// Whether nothing more is to go now.
    pub fn is_exceeded(&self) -> bool {
        self.count(0) > Duration::ZERO
    }
}

/// Both of a broker.
pub struct Throttles {
    /// `leader.replication.throttled.rate`.
    pub leader: Throttle,
    /// `follower.replication.throttled.rate`.
    pub follower: Throttle,
}

impl Throttles {
    /// At most as many bytes a second as these say.
    pub fn new(leader: RateSource, follower: RateSource) -> Arc<Self> {
        let clock = Clock::system();
        let follower = Throttle::new(follower, clock.clone());
        Arc::new(Self { leader: Throttle::new(leader, clock), follower })
    }

    /// None at all.
    pub fn none() -> Arc<Self> {
        Self::new(Arc::new(|| u64::MAX), Arc::new(|| u64::MAX))
    }
}

/// Whether a list of replicas, `partition:broker,…` or `*`, has this one.
pub fn names(list: Option<&String>, partition: i32, broker_id: BrokerId) -> bool {
    let Some(list) = list.map(|list| list.trim()).filter(|list| !list.is_empty()) else {
        return false;
    };
    let own = format!("{partition}:{broker_id}");
    list == "*" || list.split(',').any(|replica| replica.trim() == own)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use ottla_common::clock::ManualTime;

    use super::*;

    #[test]
    fn what_was_sent_is_paid_for_and_another_rate_counts_at_once() {
        let rate = Arc::new(AtomicU64::new(1_000));
        let now = Arc::clone(&rate);
        let time = Arc::new(ManualTime::new(1_000, 0));
        let clock = Clock::manual(Arc::clone(&time));
        let source: RateSource = Arc::new(move || now.load(Ordering::Relaxed));
        let throttle = Throttle::new(source, clock);
        assert!(!throttle.is_exceeded());
        assert_eq!(throttle.count(500), Duration::from_millis(500));
        assert!(throttle.is_exceeded());
        time.advance(500);
        assert!(!throttle.is_exceeded());
        assert_eq!(throttle.count(1 << 40), WAIT_MAX, "the rate may change meanwhile");
        rate.store(u64::MAX, Ordering::Relaxed);
        assert!(!throttle.is_exceeded());
    }

    #[test]
    fn lists_name_replicas() {
        let list = |text: &str| names(Some(&text.to_owned()), 7, BrokerId(2));
        assert!(list("*") && list("7:2") && list("1:2, 7:2"));
        assert!(!list("") && !list("7:1") && !list("2:7,17:2"));
        assert!(!names(None, 7, BrokerId(2)));
    }
}
