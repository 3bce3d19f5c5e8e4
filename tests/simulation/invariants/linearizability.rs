//! Writes, and reads that ask for it, are linearizable (Z1, Z2); sequential numbers and ephemeral
//! nodes are as clients were told. Judged from what clients asked and were told, by the same
//! checkers that judge processes under faults.

use crate::history::{self, Entry};

use super::{Check, violation};

/// A read that is as new as its request shows the state at `zxid`; before it was asked, clients had
/// been told of all up to `acknowledged`. (The same as above, seen at once and for all nodes.)
pub fn read(client: usize, zxid: i64, acknowledged: i64) -> Check {
    if zxid >= acknowledged {
        return Ok(());
    }
    let what = format!(
        "client {client} asked for what there is now, when a write at zxid {acknowledged} had been \
         acknowledged, and was shown the state of zxid {zxid}"
    );
    Err(violation("linearizability", what))
}

/// Judges a whole history.
pub fn check(history: &[Entry]) -> Check {
    match history::problems(history).into_iter().next() {
        None => Ok(()),
        Some(problem) => Err(violation("linearizability", problem)),
    }
}
