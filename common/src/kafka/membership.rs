//! A member of a consumer group, in the classic protocol (JoinGroup, SyncGroup, Heartbeat) or in
//! the consumer protocol (ConsumerGroupHeartbeat, KIP-848): joining, heartbeats, commits, leaving.
//!
//! It has no task and no clock of its own: who uses it sends a heartbeat when one is due and does
//! as the [`Beat`] says, so that ten thousand of them are as light as their connections. A broker
//! answers a connection's requests in order and may hold a JoinGroup back for as long as a
//! rebalance takes, so members of the classic protocol must not share one.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod classic;
mod range;
mod reconciled;

use std::collections::BTreeMap;
use std::str::FromStr;

use super::client::{ClientError, Connection};
use super::cluster::Cluster;
use super::error_code::ErrorCode;
use super::messages::offset_commit::OffsetCommitRequest;
use super::messages::offset_commit::request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use super::messages::offset_fetch::OffsetFetchRequest;
use super::messages::offset_fetch::request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use super::wire::KafkaString;
use crate::types::TopicPartition;

/// The last version of OffsetFetch and OffsetCommit in which topics have names.
const TOPIC_NAMES_UNTIL: i16 = 9;

/// How a group agrees on who reads what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupProtocol {
    /// One of the members assigns, and all stop for it.
    Classic,
    /// The broker assigns, and only what moves stops (KIP-848).
    Consumer,
}

impl FromStr for GroupProtocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "classic" => Ok(Self::Classic),
            "consumer" => Ok(Self::Consumer),
            _ => Err("expected classic or consumer".to_owned()),
        }
    }
}

impl std::fmt::Display for GroupProtocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
        })
    }
}

/// Who a member is and what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipOptions {
    /// The group.
    pub group: String,
    /// The topics that the member reads.
    pub topics: Vec<String>,
    /// How the group agrees.
    pub protocol: GroupProtocol,
    /// The member's name, if it is a static one (KIP-345).
    pub instance_id: Option<String>,
    /// A member of the classic protocol is dropped after so many milliseconds without a heartbeat.
    pub session_timeout_ms: i32,
    /// How long the member may take to let go of its partitions, in milliseconds.
    pub rebalance_timeout_ms: i32,
}

impl MembershipOptions {
    /// A member with the timeouts of Kafka's consumer.
    pub fn new(group: &str, topics: Vec<String>, protocol: GroupProtocol) -> Self {
        Self {
            group: group.to_owned(),
            topics,
            protocol,
            instance_id: None,
            session_timeout_ms: 45_000,
            rebalance_timeout_ms: 300_000,
        }
    }
}

/// What a heartbeat came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing has changed.
    Steady,
    /// [`Membership::assignment`] is another. Once what is not in it any more has been let go of,
    /// the next heartbeat tells the broker so, and should be sent at once.
    Changed,
    /// The group shares out anew, or has dropped the member: it lets go of all of its partitions
    /// and joins again.
    Rejoin,
}

/// A member of a group.
#[derive(Debug)]
pub struct Membership {
    cluster: Cluster,
    connection: Connection,
    options: MembershipOptions,
    /// Empty before the first join in the classic protocol.
    id: KafkaString,
    /// The generation, or the member's epoch.
    epoch: i32,
    assignment: Vec<TopicPartition>,
    /// The next heartbeat tells what the member has (consumer protocol).
    tells_owned: bool,
    heartbeat_interval_ms: u64,
}

impl Membership {
    /// A member that has not joined. `connection` leads to the group's coordinator; `cluster` tells
    /// which partitions and names topics have.
    pub fn new(cluster: Cluster, connection: Connection, options: MembershipOptions) -> Self {
        Self {
            cluster,
            connection,
            options,
            id: KafkaString::new(),
            epoch: -1,
            assignment: Vec::new(),
            tells_owned: false,
            heartbeat_interval_ms: 3_000,
        }
    }

    /// What it reads now.
    pub fn assignment(&self) -> &[TopicPartition] {
        &self.assignment
    }

    /// The generation of the group that it belongs to, or its epoch; -1 if it is in none.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Its id, once the group knows it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// How far apart heartbeats shall be, in milliseconds: what the broker of the consumer protocol
    /// wants, or what Kafka's consumer does in the classic one.
    pub fn heartbeat_interval_ms(&self) -> u64 {
        self.heartbeat_interval_ms
    }

    /// Takes another connection, after the last has ended or another broker keeps the group.
    pub fn reconnect(&mut self, connection: Connection) {
        self.connection = connection;
    }

    /// Joins the group. In the classic protocol this waits until all have joined and the leader has
    /// assigned; in the consumer protocol partitions may come with later heartbeats.
    ///
    /// # Errors
    /// If the broker does not answer, or it refuses.
    pub async fn join(&mut self) -> Result<(), ClientError> {
        self.assignment.clear();
        match self.options.protocol {
            GroupProtocol::Classic => self.join_classic().await,
            GroupProtocol::Consumer => self.join_consumer().await,
        }
    }

