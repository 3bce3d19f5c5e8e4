//! What comes back: answers, connections, metadata, the producer id. And what does not: batches
//! that have waited too long.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::delivery::Settled;
use super::super::request::{Answers, ReadyBatch, Verdict, verdict};
use super::super::sequences::SequenceError;
use super::state::{Identity, Link, ProducerIdentity};
use super::{Event, Sender, earliest};
use crate::kafka::client::{ClientError, Connection};
use crate::kafka::cluster::ClusterMetadata;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::init_producer_id::InitProducerIdResponse;
use crate::kafka::messages::produce::ProduceResponse;
use crate::types::BrokerId;

impl Sender {
    pub(super) fn handle(&mut self, event: Event) {
        match event {
            Event::Answered(broker, batches, answer) => self.answered(broker, batches, answer),
            Event::Connected(broker, connection) => self.connected(broker, connection),
            Event::Refreshed(metadata) => self.refreshed(metadata),
            Event::Identified(answer) => self.identified(answer),
        }
    }

    /// One request less is in flight.
    pub(super) fn returned(&mut self, broker: BrokerId) {
        if let Some(broker) = self.brokers.get_mut(&broker) {
            broker.in_flight = broker.in_flight.saturating_sub(1);
        }
    }

    pub(super) fn answered(
        &mut self,
        broker: BrokerId,
        batches: Vec<ReadyBatch>,
        answer: Result<ProduceResponse, ClientError>,
    ) {
        self.returned(broker);
        match answer {
            Ok(response) => {
                self.throttle(broker, response.throttle_time_ms);
                let mut answers = Answers::new(response, &self.cluster.metadata());
                for batch in batches {
                    match answers.take(&batch.topic, batch.partition) {
                        Ok(settled) => self.appended(&batch, settled),
                        Err(error) => self.failed(batch, error),
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, broker = broker.0, "a produce request failed");
                for batch in batches {
                    self.failed(batch, error.clone());
                }
            }
        }
    }

    /// The broker asks for a pause (KIP-219).
    fn throttle(&mut self, broker: BrokerId, throttle_time_ms: i32) {
        let pause = u64::try_from(throttle_time_ms).unwrap_or(0);
        if pause > 0
            && let Some(broker) = self.brokers.get_mut(&broker)
        {
            broker.not_before = Some(Instant::now() + Duration::from_millis(pause));
        }
    }

    pub(super) fn appended(&mut self, batch: &ReadyBatch, settled: Settled) {
        batch.cell.settle(Ok(settled));
        self.accumulator.release(batch.reserved);
        if let Some(partition) = self.partitions.get_mut(batch.index) {
            let more_failed = !partition.retries.is_empty();
            let base_sequence = batch.stamp.base_sequence.max(0);
            partition.sequences.acknowledged(base_sequence, batch.records_count, more_failed);
            partition.backoff.reset();
            partition.not_before = None;
            partition.queue.forget_settled();
        }
    }

    fn failed(&mut self, batch: ReadyBatch, error: ClientError) {
        let idempotent = self.accumulator.options.idempotent;
        let verdict = verdict(&error);
        let Some(partition) = self.partitions.get_mut(batch.index) else {
            return;
        };
        let sequence = partition.sequences.out_of_order(batch.stamp.base_sequence);
        partition.sequences.failed();
        match verdict {
            // To a broker that has just become the leader, a producer whose first batch it did not
            // get is unknown.
            Verdict::OutOfOrder | Verdict::UnknownProducer
                if idempotent && sequence == SequenceError::Retry =>
            {
                partition.put_back(batch);
            }
            Verdict::OutOfOrder | Verdict::UnknownProducer | Verdict::Fenced if idempotent => {
                tracing::warn!(%error, "the broker lost track of this producer; it takes a new id");
                partition.last_error = Some(error);
                let index = batch.index;
                partition.put_back(batch);
                self.lose_identity(index);
            }
            Verdict::Retry => {
                tracing::debug!(%error, "a batch is sent again");
                let pause = partition.backoff.next(fastrand::f64());
                partition.not_before = Some(Instant::now() + pause);
                partition.last_error = Some(error);
                partition.put_back(batch);
                self.refresh.want();
            }
            _ => {
                let ambiguous = error.is_ambiguous();
                self.give_up(&batch, error);
                if ambiguous {
                    self.lose_identity(batch.index);
                }
            }
        }
    }

    /// A batch fails for good. If it was sent and may have been appended, its sequence may be taken
    /// or not: the caller then wants another identity.
    fn give_up(&mut self, batch: &ReadyBatch, error: ClientError) {
        batch.cell.settle(Err(error));
        self.accumulator.release(batch.reserved);
        if let Some(partition) = self.partitions.get_mut(batch.index) {
            partition.queue.forget_settled();
            if partition.retries.is_empty() {
                partition.sequences.recovered_if_idle();
            }
        }
    }

    /// A partition's batches can no longer follow one another under the id that they have. If that
    /// is the newest, another is asked for.
    fn lose_identity(&mut self, index: usize) {
        let Some(partition) = self.partitions.get_mut(index) else {
            return;
        };
        partition.identity_lost = partition.identity.is_some();
        if let (Identity::Known(newest), Some(lost)) = (self.identity, partition.identity)
            && newest == lost
        {
            self.identity = Identity::Wanted { not_before: Instant::now() };
        }
    }

    /// Fails the batches that were not delivered in time. Returns when the next one will be late.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Instant> {
        let timeout_ms = self.accumulator.options.delivery_timeout_ms;
        let timeout = Duration::from_millis(timeout_ms);
        let mut next = None;
        let mut late = Vec::new();
        for &index in &self.active {
            let Some(partition) = self.partitions.get_mut(index) else {
                continue;
            };
            let error = |reason: Option<&ClientError>| ClientError::DeliveryTimedOut {
                topic: partition.queue.topic.to_string(),
                partition: partition.queue.partition,
                timeout_ms,
                reason: reason.map_or("no leader was reached".to_owned(), ToString::to_string),
            };
            while partition.retries.front().is_some_and(|batch| batch.created + timeout <= now)
                && let Some(batch) = partition.retries.pop_front()
            {
                late.push((batch, error(partition.last_error.as_ref())));
            }
            while partition.queue.oldest().is_some_and(|(created, _)| created + timeout <= now)
                && let Some(batch) = partition.queue.take(|_| true)
            {
                batch.cell.settle(Err(error(partition.last_error.as_ref())));
                self.accumulator.release(batch.reserved);
                partition.queue.forget_settled();
            }
            let retry = partition.retries.front().map(|batch| batch.created + timeout);
            earliest(&mut next, retry);
            earliest(&mut next, partition.queue.oldest().map(|(created, _)| created + timeout));
        }
        for (batch, error) in late {
            self.give_up(&batch, error);
            self.lose_identity(batch.index);
        }
        next
    }

