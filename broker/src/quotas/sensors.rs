//! What is remembered of each client, bounded. Pure: times come in as parameters.
//!
//! There are two generations: whoever is asked for moves to the young one; when that has half of
//! all places, or is old enough, it becomes the old one, and the old one before it is forgotten. So
//! what goes was idle longest, and no step takes longer the more there are.

use std::collections::HashMap;
use std::hash::Hash;

/// What is remembered, by whom it is of.
#[derive(Debug)]
pub struct Sensors<K, T> {
    young: HashMap<K, T>,
    old: HashMap<K, T>,
    young_since_ms: u64,
    places_max: usize,
    idle_ms: u64,
}

impl<K: Eq + Hash, T: Default> Sensors<K, T> {
    /// Remembers so many at most, each for this long at least unless places run out.
    pub fn new(places_max: usize, idle_ms: u64) -> Self {
        let (young, old) = (HashMap::new(), HashMap::new());
        Self { young, old, young_since_ms: 0, places_max, idle_ms }
    }

    /// What is remembered of this one, to be changed.
    pub fn get(&mut self, key: K, now_ms: u64) -> &mut T {
        let is_old = now_ms.saturating_sub(self.young_since_ms) >= self.idle_ms;
        let is_full = self.young.len() >= self.places_max / 2 && !self.young.contains_key(&key);
        if is_old || is_full {
            self.old = std::mem::take(&mut self.young);
            self.young_since_ms = now_ms;
        }
        let remembered = self.old.remove(&key);
        let entry = self.young.entry(key);
        entry.or_insert_with(|| remembered.unwrap_or_default())
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_the_idle_go_first() {
        let mut sensors: Sensors<u32, u32> = Sensors::new(10, 1000);
        for round in 0..100 {
            *sensors.get(0, 0) += 1;
            *sensors.get(1000 + round, 0) = 1;
            assert!(sensors.len() <= 10, "{}", sensors.len());
        }
        assert_eq!(*sensors.get(0, 0), 100, "who comes again and again is remembered");
        assert_eq!(*sensors.get(1000, 0), 0, "who came once is not");
    }

    #[test]
    fn the_idle_are_forgotten_after_a_while() {
        let mut sensors: Sensors<&str, u32> = Sensors::new(10, 1000);
        *sensors.get("a", 500) = 7;
        assert_eq!(*sensors.get("a", 1400), 7);
        assert_eq!(*sensors.get("a", 2500), 7);
        sensors.get("b", 3600);
        sensors.get("b", 4700);
        assert_eq!(*sensors.get("a", 4700), 0);
        assert_eq!(sensors.len(), 2);
    }
}
