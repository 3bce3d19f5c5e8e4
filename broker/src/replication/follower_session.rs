//! What a leader keeps for one connection of a follower: which partitions it follows, from where,
//! and of which there is something to send.
//!
//! The counterpart of [`assignments`](super::assignments). A follower may follow thousands of
//! partitions of which few have something new at a time, and fetches thousands of times a second;
//! so nothing here looks at all of them. A partition tells the sessions that watch it when there is
//! more ([`FollowerSession::mark`], which ends the wait of a fetch) or when more is committed
//! ([`FollowerSession::mark_committed`], which does not: the follower hears of it with what comes
//! next).
//!
//! A partition that was sent is not sent again before the follower says where it goes on, which it
//! does with its next fetch. When the next fetch comes while one is waiting, the one that waits is
//! over: the follower has something more urgent to say than to hear.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::TopicId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::fetch_sessions::{FINAL_EPOCH, INITIAL_EPOCH};
use super::partition::Partition;

/// A partition as a follower names it.
pub type Key = (TopicId, i32);

/// What a follower says of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The leader epoch that it believes in.
    pub current_leader_epoch: i32,
    /// Where it goes on.
    pub fetch_offset: i64,
    /// The epoch of its last record; -1 if it has none.
    pub last_fetched_epoch: i32,
    /// Most bytes of it in one answer.
    pub max_bytes: i32,
}

/// A partition that a follower says something of; an error if it is not here.
pub type Listed = (Key, Position, Result<Arc<Partition>, ErrorCode>);

/// One connection's session.
#[derive(Default)]
pub struct FollowerSession {
    id: i32,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Of the newest fetch.
    epoch: i32,
    entries: BTreeMap<Key, Entry>,
    /// Those of which there may be something to send, in the order in which they came to be so.
    due: VecDeque<Key>,
    /// Those of which more is committed than the follower was told.
    committed: BTreeSet<Key>,
}

struct Entry {
    position: Position,
    partition: Result<Arc<Partition>, ErrorCode>,
    is_due: bool,
}

impl State {
    fn make_due(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key)
            && !std::mem::replace(&mut entry.is_due, true)
        {
            self.due.push_back(key);
        }
    }
}

impl FollowerSession {
    /// A session of nothing yet, under this id.
    pub fn new(id: i32) -> Arc<Self> {
        Arc::new(Self { id, ..Self::default() })
    }

    /// What the follower knows it by.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Begins a fetch: takes over what the follower says. Returns the fetch's epoch.
    ///
    /// # Errors
    /// INVALID_FETCH_SESSION_EPOCH if it is not the next fetch of this session.
    pub fn begin(
        self: &Arc<Self>,
        epoch: i32,
        listed: Vec<Listed>,
        forgotten: &[Key],
    ) -> Result<i32, ErrorCode> {
        let watched: Vec<(Key, Arc<Partition>)> =
            listed.iter().filter_map(|(key, _, found)| Some((*key, found.clone().ok()?))).collect();
        let mut state = self.state.lock();
        match epoch {
            INITIAL_EPOCH | FINAL_EPOCH => *state = State::default(),
            epoch if epoch == state.epoch => {}
            _ => return Err(ErrorCode::InvalidFetchSessionEpoch),
        }
        state.epoch = state.epoch.checked_add(1).unwrap_or(1);
        let epoch = state.epoch;
        let mut left = Vec::new();
        for key in forgotten {
            left.extend(state.entries.remove(key).map(|entry| (*key, entry)));
        }
        for (key, position, partition) in listed {
            let is_due = state.entries.get(&key).is_some_and(|entry| entry.is_due);
            state.entries.insert(key, Entry { position, partition, is_due });
            state.make_due(key);
        }
        drop(state);
        for (key, entry) in left {
            if let Ok(partition) = entry.partition {
                partition.unwatch(self, key);
            }
        }
        for (key, partition) in watched {
            partition.watch_as_leader(self, key);
        }
        self.changed.notify_one();
        Ok(epoch)
    }

