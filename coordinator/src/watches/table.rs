//! Which connection watches which node. Pure; a member's own, not replicated.
//!
//! The kinds and what fires them are ZooKeeper's: data and child watches fire once, persistent and
//! recursive ones until they are removed; one change gives a watcher one event, however many of its
//! watches it fires.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use ottla_common::coordination::protocol::{ChangeKind, WatchEventKind};

use crate::tree::{AclList, Change, path};

/// Who watches: a connection of this member. Not used again while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// What a watch waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WatchKind {
    /// Once: the node is made, changed or removed.
    Data,
    /// Once: a child comes or goes, or the node is removed.
    Child,
    /// Always: both of these.
    Persistent,
    /// Always: the node or any below it is made, changed or removed.
    Recursive,
}

impl WatchKind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Data, Self::Child, Self::Persistent, Self::Recursive];
}

/// An event and who is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Firing {
    /// The watchers, in the order of their numbers.
    pub watchers: BTreeSet<ConnectionId>,
    /// What happened.
    pub kind: WatchEventKind,
    /// The node that it happened to.
    pub path: Arc<str>,
    /// Its access list: who may not read the node is not told.
    pub acl: AclList,
}

/// The watches of all connections.
#[derive(Debug, Default)]
pub struct WatchTable {
    by_node: HashMap<(WatchKind, Arc<str>), BTreeSet<ConnectionId>>,
    by_watcher: HashMap<ConnectionId, BTreeSet<(WatchKind, Arc<str>)>>,
    count: usize,
}

impl WatchTable {
    /// Leaves a watch; one that is there already stays as it is.
    pub fn add(&mut self, watcher: ConnectionId, kind: WatchKind, path: &str) {
        let key = (kind, Arc::<str>::from(path));
        if self.by_watcher.entry(watcher).or_default().insert(key.clone()) {
            self.by_node.entry(key).or_default().insert(watcher);
            self.count += 1;
        }
    }

    /// Removes a watcher's watches of these kinds on a node; returns how many there were.
    pub fn remove(&mut self, watcher: ConnectionId, path: &str, kinds: &[WatchKind]) -> usize {
        let keys = kinds.iter().map(|kind| (*kind, Arc::<str>::from(path)));
        keys.filter(|key| self.remove_one(watcher, key)).count()
    }

    /// Whether a watcher has a watch of one of these kinds on a node.
    pub fn has(&self, watcher: ConnectionId, path: &str, kinds: &[WatchKind]) -> bool {
        let Some(keys) = self.by_watcher.get(&watcher) else { return false };
        kinds.iter().any(|kind| keys.contains(&(*kind, path.into())))
    }

    /// Removes all watches of a connection that ended.
    pub fn remove_watcher(&mut self, watcher: ConnectionId) {
        for key in self.by_watcher.remove(&watcher).unwrap_or_default() {
            self.count -= 1;
            if let Some(watchers) = self.by_node.get_mut(&key) {
                watchers.remove(&watcher);
                if watchers.is_empty() {
                    self.by_node.remove(&key);
                }
            }
        }
    }

    /// The number of watches.
    pub fn len(&self) -> usize {
        self.count
    }

    /// All watches.
    pub fn iter(&self) -> impl Iterator<Item = (ConnectionId, &Arc<str>)> {
        let watchers = self.by_watcher.iter();
        watchers.flat_map(|(id, watches)| watches.iter().map(|(_, path)| (*id, path)))
    }

    /// How many connections have a watch, and how many nodes are watched.
    pub fn watchers_and_paths(&self) -> (usize, usize) {
        let paths: HashSet<&Arc<str>> = self.by_node.keys().map(|(_, path)| path).collect();
        (self.by_watcher.len(), paths.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The number of a connection's watches.
    pub fn count_of(&self, watcher: ConnectionId) -> usize {
        self.by_watcher.get(&watcher).map_or(0, BTreeSet::len)
    }

    /// The events of a change, in ZooKeeper's order; takes out the watches that fire once.
    pub fn fire(&mut self, change: &Change) -> Vec<Firing> {
        let mut firings = Vec::new();
        if self.is_empty() {
            return firings;
        }
        let kind = match change.kind {
            ChangeKind::Created => WatchEventKind::NodeCreated,
            ChangeKind::DataSet => WatchEventKind::NodeDataChanged,
            ChangeKind::Deleted => WatchEventKind::NodeDeleted,
            ChangeKind::AclSet => return firings,
        };
        let mut watchers = self.take(WatchKind::Data, &change.path);
        if change.kind == ChangeKind::Deleted {
            watchers.append(&mut self.take(WatchKind::Child, &change.path));
        }
        watchers.extend(self.watchers(WatchKind::Persistent, &change.path));
        for path in path::ancestors(&change.path) {
            watchers.extend(self.watchers(WatchKind::Recursive, path));
        }
        if !watchers.is_empty() {
            let (path, acl) = (Arc::clone(&change.path), Arc::clone(&change.acl));
            firings.push(Firing { watchers, kind, path, acl });
        }
        if let (ChangeKind::Created | ChangeKind::Deleted, Some((parent, _))) =
            (change.kind, path::split(&change.path))
        {
            let mut watchers = self.take(WatchKind::Child, parent);
            watchers.extend(self.watchers(WatchKind::Persistent, parent));
            if !watchers.is_empty() {
                let (path, acl) = (parent.into(), Arc::clone(&change.parent_acl));
                let kind = WatchEventKind::NodeChildrenChanged;
                firings.push(Firing { watchers, kind, path, acl });
            }
        }
        firings
    }

    fn watchers(&self, kind: WatchKind, path: &str) -> impl Iterator<Item = ConnectionId> {
        self.by_node.get(&(kind, path.into())).into_iter().flatten().copied()
    }

    fn take(&mut self, kind: WatchKind, path: &str) -> BTreeSet<ConnectionId> {
        let key = (kind, path.into());
        let watchers = self.by_node.remove(&key).unwrap_or_default();
        for watcher in &watchers {
            self.count -= 1;
            if let Some(keys) = self.by_watcher.get_mut(watcher) {
                keys.remove(&key);
                if keys.is_empty() {
                    self.by_watcher.remove(watcher);
                }
            }
        }
        watchers
    }

    fn remove_one(&mut self, watcher: ConnectionId, key: &(WatchKind, Arc<str>)) -> bool {
        let Some(keys) = self.by_watcher.get_mut(&watcher) else { return false };
        if !keys.remove(key) {
            return false;
        }
        if keys.is_empty() {
            self.by_watcher.remove(&watcher);
        }
        self.count -= 1;
        if let Some(watchers) = self.by_node.get_mut(key) {
            watchers.remove(&watcher);
            if watchers.is_empty() {
                self.by_node.remove(key);
            }
        }
        true
    }
}