    fn connected(&mut self, id: BrokerId, connection: Result<Connection, ClientError>) {
        let Some(broker) = self.brokers.get_mut(&id) else {
            return;
        };
        match connection {
            Ok(connection) => {
                broker.link = Link::Up(connection);
                broker.backoff.reset();
            }
            Err(error) => {
                tracing::debug!(%error, broker = id.0, "no connection to the broker");
                broker.link = Link::Down;
                broker.not_before = Some(Instant::now() + broker.backoff.next(fastrand::f64()));
                // Whoever waits for this broker is told why if it waits too long.
                for partition in &mut self.partitions {
                    if partition.active {
                        partition.last_error = Some(error.clone());
                    }
                }
                self.refresh.want();
            }
        }
    }

    /// Asks for metadata if it is time. Else returns when it will be.
    pub(super) fn start_refresh(&mut self, now: Instant) -> Option<Instant> {
        match self.refresh.ask_at(now) {
            Err(time) => time,
            Ok(()) => {
                self.refresh.running = true;
                let cluster = self.cluster.clone();
                let topics = self.accumulator.topics();
                self.work.push(Box::pin(async move {
                    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
                    Event::Refreshed(cluster.refresh(&topics).await)
                }));
                None
            }
        }
    }

    fn refreshed(&mut self, metadata: Result<Arc<ClusterMetadata>, ClientError>) {
        let pause = self.refresh.backoff.next(fastrand::f64());
        self.refresh.done(Instant::now(), pause);
        match metadata {
            Ok(metadata) => {
                for name in self.accumulator.topics() {
                    if let Some(topic) = metadata.topic(&name) {
                        self.accumulator.put_topic(Arc::clone(topic));
                    }
                }
                if self.partitions.iter().all(|partition| !partition.sequences.is_recovering()) {
                    self.refresh.backoff.reset();
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the metadata could not be refreshed");
                self.refresh.want();
            }
        }
    }

    fn identified(&mut self, answer: Result<InitProducerIdResponse, ClientError>) {
        let answer = answer.and_then(|answer| {
            let code = ErrorCode::from_code(answer.error_code);
            ClientError::check(|| "InitProducerId".to_owned(), code, None::<&str>)?;
            Ok(answer)
        });
        match answer {
            Ok(answer) => {
                self.identity = Identity::Known(ProducerIdentity {
                    producer_id: answer.producer_id,
                    producer_epoch: answer.producer_epoch,
                });
            }
            Err(error) if error.is_retriable() => {
                tracing::debug!(%error, "no producer id yet");
                let pause = self.refresh.backoff.next(fastrand::f64());
                self.identity = Identity::Wanted { not_before: Instant::now() + pause };
                for partition in &mut self.partitions {
                    partition.last_error = Some(error.clone());
                }
            }
            Err(error) => self.fail_all(&error),
        }
    }

    /// The producer fails for good.
    fn fail_all(&mut self, error: &ClientError) {
        tracing::error!(%error, "the producer cannot go on");
        self.accumulator.fail(error);
        for partition in &mut self.partitions {
            for batch in partition.retries.drain(..) {
                batch.cell.settle(Err(error.clone()));
                self.accumulator.release(batch.reserved);
            }
        }
    }
}
