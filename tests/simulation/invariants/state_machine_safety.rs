//! All members commit the same entries at the same places, each after the other (Raft paper, figure
//! 3: state machine safety; Z12, Z14).

use ottla_coordinator::storage::wal_record::Entry;

use super::{Check, Id, Print, violation};

/// What was committed, as the first member that knew it said.
#[derive(Debug, Default)]
pub struct Committed {
    entries: Vec<Print>,
    /// The term of the member that first said so, for each of them: it was committed in that term
    /// or before.
    terms: Vec<u64>,
}

impl Committed {
    /// A member says in a term that an entry is committed.
    pub fn commit(
        &mut self,
        (member, term): (Id, u64),
        entry: &Entry,
    ) -> Result<bool, super::Violation> {
        let print = Print::of(entry);
        let place = usize::try_from(entry.index).unwrap_or(usize::MAX) - 1;
        match self.entries.get(place) {
            Some(known) if *known == print => Ok(false),
            Some(known) => {
                let index = entry.index;
                let what = format!(
                    "member {member} commits {print:?} at {index}, where {known:?} was committed"
                );
                Err(violation("state_machine_safety", what))
            }
            None if place == self.entries.len() => {
                self.entries.push(print);
                self.terms.push(term);
                Ok(true)
            }
            None => {
                let (index, last) = (entry.index, self.entries.len());
                let what = format!(
                    "member {member} commits entry {index}, nobody any after {last} before"
                );
                Err(violation("state_machine_safety", what))
            }
        }
    }

    /// The newest committed index.
    pub fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    /// All of them, with their indexes, that were committed before a term.
    pub fn before(&self, term: u64) -> impl Iterator<Item = (u64, Print)> + '_ {
        let known_in = self.terms.iter();
        let all = (1..).zip(self.entries.iter().copied()).zip(known_in);
        all.take_while(move |(_, known_in)| **known_in < term).map(|(entry, _)| entry)
    }
}

/// The order in which a process commits.
pub fn in_order(member: Id, before: u64, entry: &Entry) -> Check {
    if entry.index == before + 1 {
        return Ok(());
    }
    let what = format!("member {member} commits entry {} after {before}", entry.index);
    Err(violation("state_machine_safety", what))
}
