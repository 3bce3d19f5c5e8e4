//! Whoever leads has all that was committed before (Raft paper, figure 3: leader completeness).

use super::state_machine_safety::Committed;
use super::{Check, Id, Print, violation};

/// A member leads in a term. It has these entries behind an index, and all up to there in its
/// state. What is committed by leaders of later terms does not concern it: it was elected before
/// that, and only hears of it late.
pub fn check(
    (member, term): (Id, u64),
    committed: &Committed,
    (start, log): (u64, impl Fn(u64) -> Option<Print>),
) -> Check {
    let start = usize::try_from(start).unwrap_or(usize::MAX);
    for (index, print) in committed.before(term).skip(start) {
        match log(index) {
            Some(found) if found == print => {}
            found => {
                let what = format!(
                    "member {member} leads, but instead of the committed entry {index} {print:?} \
                     it has {found:?}"
                );
                return Err(violation("leader_completeness", what));
            }
        }
    }
    Ok(())
}
