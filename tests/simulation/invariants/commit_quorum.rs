//! What is committed is on the disks of more than half of the voters ("persist before you speak").

use super::{Check, Id, violation};

/// Entry `index` was just committed for the first time. `durable` tells whether a member's disk
/// held it. While the members change, not all know the same voters; those that the leader knows
/// count, and it is one of all.
pub fn check(index: u64, voters: &[Vec<Id>], durable: &impl Fn(Id) -> bool) -> Check {
    let is_held = |voters: &[Id]| {
        let holders = voters.iter().filter(|voter| durable(**voter)).count();
        holders * 2 > voters.len()
    };
    if voters.iter().any(|voters| is_held(voters)) {
        return Ok(());
    }
    let what =
        format!("entry {index} was committed, but not on the disks of a majority: {voters:?}");
    Err(violation("commit_quorum", what))
}
