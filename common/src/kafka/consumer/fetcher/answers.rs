//! What comes back to the fetcher.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::super::fetched::{FetchedPartition, visible};
use super::super::{OffsetReset, Position};
use super::{Asked, Event, Fetcher, Outcome, Place};
use crate::kafka::client::ClientError;
use crate::kafka::cluster::{Isolation, OffsetAnswer};
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::fetch::FetchResponse;
use crate::kafka::messages::fetch::response::PartitionData;
use crate::kafka::wire::Records;
use crate::types::{BrokerId, TopicPartition};

impl Fetcher {
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Fetched(broker, asked, answer) => self.fetched(broker, asked, answer),
            Event::Listed(asked, answers) => self.listed(asked, answers),
            Event::Refreshed(metadata) => {
                self.refreshing = false;
                let pause = self.refresh_backoff.next(fastrand::f64());
                self.refresh_not_before = Instant::now() + pause;
                if let Err(error) = metadata {
                    tracing::debug!(%error, "the metadata could not be refreshed");
                    self.refresh_wanted = true;
                }
            }
        }
    }

    fn fetched(
        &mut self,
        broker: BrokerId,
        asked: Vec<Asked>,
        answer: Result<FetchResponse, ClientError>,
    ) {
        self.fetching.remove(&broker);
        let answer = answer.and_then(|answer| {
            let code = ErrorCode::from_code(answer.error_code);
            ClientError::check(|| format!("Fetch from broker {broker}"), code, None::<&str>)?;
            Ok(answer)
        });
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, broker = broker.0, "a fetch failed");
                for asked in asked {
                    self.failed(&asked, error.clone());
                }
                return;
            }
        };
        let metadata = self.cluster.metadata();
        let mut partitions = BTreeMap::new();
        for topic in answer.responses {
            let name = match metadata.topic_by_id(topic.topic_id) {
                Some(known) => known.name.to_string(),
                None => topic.topic.to_string(),
            };
            for partition in topic.partitions {
                partitions.insert((name.clone(), partition.partition_index), partition);
            }
        }
        for asked in asked {
            let key = (asked.partition.topic.to_string(), asked.partition.partition);
            match partitions.remove(&key) {
                Some(data) => self.fetched_partition(asked, data),
                // Answers without a session name every partition. Whatever it is, it may pass.
                None => self.failed(&asked, refused(&asked.partition, ErrorCode::UnknownTopicId)),
            }
        }
    }

    fn fetched_partition(&mut self, asked: Asked, data: PartitionData) {
        let code = ErrorCode::from_code(data.error_code);
        match code {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => return self.out_of_range(&asked),
            code => return self.failed(&asked, refused(&asked.partition, code)),
        }
        let records = match data.records {
            Some(Records::Bytes(records)) => records,
            _ => bytes::Bytes::new(),
        };
        let bytes = records.len();
        let aborted: Vec<(i64, i64)> = match self.options.isolation {
            Isolation::ReadUncommitted => Vec::new(),
            Isolation::ReadCommitted => {
                let aborted = data.aborted_transactions.unwrap_or_default();
                aborted.iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect()
            }
        };
        let seen = match visible(records, asked.position, &aborted, self.options.check_crcs) {
            Ok(seen) => seen,
            Err(error) => {
                let TopicPartition { topic, partition } = &asked.partition;
                let error = ClientError::invalid_batch(topic, *partition, &error);
                return self.rest(&asked, error);
            }
        };
        let Some(reading) = self.reading.get_mut(&asked.partition) else {
            return;
        };
        if reading.generation != asked.generation {
            return;
        }
        reading.backoff.reset();
        self.refresh_backoff.reset();
        if seen.next_offset == asked.position {
            return;
        }
        reading.place = Place::At(seen.next_offset);
        self.tell(
            &asked.partition,
            asked.generation,
            bytes,
            Ok(FetchedPartition {
                partition: asked.partition.clone(),
                start_offset: asked.position,
                next_offset: seen.next_offset,
                high_watermark: data.high_watermark,
                last_stable_offset: data.last_stable_offset,
                log_start_offset: data.log_start_offset,
                batches: seen.batches,
            }),
        );
    }

    fn out_of_range(&mut self, asked: &Asked) {
        let position = match self.options.reset {
            OffsetReset::Earliest => Position::Earliest,
            OffsetReset::Latest => Position::Latest,
            OffsetReset::Fail => {
                let TopicPartition { topic, partition } = &asked.partition;
                let error = ClientError::OffsetOutOfRange {
                    topic: topic.to_string(),
                    partition: *partition,
                    offset: asked.position,
                };
                return self.rest(asked, error);
            }
        };
        if let Some(reading) = self.current(&asked.partition, asked.generation) {
            reading.place = Place::Unknown(position);
        }
    }

    /// A partition could not be read: pauses it if that may pass, else it rests.
    fn failed(&mut self, asked: &Asked, error: ClientError) {
        let may_pass = error.is_retriable() || error.code() == Some(ErrorCode::UnknownTopicId);
        if !may_pass {
            return self.rest(asked, error);
        }
        tracing::debug!(%error, partition = %asked.partition, "a fetch is tried again");
        self.refresh_wanted = true;
        if let Some(reading) = self.current(&asked.partition, asked.generation) {
            let pause = reading.backoff.next(fastrand::f64());
            reading.not_before = Some(Instant::now() + pause);
        }
    }

    /// A partition is not read until it is sought.
    fn rest(&mut self, asked: &Asked, error: ClientError) {
        if let Some(reading) = self.current(&asked.partition, asked.generation) {
            reading.place = Place::Resting;
            self.tell(&asked.partition, asked.generation, 0, Err(error));
        }
    }

    fn current(
        &mut self,
        partition: &TopicPartition,
        generation: u64,
    ) -> Option<&mut super::Reading> {
        self.reading.get_mut(partition).filter(|reading| reading.generation == generation)
    }

    fn tell(
        &self,
        partition: &TopicPartition,
        generation: u64,
        bytes: usize,
        result: Result<FetchedPartition, ClientError>,
    ) {
        self.buffered.bytes.fetch_add(bytes, Ordering::AcqRel);
        let partition = partition.clone();
        // If the consumer is gone, the task is about to be stopped.
        let _ = self.outcomes.send(Outcome { partition, generation, bytes, result });
    }

    fn listed(&mut self, asked: Vec<(TopicPartition, u64)>, answers: Vec<OffsetAnswer>) {
        let mut answers: BTreeMap<TopicPartition, _> = answers.into_iter().collect();
        for (partition, generation) in asked {
            let answer = answers.remove(&partition);
            let Some(reading) = self.current(&partition, generation) else {
                continue;
            };
            let Place::Asking(position) = reading.place else {
                continue;
            };
            match answer {
                Some(Ok(listed)) => {
                    reading.place = match listed.offset {
                        Some(offset) => Place::At(offset),
                        // No record is that late.
                        None => Place::Unknown(Position::Latest),
                    };
                }
                Some(Err(error)) => {
                    reading.place = Place::Unknown(position);
                    self.failed(&Asked { partition, generation, position: -1 }, error);
                }
                None => reading.place = Place::Unknown(position),
            }
        }
    }
}

fn refused(partition: &TopicPartition, code: ErrorCode) -> ClientError {
    ClientError::Refused { subject: format!("Fetch of {partition}"), code, message: None }
}
