//! The timers of one shard: each name has one deadline. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::machine::TimerChange;

/// Timers by name and by deadline.
#[derive(Debug)]
pub struct Timers<T> {
    deadlines: BTreeMap<T, u64>,
    order: BTreeSet<(u64, T)>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { deadlines: BTreeMap::new(), order: BTreeSet::new() }
    }
}

impl<T: Clone + Ord> Timers<T> {
    /// Sets or forgets a timer.
    pub fn change(&mut self, change: TimerChange<T>) {
        match change {
            TimerChange::Set(timer, deadline_ms) => {
                if let Some(before) = self.deadlines.insert(timer.clone(), deadline_ms) {
                    self.order.remove(&(before, timer.clone()));
                }
                self.order.insert((deadline_ms, timer));
            }
            TimerChange::Cancel(timer) => {
                if let Some(before) = self.deadlines.remove(&timer) {
                    self.order.remove(&(before, timer));
                }
            }
        }
    }

    /// When the next one is due, in milliseconds of the monotonic clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.order.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes the timer that is due first, if any is due.
    pub fn take_due(&mut self, now_ms: u64) -> Option<T> {
        if self.next_deadline()? > now_ms {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }

    /// How many are set.
    pub fn len(&self) -> usize {
        self.deadlines.len()
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.deadlines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::TimerChange::{Cancel, Set};
    use super::*;

    #[test]
    fn a_timer_fires_once_at_its_last_deadline() {
        let mut timers = Timers::default();
        timers.change(Set("session", 10));
        timers.change(Set("rebalance", 20));
        timers.change(Set("session", 30));
        assert_eq!(timers.next_deadline(), Some(20));
        assert_eq!(timers.take_due(19), None);
        assert_eq!(timers.take_due(40), Some("rebalance"));
        assert_eq!(timers.take_due(40), Some("session"));
        assert_eq!(timers.take_due(40), None);
        assert!(timers.is_empty());
    }

    #[test]
    fn a_cancelled_timer_does_not_fire() {
        let mut timers = Timers::default();
        timers.change(Set("session", 10));
        timers.change(Cancel("session"));
        timers.change(Cancel("never set"));
        assert_eq!((timers.take_due(99), timers.len()), (None, 0));
    }
}
