//! The digests of states that were passed not long ago, for members to be compared at states that
//! they all had, while commands go on being applied.

use std::collections::VecDeque;

use ottla_common::coordination::protocol::admin::StateDigest;
use ottla_common::types::Zxid;

/// Every state whose zxid is a multiple of this is kept longer than others.
const STRIDE: i64 = 1_024;

/// How many of either sort are kept. Members that are less than a quarter of a million commands
/// apart have some in common.
const KEPT: usize = 256;

/// Digests of the last states, and of each 1,024th before them.
#[derive(Debug, Default)]
pub struct DigestTrail {
    last: VecDeque<StateDigest>,
    strides: VecDeque<StateDigest>,
}

impl DigestTrail {
    /// The state passed a zxid.
    pub fn push(&mut self, zxid: Zxid, digest: u64) {
        let state = StateDigest { zxid, digest };
        if zxid.0 % STRIDE == 0 {
            keep(&mut self.strides, state);
        }
        keep(&mut self.last, state);
    }

    /// What is kept, the oldest first.
    pub fn get(&self) -> Vec<StateDigest> {
        let mut states: Vec<_> = self.strides.iter().chain(&self.last).copied().collect();
        states.sort_by_key(|state| state.zxid);
        states.dedup();
        states
    }
}

fn keep(states: &mut VecDeque<StateDigest>, state: StateDigest) {
    if states.len() >= KEPT {
        states.pop_front();
    }
    states.push_back(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_are_far_apart_have_states_in_common() {
        let mut ahead = DigestTrail::default();
        let mut behind = DigestTrail::default();
        for zxid in 1..=300_000 {
            ahead.push(Zxid(zxid), zxid.unsigned_abs());
            if zxid <= 100_000 {
                behind.push(Zxid(zxid), zxid.unsigned_abs());
            }
        }
        let (ahead, behind) = (ahead.get(), behind.get());
        assert!(ahead.len() <= 2 * KEPT && ahead.is_sorted_by_key(|state| state.zxid));
        assert_eq!(ahead.last().map(|state| state.zxid), Some(Zxid(300_000)));
        let common = behind.iter().filter(|state| ahead.contains(state)).count();
        assert!(common > 50, "{common}");
    }
}
