//! What a broker counts. Read by `monitoring`, which gives the figures their names.

use std::sync::atomic::{AtomicU64, Ordering};

use ottla_common::kafka::ApiKey;
use ottla_common::metrics::Histogram;

/// Keys of APIs are below this.
const API_KEYS_MAX: usize = 128;

/// The counters of a broker.
#[derive(Debug)]
pub struct Metrics {
    /// Bytes of batches that producers sent and that were appended.
    pub produced_bytes: Counter,
    /// Their records.
    pub produced_records: Counter,
    /// Bytes of batches that were sent to consumers.
    pub consumed_bytes: Counter,
    /// Bytes of batches that were sent to followers.
    pub replicated_bytes: Counter,
    /// Requests whose clients had to wait for having used more than their quotas.
    pub throttled_requests: Counter,
    /// How long they had to, in milliseconds.
    pub throttled_ms: Counter,
    /// Connections that were closed since their addresses had made too many.
    pub throttled_connections: Counter,
    /// Replicas that left an ISR that is led here, because they lagged.
    pub isr_shrinks: Counter,
    /// Replicas that joined an ISR that is led here.
    pub isr_expands: Counter,
    /// Leaders that this broker elected.
    pub leader_elections: Counter,
    /// Those among them that may lack committed records.
    pub unclean_leader_elections: Counter,
    requests: Vec<Histogram>,
}

/// Something that is counted.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// So many more.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut requests = Vec::new();
        requests.resize_with(API_KEYS_MAX, Histogram::default);
        Self {
            produced_bytes: Counter::default(),
            produced_records: Counter::default(),
            consumed_bytes: Counter::default(),
            replicated_bytes: Counter::default(),
            throttled_requests: Counter::default(),
            throttled_ms: Counter::default(),
            throttled_connections: Counter::default(),
            isr_shrinks: Counter::default(),
            isr_expands: Counter::default(),
            leader_elections: Counter::default(),
            unclean_leader_elections: Counter::default(),
            requests,
        }
    }
}

impl Metrics {
    /// How long requests of an API took, from when they were read to when their replies were ready.
    pub fn requests(&self, key: ApiKey) -> Option<&Histogram> {
        usize::try_from(key.code()).ok().and_then(|key| self.requests.get(key))
    }
}