    /// Whether a later fetch than the one of this epoch has come.
    pub fn is_overtaken(&self, epoch: i32) -> bool {
        self.state.lock().epoch != epoch
    }

    /// There may be something to send of a partition.
    pub fn mark(&self, key: Key) {
        self.state.lock().make_due(key);
        self.changed.notify_one();
    }

    /// More of a partition is committed.
    pub fn mark_committed(&self, key: Key) {
        let mut state = self.state.lock();
        if state.entries.contains_key(&key) {
            state.committed.insert(key);
        }
    }

    /// The next partition of which there may be something to send. It is due no more.
    pub fn next_due(&self) -> Option<Listed> {
        let mut state = self.state.lock();
        loop {
            let key = state.due.pop_front()?;
            // It may have been forgotten meanwhile.
            if let Some(entry) = state.entries.get_mut(&key) {
                entry.is_due = false;
                state.committed.remove(&key);
                let entry = state.entries.get(&key)?;
                return Some((key, entry.position, entry.partition.clone()));
            }
        }
    }

    /// There was no room for it: it is due first the next time.
    pub fn put_back(&self, key: Key) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(&key)
            && !std::mem::replace(&mut entry.is_due, true)
        {
            state.due.push_front(key);
        }
    }

    /// The partitions of which more is committed than the follower was told; it is told now.
    pub fn take_committed(&self) -> Vec<(Key, Arc<Partition>)> {
        let mut state = self.state.lock();
        let keys = std::mem::take(&mut state.committed);
        let partition = |key: &Key| state.entries.get(key)?.partition.clone().ok();
        keys.into_iter().filter_map(|key| Some((key, partition(&key)?))).collect()
    }

    /// Completes when there may be something to send, or another fetch has come.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_common::types::Uuid;

    fn key(partition: i32) -> Key {
        (Uuid([1; 16]), partition)
    }

    fn listed(partition: i32, fetch_offset: i64) -> Listed {
        let position = Position {
            current_leader_epoch: 1,
            fetch_offset,
            last_fetched_epoch: 0,
            max_bytes: 100,
        };
        (key(partition), position, Err(ErrorCode::NotLeaderOrFollower))
    }

    fn due(session: &FollowerSession) -> Vec<(i32, i64)> {
        let next = || session.next_due().map(|(key, at, _)| (key.1, at.fetch_offset));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn what_is_listed_is_due_once_until_it_is_marked_or_listed_again() {
        let session = FollowerSession::new(7);
        assert_eq!(session.begin(0, vec![listed(0, 5), listed(1, 6)], &[]), Ok(1));
        assert_eq!(due(&session), [(0, 5), (1, 6)]);
        session.mark(key(1));
        session.mark(key(1));
        session.mark(key(9));
        assert_eq!(due(&session), [(1, 6)]);
        assert_eq!(session.begin(1, vec![listed(0, 8)], &[key(1)]), Ok(2));
        session.mark(key(1));
        assert_eq!(due(&session), [(0, 8)]);
    }

    #[test]
    fn what_had_no_room_comes_first_the_next_time() {
        let session = FollowerSession::new(7);
        session.begin(0, vec![listed(0, 0), listed(1, 0), listed(2, 0)], &[]).unwrap();
        let first = session.next_due().unwrap();
        let second = session.next_due().unwrap();
        session.put_back(second.0);
        session.mark(first.0);
        assert_eq!(due(&session), [(1, 0), (2, 0), (0, 0)]);
    }

    #[test]
    fn a_fetch_is_overtaken_by_the_next_and_by_none_else() {
        let session = FollowerSession::new(7);
        let first = session.begin(0, Vec::new(), &[]).unwrap();
        assert!(!session.is_overtaken(first));
        assert_eq!(session.begin(5, Vec::new(), &[]), Err(ErrorCode::InvalidFetchSessionEpoch));
        assert!(!session.is_overtaken(first));
        session.begin(1, Vec::new(), &[]).unwrap();
        assert!(session.is_overtaken(first));
    }
}
