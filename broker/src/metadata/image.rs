//! The immutable copy of all cluster metadata that a broker holds, and how the next one is made.
//!
//! A [`MetadataImage`] shows the coordinator's tree at one zxid. The watcher makes the next by
//! [`MetadataImage::next`] from all changes of one zxid together, and tells with a [`Delta`] what
//! differs. Parts that did not change are shared. Handlers load one image and answer from it alone,
//! so a reply never mixes two states of the cluster. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ottla_common::cluster_tree::{
    BrokerRegistration, ClusterId, ConfigKind, ConfigOverrides, ControllerEpoch,
    ControllerRegistration, DEFAULT_ENTITY, DeletedTopic, Endpoint, FinalizedFeatures,
    InvalidValue, PartitionState, QuotaEntity, TopicAssignment, TreePath,
};
use ottla_common::coordination::protocol::{Change, ChangeKind, SnapshotNode, Stat};
use ottla_common::types::{BrokerId, TopicId, Zxid};

use super::features::FinalizedLevels;

/// The overrides of one topic or broker: key → value.
pub type Overrides = BTreeMap<String, String>;

/// All cluster metadata at one zxid.
#[derive(Clone, Debug, Default)]
pub struct MetadataImage {
    /// The state of the tree that this shows.
    pub zxid: Zxid,
    /// The cluster's identity, once the first broker has chosen it.
    pub cluster_id: Option<Arc<str>>,
    /// The elected controller.
    pub controller: Option<BrokerId>,
    /// How many controllers there have been, and the node version that guards their writes.
    pub controller_epoch: Guarded<i32>,
    /// The live brokers.
    pub brokers: BTreeMap<BrokerId, Arc<BrokerImage>>,
    /// The topics by name.
    pub topics: BTreeMap<Arc<str>, Arc<TopicImage>>,
    /// The names of the topics by id.
    pub topic_names: HashMap<TopicId, Arc<str>>,
    /// Overrides of topics.
    pub topic_configs: BTreeMap<Arc<str>, Guarded<Arc<Overrides>>>,
    /// Overrides of brokers, by their number or [`DEFAULT_ENTITY`].
    pub broker_configs: BTreeMap<String, Guarded<Arc<Overrides>>>,
    /// Overrides of the other kinds, by kind and name.
    pub other_configs: BTreeMap<(ConfigKind, String), Guarded<Arc<Overrides>>>,
    /// Overrides of client ids of users, by the names of both.
    pub user_client_configs: BTreeMap<(String, String), Guarded<Arc<Overrides>>>,
    /// Topics that are gone and whose logs some brokers have still to drop.
    pub deleted_topics: BTreeMap<TopicId, Guarded<DeletedTopic>>,
    /// The levels of the cluster's features.
    pub features: FinalizedLevels,
}

/// A value of the tree with what a compare-and-set of its node needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarded<T> {
    /// The value.
    pub value: T,
    /// The version of its node.
    pub node_version: i32,
}

/// A live broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its number.
    pub id: BrokerId,
    /// The czxid of its registration: tells one life of a broker from the next.
    pub broker_epoch: i64,
    /// How it is reached.
    pub listeners: Vec<Endpoint>,
    /// Where it stands.
    pub rack: Option<String>,
    /// Whether it is about to leave.
    pub shutting_down: bool,
}

#[cfg(test)]
impl BrokerImage {
    /// A broker that registered with the change 1000, for tests.
    pub fn registered(id: BrokerId) -> Arc<Self> {
        let (listeners, rack) = (Vec::new(), None);
        Arc::new(Self { id, broker_epoch: 1000, listeners, rack, shutting_down: false })
    }
}

impl BrokerImage {
    /// How it is reached by clients of a listener.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.listeners.iter().find(|end| end.listener == listener)
    }
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity.
    pub id: TopicId,
    /// Its partitions; the index is the partition's number.
    pub partitions: Vec<PartitionImage>,
    /// The version of the topic's node.
    pub node_version: i32,
}

/// Whether the brokers keep a topic of this name for themselves.
pub fn is_internal_name(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}

