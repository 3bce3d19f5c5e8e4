//! OffsetFetch (key 9), versions 1 to 10.
//!
//! Behaviour:
//! - Tells what groups have committed; without topics, all of it. A partition without an offset has
//!   offset -1 and no error.
//! - With `require_stable`, an offset that an open transaction may change is
//!   UNSTABLE_OFFSET_COMMIT.
//! - A member of a consumer group has to show its present epoch: STALE_MEMBER_EPOCH.
//! - The reply waits until what it tells is committed by the partition's in-sync replicas.
//!
//! Version notes: 2 null topics mean all, an error for the whole group; 5 leader epochs; 6
//! flexible; 7 stable offsets (KIP-447); 8 several groups (KIP-709); 9 members of the new protocol;
//! 10 topics by id (KIP-848).
//!
//! Missing: nothing.

use std::sync::Arc;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::offset_fetch::request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopics,
};
use ottla_common::kafka::messages::offset_fetch::response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use ottla_common::kafka::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};

use super::authorization::{Operation, Resource};
use super::context::Context;
use super::groups::{Pending, reply_when_all};
use crate::groups::shard::{FetchedOffset, GroupShard};
use crate::network::{Close, Reply};

/// The first version with an error for a whole group, where there is one group.
const GROUP_ERRORS_FROM: i16 = 2;
/// The first version that asks for several groups.
const BATCHES_FROM: i16 = 8;
/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 10;

/// Serves a request.
pub fn handle(context: Context, request: OffsetFetchRequest) -> Result<Reply, Close> {
    let version = context.version();
    let require_stable = request.require_stable;
    let groups = if version >= BATCHES_FROM { request.groups } else { vec![one_group(request)] };
    let looking = groups.into_iter().map(|group| {
        let pending = look(&context, &group, require_stable);
        (group, pending)
    });
    let looking: Vec<_> = looking.collect();
    reply_when_all(&context, looking, move |seen| {
        let groups = seen.into_iter().map(|(group, result)| match result.and_then(|seen| seen) {
            Ok(topics) => OffsetFetchResponseGroup {
                group_id: group.group_id,
                topics,
                ..OffsetFetchResponseGroup::default()
            },
            Err(error) => refused(group, error, version),
        });
        let groups: Vec<OffsetFetchResponseGroup> = groups.collect();
        match version {
            BATCHES_FROM.. => OffsetFetchResponse { groups, ..OffsetFetchResponse::default() },
            _ => groups.into_iter().next().map(flat).unwrap_or_default(),
        }
    })
}

