//! The newest changes, kept so that subscriptions can go on from a zxid. Pure.
//!
//! Subscribers have no queues of their own: each holds the last zxid that it has sent and reads on
//! from here. One that falls behind what is kept is too slow.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_common::types::Zxid;

use crate::tree::Change;

/// All changes of one command.
#[derive(Debug)]
pub struct Committed {
    /// Its place.
    pub zxid: Zxid,
    /// What it changed, in order; not empty.
    pub changes: Vec<Change>,
    size: usize,
}

/// The changes of the newest commands.
#[derive(Debug)]
pub struct History {
    entries: VecDeque<Arc<Committed>>,
    size: usize,
    /// Every change after this zxid is kept.
    floor: Zxid,
    commands_max: usize,
    size_max: usize,
}

impl History {
    /// Nothing has been changed after `floor`.
    pub fn new(floor: Zxid, commands_max: usize, size_max: usize) -> Self {
        Self { entries: VecDeque::new(), size: 0, floor, commands_max, size_max }
    }

    /// Adds a command's changes; forgets the oldest where that is too much. The newest stay however
    /// long they are.
    pub fn push(&mut self, zxid: Zxid, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let size = changes.iter().map(Change::size).sum();
        self.size += size;
        self.entries.push_back(Arc::new(Committed { zxid, changes, size }));
        while self.entries.len() > 1
            && (self.entries.len() > self.commands_max || self.size > self.size_max)
        {
            if let Some(oldest) = self.entries.pop_front() {
                self.size -= oldest.size;
                self.floor = oldest.zxid;
            }
        }
    }

    /// Whether every change after a zxid is still here.
    pub fn reaches(&self, zxid: Zxid) -> bool {
        zxid >= self.floor
    }

    /// The changes of at most `most` commands after a zxid; none if some of them were forgotten.
    pub fn after(&self, zxid: Zxid, most: usize) -> Option<Vec<Arc<Committed>>> {
        if !self.reaches(zxid) {
            return None;
        }
        let first = self.entries.partition_point(|committed| committed.zxid <= zxid);
        Some(self.entries.iter().skip(first).take(most).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_common::coordination::protocol::{ChangeKind, Stat};

    use super::*;
    use crate::tree::acl;

    fn change(size: usize) -> Vec<Change> {
        vec![Change {
            kind: ChangeKind::DataSet,
            path: "/a".into(),
            data: Bytes::from(vec![0; size]),
            stat: Stat::default(),
            acl: acl::open(),
            acl_before: None,
            parent_acl: acl::open(),
        }]
    }

    fn zxids(history: &History, after: i64) -> Option<Vec<i64>> {
        let found = history.after(Zxid(after), 10)?;
        Some(found.iter().map(|committed| committed.zxid.0).collect())
    }

    #[test]
    fn what_was_forgotten_is_known_to_be_missing() {
        let mut history = History::new(Zxid(10), 3, 10_000);
        assert_eq!(zxids(&history, 10), Some(vec![]));
        assert_eq!(zxids(&history, 9), None);
        for zxid in [12, 14, 15] {
            history.push(Zxid(zxid), change(1));
        }
        assert_eq!(zxids(&history, 10), Some(vec![12, 14, 15]));
        history.push(Zxid(16), vec![]);
        history.push(Zxid(17), change(1));
        assert_eq!(zxids(&history, 11), None, "the change of 12 is gone");
        assert_eq!(zxids(&history, 12), Some(vec![14, 15, 17]));
        assert_eq!(zxids(&history, 14), Some(vec![15, 17]));
        assert_eq!(zxids(&history, 20), Some(vec![]));
        history.push(Zxid(18), change(20_000));
        assert_eq!(zxids(&history, 17), Some(vec![18]), "the newest stays though it is long");
        assert_eq!(zxids(&history, 16), None);
    }
}
