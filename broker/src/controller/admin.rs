//! The writes to the tree that clients ask for: topics made, deleted and grown.
//!
//! Any broker makes them; each is one multi, so that it is done whole or not at all, and each
//! returns when this broker's image shows it, so that a client's next question is answered by it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ottla_common::cluster_tree::{
    ConfigKind, ConfigOverrides, DeletedTopic, PartitionAssignment, PartitionState, TopicAssignment,
};
use ottla_common::coordination::client::{Client, ClientError};
use ottla_common::coordination::protocol::{Acl, CoordinationError, CreateMode, Op};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::types::{BrokerId, TopicId, Uuid, Zxid};
use tracing::{info, warn};

use super::placement::{Candidate, Demand, place};
use crate::config::broker::BrokerConfig;
use crate::limits::{PARTITIONS_PER_TOPIC_MAX, REPLICATION_FACTOR_MAX};
use crate::metadata::image::{MetadataImage, Overrides, TopicImage};
use crate::metadata::watcher::ImageHandle;

/// How long a write waits until this broker's own image shows it.
const IMAGE_PATIENCE: Duration = Duration::from_secs(10);

/// A topic to make.
#[derive(Clone, Debug, Default)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// How many partitions; -1 for the broker's default, or where `assignments` say.
    pub partitions: i32,
    /// How many replicas of each; -1 for the broker's default, or where `assignments` say.
    pub replication_factor: i16,
    /// The replicas of each partition, if the client places them itself.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    /// Overrides of the topic's configs.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that was made, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its identity.
    pub id: TopicId,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas of each.
    pub replication_factor: i16,
}

/// Why a write was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AdminError {
    /// For the protocol.
    pub code: ErrorCode,
    /// For people.
    pub message: String,
}

impl AdminError {
    /// An error of this code, said in these words.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(super) fn from_client(error: &ClientError) -> Self {
        warn!(%error, "a write to the coordinator failed");
        Self::new(
            ErrorCode::RequestTimedOut,
            "The coordinator did not confirm the change; it may or may not have been made.",
        )
    }
}

/// Makes the writes that clients ask for.
pub struct ClusterAdmin {
    pub(super) client: Client,
    pub(super) image: ImageHandle,
    pub(super) config: Arc<BrokerConfig>,
}

impl ClusterAdmin {
    /// Writes with this client's session.
    pub fn new(client: Client, image: ImageHandle, config: Arc<BrokerConfig>) -> Self {
        Self { client, image, config }
    }

    /// Makes a topic, with its leaders.
    pub async fn create_topic(
        &self,
        spec: TopicSpec,
        validate_only: bool,
    ) -> Result<CreatedTopic, AdminError> {
        let image = self.image.load();
        check_name(&spec.name, &image)?;
        let replicas = self.replicas_of(&spec, &image)?;
        check_replication_factor(&replicas)?;
        let overrides = self.checked_topic_overrides(&spec.configs)?;
        let random = || AdminError::new(ErrorCode::UnknownServerError, "No randomness for an id.");
        let id = Uuid::random().map_err(|_| random())?;
        let factor = replicas.first().map_or(0, Vec::len);
        let created = CreatedTopic {
            id,
            partitions: i32::try_from(replicas.len()).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(factor).unwrap_or(i16::MAX),
        };
        if validate_only {
            return Ok(created);
        }
        let ops = creation(&spec.name, id, &replicas, &overrides, &image);
        match self.client.multi(ops).await {
            Ok(_) => {}
            Err(error) => match error.refusal_in_multi() {
                Some(CoordinationError::NodeExists { .. }) => return Err(exists(&spec.name)),
                _ => self.confirm_created(&spec.name, id, &error).await?,
            },
        }
        info!(topic = spec.name, partitions = created.partitions, "topic created");
        self.shown(|image| image.topic_by_id(id).is_some()).await;
        Ok(created)
    }

    /// After an answer that never came: whether the topic that is there is the one that was
    /// written.
    async fn confirm_created(
        &self,
        name: &str,
        id: TopicId,
        error: &ClientError,
    ) -> Result<(), AdminError> {
        let found = self.client.get(&TopicAssignment::path(name)).await;
        let found = found.map_err(|_| AdminError::from_client(error))?;
        let written = found.and_then(|(data, _)| TopicAssignment::decode(&data).ok());
        match written {
            Some(topic) if topic.topic_id == id => Ok(()),
            Some(_) => Err(exists(name)),
            None => Err(AdminError::from_client(error)),
        }
    }

    /// Makes a topic with the broker's defaults because a client asked for it by name.
    pub async fn auto_create_topic(&self, name: &str) -> Result<CreatedTopic, AdminError> {
        let spec = TopicSpec {
            name: name.to_owned(),
            partitions: -1,
            replication_factor: -1,
            ..TopicSpec::default()
        };
        self.create_topic(spec, false).await
    }

