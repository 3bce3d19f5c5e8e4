//! Fetch (key 1), versions 4 to 18.
//!
//! Behaviour:
//! - Partitions are read in the order of the request or session, whole batches only, up to
//!   `max_bytes` in all and `partition_max_bytes` each; the first batch is returned whatever its
//!   size.
//! - While there are fewer than `min_bytes`, the request waits up to `max_wait_ms` for more; an
//!   error or a divergence is told at once.
//! - Followers read everything up to the log's end, and what they say of their own logs moves the
//!   high watermark and the ISR. Who says to be a replica must have proved to be that broker, in
//!   the life that the cluster knows; otherwise it is CLUSTER_AUTHORIZATION_FAILED, and nothing
//!   moves. A follower's fetch that is waiting is answered with nothing when its next one comes.
//! - A follower serves consumers what it knows to be committed, from version 11 on; a leader names
//!   one in the consumer's rack if `replica.selector.class` is Kafka's rack-aware one (KIP-392).
//! - A consumer that has used more than its quota is answered with nothing, and has to wait. What
//!   never fits into its quota is not read at once.
//! - Incremental sessions (KIP-227). The records are not copied: the reply refers to the log's
//!   files.
//!
//! Version notes: 5 log start offset; 7 sessions; 9 leader epochs (KIP-320); 10 zstd; 11 rack and
//! preferred replica (KIP-392); 12 flexible, divergence (KIP-595); 13 topic ids; 15 replica state
//! (KIP-903); 16 new leaders (KIP-951); 17 directory ids; 18 the replica's high watermark
//! (KIP-1166).
//!
//! Missing: nothing that clients use.

mod follower;
mod read;

use std::time::Duration;

use ottla_common::clock::monotonic_ms;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::fetch::request::{FetchPartition, FetchTopic};
use ottla_common::kafka::messages::fetch::response::{FetchableTopicResponse, PartitionData};
use ottla_common::kafka::messages::fetch::{FetchRequest, FetchResponse};
use ottla_common::kafka::wire::{KafkaString, Records};
use ottla_common::types::TopicId;
use tokio::time::Instant;

use super::context::{Answer, Context};
use crate::network::{Close, Reply};
use crate::replication::fetch_sessions::{SessionRequest, TopicKey, WantedPartition};
use crate::replication::partition::Isolation;
use read::Fetching;

/// The first version whose topics are named by id.
const TOPIC_IDS_FROM: i16 = 13;

/// The first version with an error for the whole response.
const TOP_LEVEL_ERROR_FROM: i16 = 7;

/// The longest that a fetch is let wait, whatever it asks for.
const WAIT_MAX: Duration = Duration::from_secs(5 * 60);

/// Serves a request.
pub fn handle(context: Context, request: FetchRequest) -> Result<Reply, Close> {
    let answer = context.answer();
    let follower = match follower::of(&context, &request) {
        Ok(follower) => follower,
        Err(error) => return refuse(&answer, &request, error),
    };
    let limits = Limits::new(&context, &request);
    if let Some(follower) = follower {
        return follower::serve(context, request, (follower, limits));
    }
    let rack = read::rack_of(&context, &request);
    let session_request = session_request(&context, request);
    let begun = context.parts.fetch_sessions.begin(
        session_request,
        monotonic_ms(),
        fastrand::i32(1..=i32::MAX),
    );
    let session = match begun {
        Ok(session) => session,
        Err(error) => return whole_error(&answer, error).map(Reply::Now),
    };
    let fetching = Fetching::new(context, session, limits, rack);
    let read = fetching.read();
    if limits.wait.is_zero() || read.is_enough(limits.min_bytes) || fetching.is_empty() {
        return fetching.respond(read).map(Reply::Now);
    }
    let deadline = Instant::now() + limits.wait;
    Ok(Reply::Later(Box::pin(fetching.respond_later(deadline))))
}

/// What bounds a reply.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes of records in all.
    max_bytes: usize,
    /// Bytes of records that are worth an early reply.
    min_bytes: u64,
    /// How long there may be fewer.
    wait: Duration,
    isolation: Isolation,
}

impl Limits {
    fn new(context: &Context, request: &FetchRequest) -> Self {
        let configured = context.parts.config.network.fetch_max_bytes;
        let asked = u32::try_from(request.max_bytes).unwrap_or(0);
        let allowed = context.charge.as_ref().and_then(|charge| charge.fetch_bytes_max());
        let allowed = allowed.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(u32::MAX);
        let max_bytes = asked.min(configured).min(allowed);
        let min_bytes = u32::try_from(request.min_bytes).unwrap_or(0).min(max_bytes);
        let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        Self {
            max_bytes: usize::try_from(max_bytes).unwrap_or(usize::MAX),
            min_bytes: u64::from(min_bytes),
            wait: if min_bytes == 0 { Duration::ZERO } else { wait.min(WAIT_MAX) },
            isolation: Isolation::from_wire(request.isolation_level),
        }
    }
}

/// What a request says of its session and partitions.
fn session_request(context: &Context, request: FetchRequest) -> SessionRequest {
    let uses_topic_ids = context.version() >= TOPIC_IDS_FROM;
    let key = |name: &KafkaString, id: TopicId| {
        if uses_topic_ids {
            return TopicKey::Id(id);
        }
        let known = context.image.topic(name);
        TopicKey::Name(known.map_or_else(|| name.as_str().into(), |topic| topic.name.clone()))
    };
    let mut wanted = Vec::with_capacity(request.topics.iter().map(|t| t.partitions.len()).sum());
    for FetchTopic { topic, topic_id, partitions, .. } in request.topics {
        let key = key(&topic, topic_id);
        wanted.extend(partitions.iter().map(|partition| want(&key, partition)));
    }
    let mut forgotten = Vec::new();
    for topic in request.forgotten_topics_data {
        let key = key(&topic.topic, topic.topic_id);
        forgotten.extend(topic.partitions.into_iter().map(|index| (key.clone(), index)));
    }
    SessionRequest {
        session_id: request.session_id,
        session_epoch: request.session_epoch,
        uses_topic_ids,
        wanted,
        forgotten,
    }
}

fn want(topic: &TopicKey, partition: &FetchPartition) -> WantedPartition {
    WantedPartition {
        key: (topic.clone(), partition.partition),
        current_leader_epoch: partition.current_leader_epoch,
        fetch_offset: partition.fetch_offset,
        last_fetched_epoch: partition.last_fetched_epoch,
        log_start_offset: partition.log_start_offset,
        max_bytes: partition.partition_max_bytes,
    }
}

/// The same error for everything that was asked.
fn refuse(answer: &Answer, request: &FetchRequest, error: ErrorCode) -> Result<Reply, Close> {
    if answer.version >= TOP_LEVEL_ERROR_FROM {
        return whole_error(answer, error).map(Reply::Now);
    }
    let topics = request.topics.iter().map(|topic| FetchableTopicResponse {
        topic: topic.topic.clone(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionData {
                partition_index: partition.partition,
                error_code: error.code(),
                high_watermark: -1,
                aborted_transactions: None,
                records: Some(Records::default()),
                ..PartitionData::default()
            })
            .collect(),
        ..FetchableTopicResponse::default()
    });
    let response = FetchResponse { responses: topics.collect(), ..FetchResponse::default() };
    answer.encode(response).map(Reply::Now)
}

fn whole_error(
    answer: &Answer,
    error: ErrorCode,
) -> Result<ottla_common::kafka::frame::EncodedFrame, Close> {
    answer.encode(FetchResponse { error_code: error.code(), ..FetchResponse::default() })
}