impl TopicImage {
    /// Whether Kafka's own machinery keeps its state in it.
    pub fn is_internal(&self) -> bool {
        is_internal_name(&self.name)
    }

    /// One of its partitions.
    pub fn partition(&self, partition: i32) -> Option<&PartitionImage> {
        usize::try_from(partition).ok().and_then(|index| self.partitions.get(index))
    }
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionImage {
    /// All replicas, preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those of them that a reassignment adds.
    pub adding: Vec<BrokerId>,
    /// Those of them that a reassignment removes.
    pub removing: Vec<BrokerId>,
    /// Who leads, if anyone.
    pub leader: Option<BrokerId>,
    /// One more with every change of leader.
    pub leader_epoch: i32,
    /// The in-sync replicas.
    pub isr: Vec<BrokerId>,
    /// Replicas out of the ISR that have all that was committed.
    pub elr: Vec<BrokerId>,
    /// The controller that elected the leader.
    pub controller_epoch: i32,
    /// The version of the state's node, for compare-and-set.
    pub state_version: i32,
    /// When the state was last written: a leader that registered later has to be elected anew.
    pub state_mzxid: Zxid,
}

/// What differs between two images that follow each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Topics that came, went, or changed in placement, leader, ISR or config.
    pub topics: BTreeSet<Arc<str>>,
    /// Whether a broker came, went or changed.
    pub brokers: bool,
    /// Whether the controller or its epoch changed.
    pub controller: bool,
    /// Whether an override of a broker changed.
    pub broker_configs: bool,
    /// Whether an override changed that may be a quota.
    pub quotas: bool,
    /// Whether a deleted topic waits for its logs to be dropped, or no longer does.
    pub deleted_topics: bool,
}

impl MetadataImage {
    /// The image of a whole snapshot, and the delta from nothing to it. A value that cannot be read
    /// is passed over and told in the list.
    pub fn from_snapshot(
        zxid: Zxid,
        nodes: &[SnapshotNode],
    ) -> (Self, Delta, Vec<(String, InvalidValue)>) {
        let mut building = Building::default();
        for node in nodes {
            building.set(&node.path, &node.data, &node.stat);
        }
        building.finish(zxid)
    }

    /// The image after all changes of one zxid.
    pub fn next(
        &self,
        zxid: Zxid,
        changes: &[Change],
    ) -> (Self, Delta, Vec<(String, InvalidValue)>) {
        let mut building = Building { image: self.clone(), ..Building::default() };
        for change in changes {
            match change.kind {
                ChangeKind::Created | ChangeKind::DataSet => {
                    building.set(&change.path, &change.data, &change.stat);
                }
                ChangeKind::Deleted => building.remove(&change.path),
                ChangeKind::AclSet => {}
            }
        }
        building.finish(zxid)
    }

    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by its identity.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topic_names.get(&id).and_then(|name| self.topics.get(name))
    }

    /// The overrides of a topic; empty if it has none.
    pub fn topic_overrides(&self, name: &str) -> Arc<Overrides> {
        self.topic_configs.get(name).map(|config| config.value.clone()).unwrap_or_default()
    }

    /// The overrides of one broker; empty if it has none.
    pub fn broker_overrides(&self, id: BrokerId) -> Arc<Overrides> {
        let config = self.broker_configs.get(&id.to_string());
        config.map(|config| config.value.clone()).unwrap_or_default()
    }

    /// The overrides for all brokers.
    pub fn default_broker_overrides(&self) -> Arc<Overrides> {
        let config = self.broker_configs.get(DEFAULT_ENTITY);
        config.map(|config| config.value.clone()).unwrap_or_default()
    }

    /// The overrides of a group.
    pub fn group_overrides(&self, group: &str) -> Arc<Overrides> {
        let config = self.other_configs.get(&(ConfigKind::Groups, group.to_owned()));
        config.map(|config| config.value.clone()).unwrap_or_default()
    }

    /// The settings of a subscription to clients' metrics.
    pub fn client_metrics_overrides(&self, name: &str) -> Arc<Overrides> {
        let config = self.other_configs.get(&(ConfigKind::ClientMetrics, name.to_owned()));
        config.map(|config| config.value.clone()).unwrap_or_default()
    }

    /// The overrides of all users, client ids, client ids of users, and addresses.
    pub fn quota_overrides(&self) -> impl Iterator<Item = (QuotaEntity, &Arc<Overrides>)> {
        let single = self.other_configs.iter().filter_map(|((kind, name), config)| {
            Some((QuotaEntity::of_config(*kind, name)?, &config.value))
        });
        let pairs = self.user_client_configs.iter().filter_map(|((user, client_id), config)| {
            let (user, client_id) = (user.clone(), client_id.clone());
            let path = TreePath::UserClientConfig { user, client_id };
            Some((QuotaEntity::of(&path)?, &config.value))
        });
        single.chain(pairs)
    }

    /// A broker that new replicas may be placed on: it stays, and is not cordoned (KIP-1066).
    pub fn takes_replicas(&self, id: BrokerId) -> bool {
        let overrides = self.broker_overrides(id);
        let cordoned = overrides.get("cordoned.log.dirs").map_or("", String::as_str);
        self.is_electable(id) && !cordoned.split(',').any(|dir| dir.trim() == "*")
    }

    /// A broker that lives and stays, so that it may lead.
    pub fn is_electable(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| !broker.shutting_down)
    }
}

