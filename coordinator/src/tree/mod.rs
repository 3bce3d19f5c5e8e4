//! The state machine: a tree of nodes and a table of sessions, changed only by applying commands.
//!
//! Everything here is pure: no clock, no I/O, no randomness; the same commands give the same state,
//! the same outcomes and the same changes on every member. Whether a command is allowed is decided
//! when it is applied, and nowhere else; a refusal is an ordinary outcome.
//!
//! `state_machine` is the whole, with the table of `sessions`; `command` its input and output;
//! `ops` and `multi` change the [`Tree`], which is made of `node`s, each with its `children` in
//! packed `leaf`s of `record`s; `map` is for all other that is sorted; `acl`, `path` and `digest`
//! are what their names say; `snapshot` takes a state apart and puts it together again.

pub mod acl;
mod children;
mod command;
mod digest;
mod leaf;
mod map;
mod multi;
mod node;
mod ops;
pub mod path;
mod quota;
mod record;
mod sessions;
mod snapshot;
mod state_machine;
mod walk;

use std::sync::Arc;

use ottla_common::coordination::protocol::{Acl, permission};
use ottla_common::types::{SessionId, Zxid};

pub use children::Children;
pub use command::{
    AclList, Action, Change, Command, Effect, Expiry, Identity, Origin, Outcome, PayloadError,
};
pub use digest::Hasher;
pub use leaf::NodeRef;
pub use map::PersistentMap;
pub use node::{Node, NodeKind};
pub use quota::Excess;
pub use sessions::{Session, SessionTable};
pub use snapshot::{NodeRecord, SnapshotError, SnapshotRecord};
pub use state_machine::StateMachine;
pub use walk::Walk;

/// The nodes that cannot be deleted, parents first.
const RESERVED: [&str; 4] = ["/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"];

/// The tree of nodes. A clone shares all that neither side changes afterwards.
#[derive(Clone, Debug)]
pub struct Tree {
    root: Arc<Node>,
    node_count: u64,
    digest: u64,
    /// The ephemeral nodes of each session that has some.
    ephemerals: PersistentMap<SessionId, PersistentMap<Arc<str>, ()>>,
    /// Containers and nodes with a time to live.
    mortals: PersistentMap<Arc<str>, ()>,
    /// The nodes that have a quota.
    quotas: PersistentMap<Arc<str>, ()>,
}

