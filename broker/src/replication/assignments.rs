//! What one fetcher follows, and what it has to tell the leader next. Without I/O.
//!
//! The leader remembers, in the fetch session, what it was told of each partition; so a request
//! names only those of which something has changed since: where this broker's log ends, how far it
//! is on disk, the leader epoch. Those are kept in a list, so that a request costs what has changed
//! and not what is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_common::kafka::messages::fetch::request::{FetchPartition, FetchTopic, ForgottenTopic};
use tokio::time::Instant;

use super::fetch_fields::set_flushed_offset;
use super::follower_session::Key;
use super::partition::Partition;
use super::partition::following::FollowPosition;

/// The first pause after an error; it doubles up to `replica.fetch.backoff.ms`. Short, because the
/// commonest error is that a new leader has not heard of its election yet.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// One partition that is followed.
struct Followed {
    partition: Arc<Partition>,
    leader_epoch: i32,
    /// What the leader was told last in this session.
    told: Option<(i32, FollowPosition)>,
    /// The number of the first request that told the leader of this leader epoch. The answers to
    /// earlier ones may hold what was cut off in between.
    first_request: u64,
    /// After errors: how many, and when the leader is asked again.
    failures: u32,
    retry_at: Option<Instant>,
    /// Its last answer was throttled.
    is_throttled: bool,
}

/// All partitions that one fetcher follows.
#[derive(Default)]
pub struct Assignments {
    followed: BTreeMap<Key, Followed>,
    /// Those of which the leader may have to be told something.
    changed: BTreeSet<Key>,
    /// Those that the session has and this fetcher does not follow any more.
    forgotten: BTreeSet<Key>,
}

/// The partitions of one request.
#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    /// New and changed ones.
    pub topics: Vec<FetchTopic>,
    /// Those that are followed no more.
    pub forgotten: Vec<ForgottenTopic>,
}

impl Assignments {
    /// Whether nothing is followed.
    pub fn is_empty(&self) -> bool {
        self.followed.is_empty()
    }

    /// Follows a partition in this leader epoch. Returns whether that is new.
    pub fn follow(&mut self, key: Key, partition: &Arc<Partition>, leader_epoch: i32) -> bool {
        let known = self.followed.get(&key);
        let is_known = known.is_some_and(|known| {
            known.leader_epoch == leader_epoch && Arc::ptr_eq(&known.partition, partition)
        });
        if is_known {
            return false;
        }
        let told = self.followed.remove(&key).and_then(|known| known.told);
        let followed = Followed {
            partition: Arc::clone(partition),
            leader_epoch,
            told,
            first_request: u64::MAX,
            failures: 0,
            retry_at: None,
            is_throttled: false,
        };
        self.followed.insert(key, followed);
        self.forgotten.remove(&key);
        self.changed.insert(key);
        true
    }

    /// Follows a partition no more. Returns whether it did.
    pub fn leave(&mut self, key: Key) -> bool {
        let Some(left) = self.followed.remove(&key) else { return false };
        left.partition.on_flushed(None);
        self.changed.remove(&key);
        if left.told.is_some() {
            self.forgotten.insert(key);
        }
        true
    }

    /// The partition that the answer to a request is for, and the leader epoch in which it is
    /// followed; `None` if the answer is of an earlier one.
    pub fn answered(&self, key: Key, request_number: u64) -> Option<(Arc<Partition>, i32)> {
        let found = self.followed.get(&key)?;
        let is_valid = request_number >= found.first_request;
        is_valid.then(|| (Arc::clone(&found.partition), found.leader_epoch))
    }

    /// Whether the leader's session has, or is about to get, a partition to send.
    pub fn asks_for_something(&self) -> bool {
        self.followed.values().any(|followed| followed.told.is_some())
    }

    /// Something of a partition may have changed.
    pub fn touch(&mut self, key: Key) {
        if self.followed.contains_key(&key) {
            self.changed.insert(key);
        }
    }

    /// A new session: the leader knows nothing.
    pub fn begin_session(&mut self) {
        self.forgotten.clear();
        self.changed = self.followed.keys().copied().collect();
        self.followed.values_mut().for_each(|followed| followed.told = None);
    }

    /// The leader's answer for a partition was taken.
    pub fn succeeded(&mut self, key: Key) {
        if let Some(followed) = self.followed.get_mut(&key) {
            (followed.failures, followed.retry_at) = (0, None);
            followed.is_throttled = false;
            self.changed.insert(key);
        }
    }

    /// It was not: the leader is asked again after a pause.
    pub fn failed(&mut self, key: Key, pause_max: Duration, now: Instant) {
        let Some(followed) = self.followed.get_mut(&key) else { return };
        let factor = 1_u32 << followed.failures.min(16);
        followed.failures += 1;
        followed.retry_at = Some(now + FIRST_PAUSE.saturating_mul(factor).min(pause_max));
        if followed.told.take().is_some() {
            // Out of the session, so that the leader does not send it meanwhile.
            self.forgotten.insert(key);
        }
        self.changed.insert(key);
    }

