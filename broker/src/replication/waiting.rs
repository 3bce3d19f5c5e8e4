//! Why a client waits: parked produces and fetches of one partition (Kafka's purgatory).
//!
//! A produce with `acks=all` waits until an offset is committed, a fetch until there is more to
//! read. Nobody has a task or a timer here: a waiter is an entry in the partition's list, its
//! deadline is that of the future which holds it, and dropping the future takes the entry off the
//! list.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ottla_common::kafka::error_code::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// The waiters of one partition.
#[derive(Debug, Default)]
pub struct Waiters {
    lists: Mutex<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    next_key: u64,
    /// By the offset that has to be committed, exclusive; the key tells waiters of one offset
    /// apart.
    commits: BTreeMap<(i64, u64), oneshot::Sender<Result<(), ErrorCode>>>,
    readers: HashMap<u64, Arc<Notify>>,
}

impl Waiters {
    /// Waits until [`Waiters::advanced`] tells of `offset` or more, or [`Waiters::fail`] of an
    /// error. The caller checks after this call, and before it awaits, that it is not there
    /// already.
    pub fn commit(self: &Arc<Self>, offset: i64) -> CommitWaiter {
        let (sender, receiver) = oneshot::channel();
        let mut lists = self.lists.lock();
        lists.next_key += 1;
        let key = (offset, lists.next_key);
        lists.commits.insert(key, sender);
        CommitWaiter { waiters: self.clone(), key, receiver }
    }

    /// The readable end has moved to `offset`: commits up to it are answered, readers look again.
    pub fn advanced(&self, offset: i64) {
        let (reached, readers) = {
            let mut lists = self.lists.lock();
            let waiting = lists.commits.split_off(&(offset, u64::MAX));
            let reached = std::mem::replace(&mut lists.commits, waiting);
            (reached, lists.readers.values().cloned().collect::<Vec<_>>())
        };
        for sender in reached.into_values() {
            // A receiver that is gone has stopped waiting: nobody is left to tell.
            let _ = sender.send(Ok(()));
        }
        readers.iter().for_each(|reader| reader.notify_one());
    }

    /// The partition cannot commit any more (it lost its leadership, or its disk): every commit is
    /// answered with `error`, readers look again.
    pub fn fail(&self, error: ErrorCode) {
        let (failed, readers) = {
            let mut lists = self.lists.lock();
            let readers = lists.readers.values().cloned().collect::<Vec<_>>();
            (std::mem::take(&mut lists.commits), readers)
        };
        for sender in failed.into_values() {
            let _ = sender.send(Err(error));
        }
        readers.iter().for_each(|reader| reader.notify_one());
    }

    /// Whether a fetch waits for more.
    pub fn has_readers(&self) -> bool {
        !self.lists.lock().readers.is_empty()
    }
}

/// One produce that waits for its offset.
#[derive(Debug)]
pub struct CommitWaiter {
    waiters: Arc<Waiters>,
    key: (i64, u64),
    receiver: oneshot::Receiver<Result<(), ErrorCode>>,
}

impl CommitWaiter {
    /// Waits until the offset is committed; [`ErrorCode::RequestTimedOut`] at the deadline.
    pub async fn wait(mut self, deadline: Instant) -> Result<(), ErrorCode> {
        match tokio::time::timeout_at(deadline, &mut self.receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(ErrorCode::NotLeaderOrFollower),
            Err(_) => Err(ErrorCode::RequestTimedOut),
        }
    }
}

impl Drop for CommitWaiter {
    fn drop(&mut self) {
        self.waiters.lists.lock().commits.remove(&self.key);
    }
}

/// One fetch that waits for more to read in any of its partitions.
#[derive(Debug, Default)]
pub struct FetchWaiter {
    notify: Arc<Notify>,
    registered: Vec<(Arc<Waiters>, u64)>,
}

impl FetchWaiter {
    /// A waiter for nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for this partition too. What moved before this call is not told: the caller registers
    /// first and looks then.
    pub fn register(&mut self, waiters: &Arc<Waiters>) {
        let mut lists = waiters.lists.lock();
        lists.next_key += 1;
        let key = lists.next_key;
        lists.readers.insert(key, self.notify.clone());
        drop(lists);
        self.registered.push((waiters.clone(), key));
    }

    /// Waits until one of the partitions moved since the last wait. Returns false at the deadline.
    pub async fn wait(&self, deadline: Instant) -> bool {
        tokio::time::timeout_at(deadline, self.notify.notified()).await.is_ok()
    }
}

impl Drop for FetchWaiter {
    fn drop(&mut self) {
        for (waiters, key) in &self.registered {
            waiters.lists.lock().readers.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_is_answered_when_its_offset_is_reached() {
        let waiters = Arc::new(Waiters::default());
        let (first, second) = (waiters.commit(5), waiters.commit(6));
        waiters.advanced(5);
        assert_eq!(first.wait(soon()).await, Ok(()));
        assert_eq!(second.wait(soon()).await, Err(ErrorCode::RequestTimedOut));
        assert!(waiters.lists.lock().commits.is_empty(), "who stops waiting leaves no entry");
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_leadership_answers_every_commit() {
        let waiters = Arc::new(Waiters::default());
        let commit = waiters.commit(5);
        waiters.fail(ErrorCode::NotLeaderOrFollower);
        assert_eq!(commit.wait(soon()).await, Err(ErrorCode::NotLeaderOrFollower));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_is_woken_by_any_of_its_partitions() {
        let (one, other) = (Arc::new(Waiters::default()), Arc::new(Waiters::default()));
        let mut fetch = FetchWaiter::new();
        fetch.register(&one);
        fetch.register(&other);
        other.advanced(1);
        assert!(fetch.wait(soon()).await);
        assert!(!fetch.wait(soon()).await, "one move wakes once");
        drop(fetch);
        assert!(!one.has_readers() && !other.has_readers());
    }
}