#[derive(Default)]
struct Building {
    image: MetadataImage,
    delta: Delta,
    invalid: Vec<(String, InvalidValue)>,
    /// States that came before their topic, as may be within one zxid.
    early_states: HashMap<(String, i32), (PartitionState, Stat)>,
}

impl Building {
    fn set(&mut self, path: &str, data: &[u8], stat: &Stat) {
        let Some(tree_path) = TreePath::parse(path) else { return };
        if let Err(error) = self.try_set(tree_path, data, stat) {
            self.invalid.push((path.to_owned(), error));
        }
    }

    fn try_set(&mut self, path: TreePath, data: &[u8], stat: &Stat) -> Result<(), InvalidValue> {
        match path {
            TreePath::ClusterId => {
                self.image.cluster_id = Some(ClusterId::decode(data)?.id.into());
            }
            TreePath::Controller => {
                self.image.controller = Some(ControllerRegistration::decode(data)?.broker_id);
                self.delta.controller = true;
            }
            TreePath::ControllerEpoch => {
                let value = ControllerEpoch::decode(data)?.0;
                self.image.controller_epoch = Guarded { value, node_version: stat.version };
                self.delta.controller = true;
            }
            TreePath::Broker(id) => {
                self.set_broker(id, BrokerRegistration::decode(data)?, stat);
            }
            TreePath::Topic(name) => self.set_topic(&name, TopicAssignment::decode(data)?, stat),
            TreePath::PartitionState { topic, partition } => {
                self.set_state(topic, partition, (PartitionState::decode(data)?, *stat));
            }
            TreePath::Config { kind, name } => {
                self.set_config((kind, name), ConfigOverrides::decode(data)?.config, stat);
            }
            TreePath::UserClientConfig { user, client_id } => {
                let value = Arc::new(ConfigOverrides::decode(data)?.config);
                let config = Guarded { value, node_version: stat.version };
                self.image.user_client_configs.insert((user, client_id), config);
                self.delta.quotas = true;
            }
            TreePath::DeletedTopic(id) => {
                let value = DeletedTopic::decode(data)?;
                let deleted = Guarded { value, node_version: stat.version };
                self.image.deleted_topics.insert(id, deleted);
                self.delta.deleted_topics = true;
            }
            TreePath::Features => {
                let set = FinalizedFeatures::decode(data)?.features;
                self.image.features = FinalizedLevels { set, epoch: stat.mzxid.0 };
            }
            TreePath::ProducerIdBlock => {}
        }
        Ok(())
    }

    fn set_broker(&mut self, id: BrokerId, registration: BrokerRegistration, stat: &Stat) {
        let broker = BrokerImage {
            id,
            broker_epoch: stat.czxid.0,
            listeners: registration.endpoints,
            rack: registration.rack,
            shutting_down: registration.shutting_down,
        };
        self.image.brokers.insert(id, Arc::new(broker));
        self.delta.brokers = true;
    }

