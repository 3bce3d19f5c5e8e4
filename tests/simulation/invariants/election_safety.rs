//! At most one member leads in a term (Raft paper, figure 3: election safety).

use std::collections::BTreeMap;

use super::{Check, Id, violation};

/// Who led in each term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<u64, (Id, u64)>,
}

impl ElectionSafety {
    /// A member says that it leads, at a time in microseconds.
    pub fn leads(&mut self, member: Id, term: u64, now_us: u64) -> Check {
        let (other, _) = *self.leaders.entry(term).or_insert((member, now_us));
        if other == member {
            return Ok(());
        }
        let what = format!("members {other} and {member} both lead in term {term}");
        Err(violation("election_safety", what))
    }

    /// Since when there is, or was, a leader of a term, in microseconds before now.
    pub fn led_us(&self, term: u64, now_us: u64) -> u64 {
        self.leaders.get(&term).map_or(0, |(_, since_us)| now_us - since_us)
    }

    /// The newest term that had a leader.
    pub fn newest_term(&self) -> u64 {
        self.leaders.last_key_value().map_or(0, |(term, _)| *term)
    }

    /// How many terms had a leader.
    pub fn terms(&self) -> usize {
        self.leaders.len()
    }
}
