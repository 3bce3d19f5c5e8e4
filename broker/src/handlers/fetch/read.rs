//! Reads the partitions of a fetch, waits until it is worth a reply, and makes the reply.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::frame::EncodedFrame;
use ottla_common::kafka::messages::fetch::response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use ottla_common::kafka::messages::fetch::{FetchRequest, FetchResponse};
use ottla_common::kafka::wire::{KafkaString, Records};
use ottla_common::types::{BrokerId, TopicId};
use tokio::time::Instant;

use super::super::authorization::{Operation, Resource};
use super::super::context::{Answer, Context};
use super::{Limits, whole_error};
use crate::network::Close;
use crate::replication::fetch_sessions::{FetchContext, PartitionNews, TopicKey, WantedPartition};
use crate::replication::partition::{Partition, PartitionRead, ReadRefused, ReadRequest, Reader};
use crate::replication::read_replica::{RACK_AWARE_SELECTOR, preferred};
use crate::replication::waiting::FetchWaiter;

/// The first versions that are told the new leader, and where it is.
const LEADER_HINTS_FROM: i16 = 12;
const ENDPOINTS_FROM: i16 = 16;

/// A fetch under way.
pub struct Fetching {
    context: Context,
    session: FetchContext,
    limits: Limits,
    /// Where a consumer is that wants to read near by.
    rack: Option<String>,
}

/// The first version in which consumers may read from followers.
const FOLLOWER_READS_FROM: i16 = 11;

/// The rack of a consumer, if it says one and this broker cares.
pub fn rack_of(context: &Context, request: &FetchRequest) -> Option<String> {
    let selector = context.parts.config.replication.replica_selector_class.as_deref();
    let cares = selector == Some(RACK_AWARE_SELECTOR) && !request.rack_id.is_empty();
    cares.then(|| request.rack_id.to_string())
}

/// Where a partition is to be read.
enum ReadPlace {
    Here(PartitionRead),
    /// At another broker; what was read is everything but the records.
    At(BrokerId, PartitionRead),
}

/// What was read, one for each wanted partition.
pub struct FetchRead {
    partitions: Vec<PartitionData>,
    /// Bytes of records.
    size: u64,
    /// Whether something is to be told that is not records.
    is_urgent: bool,
}

impl FetchRead {
    /// Whether it is worth a reply.
    pub fn is_enough(&self, min_bytes: u64) -> bool {
        self.is_urgent || self.size >= min_bytes
    }
}

impl Fetching {
    /// A fetch of everything that its session wants.
    pub fn new(
        context: Context,
        session: FetchContext,
        limits: Limits,
        rack: Option<String>,
    ) -> Self {
        Self { context, session, limits, rack }
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        self.session.wanted.is_empty()
    }

    /// Reads what is there.
    pub fn read(&self) -> FetchRead {
        let mut read = FetchRead {
            partitions: Vec::with_capacity(self.session.wanted.len()),
            size: 0,
            is_urgent: false,
        };
        let mut left = self.limits.max_bytes;
        for wanted in &self.session.wanted {
            let is_first = read.size == 0;
            let mut data = match self.read_partition(wanted, left, is_first) {
                Ok(ReadPlace::Here(found)) => success(found),
                Ok(ReadPlace::At(broker, found)) => {
                    PartitionData { preferred_read_replica: broker.0, ..success(found) }
                }
                Err(refused) => failure(&refused),
            };
            data.partition_index = wanted.key.1;
            let size = data.records.as_ref().map_or(0, Records::len);
            left = left.saturating_sub(size);
            read.size += size as u64;
            read.is_urgent |= must_be_told(&data);
            self.tell_leader(wanted, &mut data);
            read.partitions.push(data);
        }
        read
    }

    fn read_partition(
        &self,
        wanted: &WantedPartition,
        left: usize,
        is_first: bool,
    ) -> Result<ReadPlace, ReadRefused> {
        let partition = self.find(wanted).map_err(|code| ReadRefused {
            code,
            high_watermark: -1,
            log_start_offset: -1,
        })?;
        let partition_max = usize::try_from(wanted.max_bytes).unwrap_or(0);
        let request = ReadRequest {
            offset: wanted.fetch_offset,
            max_bytes: partition_max.min(left),
            min_one_batch: is_first,
            reader: Reader::Consumer(self.limits.isolation),
            follower_allowed: self.context.version() >= FOLLOWER_READS_FROM,
            current_leader_epoch: wanted.current_leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
        };
        let read = partition.read(request)?;
        match self.nearer(&partition, wanted) {
            Some(broker) if read.diverging_epoch.is_none() => {
                Ok(ReadPlace::At(broker, PartitionRead { records: Records::default(), ..read }))
            }
            _ => Ok(ReadPlace::Here(read)),
        }
    }