    /// Deletes a topic: its nodes go and a tombstone comes, at once, for the brokers to drop its
    /// logs.
    pub async fn delete_topic(&self, topic: &TopicImage) -> Result<(), AdminError> {
        let image = self.image.load();
        let replicas = topic.partitions.iter().flat_map(|p| p.replicas.iter().copied());
        let pending: BTreeSet<BrokerId> = replicas.collect();
        let mut ops = vec![
            Op::DeleteRecursive {
                path: TopicAssignment::path(&topic.name),
                version: Some(topic.node_version),
            },
            create_node(
                DeletedTopic::path(topic.id),
                DeletedTopic::new(&*topic.name, pending).encode(),
            ),
        ];
        if image.topic_configs.contains_key(&topic.name) {
            let path = ConfigOverrides::path(ConfigKind::Topics, &topic.name);
            ops.push(Op::DeleteRecursive { path, version: None });
        }
        match self.client.multi(ops).await {
            Ok(_) => {}
            Err(error) => match error.refusal_in_multi() {
                Some(CoordinationError::NoNode { .. } | CoordinationError::NodeExists { .. }) => {
                    let text = "This server does not host this topic-partition.";
                    return Err(AdminError::new(ErrorCode::UnknownTopicOrPartition, text));
                }
                _ => return Err(AdminError::from_client(&error)),
            },
        }
        info!(topic = %topic.name, "topic deleted");
        self.shown(|image| image.topic_by_id(topic.id).is_none()).await;
        Ok(())
    }

    /// Adds partitions to a topic until there are `total`.
    pub async fn create_partitions(
        &self,
        topic: &TopicImage,
        total: i32,
        placed: Option<Vec<Vec<BrokerId>>>,
        validate_only: bool,
    ) -> Result<(), AdminError> {
        let image = self.image.load();
        let added = self.added_replicas(topic, total, placed, &image)?;
        if validate_only {
            return Ok(());
        }
        let first = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let old = topic.partitions.iter().map(|partition| PartitionAssignment {
            replicas: partition.replicas.clone(),
            adding: partition.adding.clone(),
            removing: partition.removing.clone(),
        });
        let new = added.iter().cloned().map(placed_at);
        let assignment =
            TopicAssignment { topic_id: topic.id, partitions: old.chain(new).collect() };
        let mut ops = vec![Op::SetData {
            path: TopicAssignment::path(&topic.name),
            data: assignment.encode(),
            version: Some(topic.node_version),
        }];
        for (number, replicas) in (first..).zip(&added) {
            ops.extend(partition_nodes(&topic.name, number, first_state(replicas, &image)));
        }
        self.client.multi(ops).await.map_err(|error| AdminError::from_client(&error))?;
        let wanted = usize::try_from(total).unwrap_or(usize::MAX);
        let grown = |image: &MetadataImage| {
            image.topic_by_id(topic.id).is_none_or(|topic| topic.partitions.len() >= wanted)
        };
        self.shown(grown).await;
        Ok(())
    }

    /// Takes this broker off a tombstone whose logs it has dropped; the last one removes it.
    pub async fn confirm_dropped(
        &self,
        id: TopicId,
        broker_id: BrokerId,
    ) -> Result<(), ClientError> {
        let path = DeletedTopic::path(id);
        loop {
            let Some((data, stat)) = self.client.get(&path).await? else { return Ok(()) };
            let Ok(mut tombstone) = DeletedTopic::decode(&data) else { return Ok(()) };
            if !tombstone.pending.remove(&broker_id) {
                return Ok(());
            }
            let version = Some(stat.version);
            let written = if tombstone.pending.is_empty() {
                self.client.delete(&path, version).await
            } else {
                self.client.set(&path, tombstone.encode(), version).await.map(drop)
            };
            match written {
                Ok(()) => return Ok(()),
                Err(error) => match error.refusal() {
                    Some(
                        CoordinationError::BadVersion { .. } | CoordinationError::NoNode { .. },
                    ) => {}
                    _ => return Err(error),
                },
            }
        }
    }

    pub(super) async fn shown(&self, condition: impl Fn(&MetadataImage) -> bool) {
        if self.image.wait_until(IMAGE_PATIENCE, condition).await.is_none() {
            warn!(zxid = %self.image.load().zxid, "the image does not show a write yet");
        }
    }

    /// Waits until the image shows the state of the tree at `zxid`.
    pub(super) async fn shown_at(&self, zxid: Zxid) {
        self.image.reached(zxid, IMAGE_PATIENCE).await;
    }

