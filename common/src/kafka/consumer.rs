//! A consumer of partitions that it is told to read: no group, no commits.
//!
//! A task of its own fetches ahead, from all leaders at once, one request a broker, as far as
//! `prefetch_bytes` allow. [`Consumer::poll`] hands out what has come: whole batches that share the
//! bytes of the answer, to be counted, copied or decoded as the caller likes.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod fetched;
mod fetcher;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::client::ClientError;
use super::cluster::{Cluster, Isolation};
use crate::types::TopicPartition;

pub use fetched::FetchedPartition;
use fetcher::{Command, Fetcher, Outcome};

/// Where to read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// The first record that there is.
    Earliest,
    /// The next record that will be appended.
    Latest,
    /// This offset.
    Offset(i64),
    /// The first record with this timestamp (milliseconds since 1970) or a later one; if there is
    /// none, the next record that will be appended.
    Timestamp(i64),
}

/// What to do when there is no record at the position: it was deleted, or never was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// Go on with the first record that there is.
    Earliest,
    /// Go on with the next record that will be appended.
    Latest,
    /// Say so.
    #[default]
    Fail,
}

/// How a consumer behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerOptions {
    /// Whether records of open and aborted transactions are seen.
    pub isolation: Isolation,
    /// A broker answers as soon as it has this many bytes,
    pub fetch_min_bytes: i32,
    /// or after this time, in milliseconds.
    pub fetch_max_wait_ms: i32,
    /// The most bytes of an answer (a batch that is larger comes alone).
    pub fetch_max_bytes: i32,
    /// The most bytes of one partition in an answer, likewise.
    pub partition_fetch_bytes: i32,
    /// No more is fetched while this many bytes wait to be polled.
    pub prefetch_bytes: usize,
    /// Whether the CRC of each batch is checked.
    pub check_crcs: bool,
    /// What to do where there is no record.
    pub reset: OffsetReset,
    /// The rack that the client is in, if a replica in it may answer.
    pub rack: String,
}

impl Default for ConsumerOptions {
    fn default() -> Self {
        Self {
            isolation: Isolation::ReadUncommitted,
            fetch_min_bytes: 1,
            fetch_max_wait_ms: 500,
            fetch_max_bytes: 50 << 20,
            partition_fetch_bytes: 1 << 20,
            prefetch_bytes: 64 << 20,
            check_crcs: true,
            reset: OffsetReset::Fail,
            rack: String::new(),
        }
    }
}

/// What a consumer and its fetcher share.
#[derive(Default)]
struct Buffered {
    /// Bytes that were fetched and not polled.
    bytes: AtomicUsize,
    /// Tells the fetcher that some were polled.
    polled: Notify,
}

/// A consumer. When it is dropped, fetching ends.
pub struct Consumer {
    cluster: Cluster,
    commands: mpsc::UnboundedSender<Command>,
    outcomes: mpsc::UnboundedReceiver<Outcome>,
    buffered: Arc<Buffered>,
    assigned: BTreeMap<TopicPartition, Assigned>,
    /// Numbers assignments and seeks, so that what was fetched before one is not taken for it.
    next_generation: u64,
    errors: VecDeque<ClientError>,
    _stop_on_drop: DropGuard,
}

#[derive(Clone, Copy)]
struct Assigned {
    generation: u64,
    /// The offset after the last record that was polled, once one was.
    position: Option<i64>,
}

impl Consumer {
    /// Starts a consumer that reads nothing yet.
    pub fn new(cluster: Cluster, options: ConsumerOptions) -> Self {
        // Few: one for each call that sends one.
        let (commands, commands_receiver) = mpsc::unbounded_channel();
        // Bounded by `prefetch_bytes` and one answer of each broker.
        let (outcomes_sender, outcomes) = mpsc::unbounded_channel();
        let buffered = Arc::new(Buffered::default());
        let stop = CancellationToken::new();
        let fetcher =
            Fetcher::new(cluster.clone(), options, Arc::clone(&buffered), outcomes_sender);
        tokio::spawn(fetcher.run(commands_receiver, stop.clone()));
        Self {
            cluster,
            commands,
            outcomes,
            buffered,
            assigned: BTreeMap::new(),
            next_generation: 0,
            errors: VecDeque::new(),
            _stop_on_drop: stop.drop_guard(),
        }
    }