    fn set_topic(&mut self, name: &str, assignment: TopicAssignment, stat: &Stat) {
        let known = self.image.topics.get(name).filter(|topic| topic.id == assignment.topic_id);
        let name: Arc<str> = known.map_or_else(|| name.into(), |topic| topic.name.clone());
        let before = known.cloned();
        let mut partitions = Vec::with_capacity(assignment.partitions.len());
        for (number, placed) in (0_i32..).zip(assignment.partitions) {
            let old = before.as_ref().and_then(|topic| topic.partition(number)).cloned();
            let mut partition = PartitionImage {
                replicas: placed.replicas,
                adding: placed.adding,
                removing: placed.removing,
                ..old.unwrap_or_default()
            };
            if let Some((state, stat)) = self.early_states.remove(&(name.to_string(), number)) {
                apply_state(&mut partition, state, &stat);
            }
            partitions.push(partition);
        }
        let topic = TopicImage {
            name: name.clone(),
            id: assignment.topic_id,
            partitions,
            node_version: stat.version,
        };
        if let Some(replaced) = self.image.topics.insert(name.clone(), Arc::new(topic)) {
            self.image.topic_names.remove(&replaced.id);
        }
        self.image.topic_names.insert(assignment.topic_id, name.clone());
        self.delta.topics.insert(name);
    }

    fn set_state(&mut self, topic: String, number: i32, (state, stat): (PartitionState, Stat)) {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let known = self.image.topics.get_mut(topic.as_str());
        let found = known.and_then(|topic| Arc::make_mut(topic).partitions.get_mut(index));
        let Some(partition) = found else {
            self.early_states.insert((topic, number), (state, stat));
            return;
        };
        apply_state(partition, state, &stat);
        self.mark_topic(&topic);
    }

    fn set_config(&mut self, (kind, name): (ConfigKind, String), map: Overrides, stat: &Stat) {
        let config = Guarded { value: Arc::new(map), node_version: stat.version };
        match kind {
            ConfigKind::Topics => {
                self.image.topic_configs.insert(name.as_str().into(), config);
                self.delta.topics.insert(name.into());
            }
            ConfigKind::Brokers => {
                self.image.broker_configs.insert(name, config);
                self.delta.broker_configs = true;
            }
            _ => {
                self.delta.quotas |= QuotaEntity::of_config(kind, &name).is_some();
                self.image.other_configs.insert((kind, name), config);
            }
        }
    }

    fn remove(&mut self, path: &str) {
        match TreePath::parse(path) {
            Some(TreePath::Controller) => {
                self.image.controller = None;
                self.delta.controller = true;
            }
            Some(TreePath::Broker(id)) => {
                self.image.brokers.remove(&id);
                self.delta.brokers = true;
            }
            Some(TreePath::Topic(name)) => {
                if let Some(topic) = self.image.topics.remove(name.as_str()) {
                    self.image.topic_names.remove(&topic.id);
                }
                self.delta.topics.insert(name.into());
            }
            Some(TreePath::Config { kind: ConfigKind::Topics, name }) => {
                self.image.topic_configs.remove(name.as_str());
                self.delta.topics.insert(name.into());
            }
            Some(TreePath::Config { kind: ConfigKind::Brokers, name }) => {
                self.image.broker_configs.remove(&name);
                self.delta.broker_configs = true;
            }
            Some(TreePath::Config { kind, name }) => {
                self.delta.quotas |= QuotaEntity::of_config(kind, &name).is_some();
                self.image.other_configs.remove(&(kind, name));
            }
            Some(TreePath::UserClientConfig { user, client_id }) => {
                self.image.user_client_configs.remove(&(user, client_id));
                self.delta.quotas = true;
            }
            Some(TreePath::DeletedTopic(id)) => {
                self.image.deleted_topics.remove(&id);
                self.delta.deleted_topics = true;
            }
            // A state goes only with its topic; nothing is concluded from a node that is missing.
            _ => {}
        }
    }

    fn mark_topic(&mut self, topic: &str) {
        if let Some((name, _)) = self.image.topics.get_key_value(topic) {
            self.delta.topics.insert(name.clone());
        }
    }

