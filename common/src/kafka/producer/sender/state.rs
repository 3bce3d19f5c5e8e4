//! What the sender knows of each partition, each broker and itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::accumulator::PartitionQueue;
use super::super::request::{ReadyBatch, Stamp};
use super::super::sequences::Sequences;
use crate::kafka::client::{ClientError, Connection};
use crate::kafka::cluster::{Backoff, Cluster, ClusterMetadata};
use crate::types::BrokerId;

/// A partition that was sent to.
pub(super) struct Partition {
    pub queue: Arc<PartitionQueue>,
    pub sequences: Sequences,
    /// Batches that failed and are to be sent again, oldest first.
    pub retries: VecDeque<ReadyBatch>,
    /// The end of the pause after a failure.
    pub not_before: Option<Instant>,
    pub backoff: Backoff,
    /// What the last batch failed with.
    pub last_error: Option<ClientError>,
    /// Who its batches say that they are from. It changes only between batches: what was sent under
    /// one id and may have arrived has to be sent again under the same.
    pub identity: Option<ProducerIdentity>,
    /// Whether brokers no longer accept that.
    pub identity_lost: bool,
    /// The broker that its last batch went to.
    pub sent_to: Option<BrokerId>,
    /// Whether the sender looks at it.
    pub active: bool,
    /// The leader, as of this generation of the metadata.
    leader: (u64, Option<BrokerId>),
}

impl Partition {
    pub fn new(queue: Arc<PartitionQueue>, backoff: Backoff) -> Self {
        Self {
            queue,
            sequences: Sequences::default(),
            retries: VecDeque::new(),
            not_before: None,
            backoff,
            last_error: None,
            identity: None,
            identity_lost: false,
            sent_to: None,
            active: false,
            leader: (u64::MAX, None),
        }
    }

    /// The leader, which is looked up only when the metadata have changed.
    pub fn leader(&mut self, metadata: &ClusterMetadata) -> Option<BrokerId> {
        if self.leader.0 != metadata.generation {
            let topic = metadata.topic(&self.queue.topic);
            let leader = topic.and_then(|topic| topic.leader(self.queue.partition).ok());
            self.leader = (metadata.generation, leader);
        }
        self.leader.1
    }

    /// Sees to it that batches can be stamped: takes the producer's newest id, if there is one and
    /// this is the time for it. Returns whether batches may be sent.
    pub fn identify(&mut self, newest: &Identity) -> bool {
        let Identity::Known(newest) = newest else {
            return matches!(newest, Identity::None)
                || (self.identity.is_some() && !self.identity_lost);
        };
        if self.identity == Some(*newest) {
            return !self.identity_lost;
        }
        let settled = self.sequences.in_flight() == 0;
        if settled && (self.identity.is_none() || self.identity_lost || self.retries.is_empty()) {
            self.identity = Some(*newest);
            self.identity_lost = false;
            self.sequences.reset();
        }
        !self.identity_lost
    }

    /// What makes the next batch one of this producer.
    pub fn stamp(&self, base_sequence: i32) -> Stamp {
        match self.identity {
            Some(ProducerIdentity { producer_id, producer_epoch }) => {
                Stamp { producer_id, producer_epoch, base_sequence }
            }
            None => Stamp { producer_id: -1, producer_epoch: -1, base_sequence: -1 },
        }
    }

    /// Puts a batch back among those that are to be sent again.
    pub fn put_back(&mut self, batch: ReadyBatch) {
        let place = self.retries.partition_point(|other| other.number < batch.number);
        self.retries.insert(place, batch);
    }
}

/// A broker that was sent to.
pub(super) struct Broker {
    pub link: Link,
    /// Requests without an answer yet.
    pub in_flight: usize,
    /// The end of a pause: after a failed connection, or because the broker throttles us.
    pub not_before: Option<Instant>,
    pub backoff: Backoff,
}

impl Broker {
    pub fn new(backoff: Backoff) -> Self {
        Self { link: Link::Down, in_flight: 0, not_before: None, backoff }
    }
}

/// The connection to a broker.
pub(super) enum Link {
    Down,
    Connecting,
    Up(Connection),
}

/// An id that a broker gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProducerIdentity {
    pub producer_id: i64,
    pub producer_epoch: i16,
}

/// Who the producer is to the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Nobody: it is not idempotent.
    None,
    /// A producer id is needed.
    Wanted { not_before: Instant },
    /// And was asked for.
    Asking,
    /// This one.
    Known(ProducerIdentity),
}

impl Identity {
    pub fn new(idempotent: bool) -> Self {
        if idempotent { Self::Wanted { not_before: Instant::now() } } else { Self::None }
    }
}

/// When metadata are asked for.
pub(super) struct Refresh {
    wanted: bool,
    pub running: bool,
    /// The end of the pause since the last time.
    pub not_before: Instant,
    /// When they are asked for anyway.
    due: Instant,
    age_max: Duration,
    pub backoff: Backoff,
}

impl Refresh {
    pub fn new(cluster: &Cluster, age_max_ms: u64) -> Self {
        let now = Instant::now();
        let age_max = Duration::from_millis(age_max_ms);
        Self {
            wanted: false,
            running: false,
            not_before: now,
            due: now + age_max,
            age_max,
            backoff: cluster.backoff(),
        }
    }

    /// Asks for metadata as soon as the pause since the last time is over.
    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether to ask now; else when.
    pub fn ask_at(&self, now: Instant) -> Result<(), Option<Instant>> {
        if self.running {
            return Err(None);
        }
        let time = if self.wanted { self.not_before } else { self.due };
        if time > now { Err(Some(time)) } else { Ok(()) }
    }

    /// They were asked for; `pause` until they may be again.
    pub fn done(&mut self, now: Instant, pause: Duration) {
        self.running = false;
        self.wanted = false;
        self.not_before = now + pause;
        self.due = now + self.age_max;
    }
}
