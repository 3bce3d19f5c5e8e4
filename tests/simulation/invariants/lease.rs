//! While a member holds the lease, nobody else is elected; what it says on the strength of the
//! lease is said before (Raft's thesis, section 6.4.1; Z8).

use super::{Check, Id, violation};

const NAME: &str = "lease";

/// A member is elected for a term. `holders` have the lease at this moment by their own clocks,
/// each with the term that it leads in.
pub fn elected(member: Id, term: u64, holders: &[(Id, u64)]) -> Check {
    match holders.iter().find(|(holder, led)| *holder != member && *led < term) {
        Some((holder, led)) => {
            let what = format!(
                "member {member} is elected for term {term} while member {holder} holds the \
                 lease of term {led}"
            );
            Err(violation(NAME, what))
        }
        None => Ok(()),
    }
}

/// A member promises that sessions live, and the newest term that anybody was elected for is known.
pub fn promises(member: Id, term: u64, newest_term: u64) -> Check {
    if term >= newest_term {
        return Ok(());
    }
    let what = format!(
        "member {member} promised as the leader of term {term} that sessions live when there was \
         a leader of term {newest_term}"
    );
    Err(violation(NAME, what))
}