/// A request of the older form as one of several groups.
fn one_group(request: OffsetFetchRequest) -> OffsetFetchRequestGroup {
    let topics = request.topics.map(|topics| {
        let topics = topics.into_iter().map(|topic| OffsetFetchRequestTopics {
            name: topic.name,
            partition_indexes: topic.partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        topics.collect()
    });
    let group_id = request.group_id;
    OffsetFetchRequestGroup { group_id, topics, ..OffsetFetchRequestGroup::default() }
}

/// A group's offsets, as far as the client may know of them.
fn look(
    context: &Context,
    group: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> Pending<Result<Vec<OffsetFetchResponseTopics>, ErrorCode>> {
    if !context.is_authorized(Operation::Describe, Resource::Group(&group.group_id)) {
        return Err(ErrorCode::GroupAuthorizationFailed);
    }
    context.read_group(&group.group_id, |shard| {
        shard.check_fetch(&group.group_id, group.member_id.as_deref(), group.member_epoch)?;
        let seen = Seen { context, shard, group_id: &group.group_id, require_stable };
        Ok(match &group.topics {
            Some(topics) => topics.iter().map(|topic| seen.asked_topic(topic)).collect(),
            None => seen.all_topics(),
        })
    })
}

struct Seen<'a> {
    context: &'a Context,
    shard: &'a GroupShard,
    group_id: &'a str,
    require_stable: bool,
}

impl Seen<'_> {
    fn asked_topic(&self, asked: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
        let by_id = self.context.version() >= TOPIC_IDS_FROM;
        let name = if by_id {
            self.context.image.topic_by_id(asked.topic_id).map(|topic| &*topic.name)
        } else {
            Some(asked.name.as_str())
        };
        let error = match name {
            None => Some(ErrorCode::UnknownTopicId),
            Some(name) if !self.may_see(name) => Some(ErrorCode::TopicAuthorizationFailed),
            Some(_) => None,
        };
        let numbers = asked.partition_indexes.iter();
        let partitions = numbers.map(|number| match (error, name) {
            (Some(error), _) => no_offset(*number, error),
            (None, name) => self.partition(name.unwrap_or_default(), *number),
        });
        OffsetFetchResponseTopics {
            name: asked.name.clone(),
            topic_id: asked.topic_id,
            partitions: partitions.collect(),
            ..OffsetFetchResponseTopics::default()
        }
    }

    fn all_topics(&self) -> Vec<OffsetFetchResponseTopics> {
        let mut topics: Vec<(Arc<str>, OffsetFetchResponseTopics)> = Vec::new();
        for (name, number) in self.shard.partitions_with_offsets(self.group_id) {
            if !self.may_see(&name) {
                continue;
            }
            let partition = self.partition(&name, number);
            match topics.last_mut() {
                Some((last, topic)) if *last == name => topic.partitions.push(partition),
                _ => {
                    let topic_id = self.context.image.topic(&name).map(|topic| topic.id);
                    let topic = OffsetFetchResponseTopics {
                        name: (&*name).into(),
                        topic_id: topic_id.unwrap_or_default(),
                        partitions: vec![partition],
                        ..OffsetFetchResponseTopics::default()
                    };
                    topics.push((name, topic));
                }
            }
        }
        // A topic that is gone cannot be named by its id.
        let by_id = self.context.version() >= TOPIC_IDS_FROM;
        let shown = topics.into_iter().map(|(_, topic)| topic);
        shown.filter(|topic| !by_id || !topic.topic_id.is_zero()).collect()
    }

    fn may_see(&self, topic: &str) -> bool {
        self.context.is_authorized(Operation::Describe, Resource::Topic(topic))
    }

    fn partition(&self, topic: &str, number: i32) -> OffsetFetchResponsePartitions {
        let place = (topic, number);
        match self.shard.fetch_offset(self.group_id, place, self.require_stable) {
            FetchedOffset::Missing => no_offset(number, ErrorCode::None),
            FetchedOffset::Unstable => no_offset(number, ErrorCode::UnstableOffsetCommit),
            FetchedOffset::Committed(committed) => OffsetFetchResponsePartitions {
                partition_index: number,
                committed_offset: committed.offset,
                committed_leader_epoch: committed.leader_epoch,
                metadata: Some((&*committed.metadata).into()),
                ..OffsetFetchResponsePartitions::default()
            },
        }
    }
}

fn no_offset(partition_index: i32, error: ErrorCode) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index,
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some("".into()),
        error_code: error.code(),
        ..OffsetFetchResponsePartitions::default()
    }
}

/// A group whose offsets are not told: before there was an error for that, by an error for each
/// partition.
fn refused(
    group: OffsetFetchRequestGroup,
    error: ErrorCode,
    version: i16,
) -> OffsetFetchResponseGroup {
    let is_old = version < GROUP_ERRORS_FROM;
    let topics = group.topics.into_iter().flatten().filter(|_| is_old).map(|topic| {
        let numbers = topic.partition_indexes.iter();
        OffsetFetchResponseTopics {
            name: topic.name,
            partitions: numbers.map(|number| no_offset(*number, error)).collect(),
            ..OffsetFetchResponseTopics::default()
        }
    });
    OffsetFetchResponseGroup {
        group_id: group.group_id,
        topics: topics.collect(),
        error_code: error.code(),
        ..OffsetFetchResponseGroup::default()
    }
}

/// One group's offsets in the older form.
fn flat(group: OffsetFetchResponseGroup) -> OffsetFetchResponse {
    let topics = group.topics.into_iter().map(|topic| {
        let partitions =
            topic.partitions.into_iter().map(|partition| OffsetFetchResponsePartition {
                partition_index: partition.partition_index,
                committed_offset: partition.committed_offset,
                committed_leader_epoch: partition.committed_leader_epoch,
                metadata: partition.metadata,
                error_code: partition.error_code,
                ..OffsetFetchResponsePartition::default()
            });
        OffsetFetchResponseTopic {
            name: topic.name,
            partitions: partitions.collect(),
            ..OffsetFetchResponseTopic::default()
        }
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: group.error_code,
        ..OffsetFetchResponse::default()
    }
}
