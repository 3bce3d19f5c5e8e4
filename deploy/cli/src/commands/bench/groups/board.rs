//! What the members of a group have, as they say themselves: whether the group has settled.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use anyhow::bail;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// A group's board.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
    settled: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Epoch and number of partitions of each member.
    members: HashMap<usize, (i32, usize)>,
    /// How many members are at each epoch.
    epochs: BTreeMap<i32, usize>,
    /// Partitions of all members together.
    partitions: usize,
    /// What is waited for: so many members,
    members_expected: usize,
    /// with so many partitions together,
    partitions_expected: usize,
    /// all at the same epoch, which is later than this one.
    after_epoch: i32,
    /// When that was so.
    settled_at: Option<Instant>,
}

impl State {
    fn set(&mut self, member: usize, now: Option<(i32, usize)>) {
        let before = match now {
            Some(now) => self.members.insert(member, now),
            None => self.members.remove(&member),
        };
        if let Some((epoch, partitions)) = before {
            self.partitions -= partitions;
            if let Some(count) = self.epochs.get_mut(&epoch) {
                *count -= 1;
                if *count == 0 {
                    self.epochs.remove(&epoch);
                }
            }
        }
        if let Some((epoch, partitions)) = now {
            self.partitions += partitions;
            *self.epochs.entry(epoch).or_default() += 1;
        }
    }

    fn is_settled(&self) -> bool {
        self.members.len() == self.members_expected
            && self.partitions == self.partitions_expected
            && self.epochs.len() == 1
            && self.epochs.keys().all(|epoch| *epoch > self.after_epoch)
    }

    fn expect(&mut self, members: usize) {
        self.members_expected = members;
        self.after_epoch = self.epochs.keys().next_back().copied().unwrap_or(-1);
        self.settled_at = None;
    }
}

impl Board {
    /// Waits from now on for so many members that have so many partitions.
    pub fn expect(&self, members: usize, partitions: i32) {
        let mut state = self.state.lock();
        state.partitions_expected = usize::try_from(partitions).unwrap_or(0);
        state.expect(members);
    }

    /// Waits from now on for a member more.
    pub fn expect_more(&self) {
        let mut state = self.state.lock();
        let members = state.members_expected + 1;
        state.expect(members);
    }

    /// Waits from now on for a member less.
    pub fn expect_fewer(&self) {
        let mut state = self.state.lock();
        let members = state.members_expected.saturating_sub(1);
        if members == 0 {
            state.partitions_expected = 0;
        }
        state.expect(members);
    }

    /// A member tells its epoch and how many partitions it has; `None` when it has left, or is
    /// about to join anew.
    pub fn tell(&self, member: usize, now: Option<(i32, usize)>) {
        let mut state = self.state.lock();
        state.set(member, now);
        if state.settled_at.is_none() && state.is_settled() {
            state.settled_at = Some(Instant::now());
            self.settled.notify_waiters();
        }
    }

    /// Waits until the group has settled, and says when it had.
    pub async fn settled(&self, patience: Duration) -> anyhow::Result<Instant> {
        let wait = async {
            loop {
                let told = self.settled.notified();
                if let Some(at) = self.state.lock().settled_at {
                    return at;
                }
                told.await;
            }
        };
        match tokio::time::timeout(patience, wait).await {
            Ok(at) => Ok(at),
            Err(_) => {
                let state = self.state.lock();
                let (members, expected) = (state.members.len(), state.members_expected);
                let (partitions, of) = (state.partitions, state.partitions_expected);
                bail!(
                    "a group has not settled within {patience:?}: {members} of {expected} members \
                     have {partitions} of {of} partitions, members by epoch: {:?}",
                    state.epochs
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_settled_when_all_members_have_all_partitions_at_a_new_epoch() {
        let board = Board::default();
        let settled = || board.state.lock().settled_at.is_some();
        board.expect(2, 3);
        board.tell(0, Some((1, 3)));
        assert!(!settled(), "a member is missing");
        board.tell(1, Some((2, 0)));
        assert!(!settled(), "the epochs differ");
        board.tell(0, Some((2, 2)));
        assert!(!settled(), "a partition is missing");
        board.tell(1, Some((2, 1)));
        assert!(settled());

        board.expect_fewer();
        board.tell(1, None);
        assert!(!settled(), "its partition is missing");
        board.tell(0, Some((3, 3)));
        assert!(settled());

        board.expect_more();
        board.tell(1, Some((3, 0)));
        assert!(!settled(), "the epoch is the old one");
        board.tell(1, Some((4, 1)));
        board.tell(0, Some((4, 2)));
        assert!(settled());
    }
}
