//! The consumer protocol (KIP-848): the broker assigns, and each heartbeat carries what changed.

use std::collections::BTreeMap;

use super::{Beat, Membership};
use crate::kafka::client::ClientError;
use crate::kafka::error_code::ErrorCode;
use crate::kafka::messages::consumer_group_heartbeat::request::TopicPartitions;
use crate::kafka::messages::consumer_group_heartbeat::response::Assignment;
use crate::kafka::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use crate::types::{TopicId, TopicPartition, Uuid};

/// The epoch with which a member joins.
const JOIN_EPOCH: i32 = 0;
/// The epoch with which a member leaves.
const LEAVE_EPOCH: i32 = -1;
/// The epoch with which a static member leaves that will come back.
const LEAVE_STATIC_EPOCH: i32 = -2;

impl Membership {
    pub(super) async fn join_consumer(&mut self) -> Result<(), ClientError> {
        if self.id.is_empty() {
            // The member chooses its id itself, from version 1 on.
            let id = Uuid::random().map_err(|_| ClientError::InvalidOption {
                option: "the member's id",
                reason: "cannot be made: the system gives no randomness",
            })?;
            self.id = id.to_string().as_str().into();
        }
        let topics = self.options.topics.iter().map(|topic| topic.as_str().into());
        let request = ConsumerGroupHeartbeatRequest {
            instance_id: self.instance_id(),
            rebalance_timeout_ms: self.options.rebalance_timeout_ms,
            subscribed_topic_names: Some(topics.collect()),
            topic_partitions: Some(Vec::new()),
            ..self.request(JOIN_EPOCH)
        };
        let answer = self.connection.send(&request).await?;
        let code = ErrorCode::from_code(answer.error_code);
        self.check("ConsumerGroupHeartbeat", code, answer.error_message.as_ref())?;
        self.take(answer).await?;
        Ok(())
    }

    pub(super) async fn heartbeat_consumer(&mut self) -> Result<Beat, ClientError> {
        let mut request = self.request(self.epoch);
        if self.tells_owned {
            request.topic_partitions = Some(self.owned().await?);
        }
        let answer = self.connection.send(&request).await?;
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => {}
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                return Ok(self.forgotten());
            }
            code => {
                self.check("ConsumerGroupHeartbeat", code, answer.error_message.as_ref())?;
            }
        }
        self.tells_owned = false;
        self.take(answer).await
    }

    pub(super) async fn leave_consumer(&mut self) -> Result<(), ClientError> {
        let is_static = self.options.instance_id.is_some();
        let epoch = if is_static { LEAVE_STATIC_EPOCH } else { LEAVE_EPOCH };
        let request = ConsumerGroupHeartbeatRequest {
            instance_id: self.instance_id(),
            ..self.request(epoch)
        };
        let answer = self.connection.send(&request).await?;
        let code = ErrorCode::from_code(answer.error_code);
        self.check("ConsumerGroupHeartbeat", code, answer.error_message.as_ref())
    }

    fn request(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.group(),
            member_id: self.id.clone(),
            member_epoch: epoch,
            ..ConsumerGroupHeartbeatRequest::default()
        }
    }

    /// Takes what an answer says.
    async fn take(&mut self, answer: ConsumerGroupHeartbeatResponse) -> Result<Beat, ClientError> {
        self.epoch = answer.member_epoch;
        if let Ok(interval_ms) = u64::try_from(answer.heartbeat_interval_ms)
            && interval_ms > 0
        {
            self.heartbeat_interval_ms = interval_ms;
        }
        let Some(assignment) = answer.assignment else { return Ok(Beat::Steady) };
        self.assignment = self.named(assignment).await?;
        self.tells_owned = true;
        Ok(Beat::Changed)
    }

    /// The names of what was assigned by ids.
    async fn named(&self, assignment: Assignment) -> Result<Vec<TopicPartition>, ClientError> {
        let mut partitions = Vec::new();
        for topic in assignment.topic_partitions {
            let mut known = self.cluster.metadata().topic_by_id(topic.topic_id).cloned();
            if known.is_none() {
                let topics: Vec<&str> = self.options.topics.iter().map(String::as_str).collect();
                let metadata = self.cluster.refresh(&topics).await?;
                known = metadata.topic_by_id(topic.topic_id).cloned();
            }
            // A topic that is gone again has nothing to read.
            let Some(known) = known else { continue };
            let numbers = topic.partitions.into_iter();
            partitions
                .extend(numbers.map(|number| TopicPartition::new(known.name.clone(), number)));
        }
        Ok(partitions)
    }

    /// What it has, by the topics' ids.
    async fn owned(&self) -> Result<Vec<TopicPartitions>, ClientError> {
        let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
        for name in &self.assignment {
            let topic = self.cluster.topic(&name.topic).await?;
            topics.entry(topic.id).or_default().push(name.partition);
        }
        let topics = topics.into_iter().map(|(topic_id, partitions)| TopicPartitions {
            topic_id,
            partitions,
            ..TopicPartitions::default()
        });
        Ok(topics.collect())
    }
}