    /// The follower that a consumer should read from instead of this leader.
    fn nearer(&self, partition: &Partition, wanted: &WantedPartition) -> Option<BrokerId> {
        let rack = self.rack.as_deref()?;
        let in_sync = partition.in_sync_followers();
        let leader = self.context.parts.broker_id;
        preferred(&self.context.image, (leader, &in_sync), rack, wanted.fetch_offset)
    }

    fn find(&self, wanted: &WantedPartition) -> Result<Arc<Partition>, ErrorCode> {
        let (name, id) = match &wanted.key.0 {
            TopicKey::Name(name) => (name, None),
            TopicKey::Id(id) => {
                let topic = self.context.image.topic_by_id(*id);
                (&topic.ok_or(ErrorCode::UnknownTopicId)?.name, Some(*id))
            }
        };
        if !self.context.is_authorized(Operation::Read, Resource::Topic(name)) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        let partition = self.context.parts.replicas.partition(name, wanted.key.1)?;
        if id.is_some_and(|id| id != partition.topic_id()) {
            return Err(ErrorCode::InconsistentTopicId);
        }
        Ok(partition)
    }

    /// Waits until there is enough, or the deadline, and replies with what there is then.
    pub async fn respond_later(mut self, deadline: Instant) -> Result<EncodedFrame, Close> {
        self.wait(deadline).await;
        // Leaders may have moved meanwhile.
        self.context.image = self.context.parts.image.load();
        let read = self.read();
        self.respond(read)
    }

    async fn wait(&self, deadline: Instant) {
        let mut waiter = FetchWaiter::new();
        let mut watched = Vec::with_capacity(self.session.wanted.len());
        for wanted in &self.session.wanted {
            let Ok(partition) = self.find(wanted) else { continue };
            partition.watch(&mut waiter);
            watched.push((partition, wanted));
        }
        while !self.is_worth_reading(&watched) && waiter.wait(deadline).await {}
    }

    /// Whether another read would give enough, or an error.
    fn is_worth_reading(&self, watched: &[(Arc<Partition>, &WantedPartition)]) -> bool {
        let mut available = 0;
        for (partition, wanted) in watched {
            let may_follow = self.context.version() >= FOLLOWER_READS_FROM;
            let serves = partition.is_leader() || (may_follow && partition.follows().is_some());
            if !serves {
                return true;
            }
            let here = partition
                .available_bytes(wanted.fetch_offset, Reader::Consumer(self.limits.isolation));
            available += here.min(u64::try_from(wanted.max_bytes).unwrap_or(0).max(1));
        }
        available >= self.limits.min_bytes
    }

    /// The reply.
    pub fn respond(&self, read: FetchRead) -> Result<EncodedFrame, Close> {
        let answer = self.context.answer();
        if self.context.charge.as_ref().is_some_and(|charge| !charge.fetched(read.size)) {
            return self.respond_nothing(&answer);
        }
        self.context.parts.metrics.consumed_bytes.add(read.size);
        let news: Vec<_> = read.partitions.iter().map(news_of).collect();
        let selection = match self.session.finish(&news) {
            Ok(selection) => selection,
            Err(error) => return whole_error(&answer, error),
        };
        let told = self.session.wanted.iter().zip(read.partitions).zip(&selection.is_included);
        let mut response =
            FetchResponse { session_id: selection.session_id, ..FetchResponse::default() };
        let mut present: Option<&TopicKey> = None;
        for ((wanted, data), _) in told.filter(|(_, is_included)| **is_included) {
            let topic = &wanted.key.0;
            if present != Some(topic) {
                response.responses.push(topic_response(topic));
                present = Some(topic);
            }
            if let Some(last) = response.responses.last_mut() {
                last.partitions.push(data);
            }
        }
        self.add_endpoints(&mut response, &answer);
        answer.encode(response)
    }

