//! Entries of the same index and term are the same, and so are all before them (Raft paper, figure
//! 3: log matching). It is enough to compare each entry and the term of the one before it.

use std::collections::HashMap;

use ottla_coordinator::storage::wal_record::Entry;

use super::{Check, Id, Print, violation};

/// Every entry that any member ever had.
#[derive(Debug, Default)]
pub struct LogMatching {
    seen: HashMap<(u64, u64), (Print, Option<u64>, Id)>,
}

impl LogMatching {
    /// A member appends an entry behind one of a term (if it has that one).
    pub fn appended(&mut self, member: Id, entry: &Entry, previous: Option<u64>) -> Check {
        let print = Print::of(entry);
        let key = (entry.index, entry.term);
        let (known, known_previous, other) =
            *self.seen.entry(key).or_insert((print, previous, member));
        if known != print {
            let (index, term) = key;
            let what =
                format!("entry {index} of term {term} differs on the members {other} and {member}");
            return Err(violation("log_matching", what));
        }
        if let (Some(known), Some(previous)) = (known_previous, previous)
            && known != previous
        {
            let what = format!(
                "entry {} of term {} stands behind one of term {known} on member {other}, of term \
                 {previous} on member {member}",
                entry.index, entry.term
            );
            return Err(violation("log_matching", what));
        }
        if known_previous.is_none() {
            self.seen.insert(key, (print, previous, member));
        }
        Ok(())
    }
}
