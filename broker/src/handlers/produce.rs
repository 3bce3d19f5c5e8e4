//! Produce (key 0), versions 3 to 13.
//!
//! Behaviour:
//! - Each partition's batch is appended when the request is dispatched, which fixes its order; the
//!   reply waits for `acks`: 0 no reply, 1 the leader has it, -1 all in-sync replicas have it.
//! - `acks=0`: an error closes the connection, since there is no other way to tell it.
//! - Exactly one batch of format v2 for each partition; zstd only from version 7.
//! - Internal topics are for the broker alone.
//!
//! Version notes: 4 KAFKA_STORAGE_ERROR; 5 log start offset; 7 zstd (KIP-110); 8 record errors
//! (KIP-467); 9 flexible; 10 the new leader with NOT_LEADER_OR_FOLLOWER (KIP-951); 12 implicit
//! transaction partitions (KIP-890); 13 topic ids (KIP-516). 0 to 2 are advertised and refused
//! (KAFKA-18659).
//!
//! Missing: transactions. A transactional batch is TRANSACTIONAL_ID_AUTHORIZATION_FAILED.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::messages::produce::request::{PartitionProduceData, TopicProduceData};
use ottla_common::kafka::messages::produce::response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use ottla_common::kafka::messages::produce::{ProduceRequest, ProduceResponse};
use ottla_common::kafka::record_batch::BatchHeader;
use ottla_common::kafka::wire::Records;
use ottla_common::types::BrokerId;
use tokio::time::Instant;

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::topics::find_topic;
use crate::metadata::image::TopicImage;
use crate::network::{Close, Reply};
use crate::replication::partition::{ACKS_ALL, AppendRefused, AppendRequest, Appended, Partition};

/// The first version whose topics are named by id.
const TOPIC_IDS_FROM: i16 = 13;

/// The first version that may carry zstd.
const ZSTD_FROM: i16 = 7;

/// The first version that is told the new leader.
const LEADER_HINTS_FROM: i16 = 10;

/// A batch that was appended and is not yet committed: its place in the response, and what is
/// waited for.
struct Uncommitted {
    topic: usize,
    partition: usize,
    handle: Arc<Partition>,
    /// Where the records end, and the leader epoch that they were appended in.
    end: (i64, i32),
}

/// Serves a request.
pub fn handle(context: Context, request: ProduceRequest) -> Result<Reply, Close> {
    let acks = request.acks;
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    let mut producing = Producing {
        context: &context,
        acks,
        uncommitted: Vec::new(),
        response: ProduceResponse::default(),
        leaders: BTreeSet::new(),
    };
    for topic in request.topic_data {
        producing.produce_topic(topic);
    }
    let Producing { uncommitted, mut response, leaders, .. } = producing;
    response.node_endpoints = node_endpoints(&context, &leaders);
    if acks == 0 {
        return match first_error(&response) {
            None => Ok(Reply::None),
            Some(error) => Err(Close::Refused(format!("produce with acks=0 failed: {error}"))),
        };
    }
    if uncommitted.iter().all(Uncommitted::is_committed) {
        return context.reply(response);
    }
    let answer = context.answer();
    let deadline = Instant::now() + timeout;
    Ok(Reply::Later(Box::pin(async move {
        for waiting in uncommitted {
            if let Err(error) = waiting.handle.committed(waiting.end, deadline).await {
                fail(&mut response, (waiting.topic, waiting.partition), error);
            }
        }
        answer.encode(response)
    })))
}

impl Uncommitted {
    fn is_committed(&self) -> bool {
        let (end_offset, leader_epoch) = self.end;
        self.handle.is_committed(end_offset, leader_epoch) == Ok(true)
    }
}

/// A request while its batches are appended.
struct Producing<'a> {
    context: &'a Context,
    acks: i16,
    uncommitted: Vec<Uncommitted>,
    response: ProduceResponse,
    /// Leaders that the client is told of.
    leaders: BTreeSet<BrokerId>,
}