    /// The reply to a client that has used more than its quota.
    fn respond_nothing(&self, answer: &Answer) -> Result<EncodedFrame, Close> {
        match self.context.parts.fetch_sessions.hold_up(&self.session) {
            Ok(session_id) => {
                answer.encode(FetchResponse { session_id, ..FetchResponse::default() })
            }
            Err(error) => whole_error(answer, error),
        }
    }

    /// Adds the leader that the client should ask (KIP-951).
    fn tell_leader(&self, wanted: &WantedPartition, data: &mut PartitionData) {
        let hinted = [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch];
        let is_hinted = hinted.iter().any(|error| error.code() == data.error_code);
        if !is_hinted || self.context.version() < LEADER_HINTS_FROM {
            return;
        }
        let image = &self.context.image;
        let name = match &wanted.key.0 {
            TopicKey::Name(name) => Some(name),
            TopicKey::Id(id) => image.topic_by_id(*id).map(|topic| &topic.name),
        };
        if let Some((leader, leader_epoch)) =
            name.and_then(|name| self.context.leader_of(name, wanted.key.1))
        {
            data.current_leader = LeaderIdAndEpoch {
                leader_id: leader.0,
                leader_epoch,
                ..LeaderIdAndEpoch::default()
            };
        }
    }

    fn add_endpoints(&self, response: &mut FetchResponse, answer: &Answer) {
        if answer.version < ENDPOINTS_FROM {
            return;
        }
        let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
        let leaders = partitions.map(|data| data.current_leader.leader_id).filter(|id| *id >= 0);
        let leaders: BTreeSet<i32> = leaders.collect();
        let reachable =
            leaders.into_iter().filter_map(|id| self.context.reachable_broker(BrokerId(id)));
        let endpoints = reachable.map(|(broker, endpoint)| NodeEndpoint {
            node_id: broker.id.0,
            host: endpoint.host.as_str().into(),
            port: i32::from(endpoint.port),
            rack: broker.rack.as_deref().map(Into::into),
            ..NodeEndpoint::default()
        });
        response.node_endpoints = endpoints.collect();
    }
}

pub(super) fn topic_response(topic: &TopicKey) -> FetchableTopicResponse {
    let (topic, topic_id) = match topic {
        TopicKey::Name(name) => (KafkaString::from(name.clone()), TopicId::ZERO),
        TopicKey::Id(id) => (KafkaString::default(), *id),
    };
    FetchableTopicResponse { topic, topic_id, ..FetchableTopicResponse::default() }
}

pub(super) fn success(read: PartitionRead) -> PartitionData {
    let aborted = read.aborted.map(|aborted| {
        let list = aborted.into_iter().map(|(producer_id, first_offset)| AbortedTransaction {
            producer_id,
            first_offset,
            ..AbortedTransaction::default()
        });
        list.collect()
    });
    let diverging_epoch = read.diverging_epoch.map(|at| EpochEndOffset {
        epoch: at.epoch,
        end_offset: at.end_offset,
        ..EpochEndOffset::default()
    });
    PartitionData {
        high_watermark: read.high_watermark,
        last_stable_offset: read.last_stable_offset,
        log_start_offset: read.log_start_offset,
        diverging_epoch: diverging_epoch.unwrap_or_default(),
        aborted_transactions: aborted,
        records: Some(read.records),
        ..PartitionData::default()
    }
}

pub(super) fn failure(refused: &ReadRefused) -> PartitionData {
    PartitionData {
        error_code: refused.code.code(),
        high_watermark: refused.high_watermark,
        log_start_offset: refused.log_start_offset,
        aborted_transactions: None,
        records: Some(Records::default()),
        ..PartitionData::default()
    }
}

/// Whether there is something to be told that is not records.
pub(super) fn must_be_told(data: &PartitionData) -> bool {
    data.error_code != 0 || data.diverging_epoch.epoch >= 0 || data.preferred_read_replica >= 0
}

fn news_of(data: &PartitionData) -> PartitionNews {
    PartitionNews {
        has_records: data.records.as_ref().is_some_and(|records| !records.is_empty()),
        must_be_told: must_be_told(data),
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start_offset,
    }
}
