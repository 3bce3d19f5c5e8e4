//! A producer: records go into batches, one growing for each partition, and batches to the leaders.
//!
//! ```text
//!  send() ── partitioner ──► queue of the partition: [open batch][full batches]
//!                                        │  full, or older than linger_ms, or flushed
//!                                        ▼
//!            sender task: one request a broker with at most one batch of each partition,
//!            at most in_flight_max requests to a broker; answers settle the batches
//! ```
//!
//! `send` encodes the record at once into the batch that grows, so what it is given can be
//! borrowed, and a record costs no allocation of its own. Memory is bounded by `buffer_bytes`: who
//! sends more waits. Order in a partition holds over retries: once a batch has failed, nothing
//! newer of its partition is sent until what is in flight has settled and the failed ones have gone
//! first. With idempotence (KIP-98) brokers moreover drop what a retry would double.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod accumulator;
mod delivery;
mod request;
mod sender;
mod sequences;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::ClientError;
use super::cluster::Cluster;
use super::compression::Compression;
use super::records::RecordHeader;
use crate::clock;

use accumulator::{Accumulator, Blocked};
pub use delivery::{Delivered, Delivery};

/// Which acknowledgement a producer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// None: it is not known whether records arrive.
    None,
    /// The leader's.
    Leader,
    /// That of all replicas in sync.
    #[default]
    All,
}

impl Acks {
    fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer behaves. The names are those of Kafka's producer where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerOptions {
    /// Which acknowledgement to wait for.
    pub acks: Acks,
    /// Whether brokers shall recognize what a retry doubles. Needs `acks=all`.
    pub idempotent: bool,
    /// How batches are compressed.
    pub compression: Compression,
    /// The codec's level; `None` is its default.
    pub compression_level: Option<i32>,
    /// How long a batch waits for more records, in milliseconds.
    pub linger_ms: u64,
    /// Bytes of a batch, before compression, when it is full. A larger record has its own batch.
    pub batch_bytes: usize,
    /// The largest request, and record, in bytes.
    pub request_bytes_max: usize,
    /// Bytes of all records that were not acknowledged yet; who sends more waits.
    pub buffer_bytes: usize,
    /// Requests to one broker without an answer yet; at most 5 if idempotent.
    pub in_flight_max: usize,
    /// Patience with a record from `send` to its acknowledgement, in milliseconds.
    pub delivery_timeout_ms: u64,
    /// How long a leader may wait for its followers, in milliseconds.
    pub replication_timeout_ms: i32,
    /// When metadata are asked for anew, to see new partitions, in milliseconds.
    pub metadata_max_age_ms: u64,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            compression: Compression::None,
            compression_level: None,
            linger_ms: 5,
            batch_bytes: 16 << 10,
            request_bytes_max: 1 << 20,
            buffer_bytes: 32 << 20,
            in_flight_max: 5,
            delivery_timeout_ms: 120_000,
            replication_timeout_ms: 30_000,
            metadata_max_age_ms: 300_000,
        }
    }
}

/// As Kafka: brokers remember the last five batches of a producer.
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;

impl ProducerOptions {
    fn check(&self) -> Result<(), ClientError> {
        let error = |option, reason| Err(ClientError::InvalidOption { option, reason });
        if self.idempotent && self.acks != Acks::All {
            return error("idempotent", "needs acks=all");
        }
        if self.idempotent && self.in_flight_max > IDEMPOTENT_IN_FLIGHT_MAX {
            return error("in_flight_max", "is at most 5 with idempotence");
        }
        if self.in_flight_max == 0 {
            return error("in_flight_max", "is at least 1");
        }
        if self.buffer_bytes < self.request_bytes_max || self.buffer_bytes < self.batch_bytes {
            return error("buffer_bytes", "is less than one request or one batch");
        }
        if u32::try_from(self.buffer_bytes).is_err() {
            return error("buffer_bytes", "is 4 GiB or more");
        }
        Ok(())
    }
}

/// A record to send. Everything is borrowed only for the call.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProducerRecord<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; else the key's hash chooses it, and without a key the producer.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers.
    pub headers: &'a [RecordHeader],
    /// Milliseconds since 1970; now, if none is given.
    pub timestamp_ms: Option<i64>,
}

/// A producer. Clones share everything; when the last one is dropped, what was not acknowledged yet
/// is given up: [`Producer::flush`] before.
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    accumulator: Arc<Accumulator>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Producer {
    /// Starts a producer for a cluster.
    ///
    /// # Errors
    /// `InvalidOption`.
    pub fn new(cluster: Cluster, options: ProducerOptions) -> Result<Self, ClientError> {
        options.check()?;
        let stop = CancellationToken::new();
        let (accumulator, listed) = Accumulator::new(options);
        let accumulator = Arc::new(accumulator);
        let sender = sender::Sender::new(cluster.clone(), Arc::clone(&accumulator), listed);
        tokio::spawn(sender.run(stop.clone()));
        let stop_on_drop = stop.clone().drop_guard();
        let inner = Inner { cluster, accumulator, stop, _stop_on_drop: stop_on_drop };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Puts a record into its batch, and gives back the future of its delivery, which need not be
    /// awaited for the record to be sent. Waits only for the topic's metadata, if they are not
    /// known yet, and for memory.
    ///
    /// # Errors
    /// `UnknownTopic`, `UnknownPartition`, `RecordTooLarge`, `Closed`, or what made the producer
    /// fail for good.
    pub async fn send(&self, record: ProducerRecord<'_>) -> Result<Delivery, ClientError> {
        let accumulator = &self.inner.accumulator;
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(clock::wall_time_ms);
        let record = ProducerRecord { timestamp_ms: Some(timestamp_ms), ..record };
        loop {
            match accumulator.append(&record, timestamp_ms) {
                Ok(delivery) => return Ok(delivery),
                Err(Blocked::Failed(error)) => return Err(error),
                Err(Blocked::Memory(bytes)) => {
                    self.wait_for_memory(bytes).await?;
                }
                Err(Blocked::Topic) => {
                    let topic = self.inner.cluster.topic(record.topic).await?;
                    accumulator.put_topic(topic);
                }
            }
        }
    }

    /// As [`Producer::send`], without waiting: `None` if it would have to wait, and then nothing
    /// happened.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn try_send(&self, record: ProducerRecord<'_>) -> Result<Option<Delivery>, ClientError> {
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(clock::wall_time_ms);
        match self.inner.accumulator.append(&record, timestamp_ms) {
            Ok(delivery) => Ok(Some(delivery)),
            Err(Blocked::Failed(error)) => Err(error),
            Err(Blocked::Memory(_) | Blocked::Topic) => Ok(None),
        }
    }

    async fn wait_for_memory(&self, bytes: u32) -> Result<(), ClientError> {
        let stopped = self.inner.stop.cancelled();
        tokio::select! {
            () = self.inner.accumulator.wait_for_memory(bytes) => Ok(()),
            () = stopped => Err(ClientError::Closed),
        }
    }

    /// Sends what waits, without lingering, and waits until all that was sent before is
    /// acknowledged or has failed. Failures are told to the deliveries.
    pub async fn flush(&self) {
        self.inner.accumulator.flush().await;
    }

    /// Flushes, at most for `patience`, and ends the producer for all its clones. What is not
    /// acknowledged then fails.
    pub async fn close(&self, patience: Duration) {
        let _ = tokio::time::timeout(patience, self.flush()).await;
        self.inner.accumulator.fail(&ClientError::Closed);
        self.inner.stop.cancel();
    }
}

#[cfg(test)]
mod tests;
