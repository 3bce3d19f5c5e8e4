//! Refusals are told once a minute for each reason and place, however often they come.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const INTERVAL: Duration = Duration::from_secs(60);

/// The most places that are remembered; a flood from more of them is told as one.
const PLACES_MAX: usize = 256;

/// When what was told last.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<HashMap<String, (Instant, u64)>>);

impl Refusals {
    /// Whether to tell of this now; if so, how often it came since it was told last.
    pub fn is_due(&self, what: &str, now: Instant) -> Option<u64> {
        let mut told = self.0.lock();
        let what = if told.contains_key(what) || told.len() < PLACES_MAX { what } else { "others" };
        let Some((last, count)) = told.get_mut(what) else {
            told.insert(what.to_owned(), (now, 0));
            return Some(0);
        };
        *count += 1;
        if now.duration_since(*last) < INTERVAL {
            return None;
        }
        *last = now;
        Some(std::mem::take(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute_with_its_count() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(refusals.is_due("a", at(0)), Some(0));
        assert_eq!(refusals.is_due("a", at(1)), None);
        assert_eq!(refusals.is_due("b", at(1)), Some(0));
        assert_eq!(refusals.is_due("a", at(59)), None);
        assert_eq!(refusals.is_due("a", at(60)), Some(3));
        assert_eq!(refusals.is_due("a", at(61)), None);
    }

    #[test]
    fn a_flood_is_told_as_one() {
        let (refusals, now) = (Refusals::default(), Instant::now());
        let told = (0..10_000).filter(|n| refusals.is_due(&n.to_string(), now).is_some()).count();
        assert_eq!(told, PLACES_MAX + 1);
    }
}
