//! What the tree says of brokers, topics and leaders, decoded once and kept while it stays so.
//!
//! Nodes of the tree are shared between its versions: a node with children that is the same in
//! memory as before has not changed, nor has anything below it. So a new directory decodes only the
//! topics that changed since the last one.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_common::cluster_tree::{
    BrokerRegistration, ClusterId, ControllerRegistration, InvalidValue, PartitionState,
    TopicAssignment,
};
use ottla_common::coordination::protocol::permission;
use ottla_common::types::{BrokerId, TopicId};

use crate::tree::{Node, NodeRef, Tree, acl};

/// The brokers and topics of one state of the tree. Only nodes that everyone may read are in it:
/// who asks over Kafka's protocol has proved nothing.
#[derive(Debug, Default)]
pub struct Directory {
    source: Source,
    /// The cluster's id, once a broker has chosen it.
    pub cluster_id: Option<String>,
    /// The broker that controls.
    pub controller: Option<BrokerId>,
    /// The brokers that are there.
    pub brokers: BTreeMap<BrokerId, BrokerRegistration>,
    /// The topics by name.
    pub topics: BTreeMap<String, Arc<Topic>>,
    names: BTreeMap<TopicId, String>,
}

/// The nodes that a directory was read from.
#[derive(Debug, Default)]
struct Source([Option<Arc<Node>>; 3]);

/// A topic.
#[derive(Debug)]
pub struct Topic {
    source: Arc<Node>,
    /// Its name.
    pub name: String,
    /// Its identity.
    pub id: TopicId,
    /// Its partitions; the index is the partition's number.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug)]
pub struct Partition {
    /// The brokers that hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Who leads and who is in sync.
    pub state: PartitionState,
}

impl Source {
    fn of(tree: &Tree) -> Self {
        let paths = ["/brokers", ClusterId::PATH, ControllerRegistration::PATH];
        Self(paths.map(|path| tree.node(path).map(NodeRef::into_shared)))
    }

    fn is(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(ours, theirs)| match (ours, theirs) {
            (Some(ours), Some(theirs)) => ours.is_still(theirs),
            (None, None) => true,
            _ => false,
        })
    }
}

impl Directory {
    /// The directory of a tree; `before` itself if nothing has changed since.
    pub fn of(tree: &Tree, before: &Arc<Self>) -> Arc<Self> {
        let source = Source::of(tree);
        if before.source.is(&source) {
            return Arc::clone(before);
        }
        let [_, cluster_id, controller] = &source.0;
        let cluster_id = read(cluster_id.as_deref(), ClusterId::PATH, ClusterId::decode);
        let path = ControllerRegistration::PATH;
        let controller = read(controller.as_deref(), path, ControllerRegistration::decode);
        let brokers = children(tree, BrokerRegistration::PARENT).filter_map(|(name, node)| {
            let id = BrokerId(name.parse().ok()?);
            Some((id, read(Some(&node), &name, BrokerRegistration::decode)?))
        });
        let brokers = brokers.collect();
        let topics = children(tree, TopicAssignment::PARENT).filter_map(|(name, node)| {
            let known = before.topics.get(&name);
            let topic = match known.filter(|topic| topic.source.is_still(&node)) {
                Some(topic) => Arc::clone(topic),
                None => Arc::new(Topic::read(&name, &node)?),
            };
            Some((topic.name.clone(), topic))
        });
        let topics: BTreeMap<String, Arc<Topic>> = topics.collect();
        let names = topics.values().map(|topic| (topic.id, topic.name.clone())).collect();
        Arc::new(Self {
            cluster_id: cluster_id.map(|cluster| cluster.id),
            controller: controller.map(|controller| controller.broker_id),
            brokers,
            topics,
            names,
            source,
        })
    }

    /// A topic by its id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(self.names.get(&id)?)
    }
}

impl Topic {
    fn read(name: &str, node: &Arc<Node>) -> Option<Self> {
        let assignment = read(Some(node), name, TopicAssignment::decode)?;
        let partitions = node.children.get("partitions");
        let state_of = |number: usize| {
            let partition = partitions.as_ref()?.children.get(number.to_string().as_str())?;
            let state = partition.children.get("state");
            read(state.as_deref(), name, PartitionState::decode)
        };
        let partitions = assignment.partitions.into_iter().enumerate();
        let partitions = partitions.map(|(number, partition)| Partition {
            replicas: partition.replicas,
            state: state_of(number).unwrap_or_default(),
        });
        Some(Self {
            source: Arc::clone(node),
            name: name.to_owned(),
            id: assignment.topic_id,
            partitions: partitions.collect(),
        })
    }

    /// Whether brokers keep their own records in it.
    pub fn is_internal(&self) -> bool {
        let internal = ["__consumer_offsets", "__transaction_state", "__share_group_state"];
        internal.contains(&self.name.as_str())
    }
}

fn children(tree: &Tree, path: &str) -> impl Iterator<Item = (String, Arc<Node>)> {
    tree.node(path).into_iter().flat_map(|parent| parent.children.iter())
}

/// A node's value; none if it is not there, not for everyone, or not what it should be.
fn read<T>(
    node: Option<&Node>,
    name: &str,
    decode: fn(&[u8]) -> Result<T, InvalidValue>,
) -> Option<T> {
    let node = node.filter(|node| acl::allows(&node.acl, permission::READ, &[]))?;
    let value = decode(node.data());
    value.inspect_err(|error| tracing::warn!(name, %error, "cannot read what stands there")).ok()
}
