//! The task that sends: it alone knows what is in flight, which broker is connected, and who the
//! producer is. Everything slow (answers, connecting, metadata, the producer id) is a future in
//! `work` that ends in an [`Event`]; between two events [`Sender::send_ready`] sends what it can.

mod answers;
mod state;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Acks;
use super::accumulator::{Accumulator, PartitionQueue};
use super::delivery::Settled;
use super::request::{ReadyBatch, Stamp, produce_request};
use crate::kafka::client::{ClientError, Connection};
use crate::kafka::cluster::{Cluster, ClusterMetadata};
use crate::kafka::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use crate::kafka::messages::produce::ProduceResponse;
use crate::types::BrokerId;

use state::{Broker, Identity, Link, Partition, Refresh};

/// How long the task sleeps when there is nothing to wait for.
const IDLE: Duration = Duration::from_secs(3_600);

/// What the task waits for.
enum Event {
    Answered(BrokerId, Vec<ReadyBatch>, Result<ProduceResponse, ClientError>),
    Connected(BrokerId, Result<Connection, ClientError>),
    Refreshed(Result<Arc<ClusterMetadata>, ClientError>),
    Identified(Result<InitProducerIdResponse, ClientError>),
}

/// Whether a partition has something to send now.
enum Readiness {
    /// It has nothing at all.
    Empty,
    /// Not before this time, unless something happens.
    NotBefore(Instant),
    /// Not before something happens.
    Blocked,
    /// To this broker.
    To(BrokerId),
}

/// A request in the making.
struct Outgoing {
    broker: BrokerId,
    connection: Connection,
    bytes: usize,
    batches: Vec<ReadyBatch>,
}

pub(super) struct Sender {
    cluster: Cluster,
    accumulator: Arc<Accumulator>,
    listed: mpsc::UnboundedReceiver<Arc<PartitionQueue>>,
    /// By the number that their queue carries.
    partitions: Vec<Partition>,
    /// The partitions that have something to send or in flight.
    active: Vec<usize>,
    brokers: HashMap<BrokerId, Broker>,
    work: FuturesUnordered<BoxFuture<'static, Event>>,
    identity: Identity,
    refresh: Refresh,
    next_batch_number: u64,
}

impl Sender {
    pub fn new(
        cluster: Cluster,
        accumulator: Arc<Accumulator>,
        listed: mpsc::UnboundedReceiver<Arc<PartitionQueue>>,
    ) -> Self {
        let identity = Identity::new(accumulator.options.idempotent);
        let refresh = Refresh::new(&cluster, accumulator.options.metadata_max_age_ms);
        Self {
            cluster,
            accumulator,
            listed,
            partitions: Vec::new(),
            active: Vec::new(),
            brokers: HashMap::new(),
            work: FuturesUnordered::new(),
            identity,
            refresh,
            next_batch_number: 0,
        }
    }