    fn replicas_of(
        &self,
        spec: &TopicSpec,
        image: &MetadataImage,
    ) -> Result<Vec<Vec<BrokerId>>, AdminError> {
        if !spec.assignments.is_empty() {
            return checked_assignments(spec, image);
        }
        let partitions = match spec.partitions {
            -1 => self.config.topics.num_partitions,
            partitions => partitions,
        };
        let factor = match spec.replication_factor {
            -1 => self.config.topics.default_replication_factor,
            factor => factor,
        };
        if partitions < 1 {
            let text = "Number of partitions was set to an invalid non-positive value.";
            return Err(AdminError::new(ErrorCode::InvalidPartitions, text));
        }
        if factor < 1 {
            let text = "Replication factor must be larger than 0, or -1 to use the default value.";
            return Err(AdminError::new(ErrorCode::InvalidReplicationFactor, text));
        }
        let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
        check_partition_count(partitions)?;
        place_on_live(image, (0, partitions), usize::try_from(factor).unwrap_or(0))
    }

    fn added_replicas(
        &self,
        topic: &TopicImage,
        total: i32,
        placed: Option<Vec<Vec<BrokerId>>>,
        image: &MetadataImage,
    ) -> Result<Vec<Vec<BrokerId>>, AdminError> {
        let refused = |text: String| AdminError::new(ErrorCode::InvalidPartitions, text);
        let present = topic.partitions.len();
        let wanted = usize::try_from(total).unwrap_or(0);
        if wanted == present {
            return Err(refused(format!("Topic already has {present} partition(s).")));
        }
        if wanted < present {
            return Err(refused(format!(
                "The topic {} currently has {present} partition(s); {total} would not be an \
                 increase.",
                topic.name
            )));
        }
        check_partition_count(wanted)?;
        let factor = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
        let Some(placed) = placed else {
            return place_on_live(image, (present, wanted - present), factor);
        };
        let assignment = |text: String| AdminError::new(ErrorCode::InvalidReplicaAssignment, text);
        if placed.len() != wanted - present {
            return Err(assignment(format!(
                "Attempted to add {} additional partition(s), but only {} assignment(s) were \
                 specified.",
                wanted - present,
                placed.len()
            )));
        }
        for (number, replicas) in (present..).zip(&placed) {
            check_replicas(number, replicas, image)?;
            if replicas.len() != factor {
                return Err(assignment(format!(
                    "Partition {number} has {} replicas, but the topic's others have {factor}.",
                    replicas.len()
                )));
            }
        }
        Ok(placed)
    }
}

fn exists(name: &str) -> AdminError {
    AdminError::new(ErrorCode::TopicAlreadyExists, format!("Topic '{name}' already exists."))
}

/// Kafka's rules for the names of topics.
fn check_name(name: &str, image: &MetadataImage) -> Result<(), AdminError> {
    let refused = |text: String| Err(AdminError::new(ErrorCode::InvalidTopicException, text));
    if name.is_empty() {
        return refused("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return refused(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > 249 {
        return refused(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length \
             249"
        ));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.chars().all(legal) {
        return refused(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII \
             alphanumerics, '.', '_' and '-'"
        ));
    }
    if image.topics.contains_key(name) {
        return Err(exists(name));
    }
    // Kafka's metric names do not tell a dot from an underscore, so two topics may not differ in
    // nothing else.
    let blurred = name.replace('.', "_");
    let collides = |other: &Arc<str>| other.replace('.', "_") == blurred;
    if name.contains(['.', '_'])
        && let Some(other) = image.topics.keys().find(|other| collides(other))
    {
        return refused(format!("Topic '{name}' collides with existing topic: {other}"));
    }
    Ok(())
}

fn check_partition_count(partitions: usize) -> Result<(), AdminError> {
    if partitions <= PARTITIONS_PER_TOPIC_MAX {
        return Ok(());
    }
    let text = format!("A topic has at most {PARTITIONS_PER_TOPIC_MAX} partitions.");
    Err(AdminError::new(ErrorCode::PolicyViolation, text))
}

fn check_replication_factor(replicas: &[Vec<BrokerId>]) -> Result<(), AdminError> {
    match replicas.iter().map(Vec::len).max() {
        Some(factor) if factor > REPLICATION_FACTOR_MAX => {
            let text = format!(
                "Replication factor {factor} is not offered yet: this version keeps \
                 {REPLICATION_FACTOR_MAX} replica of each partition."
            );
            Err(AdminError::new(ErrorCode::InvalidReplicationFactor, text))
        }
        _ => Ok(()),
    }
}

