//! The fetchers of a broker: which partition is followed by which.
//!
//! There are `num.replica.fetchers` for each leader, made when they are first needed. A partition
//! always goes to the same one of a leader's, as long as their number stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_common::shutdown::Shutdown;
use ottla_common::types::{BrokerId, TopicPartition};
use parking_lot::Mutex;

use super::fetcher::{Fetcher, Fetching};
use super::partition::Partition;

/// A leader's broker, and which of its fetchers.
type Place = (BrokerId, usize);

/// All fetchers of a broker.
pub struct FetcherPool {
    fetching: Arc<Fetching>,
    fetchers_per_leader: AtomicUsize,
    state: Mutex<State>,
    shutdown: Shutdown,
}

#[derive(Default)]
struct State {
    fetchers: BTreeMap<Place, Arc<Fetcher>>,
    /// Where each partition is followed.
    places: BTreeMap<TopicPartition, Place>,
}

impl FetcherPool {
    /// No fetcher yet; they run until `shutdown`.
    pub fn new(fetching: Fetching, fetchers_per_leader: usize, shutdown: Shutdown) -> Self {
        Self {
            fetching: Arc::new(fetching),
            fetchers_per_leader: AtomicUsize::new(fetchers_per_leader.max(1)),
            state: Mutex::default(),
            shutdown,
        }
    }

    /// Has so many fetchers for each leader from now on. Returns whether there were others before;
    /// then all partitions are to be assigned anew.
    pub fn set_fetchers_per_leader(&self, fetchers: usize) -> bool {
        let fetchers = fetchers.max(1);
        self.fetchers_per_leader.swap(fetchers, Ordering::AcqRel) != fetchers
    }

    /// How many fetchers have a partition to follow.
    pub fn count(&self) -> usize {
        let state = self.state.lock();
        let places: BTreeSet<Place> = state.places.values().copied().collect();
        places.len()
    }

    /// Follows what the partition's role says, or nobody.
    pub fn assign(&self, partition: &Arc<Partition>) {
        let Some((leader, leader_epoch)) = partition.follows() else {
            self.leave(partition);
            return;
        };
        let name = partition.topic_partition();
        let place = (leader, self.number_of(name));
        let mut state = self.state.lock();
        if let Some(before) = state.places.insert(name.clone(), place)
            && before != place
            && let Some(fetcher) = state.fetchers.get(&before)
        {
            fetcher.leave(partition);
        }
        let fetcher = state.fetchers.entry(place).or_insert_with(|| {
            let fetcher = Fetcher::new(leader, Arc::clone(&self.fetching));
            self.shutdown.spawn(Arc::clone(&fetcher).run(self.shutdown.clone()));
            fetcher
        });
        fetcher.follow(partition, leader_epoch);
    }

    /// Follows the partition no more.
    pub fn leave(&self, partition: &Partition) {
        let mut state = self.state.lock();
        if let Some(place) = state.places.remove(partition.topic_partition())
            && let Some(fetcher) = state.fetchers.get(&place)
        {
            fetcher.leave(partition);
        }
    }

    /// A number that stays the same for a partition: that of Kafka, so that partitions spread as
    /// people know it.
    fn number_of(&self, name: &TopicPartition) -> usize {
        let hash = name
            .topic
            .bytes()
            .fold(0_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let number = hash.wrapping_mul(31).wrapping_add(name.partition.unsigned_abs());
        usize::try_from(number).unwrap_or(0) % self.fetchers_per_leader.load(Ordering::Acquire)
    }
}