    pub async fn run(mut self, stop: CancellationToken) {
        let accumulator = Arc::clone(&self.accumulator);
        loop {
            let now = Instant::now();
            let next = self.send_ready(now).await.unwrap_or(now + IDLE);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = self.work.next(), if !self.work.is_empty() => {
                    self.handle(event);
                    while let Some(Some(event)) = self.work.next().now_or_never() {
                        self.handle(event);
                    }
                }
                Some(queue) = self.listed.recv() => self.list(&queue),
                () = accumulator.wake.notified() => {}
                () = tokio::time::sleep_until(next) => {}
            }
            while let Ok(queue) = self.listed.try_recv() {
                self.list(&queue);
            }
        }
        // What is in flight, or waits to be sent again, is settled by being dropped.
        accumulator.fail(&ClientError::Closed);
    }

    /// A queue has something to send from now on.
    fn list(&mut self, queue: &Arc<PartitionQueue>) {
        let index = *queue.number.get_or_init(|| {
            self.partitions.push(Partition::new(Arc::clone(queue), self.cluster.backoff()));
            self.partitions.len() - 1
        });
        if let Some(partition) = self.partitions.get_mut(index)
            && !std::mem::replace(&mut partition.active, true)
        {
            self.active.push(index);
        }
    }

    /// Sends what can be sent now. Returns when there may be more, if time alone decides that.
    async fn send_ready(&mut self, now: Instant) -> Option<Instant> {
        let mut next = self.expire(now);
        earliest(&mut next, self.start_refresh(now));
        earliest(&mut next, self.start_identifying(now));
        // Each round takes at most one batch of each partition.
        loop {
            let (requests, not_before) = self.collect(now);
            if requests.is_empty() {
                earliest(&mut next, not_before);
                return next;
            }
            for request in requests {
                self.dispatch(request).await;
            }
        }
    }

    /// Asks for a producer id if one is needed. Returns when to ask, if not now.
    fn start_identifying(&mut self, now: Instant) -> Option<Instant> {
        let Identity::Wanted { not_before } = self.identity else {
            return None;
        };
        if self.active.is_empty() {
            return None;
        }
        if not_before > now {
            return Some(not_before);
        }
        self.identity = Identity::Asking;
        let cluster = self.cluster.clone();
        self.work.push(Box::pin(async move {
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                ..InitProducerIdRequest::default()
            };
            let answer = async { cluster.any_connection().await?.send(&request).await };
            Event::Identified(answer.await)
        }));
        None
    }

    /// Takes a batch of each partition that may send, and groups them by broker.
    fn collect(&mut self, now: Instant) -> (Vec<Outgoing>, Option<Instant>) {
        let metadata = self.cluster.metadata();
        let hurry = self.accumulator.must_hurry();
        let mut requests: Vec<Outgoing> = Vec::new();
        let mut next = None;
        let mut active = std::mem::take(&mut self.active);
        active.retain(|&index| match self.readiness(index, now, hurry, &metadata) {
            Readiness::Empty => {
                if let Some(partition) = self.partitions.get_mut(index) {
                    partition.active = false;
                }
                false
            }
            Readiness::Blocked => true,
            Readiness::NotBefore(time) => {
                earliest(&mut next, Some(time));
                true
            }
            Readiness::To(broker) => {
                if let Some(batch) = self.take_batch(index, broker) {
                    self.add(&mut requests, broker, batch);
                }
                true
            }
        });
        self.active = active;
        (requests, next)
    }

    fn readiness(
        &mut self,
        index: usize,
        now: Instant,
        hurry: bool,
        metadata: &ClusterMetadata,
    ) -> Readiness {
        let linger = Duration::from_millis(self.accumulator.options.linger_ms);
        let Some(partition) = self.partitions.get_mut(index) else {
            return Readiness::Empty;
        };
        let idle = partition.retries.is_empty() && partition.sequences.in_flight() == 0;
        let queue = &partition.queue;
        let oldest = if idle { queue.oldest_or_unlist() } else { queue.oldest() };
        if partition.retries.is_empty() && oldest.is_none() {
            return if idle { Readiness::Empty } else { Readiness::Blocked };
        }
        if !partition.sequences.may_send() || !partition.identify(&self.identity) {
            return Readiness::Blocked;
        }
        if let Some(not_before) = partition.not_before.filter(|&time| time > now) {
            return Readiness::NotBefore(not_before);
        }
        if let Some((created, full)) = oldest
            && partition.retries.is_empty()
            && !full
            && !hurry
            && created + linger > now
        {
            return Readiness::NotBefore(created + linger);
        }
        let Some(leader) = partition.leader(metadata) else {
            self.refresh.want();
            // While metadata are on their way, their arrival is what wakes us.
            let running = self.refresh.running;
            let not_before = self.refresh.not_before;
            return if running { Readiness::Blocked } else { Readiness::NotBefore(not_before) };
        };
        // What the old leader has of it must settle before the new one gets more.
        if partition.sequences.in_flight() > 0 && partition.sent_to != Some(leader) {
            return Readiness::Blocked;
        }
        self.broker_readiness(leader, now)
    }

    fn broker_readiness(&mut self, id: BrokerId, now: Instant) -> Readiness {
        let in_flight_max = self.accumulator.options.in_flight_max;
        let backoff = self.cluster.backoff();
        let broker = self.brokers.entry(id).or_insert_with(|| Broker::new(backoff));
        if let Some(not_before) = broker.not_before.filter(|&time| time > now) {
            return Readiness::NotBefore(not_before);
        }
        if broker.in_flight >= in_flight_max {
            return Readiness::Blocked;
        }
        match &broker.link {
            Link::Up(connection) if !connection.is_closed() => Readiness::To(id),
            Link::Connecting => Readiness::Blocked,
            Link::Up(_) | Link::Down => {
                broker.link = Link::Connecting;
                let cluster = self.cluster.clone();
                let connect = async move { Event::Connected(id, cluster.connection(id).await) };
                self.work.push(Box::pin(connect));
                Readiness::Blocked
            }
        }
    }

    /// The next batch of a partition, built and stamped.
    fn take_batch(&mut self, index: usize, broker: BrokerId) -> Option<ReadyBatch> {
        let partition = self.partitions.get_mut(index)?;
        partition.sent_to = Some(broker);
        if let Some(mut batch) = partition.retries.pop_front() {
            let base_sequence = partition.sequences.sent(batch.records_count);
            let stamp = partition.stamp(base_sequence);
            if let Err(error) = batch.restamp(stamp) {
                partition.sequences.failed();
                let error = ClientError::invalid_batch(&batch.topic, batch.partition, &error);
                batch.cell.settle(Err(error));
                self.accumulator.release(batch.reserved);
                return None;
            }
            return Some(batch);
        }
        let mut batch = partition.queue.take(|open| !open.builder.is_empty())?;
        let records_count = batch.builder.records_count();
        let base_sequence = partition.sequences.sent(records_count);
        let stamp = partition.stamp(base_sequence);
        let options = batch.builder.options_mut();
        let Stamp { producer_id, producer_epoch, base_sequence } = stamp;
        options.producer_id = producer_id;
        options.producer_epoch = producer_epoch;
        options.base_sequence = base_sequence;
        let (topic, number) = (Arc::clone(&partition.queue.topic), partition.queue.partition);
        match batch.builder.build() {
            Ok(bytes) => {
                self.next_batch_number += 1;
                Some(ReadyBatch {
                    index,
                    number: self.next_batch_number,
                    topic,
                    partition: number,
                    bytes,
                    stamp,
                    records_count,
                    cell: batch.cell,
                    created: batch.created,
                    reserved: batch.reserved,
                })
            }
            Err(error) => {
                partition.sequences.failed();
                batch.cell.settle(Err(ClientError::invalid_batch(&topic, number, &error)));
                self.accumulator.release(batch.reserved);
                None
            }
        }
    }

    /// Adds a batch to a request to its broker, or begins another if that one is full.
    fn add(&self, requests: &mut Vec<Outgoing>, broker: BrokerId, batch: ReadyBatch) {
        let max = self.accumulator.options.request_bytes_max;
        let size = batch.bytes.len();
        let open = requests.iter_mut().rev().find(|request| request.broker == broker);
        if let Some(open) = open.filter(|open| open.bytes.saturating_add(size) <= max) {
            open.bytes += size;
            open.batches.push(batch);
            return;
        }
        if let Some(Link::Up(connection)) = self.brokers.get(&broker).map(|broker| &broker.link) {
            let connection = connection.clone();
            requests.push(Outgoing { broker, connection, bytes: size, batches: vec![batch] });
        }
    }

    async fn dispatch(&mut self, request: Outgoing) {
        let Outgoing { broker, connection, batches, .. } = request;
        let options = &self.accumulator.options;
        let (produce, version_max) = produce_request(options, &batches, &self.cluster.metadata());
        if let Some(broker) = self.brokers.get_mut(&broker) {
            broker.in_flight += 1;
        }
        if options.acks == Acks::None {
            let sent = connection.dispatch_unanswered(version_max, &produce).await;
            return self.unanswered(broker, batches, sent);
        }
        match connection.dispatch(version_max, &produce).await {
            Ok(pending) => self.work.push(Box::pin(async move {
                let answer = pending.await;
                Event::Answered(broker, batches, answer)
            })),
            Err(error) => self.answered(broker, batches, Err(error)),
        }
    }

    /// Requests without acknowledgement are settled by being written.
    fn unanswered(
        &mut self,
        broker: BrokerId,
        batches: Vec<ReadyBatch>,
        sent: Result<(), ClientError>,
    ) {
        if let Err(error) = sent {
            return self.answered(broker, batches, Err(error));
        }
        self.returned(broker);
        let settled = Settled { base_offset: -1, log_append_time_ms: -1 };
        for batch in batches {
            self.appended(&batch, settled);
        }
    }
}

/// Makes `time` the earlier of the two.
fn earliest(time: &mut Option<Instant>, other: Option<Instant>) {
    *time = match (*time, other) {
        (Some(time), Some(other)) => Some(time.min(other)),
        (time, other) => time.or(other),
    };
}
