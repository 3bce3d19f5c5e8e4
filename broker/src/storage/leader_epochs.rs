//! At which offset each leader epoch of a partition begins (KIP-101).
//!
//! Kept in `leader-epoch-checkpoint`: version 0, the number of entries, then `epoch start_offset` a
//! line. The file may lag behind after a crash: recovery takes the epochs of the batches that it
//! reads, and the file is brought to disk before the recovery point moves.

/// One leader epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    /// The epoch.
    pub leader_epoch: i32,
    /// The first offset appended in it.
    pub start_offset: i64,
}

/// All leader epochs of a log; both epochs and start offsets grow strictly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    /// Takes entries in order; such that contradict earlier ones win, as later appends would.
    pub fn from_entries(entries: impl IntoIterator<Item = EpochEntry>) -> Self {
        let mut epochs = Self::default();
        for entry in entries {
            epochs.assign(entry.leader_epoch, entry.start_offset);
        }
        epochs
    }

    /// The entries, by epoch.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// Notes that an epoch begins at an offset, unless it is the newest one already. Entries that
    /// cannot be true then are dropped. Returns whether anything changed.
    pub fn assign(&mut self, leader_epoch: i32, start_offset: i64) -> bool {
        if leader_epoch < 0 || start_offset < 0 {
            return false;
        }
        if let Some(last) = self.entries.last()
            && last.leader_epoch == leader_epoch
            && last.start_offset <= start_offset
        {
            return false;
        }
        while let Some(last) = self.entries.last()
            && (last.leader_epoch >= leader_epoch || last.start_offset >= start_offset)
        {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { leader_epoch, start_offset });
        true
    }

    /// The newest epoch.
    pub fn latest(&self) -> Option<EpochEntry> {
        self.entries.last().copied()
    }

    /// The epoch that an offset was, or would be, appended in.
    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        let count = self.entries.partition_point(|entry| entry.start_offset <= offset);
        count.checked_sub(1).and_then(|number| self.entries.get(number)).map(|e| e.leader_epoch)
    }

    /// The largest epoch that is not above `leader_epoch`, and the offset where it ends. An epoch
    /// older than all known ends where the oldest known begins. `None` for an epoch never heard of.
    pub fn end_offset_for(&self, leader_epoch: i32, log_end_offset: i64) -> Option<(i32, i64)> {
        let latest = self.latest()?;
        if leader_epoch < 0 || leader_epoch > latest.leader_epoch {
            return None;
        }
        if leader_epoch == latest.leader_epoch {
            return Some((leader_epoch, log_end_offset));
        }
        let count = self.entries.partition_point(|entry| entry.leader_epoch <= leader_epoch);
        let end_offset = self.entries.get(count)?.start_offset;
        match count.checked_sub(1).and_then(|number| self.entries.get(number)) {
            Some(found) => Some((found.leader_epoch, end_offset)),
            None => Some((leader_epoch, end_offset)),
        }
    }

    /// Drops epochs that begin at `end_offset` or later. Returns whether anything changed.
    pub fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        let count = self.entries.partition_point(|entry| entry.start_offset < end_offset);
        let changed = count < self.entries.len();
        self.entries.truncate(count);
        changed
    }

    /// Drops epochs that end at `start_offset` or before it, and lets the one that goes on there
    /// begin there. Returns whether anything changed.
    pub fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        let count = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(number) = count.checked_sub(1) else { return false };
        self.entries.drain(..number);
        match self.entries.first_mut() {
            Some(first) if first.start_offset < start_offset => {
                first.start_offset = start_offset;
                true
            }
            _ => number > 0,
        }
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.entries.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::from_entries(
            entries
                .iter()
                .map(|&(leader_epoch, start_offset)| EpochEntry { leader_epoch, start_offset }),
        )
    }

    #[test]
    fn a_follower_learns_where_an_epoch_ended() {
        let epochs = epochs(&[(2, 10), (4, 20), (7, 35)]);
        assert_eq!(epochs.end_offset_for(7, 50), Some((7, 50)), "the newest ends at the log's end");
        assert_eq!(epochs.end_offset_for(4, 50), Some((4, 35)));
        assert_eq!(epochs.end_offset_for(6, 50), Some((4, 35)), "5 and 6 wrote nothing here");
        assert_eq!(epochs.end_offset_for(1, 50), Some((1, 10)), "older than all that is left");
        assert_eq!(epochs.end_offset_for(8, 50), None);
        assert_eq!(epochs.end_offset_for(-1, 50), None);
        assert_eq!(LeaderEpochs::default().end_offset_for(0, 50), None);
        assert_eq!(epochs.epoch_for_offset(9), None);
        assert_eq!(epochs.epoch_for_offset(19), Some(2));
        assert_eq!(epochs.epoch_for_offset(20), Some(4));
    }

    #[test]
    fn a_leader_that_wrote_nothing_leaves_no_trace() {
        let mut epochs = epochs(&[(2, 10), (4, 20)]);
        assert!(epochs.assign(5, 20), "4 began at 20 and wrote nothing");
        assert_eq!(epochs.entries().len(), 2);
        assert_eq!(epochs.latest(), Some(EpochEntry { leader_epoch: 5, start_offset: 20 }));
        assert!(!epochs.assign(5, 25), "it began at 20 and goes on");
    }

    #[test]
    fn truncation_takes_epochs_off_both_ends() {
        let mut epochs = epochs(&[(2, 10), (4, 20), (7, 35)]);
        assert!(epochs.truncate_from_end(35));
        assert_eq!(epochs.latest(), Some(EpochEntry { leader_epoch: 4, start_offset: 20 }));
        assert!(epochs.truncate_from_start(25));
        assert_eq!(epochs.entries(), [EpochEntry { leader_epoch: 4, start_offset: 25 }]);
        assert!(!epochs.truncate_from_start(25));
        assert!(!epochs.truncate_from_start(3));
    }
}