    /// Sends a heartbeat.
    ///
    /// # Errors
    /// If the broker does not answer, or refuses for a reason that joining again does not mend.
    pub async fn heartbeat(&mut self) -> Result<Beat, ClientError> {
        match self.options.protocol {
            GroupProtocol::Classic => self.heartbeat_classic().await,
            GroupProtocol::Consumer => self.heartbeat_consumer().await,
        }
    }

    /// Leaves the group, so that its partitions go to others at once.
    ///
    /// # Errors
    /// If the broker does not answer, or it refuses.
    pub async fn leave(&mut self) -> Result<(), ClientError> {
        self.assignment.clear();
        if self.epoch < 0 {
            return Ok(());
        }
        match self.options.protocol {
            GroupProtocol::Classic => self.leave_classic().await?,
            GroupProtocol::Consumer => self.leave_consumer().await?,
        }
        self.epoch = -1;
        Ok(())
    }

    /// Commits offsets: of each partition the next record that is wanted.
    ///
    /// # Errors
    /// If the broker does not answer, or refuses one of them.
    pub async fn commit(&self, offsets: &BTreeMap<TopicPartition, i64>) -> Result<(), ClientError> {
        let mut topics: Vec<OffsetCommitRequestTopic> = Vec::new();
        for (name, offset) in offsets {
            let partition = OffsetCommitRequestPartition {
                partition_index: name.partition,
                committed_offset: *offset,
                committed_metadata: Some(KafkaString::new()),
                ..OffsetCommitRequestPartition::default()
            };
            match topics.last_mut().filter(|topic| topic.name.as_str() == &*name.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetCommitRequestTopic {
                    name: (*name.topic).into(),
                    partitions: vec![partition],
                    ..OffsetCommitRequestTopic::default()
                }),
            }
        }
        let request = OffsetCommitRequest {
            group_id: self.group(),
            generation_id_or_member_epoch: self.epoch,
            member_id: self.id.clone(),
            group_instance_id: self.instance_id(),
            topics,
            ..OffsetCommitRequest::default()
        };
        let answer = self.connection.dispatch(TOPIC_NAMES_UNTIL, &request).await?.await?;
        let answers = answer.topics.iter().flat_map(|topic| &topic.partitions);
        let mut codes = answers.map(|partition| ErrorCode::from_code(partition.error_code));
        let refused = codes.find(|code| !code.is_none()).unwrap_or(ErrorCode::None);
        self.check("OffsetCommit", refused, None)
    }

    /// What the group has committed of its assignment.
    ///
    /// # Errors
    /// If the broker does not answer, or it refuses.
    pub async fn committed(&self) -> Result<BTreeMap<TopicPartition, i64>, ClientError> {
        let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for name in &self.assignment {
            topics.entry(&name.topic).or_default().push(name.partition);
        }
        let topics = topics.into_iter().map(|(name, partition_indexes)| OffsetFetchRequestTopics {
            name: name.into(),
            partition_indexes,
            ..OffsetFetchRequestTopics::default()
        });
        let group = OffsetFetchRequestGroup {
            group_id: self.group(),
            topics: Some(topics.collect()),
            ..OffsetFetchRequestGroup::default()
        };
        let request = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
        let answer = self.connection.dispatch(TOPIC_NAMES_UNTIL, &request).await?.await?;
        let mut offsets = BTreeMap::new();
        for group in answer.groups {
            self.check("OffsetFetch", ErrorCode::from_code(group.error_code), None)?;
            for topic in group.topics {
                for at in topic.partitions {
                    self.check("OffsetFetch", ErrorCode::from_code(at.error_code), None)?;
                    let name = TopicPartition::new(topic.name.as_str(), at.partition_index);
                    if at.committed_offset >= 0 {
                        offsets.insert(name, at.committed_offset);
                    }
                }
            }
        }
        Ok(offsets)
    }

    fn group(&self) -> KafkaString {
        self.options.group.as_str().into()
    }

    fn instance_id(&self) -> Option<KafkaString> {
        self.options.instance_id.as_deref().map(KafkaString::from)
    }

    fn check(
        &self,
        api: &str,
        code: ErrorCode,
        message: Option<&KafkaString>,
    ) -> Result<(), ClientError> {
        let subject = || format!("{api} of group {}", self.options.group);
        ClientError::check(subject, code, message.map(|text| text.as_str()))
    }

    /// That the group does not know the member any more: it joins as a new one.
    fn forgotten(&mut self) -> Beat {
        self.epoch = -1;
        self.assignment.clear();
        Beat::Rejoin
    }
}