    /// Reads this partition too, from there. If it is read already, goes there.
    pub fn assign(&mut self, partition: TopicPartition, position: Position) {
        self.next_generation += 1;
        let generation = self.next_generation;
        let offset = match position {
            Position::Offset(offset) => Some(offset),
            _ => None,
        };
        self.assigned.insert(partition.clone(), Assigned { generation, position: offset });
        // If the fetcher is gone, polling says so.
        let _ = self.commands.send(Command::Read { partition, generation, position });
    }

    /// Reads all partitions that a topic has now.
    ///
    /// # Errors
    /// `UnknownTopic`, or what looking the topic up failed with.
    pub async fn assign_topic(
        &mut self,
        topic: &str,
        position: Position,
    ) -> Result<(), ClientError> {
        let topic = self.cluster.topic(topic).await?;
        for partition in &topic.partitions {
            let partition = TopicPartition::new(Arc::clone(&topic.name), partition.partition);
            self.assign(partition, position);
        }
        Ok(())
    }

    /// Goes to another place in a partition that is read.
    ///
    /// # Errors
    /// `NotAssigned`.
    pub fn seek(
        &mut self,
        partition: &TopicPartition,
        position: Position,
    ) -> Result<(), ClientError> {
        if !self.assigned.contains_key(partition) {
            let TopicPartition { topic, partition } = partition;
            return Err(ClientError::NotAssigned {
                topic: topic.to_string(),
                partition: *partition,
            });
        }
        self.assign(partition.clone(), position);
        Ok(())
    }

    /// Stops reading a partition.
    pub fn unassign(&mut self, partition: &TopicPartition) {
        self.assigned.remove(partition);
        let _ = self.commands.send(Command::Stop { partition: partition.clone() });
    }

    /// The partitions that are read.
    pub fn assignment(&self) -> impl Iterator<Item = &TopicPartition> {
        self.assigned.keys()
    }

    /// The offset of the next record that [`Consumer::poll`] will give, if it is known: after the
    /// first poll, or if the partition was assigned at an offset.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.assigned.get(partition)?.position
    }

    /// What has been fetched: waits for the first of it, at most for `patience`, and takes all that
    /// is there. Empty if nothing came.
    ///
    /// # Errors
    /// What a partition cannot be read for; it then rests until it is sought, and the others go on.
    pub async fn poll(&mut self, patience: Duration) -> Result<Vec<FetchedPartition>, ClientError> {
        let deadline = Instant::now() + patience;
        let mut fetched = Vec::new();
        loop {
            while let Ok(outcome) = self.outcomes.try_recv() {
                self.take(outcome, &mut fetched);
            }
            // Even if there was nothing to see: the fetcher may go on.
            self.buffered.polled.notify_one();
            if !fetched.is_empty() {
                return Ok(fetched);
            }
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            match timeout_at(deadline, self.outcomes.recv()).await {
                Ok(Some(outcome)) => self.take(outcome, &mut fetched),
                Ok(None) => return Err(ClientError::Closed),
                Err(_) => return Ok(fetched),
            }
        }
    }

    /// Takes an outcome, if it is not of an assignment of before.
    fn take(&mut self, outcome: Outcome, fetched: &mut Vec<FetchedPartition>) {
        self.buffered.bytes.fetch_sub(outcome.bytes, Ordering::AcqRel);
        let Some(assigned) = self.assigned.get_mut(&outcome.partition) else {
            return;
        };
        if assigned.generation != outcome.generation {
            return;
        }
        match outcome.result {
            Ok(partition) => {
                assigned.position = Some(partition.next_offset);
                if !partition.batches.is_empty() {
                    fetched.push(partition);
                }
            }
            Err(error) => self.errors.push_back(error),
        }
    }
}