    fn finish(mut self, zxid: Zxid) -> (MetadataImage, Delta, Vec<(String, InvalidValue)>) {
        self.image.zxid = zxid;
        (self.image, self.delta, self.invalid)
    }
}

fn apply_state(partition: &mut PartitionImage, state: PartitionState, stat: &Stat) {
    partition.leader = state.leader;
    partition.leader_epoch = state.leader_epoch;
    partition.isr = state.isr;
    partition.elr = state.elr;
    partition.controller_epoch = state.controller_epoch;
    partition.state_version = stat.version;
    partition.state_mzxid = stat.mzxid;
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_common::cluster_tree::PartitionAssignment;
    use ottla_common::types::Uuid;

    fn change(kind: ChangeKind, path: String, data: Vec<u8>, version: i32) -> Change {
        Change { kind, path, data, stat: Stat { version, czxid: Zxid(7), ..Stat::default() } }
    }

    fn topic_node(id: u8) -> Change {
        let placed = PartitionAssignment { replicas: vec![BrokerId(1)], ..Default::default() };
        let topic_id = Uuid([id; 16]);
        let assignment = TopicAssignment { topic_id, partitions: vec![placed] };
        change(ChangeKind::Created, TopicAssignment::path("orders"), assignment.encode(), 0)
    }

    fn state_node(leader_epoch: i32, version: i32) -> Change {
        let state = PartitionState {
            leader: Some(BrokerId(1)),
            leader_epoch,
            isr: vec![BrokerId(1)],
            ..PartitionState::default()
        };
        change(ChangeKind::DataSet, PartitionState::path("orders", 0), state.encode(), version)
    }

    #[test]
    fn a_topic_appears_with_its_leaders() {
        let (image, delta, invalid) =
            MetadataImage::default().next(Zxid(9), &[topic_node(1), state_node(0, 0)]);
        assert!(invalid.is_empty());
        let topic = image.topic("orders").unwrap();
        assert_eq!(topic.partition(0).unwrap().leader, Some(BrokerId(1)));
        assert_eq!(image.topic_by_id(Uuid([1; 16])).unwrap().name, topic.name);
        assert_eq!(delta.topics.len(), 1);
        assert_eq!(image.zxid, Zxid(9));
    }

    #[test]
    fn the_order_within_one_zxid_does_not_matter() {
        let (image, ..) =
            MetadataImage::default().next(Zxid(9), &[state_node(3, 1), topic_node(1)]);
        assert_eq!(image.topic("orders").unwrap().partition(0).unwrap().leader_epoch, 3);
    }

    #[test]
    fn an_old_image_does_not_change() {
        let empty = MetadataImage::default();
        let (old, ..) = empty.next(Zxid(1), &[topic_node(1), state_node(0, 0)]);
        let (new, delta, _) = old.next(Zxid(2), &[state_node(1, 1)]);
        assert_eq!(old.topic("orders").unwrap().partitions[0].leader_epoch, 0);
        assert_eq!(new.topic("orders").unwrap().partitions[0].leader_epoch, 1);
        assert_eq!(delta.topics.iter().map(|t| &**t).collect::<Vec<_>>(), ["orders"]);
    }

    #[test]
    fn a_recreated_topic_is_another() {
        let (old, ..) = MetadataImage::default().next(Zxid(1), &[topic_node(1), state_node(5, 4)]);
        let gone = change(ChangeKind::Deleted, TopicAssignment::path("orders"), vec![], 0);
        let (new, ..) = old.next(Zxid(2), &[gone, topic_node(2)]);
        assert!(new.topic_by_id(Uuid([1; 16])).is_none());
        assert_eq!(new.topic("orders").unwrap().partitions[0].leader_epoch, 0);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_told_and_changes_nothing() {
        let (old, ..) = MetadataImage::default().next(Zxid(1), &[topic_node(1), state_node(5, 4)]);
        let path = PartitionState::path("orders", 0);
        let bad = change(ChangeKind::DataSet, path.clone(), b"{".to_vec(), 5);
        let (new, _, invalid) = old.next(Zxid(2), &[bad]);
        assert_eq!(new.topic("orders"), old.topic("orders"));
        assert_eq!(invalid[0].0, path);
    }
}
