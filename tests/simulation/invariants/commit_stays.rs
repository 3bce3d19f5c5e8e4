//! What is committed stays: nobody who lacks it could be elected any more (Raft paper, sections
//! 5.4.1 and 5.4.2, figure 8). Looked at where a leader commits an entry of an earlier term.

use super::{Check, Id, violation};

/// The newest entry of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Whose.
    pub member: Id,
    /// The term and index of its last entry. A vote is for whoever's are not lower.
    pub last: (u64, u64),
    /// Whether the member votes at all; one that has lost its data does not.
    pub votes: bool,
    /// Whether it holds the entry that is looked at.
    pub has_entry: bool,
}

/// Entry `index` is committed; these are the logs of all voters.
pub fn check(index: u64, logs: &[Log]) -> Check {
    for candidate in logs.iter().filter(|log| log.votes && !log.has_entry) {
        let votes = logs.iter().filter(|voter| voter.votes && voter.last <= candidate.last);
        let votes = votes.count();
        if votes * 2 > logs.len() {
            let what = format!(
                "entry {index} was committed, but member {} lacks it and could be elected: \
                 {logs:?}",
                candidate.member
            );
            return Err(violation("commit_stays", what));
        }
    }
    Ok(())
}