/// Who changes the tree when, and what has been changed so far.
#[derive(Debug)]
struct Turn<'a> {
    zxid: Zxid,
    time_ms: i64,
    session_id: SessionId,
    identities: &'a [Identity],
    enforces_quota: bool,
    changes: Vec<Change>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// The tree before the first change: the nodes that ZooKeeper has from the start.
    pub fn new() -> Self {
        let node = |acl| Node::new(acl, NodeKind::Persistent, Zxid(0), 0);
        let mut tree = Self::with_root(node(acl::open()));
        for path in &RESERVED[1..] {
            let mut node = node(acl::open());
            if *path == "/zookeeper/config" {
                let anyone = Acl::open().into_iter();
                node.acl = anyone.map(|acl| Acl { permissions: permission::READ, ..acl }).collect();
                node.aversion = -1;
            }
            tree.attach(path, node, |_| ());
        }
        tree
    }

    /// A tree of nothing but a root.
    fn with_root(root: Node) -> Self {
        Self {
            digest: root.digest("/"),
            root: Arc::new(root),
            node_count: 1,
            ephemerals: PersistentMap::default(),
            mortals: PersistentMap::default(),
            quotas: PersistentMap::default(),
        }
    }

    /// The node at a path.
    pub fn node(&self, path: &str) -> Option<NodeRef<'_>> {
        let Some((parent, name)) = path::split(path) else {
            return Some(NodeRef::Shared(&self.root));
        };
        let mut node = &self.root;
        for name in path::names(parent) {
            node = node.children.get_shared(name)?;
        }
        node.children.get(name)
    }

    /// The nodes at and below a path, parents before children, siblings by name. Shows the tree as
    /// it is now, however long it is kept.
    pub fn walk(&self, path: &str) -> Walk {
        Walk::new(path, self.node(path).map(NodeRef::into_shared))
    }

    /// The number of nodes, the reserved ones included.
    pub fn node_count(&self) -> u64 {
        self.node_count
    }

    /// The order-free digest over all nodes.
    pub fn digest(&self) -> u64 {
        self.digest
    }

    /// The paths of a session's ephemeral nodes, sorted.
    pub fn ephemerals_of(&self, session_id: SessionId) -> impl Iterator<Item = &Arc<str>> {
        self.ephemerals.get(&session_id).into_iter().flat_map(|paths| paths.iter().map(|(k, ())| k))
    }

    /// The number of ephemeral nodes.
    pub fn ephemeral_count(&self) -> usize {
        self.ephemerals.iter().map(|(_, paths)| paths.len()).sum()
    }

    /// The paths of nodes that are idle at a time: containers that lost their last child, and nodes
    /// whose time to live is over.
    pub fn idle_nodes(&self, time_ms: i64) -> impl Iterator<Item = &Arc<str>> {
        let paths = self.mortals.iter().map(|(path, ())| path);
        paths.filter(move |path| self.node(path).is_some_and(|node| is_idle(&node, time_ms)))
    }

    /// Changes a node that is there, and the digest with it.
    fn update(&mut self, path: &str, change: impl FnOnce(&mut Node)) {
        let mut digest = self.digest;
        let change = |node: &mut Node| {
            digest = digest.wrapping_sub(node.digest(path));
            change(node);
            digest = digest.wrapping_add(node.digest(path));
        };
        let root = Arc::make_mut(&mut self.root);
        let is_there = match path::split(path) {
            None => {
                change(root);
                true
            }
            Some((parent, name)) => {
                let mut names = path::names(parent);
                let parent = names.try_fold(root, |node, name| node.children.get_shared_mut(name));
                parent.is_some_and(|parent| parent.children.change(name, change))
            }
        };
        assert!(is_there, "a node to be changed is there: {path}");
        self.digest = digest;
    }

    /// Hangs a node into the tree, and changes its parent with it.
    fn attach(&mut self, path: &str, node: Node, change_parent: impl FnOnce(&mut Node)) {
        let Some((parent, name)) = path::split(path) else { unreachable!("the root is attached") };
        self.digest = self.digest.wrapping_add(node.digest(path));
        self.node_count += 1;
        if let Some(path) = quota::path_of_limits(path) {
            self.quotas.insert(path.into(), ());
        }
        match node.kind {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(session_id) => {
                if !self.ephemerals.contains_key(&session_id) {
                    self.ephemerals.insert(session_id, PersistentMap::default());
                }
                if let Some(paths) = self.ephemerals.get_mut(&session_id) {
                    paths.insert(path.into(), ());
                }
            }
            NodeKind::Container | NodeKind::Ttl { .. } => {
                self.mortals.insert(path.into(), ());
            }
        }
        self.update(parent, |parent| {
            parent.children.insert(name, Arc::new(node));
            change_parent(parent);
        });
    }

    /// Takes a node out of its parent's children. What hung below it stays with it; who calls
    /// forgets each of those nodes with [`Tree::forget`].
    fn detach(&mut self, path: &str, zxid: Zxid) -> Arc<Node> {
        let mut detached = None;
        if let Some((parent, name)) = path::split(path) {
            self.update(parent, |parent| {
                detached = parent.children.remove(name);
                parent.pzxid = zxid;
            });
        }
        match detached {
            Some(node) => node,
            None => unreachable!("a node to be removed is there: {path}"),
        }
    }

    /// Takes a detached node out of the figures and lists.
    fn forget(&mut self, path: &str, node: &Node) {
        self.digest = self.digest.wrapping_sub(node.digest(path));
        self.node_count -= 1;
        if let Some(path) = quota::path_of_limits(path) {
            self.quotas.remove(path);
        }
        match node.kind {
            NodeKind::Persistent => {}
            NodeKind::Ephemeral(session_id) => {
                let paths = self.ephemerals.get_mut(&session_id);
                let is_last = paths.is_some_and(|paths| {
                    paths.remove(path);
                    paths.is_empty()
                });
                if is_last {
                    self.ephemerals.remove(&session_id);
                }
            }
            NodeKind::Container | NodeKind::Ttl { .. } => {
                self.mortals.remove(path);
            }
        }
    }
}

/// Whether a node should go at a time because nothing keeps it.
fn is_idle(node: &Node, time_ms: i64) -> bool {
    if !node.children.is_empty() {
        return false;
    }
    match node.kind {
        NodeKind::Persistent | NodeKind::Ephemeral(_) => false,
        NodeKind::Container => node.children_created != 0,
        NodeKind::Ttl { ttl_ms } => {
            let idle_ms = time_ms.saturating_sub(node.mtime_ms);
            u64::try_from(idle_ms).is_ok_and(|idle_ms| idle_ms > ttl_ms)
        }
    }
}

#[cfg(test)]
mod model_tests;