impl Producing<'_> {
    fn produce_topic(&mut self, topic: TopicProduceData) {
        let by_id = self.context.version() >= TOPIC_IDS_FROM;
        let found = find_topic(self.context, by_id, (&topic.name, topic.topic_id));
        let found = found.and_then(|found| self.check_topic(found).map(|()| found));
        let mut responses = Vec::with_capacity(topic.partition_data.len());
        for partition in topic.partition_data {
            let index = partition.index;
            let produced = match &found {
                Ok(topic) => {
                    let place = (self.response.responses.len(), responses.len());
                    self.produce_partition(topic, place, partition)
                }
                Err(error) => Err(AppendRefused::new(*error, -1)),
            };
            responses.push(match produced {
                Ok(appended) => accepted(index, &appended),
                Err(refused) => refusal(index, refused),
            });
            let topic_name = found.as_ref().ok().map(|topic| &*topic.name);
            if let (Some(response), Some(name)) = (responses.last_mut(), topic_name) {
                self.tell_leader(name, response);
            }
        }
        self.response.responses.push(TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: responses,
            ..TopicProduceResponse::default()
        });
    }

    /// What is wrong with all of a topic's batches.
    fn check_topic(&self, topic: &TopicImage) -> Result<(), ErrorCode> {
        if !(-1..=1).contains(&self.acks) {
            return Err(ErrorCode::InvalidRequiredAcks);
        }
        if !self.context.is_authorized(Operation::Write, Resource::Topic(&topic.name)) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        if topic.is_internal() {
            return Err(ErrorCode::InvalidTopicException);
        }
        Ok(())
    }

    fn produce_partition(
        &mut self,
        topic: &TopicImage,
        (topic_place, partition_place): (usize, usize),
        data: PartitionProduceData,
    ) -> Result<Appended, AppendRefused> {
        let refused = |code| AppendRefused::new(code, -1);
        let records = check_records(data.records, self.context.version())?;
        let found = self.context.parts.replicas.partition(&topic.name, data.index);
        let partition = found.map_err(refused)?;
        if partition.topic_id() != topic.id {
            // The topic was made anew since the image was loaded.
            return Err(refused(ErrorCode::UnknownTopicOrPartition));
        }
        let size = records.len() as u64;
        let appended = partition.append(AppendRequest { records, acks: self.acks })?;
        let count = u64::try_from(appended.last_offset - appended.base_offset + 1).unwrap_or(0);
        let metrics = &self.context.parts.metrics;
        metrics.produced_bytes.add(size);
        metrics.produced_records.add(count);
        if self.acks == ACKS_ALL {
            self.uncommitted.push(Uncommitted {
                topic: topic_place,
                partition: partition_place,
                handle: partition,
                end: (appended.last_offset + 1, appended.leader_epoch),
            });
        }
        Ok(appended)
    }

    /// Adds the leader that the client should have asked (KIP-951).
    fn tell_leader(&mut self, topic: &str, response: &mut PartitionProduceResponse) {
        let is_misdirected = response.error_code == ErrorCode::NotLeaderOrFollower.code();
        if !is_misdirected || self.context.version() < LEADER_HINTS_FROM {
            return;
        }
        if let Some((leader, leader_epoch)) = self.context.leader_of(topic, response.index) {
            response.current_leader = LeaderIdAndEpoch {
                leader_id: leader.0,
                leader_epoch,
                ..LeaderIdAndEpoch::default()
            };
            self.leaders.insert(leader);
        }
    }
}

/// Checks what the version of the request allows; the log checks the rest.
fn check_records(records: Option<Records>, version: i16) -> Result<Bytes, AppendRefused> {
    let invalid = |message: &str| AppendRefused {
        message: Some(message.to_owned()),
        ..AppendRefused::new(ErrorCode::InvalidRecord, -1)
    };
    let Some(Records::Bytes(bytes)) = records else {
        return Err(invalid("a partition without records"));
    };
    let header = match BatchHeader::parse(&bytes) {
        Ok(header) => header,
        Err(error) => return Err(invalid(&format!("not a record batch of format v2: {error}"))),
    };
    if version < ZSTD_FROM && matches!(header.compression(), Ok(Compression::Zstd)) {
        return Err(AppendRefused::new(ErrorCode::UnsupportedCompressionType, -1));
    }
    if header.is_transactional() {
        let code = ErrorCode::TransactionalIdAuthorizationFailed;
        return Err(AppendRefused::new(code, -1));
    }
    Ok(bytes)
}

fn accepted(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time_ms,
        log_start_offset: appended.log_start_offset,
        ..PartitionProduceResponse::default()
    }
}

fn refusal(index: i32, refused: AppendRefused) -> PartitionProduceResponse {
    let record_errors = refused.record_errors.into_iter().map(|error| BatchIndexAndErrorMessage {
        batch_index: error.batch_index,
        batch_index_error_message: Some(error.message.into()),
        ..BatchIndexAndErrorMessage::default()
    });
    PartitionProduceResponse {
        index,
        error_code: refused.code.code(),
        base_offset: -1,
        log_start_offset: refused.log_start_offset,
        record_errors: record_errors.collect(),
        error_message: refused.message.map(Into::into),
        ..PartitionProduceResponse::default()
    }
}

/// Puts an error in the place of a success.
fn fail(response: &mut ProduceResponse, (topic, partition): (usize, usize), error: ErrorCode) {
    let topic = response.responses.get_mut(topic);
    if let Some(response) = topic.and_then(|topic| topic.partition_responses.get_mut(partition)) {
        response.error_code = error.code();
        if error != ErrorCode::RequestTimedOut {
            response.base_offset = -1;
        }
    }
}

fn first_error(response: &ProduceResponse) -> Option<ErrorCode> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    let mut codes = partitions.map(|response| ErrorCode::from_code(response.error_code));
    codes.find(|error| !error.is_none())
}

/// Where the leaders are reached that the response names.
fn node_endpoints(context: &Context, leaders: &BTreeSet<BrokerId>) -> Vec<NodeEndpoint> {
    let reachable = leaders.iter().filter_map(|id| context.reachable_broker(*id));
    let endpoints = reachable.map(|(broker, endpoint)| NodeEndpoint {
        node_id: broker.id.0,
        host: endpoint.host.as_str().into(),
        port: i32::from(endpoint.port),
        rack: broker.rack.as_deref().map(Into::into),
        ..NodeEndpoint::default()
    });
    endpoints.collect()
}
