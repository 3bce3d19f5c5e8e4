//! Serves the fetches of followers.
//!
//! What the follower says of its logs is taken account of before anything is read; then the answer
//! is gathered from the partitions of which there is something to send, or waits for them.

use std::sync::Arc;

use ottla_common::clock::monotonic_ms;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::frame::EncodedFrame;
use ottla_common::kafka::messages::fetch::request::FetchPartition;
use ottla_common::kafka::messages::fetch::response::PartitionData;
use ottla_common::kafka::messages::fetch::{FetchRequest, FetchResponse};
use ottla_common::kafka::wire::Records;
use ottla_common::types::BrokerId;
use tokio::time::Instant;

use super::super::context::Context;
use super::read::{failure, must_be_told, success, topic_response};
use super::{Limits, TOPIC_IDS_FROM, whole_error};
use crate::network::{Close, Reply};
use crate::replication::fetch_fields::flushed_offset;
use crate::replication::fetch_sessions::{FINAL_EPOCH, INITIAL_EPOCH, NO_SESSION, TopicKey};
use crate::replication::follower_session::{FollowerSession, Key, Listed, Position};
use crate::replication::leadership::Ends;
use crate::replication::partition::leading::FollowerPosition;
use crate::replication::partition::{Partition, ReadRefused, ReadRequest, Reader};
use crate::replication::throttle::Throttle;

/// A broker, and in which of its lives.
pub type Follower = (BrokerId, i64);

/// The follower whose fetch this is; `None` if it is a consumer's.
///
/// # Errors
/// CLUSTER_AUTHORIZATION_FAILED if the client has not proved to be that broker,
/// STALE_BROKER_EPOCH if the broker has been registered anew since.
pub fn of(context: &Context, request: &FetchRequest) -> Result<Option<Follower>, ErrorCode> {
    let (replica_id, broker_epoch) = match request.replica_id {
        ..0 => (request.replica_state.replica_id, request.replica_state.replica_epoch),
        replica_id => (replica_id, -1),
    };
    if replica_id < 0 {
        return Ok(None);
    }
    let broker_id = BrokerId(replica_id);
    let is_proved = context.connection.peer_broker.get() == Some(&broker_id);
    // Earlier versions do not tell the broker's epoch, and none of Ottla's brokers uses them.
    if !is_proved || context.version() < TOPIC_IDS_FROM || broker_epoch < 0 {
        return Err(ErrorCode::ClusterAuthorizationFailed);
    }
    let known = context.image.brokers.get(&broker_id);
    if known.is_some_and(|known| known.broker_epoch > broker_epoch) {
        return Err(ErrorCode::StaleBrokerEpoch);
    }
    Ok(Some((broker_id, broker_epoch)))
}

/// Serves a fetch.
pub fn serve(
    context: Context,
    request: FetchRequest,
    (follower, limits): (Follower, Limits),
) -> Result<Reply, Close> {
    let session = match session_of(&context, &request) {
        Ok(session) => session,
        Err(error) => return whole_error(&context.answer(), error).map(Reply::Now),
    };
    let listed = listed(&context, &request, follower);
    let topics = request.forgotten_topics_data.iter();
    let forgotten: Vec<Key> = topics
        .flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition)))
        .collect();
    let epoch = match session.begin(request.session_epoch, listed, &forgotten) {
        Ok(epoch) => epoch,
        Err(error) => return whole_error(&context.answer(), error).map(Reply::Now),
    };
    let mut fetch = Fetch {
        context,
        follower: follower.0,
        session,
        epoch,
        limits,
        found: Vec::new(),
        size: 0,
        is_urgent: false,
    };
    fetch.read();
    if fetch.is_enough() || limits.wait.is_zero() {
        return fetch.respond().map(Reply::Now);
    }
    Ok(Reply::Later(Box::pin(fetch.respond_later(Instant::now() + limits.wait))))
}

/// The session of the connection, or a new one if the follower wants that.
fn session_of(
    context: &Context,
    request: &FetchRequest,
) -> Result<Arc<FollowerSession>, ErrorCode> {
    let mut attachment = context.connection.attachment.lock();
    let known = attachment.clone().and_then(|known| known.downcast::<FollowerSession>().ok());
    match request.session_epoch {
        FINAL_EPOCH => Ok(FollowerSession::new(NO_SESSION)),
        INITIAL_EPOCH => {
            let session = FollowerSession::new(fastrand::i32(1..=i32::MAX));
            *attachment = Some(session.clone());
            Ok(session)
        }
        _ => known
            .filter(|known| known.id() == request.session_id)
            .ok_or(ErrorCode::FetchSessionIdNotFound),
    }
}

/// What the request says of its partitions, taken account of.
fn listed(context: &Context, request: &FetchRequest, follower: Follower) -> Vec<Listed> {
    let now_ms = monotonic_ms();
    let mut listed = Vec::with_capacity(request.topics.iter().map(|t| t.partitions.len()).sum());
    for topic in &request.topics {
        let name = context.image.topic_by_id(topic.topic_id).map(|topic| &topic.name);
        for told in &topic.partitions {
            let found = name.ok_or(ErrorCode::UnknownTopicId).and_then(|name| {
                let found = context.parts.replicas.partition(name, told.partition)?;
                let is_same = found.topic_id() == topic.topic_id;
                is_same.then_some(found).ok_or(ErrorCode::InconsistentTopicId)
            });
            // A follower that this leader does not know for a replica yet has to say it again.
            let found = found.and_then(|partition| {
                note(context, &partition, (told, follower, now_ms))?;
                Ok(partition)
            });
            let position = Position {
                current_leader_epoch: told.current_leader_epoch,
                fetch_offset: told.fetch_offset,
                last_fetched_epoch: told.last_fetched_epoch,
                max_bytes: told.partition_max_bytes,
            };
            listed.push(((topic.topic_id, told.partition), position, found));
        }
    }
    listed
}