fn place_on_live(
    image: &MetadataImage,
    (first_partition, partitions): (usize, usize),
    replication_factor: usize,
) -> Result<Vec<Vec<BrokerId>>, AdminError> {
    let live = image.brokers.values().filter(|broker| image.takes_replicas(broker.id));
    let candidates: Vec<Candidate> =
        live.map(|b| Candidate { broker_id: b.id, rack: b.rack.clone() }).collect();
    let start = if first_partition == 0 { fastrand::usize(..1 << 16) } else { 0 };
    let demand = Demand { first_partition, partitions, replication_factor, start };
    place(&candidates, demand).ok_or_else(|| {
        let live = candidates.len();
        let text = format!(
            "Unable to replicate the partition {replication_factor} time(s): The target \
             replication factor of {replication_factor} cannot be reached because only {live} \
             broker(s) are registered or some brokers have all their log directories cordoned."
        );
        AdminError::new(ErrorCode::InvalidReplicationFactor, text)
    })
}

fn checked_assignments(
    spec: &TopicSpec,
    image: &MetadataImage,
) -> Result<Vec<Vec<BrokerId>>, AdminError> {
    let refused = |text: String| AdminError::new(ErrorCode::InvalidReplicaAssignment, text);
    if spec.replication_factor != -1 || spec.partitions != -1 {
        let text = "A manual partition assignment was specified, but the number of partitions or \
                    the replication factor was not set to -1.";
        return Err(AdminError::new(ErrorCode::InvalidRequest, text));
    }
    check_partition_count(spec.assignments.len())?;
    let factor = spec.assignments.values().next().map_or(0, Vec::len);
    for ((number, replicas), expected) in spec.assignments.iter().zip(0_i32..) {
        if *number != expected {
            return Err(refused(
                "partitions should be a consecutive 0-based integer sequence".into(),
            ));
        }
        check_replicas(usize::try_from(*number).unwrap_or(0), replicas, image)?;
        if replicas.len() != factor {
            return Err(refused("All partitions should have the same number of replicas.".into()));
        }
    }
    Ok(spec.assignments.values().cloned().collect())
}

fn check_replicas(
    partition: usize,
    replicas: &[BrokerId],
    image: &MetadataImage,
) -> Result<(), AdminError> {
    let refused = |text: String| Err(AdminError::new(ErrorCode::InvalidReplicaAssignment, text));
    if replicas.is_empty() {
        return refused(format!("Partition {partition} is assigned to no broker."));
    }
    if replicas.iter().collect::<BTreeSet<_>>().len() != replicas.len() {
        return refused(format!("Partition {partition} is assigned to one broker twice."));
    }
    match replicas.iter().find(|broker| !image.brokers.contains_key(broker)) {
        Some(unknown) => refused(format!(
            "The manual partition assignment includes broker {unknown}, but no such broker is \
             registered."
        )),
        None => Ok(()),
    }
}

fn placed_at(replicas: Vec<BrokerId>) -> PartitionAssignment {
    PartitionAssignment { replicas, ..PartitionAssignment::default() }
}

fn first_state(replicas: &[BrokerId], image: &MetadataImage) -> PartitionState {
    let live: Vec<BrokerId> =
        replicas.iter().copied().filter(|broker| image.is_electable(*broker)).collect();
    PartitionState {
        leader: live.first().copied(),
        leader_epoch: 0,
        isr: if live.is_empty() { replicas.to_vec() } else { live },
        controller_epoch: image.controller_epoch.value,
        elr: Vec::new(),
    }
}

fn create_node(path: String, data: Vec<u8>) -> Op {
    Op::Create { path, data, mode: CreateMode::Persistent, acl: Acl::open() }
}

fn partition_nodes(topic: &str, number: i32, state: PartitionState) -> [Op; 2] {
    [
        create_node(PartitionState::partition_path(topic, number), Vec::new()),
        create_node(PartitionState::path(topic, number), state.encode()),
    ]
}

/// Everything that makes a topic, for one multi.
fn creation(
    name: &str,
    topic_id: TopicId,
    replicas: &[Vec<BrokerId>],
    overrides: &Overrides,
    image: &MetadataImage,
) -> Vec<Op> {
    let partitions = replicas.iter().cloned().map(placed_at).collect();
    let assignment = TopicAssignment { topic_id, partitions };
    let mut ops = vec![
        create_node(TopicAssignment::path(name), assignment.encode()),
        create_node(TopicAssignment::partitions_path(name), Vec::new()),
    ];
    for (number, replicas) in (0_i32..).zip(replicas) {
        ops.extend(partition_nodes(name, number, first_state(replicas, image)));
    }
    if !overrides.is_empty() {
        let path = ConfigOverrides::path(ConfigKind::Topics, name);
        ops.push(create_node(path, ConfigOverrides::new(overrides.clone()).encode()));
    }
    ops
}