    /// It is throttled: nothing of it is wanted for a while.
    pub fn pause(&mut self, key: Key, pause: Duration, now: Instant) {
        let Some(followed) = self.followed.get_mut(&key).filter(|_| !pause.is_zero()) else {
            return;
        };
        followed.retry_at = Some(now + pause);
        followed.is_throttled = true;
        if followed.told.take().is_some() {
            self.forgotten.insert(key);
        }
        self.changed.insert(key);
    }

    /// Whether the pause of one that is throttled is over.
    pub fn has_throttled(&self, now: Instant) -> bool {
        self.changed.iter().any(|key| self.followed.get(key).is_some_and(|f| f.is_held(now)))
    }

    /// What is throttled waits longer: others have used up what there was.
    pub fn hold_up(&mut self, until: Instant, now: Instant) {
        for key in &self.changed {
            if let Some(held) = self.followed.get_mut(key).filter(|followed| followed.is_held(now))
            {
                held.retry_at = Some(until);
            }
        }
    }

    /// When the next pause ends.
    pub fn next_retry(&self) -> Option<Instant> {
        self.changed.iter().filter_map(|key| self.followed.get(key)?.retry_at).min()
    }

    /// Whether the leader has to be told something now.
    pub fn has_news(&self, now: Instant) -> bool {
        let is_due = |key: &Key| self.followed.get(key).is_some_and(|found| found.is_due(now));
        !self.forgotten.is_empty() || self.changed.iter().any(is_due)
    }

    /// What the next request tells; it counts as told.
    pub fn take_news(
        &mut self,
        partition_max_bytes: i32,
        request_number: u64,
        now: Instant,
    ) -> Wanted {
        let mut wanted = Wanted::default();
        let mut paused = BTreeSet::new();
        for key in std::mem::take(&mut self.changed) {
            let Some(followed) = self.followed.get_mut(&key) else { continue };
            if followed.retry_at.is_some_and(|at| at > now) {
                paused.insert(key);
                continue;
            }
            let position = followed.partition.follow_position();
            let news = (followed.leader_epoch, position);
            if followed.told.as_ref().is_some_and(|told| !differs(told, &news)) {
                continue;
            }
            if followed.told.is_none_or(|(epoch, _)| epoch != followed.leader_epoch) {
                followed.first_request = request_number;
            }
            followed.told = Some(news);
            followed.retry_at = None;
            self.forgotten.remove(&key);
            let partition = listed(key, news, partition_max_bytes);
            match wanted.topics.last_mut().filter(|topic| topic.topic_id == key.0) {
                Some(topic) => topic.partitions.push(partition),
                None => wanted.topics.push(FetchTopic {
                    topic_id: key.0,
                    partitions: vec![partition],
                    ..FetchTopic::default()
                }),
            }
        }
        self.changed = paused;
        for (topic_id, partition) in std::mem::take(&mut self.forgotten) {
            match wanted.forgotten.last_mut().filter(|topic| topic.topic_id == topic_id) {
                Some(topic) => topic.partitions.push(partition),
                None => wanted.forgotten.push(ForgottenTopic {
                    topic_id,
                    partitions: vec![partition],
                    ..ForgottenTopic::default()
                }),
            }
        }
        wanted
    }
}

impl Followed {
    fn is_held(&self, now: Instant) -> bool {
        // The topic's config may have changed since.
        let is_throttled = self.is_throttled && self.partition.is_throttled_as_follower();
        is_throttled && self.retry_at.is_some_and(|at| at <= now)
    }

    fn is_due(&self, now: Instant) -> bool {
        if self.retry_at.is_some_and(|at| at > now) {
            return false;
        }
        let news = (self.leader_epoch, self.partition.follow_position());
        self.told.as_ref().is_none_or(|told| differs(told, &news))
    }
}

/// Whether the leader needs to know; what is committed here it hears with what else there is.
fn differs(told: &(i32, FollowPosition), now: &(i32, FollowPosition)) -> bool {
    let bare = |position: &FollowPosition| FollowPosition { high_watermark: 0, ..*position };
    told.0 != now.0 || bare(&told.1) != bare(&now.1)
}

fn listed(
    (_, partition): Key,
    (current_leader_epoch, position): (i32, FollowPosition),
    partition_max_bytes: i32,
) -> FetchPartition {
    let mut listed = FetchPartition {
        partition,
        current_leader_epoch,
        fetch_offset: position.ends.log_end_offset,
        last_fetched_epoch: position.last_fetched_epoch,
        log_start_offset: position.log_start_offset,
        partition_max_bytes,
        high_watermark: position.high_watermark,
        ..FetchPartition::default()
    };
    set_flushed_offset(&mut listed, position.ends.flushed_offset);
    listed
}