/// Takes account of what a follower says of its log.
fn note(
    context: &Context,
    partition: &Arc<Partition>,
    (told, follower, now_ms): (&FetchPartition, Follower, u64),
) -> Result<(), ErrorCode> {
    let position = FollowerPosition {
        follower,
        current_leader_epoch: told.current_leader_epoch,
        last_fetched_epoch: told.last_fetched_epoch,
        ends: Ends { log_end_offset: told.fetch_offset, flushed_offset: flushed_offset(told) },
        now_ms,
    };
    if partition.follower_fetched(position)? {
        context.parts.replicas.candidates().add(partition);
    }
    Ok(())
}

/// A fetch under way.
struct Fetch {
    context: Context,
    follower: BrokerId,
    session: Arc<FollowerSession>,
    epoch: i32,
    limits: Limits,
    found: Vec<(Key, PartitionData)>,
    /// Bytes of records.
    size: usize,
    /// Whether something is to be told that is not records.
    is_urgent: bool,
}

impl Fetch {
    fn is_enough(&self) -> bool {
        self.is_urgent || self.size as u64 >= self.limits.min_bytes
    }

    /// Reads what there is to send, as far as there is room. What is throttled stays due: it is
    /// looked at again with the next fetch.
    fn read(&mut self) {
        let mut held_up = Vec::new();
        self.read_due(&mut held_up);
        held_up.into_iter().for_each(|key| self.session.put_back(key));
    }

    fn read_due(&mut self, held_up: &mut Vec<Key>) {
        while self.size < self.limits.max_bytes || self.size == 0 {
            let Some((key, position, partition)) = self.session.next_due() else { return };
            let is_throttled =
                partition.as_ref().is_ok_and(|known| known.is_throttled_for(self.follower));
            if is_throttled && self.throttle().is_exceeded() {
                held_up.push(key);
                continue;
            }
            let left = self.limits.max_bytes.saturating_sub(self.size);
            let read = partition
                .map_err(|code| ReadRefused { code, high_watermark: -1, log_start_offset: -1 })
                .and_then(|partition| {
                    let partition_max = usize::try_from(position.max_bytes).unwrap_or(0);
                    partition
                        .read(ReadRequest {
                            offset: position.fetch_offset,
                            max_bytes: partition_max.min(left),
                            min_one_batch: self.size == 0,
                            reader: Reader::Follower,
                            follower_allowed: false,
                            current_leader_epoch: position.current_leader_epoch,
                            last_fetched_epoch: position.last_fetched_epoch,
                        })
                        .map(|read| (read, partition))
                });
            let data = match read {
                Ok((read, partition)) => {
                    let has_more = partition.log_end_offset() > position.fetch_offset;
                    if read.records.is_empty() && read.diverging_epoch.is_none() && has_more {
                        // Its first batch does not fit any more.
                        self.session.put_back(key);
                        return;
                    }
                    success(read)
                }
                Err(refused) => failure(&refused),
            };
            let size = self.take(key, data);
            if is_throttled {
                self.throttle().count(size as u64);
            }
        }
    }

    fn throttle(&self) -> &Throttle {
        &self.context.parts.replicas.throttles().leader
    }

    /// Returns how many bytes of records it is.
    fn take(&mut self, key: Key, data: PartitionData) -> usize {
        let size = data.records.as_ref().map_or(0, Records::len);
        let is_urgent = must_be_told(&data);
        self.size += size;
        self.is_urgent |= is_urgent;
        self.found.push((key, PartitionData { partition_index: key.1, ..data }));
        size
    }

    async fn respond_later(mut self, deadline: Instant) -> Result<EncodedFrame, Close> {
        loop {
            let timed_out =
                tokio::time::timeout_at(deadline, self.session.changed()).await.is_err();
            if self.session.is_overtaken(self.epoch) {
                return self.respond();
            }
            self.read();
            if timed_out || self.is_enough() {
                return self.respond();
            }
        }
    }

    /// The answer: what was read, and of what else more is committed.
    fn respond(mut self) -> Result<EncodedFrame, Close> {
        for (key, partition) in self.session.take_committed() {
            let data = PartitionData {
                partition_index: key.1,
                high_watermark: partition.high_watermark(),
                last_stable_offset: partition.last_stable_offset(),
                log_start_offset: partition.log_start_offset(),
                records: Some(Records::default()),
                ..PartitionData::default()
            };
            self.found.push((key, data));
        }
        self.context.parts.metrics.replicated_bytes.add(self.size as u64);
        let session_id = self.session.id();
        let mut response = FetchResponse { session_id, ..FetchResponse::default() };
        for ((topic_id, _), data) in self.found {
            match response.responses.last_mut().filter(|topic| topic.topic_id == topic_id) {
                Some(topic) => topic.partitions.push(data),
                None => {
                    let mut topic = topic_response(&TopicKey::Id(topic_id));
                    topic.partitions.push(data);
                    response.responses.push(topic);
                }
            }
        }
        self.context.answer().encode(response)
    }
}
