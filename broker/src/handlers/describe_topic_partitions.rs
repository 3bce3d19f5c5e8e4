//! DescribeTopicPartitions (key 75), version 0 (KIP-966).
//!
//! Behaviour:
//! - The topics asked for, all if none is named, by name; at most so many partitions in one
//!   response, which then says with a cursor where the next one goes on.
//! - The cursor names the first topic, which need not be there any more, and its first partition.
//!
//! Missing: the last known eligible leader replicas, which are not kept; the list is empty.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::describe_topic_partitions::request::Cursor as AskedCursor;
use ottla_common::kafka::messages::describe_topic_partitions::response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use ottla_common::kafka::messages::describe_topic_partitions::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
};

use super::authorization::TOPIC_OPERATIONS;
use super::context::Context;
use super::topics::{PartitionView, is_valid_name, numbers};
use crate::metadata::image::{PartitionImage, TopicImage};

/// Serves a request.
pub fn handle(
    context: &Context,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let asked: BTreeSet<&str> = if request.topics.is_empty() {
        context.image.topics.keys().map(|name| &**name).collect()
    } else {
        request.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    if request.cursor.as_ref().is_some_and(|cursor| cursor.partition_index < 0) {
        let refused = asked.into_iter().map(|name| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::InvalidRequest.code(),
            name: Some(name.into()),
            ..DescribeTopicPartitionsResponseTopic::default()
        });
        let topics = refused.collect();
        return DescribeTopicPartitionsResponse {
            topics,
            ..DescribeTopicPartitionsResponse::default()
        };
    }
    let configured = context.parts.config.network.max_request_partition_size_limit;
    let limit = u32::try_from(request.response_partition_limit).unwrap_or(0).clamp(1, configured);
    let page = Page { context, left: usize::try_from(limit).unwrap_or(usize::MAX) };
    page.fill(asked, request.cursor.as_ref())
}

struct Page<'a> {
    context: &'a Context,
    /// Partitions that still fit.
    left: usize,
}

impl Page<'_> {
    fn fill(
        mut self,
        asked: BTreeSet<&str>,
        cursor: Option<&AskedCursor>,
    ) -> DescribeTopicPartitionsResponse {
        let mut response = DescribeTopicPartitionsResponse::default();
        let from = cursor.map_or("", |cursor| cursor.topic_name.as_str());
        for name in asked.range(from..) {
            let first = cursor.filter(|cursor| cursor.topic_name == *name);
            let first = first.map_or(0, |cursor| cursor.partition_index);
            if self.left == 0 {
                response.next_cursor = next(name, first);
                break;
            }
            let Some(topic) = self.context.image.topic(name) else {
                response.topics.push(missing(name));
                continue;
            };
            let partitions = self.partitions(topic, first);
            let count = i32::try_from(partitions.len()).unwrap_or(i32::MAX);
            let end = first.saturating_add(count);
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                name: Some(topic.name.clone().into()),
                topic_id: topic.id,
                is_internal: topic.is_internal(),
                partitions,
                topic_authorized_operations: TOPIC_OPERATIONS,
                ..DescribeTopicPartitionsResponseTopic::default()
            });
            if topic.partition(end).is_some() {
                response.next_cursor = next(name, end);
                break;
            }
        }
        response
    }

    /// A topic's partitions from `first` on, as many as fit.
    fn partitions(
        &mut self,
        topic: &Arc<TopicImage>,
        first: i32,
    ) -> Vec<DescribeTopicPartitionsResponsePartition> {
        let skipped = usize::try_from(first).unwrap_or(0);
        let rest = topic.partitions.iter().skip(skipped).take(self.left);
        let partitions: Vec<_> = (first..)
            .zip(rest)
            .map(|(index, image)| partition(self.context, index, image))
            .collect();
        self.left -= partitions.len();
        partitions
    }
}

fn next(topic: &str, partition_index: i32) -> Option<Cursor> {
    Some(Cursor { topic_name: topic.into(), partition_index, ..Cursor::default() })
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match is_valid_name(name) {
        true => ErrorCode::UnknownTopicOrPartition,
        false => ErrorCode::InvalidTopicException,
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name.into()),
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn partition(
    context: &Context,
    partition_index: i32,
    image: &PartitionImage,
) -> DescribeTopicPartitionsResponsePartition {
    let view = PartitionView::new(context, image);
    DescribeTopicPartitionsResponsePartition {
        error_code: view.error.code(),
        partition_index,
        leader_id: view.leader_id,
        leader_epoch: view.leader_epoch,
        replica_nodes: view.replicas,
        isr_nodes: view.isr,
        eligible_leader_replicas: Some(numbers(&image.elr)),
        last_known_elr: Some(Vec::new()),
        offline_replicas: view.offline,
        ..DescribeTopicPartitionsResponsePartition::default()
    }
}
