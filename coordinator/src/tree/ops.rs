//! The operations on the tree. Each checks everything before it changes anything, in ZooKeeper's
//! order, so that the same request fails with the same error.

use std::sync::Arc;

use bytes::Bytes;
use ottla_common::coordination::protocol::{
    Acl, ChangeKind, CoordinationError, CreateMode, NODE_DATA_SIZE_MAX, Op, OpResult, permission,
};
use ottla_common::types::{SessionId, Zxid};

use super::command::{AclList, Change};
use super::node::{Node, NodeKind};
use super::{NodeRef, RESERVED, Tree, Turn, acl, is_idle, path};
use crate::limits::{DELETE_RECURSIVE_NODES_MAX, TTL_MAX_MS};

type Result<T, E = CoordinationError> = std::result::Result<T, E>;

/// A node to be made.
struct NewNode<'a> {
    path: &'a str,
    data: Option<&'a [u8]>,
    mode: CreateMode,
    acl: &'a [Acl],
}

impl Tree {
    /// Does one operation, or fails and changes nothing.
    pub(super) fn apply(&mut self, turn: &mut Turn<'_>, op: &Op) -> Result<OpResult> {
        match op {
            Op::Create { path, data, mode, acl } => {
                self.create(turn, &NewNode { path, data: Some(data), mode: *mode, acl })
            }
            Op::CreateWithoutData { path, mode, acl } => {
                self.create(turn, &NewNode { path, data: None, mode: *mode, acl })
            }
            Op::Delete { path, version } => self.delete(turn, path, *version),
            Op::DeleteRecursive { path, version } => self.delete_recursive(turn, path, *version),
            Op::SetData { path, data, version } => self.set_data(turn, path, Some(data), *version),
            Op::ClearData { path, version } => self.set_data(turn, path, None, *version),
            Op::SetAcl { path, acl, version } => self.set_acl(turn, path, acl, *version),
            Op::Check { path, version, czxid } => self.check(turn, path, *version, *czxid),
            Op::CheckAbsent { path } => self.check_absent(turn, path),
        }
    }

    fn create(&mut self, turn: &mut Turn<'_>, new: &NewNode<'_>) -> Result<OpResult> {
        let (kind, is_sequential) = kind_of(new.mode, turn.session_id)?;
        if is_sequential {
            path::validate(&format!("{}1", new.path))?;
        } else {
            path::validate(new.path)?;
        }
        let size = new.data.map_or(0, <[u8]>::len);
        check_data_size(size)?;
        let Some((parent_path, _)) = new.path.rsplit_once('/') else {
            unreachable!("a valid path has a slash");
        };
        let parent_path = if parent_path.is_empty() { "/" } else { parent_path };
        let acl = acl::resolve(new.acl, turn.identities)?;
        let parent = self.existing(parent_path)?;
        acl::check(&parent.acl, permission::CREATE, turn.identities, new.path)?;
        let path = if is_sequential {
            format!("{}{:010}", new.path, parent.children_created)
        } else {
            new.path.to_owned()
        };
        path::validate(&path)?;
        if self.node(&path).is_some() {
            return Err(CoordinationError::NodeExists { path });
        }
        if matches!(parent.kind, NodeKind::Ephemeral(_)) {
            let path = parent_path.to_owned();
            return Err(CoordinationError::NoChildrenForEphemerals { path });
        }
        self.check_quota(turn, &path, (1, signed(size)))?;
        let parent_acl = Arc::clone(&parent.acl);
        let acl: AclList = if *acl == *parent_acl { Arc::clone(&parent_acl) } else { acl.into() };
        let mut node = Node::new(acl, kind, turn.zxid, turn.time_ms);
        node.set_data(new.data);
        let stat = node.stat();
        turn.note(ChangeKind::Created, &path, &node, &parent_acl);
        self.attach(&path, node, |parent| {
            parent.children_created = parent.children_created.wrapping_add(1);
            parent.pzxid = turn.zxid;
        });
        self.count_for_quota(&path, (1, signed(size)));
        Ok(OpResult::Created { path, stat })
    }

    fn delete(
        &mut self,
        turn: &mut Turn<'_>,
        path: &str,
        version: Option<i32>,
    ) -> Result<OpResult> {
        let node = self.deletable(turn, path, version)?;
        if !node.children.is_empty() {
            return Err(CoordinationError::NotEmpty { path: path.to_owned() });
        }
        self.remove_leaf(turn, path);
        Ok(OpResult::Deleted)
    }

    fn delete_recursive(
        &mut self,
        turn: &mut Turn<'_>,
        path: &str,
        version: Option<i32>,
    ) -> Result<OpResult> {
        self.deletable(turn, path, version)?;
        let mut doomed = Vec::new();
        for (path, node) in self.walk(path) {
            if !node.children.is_empty() {
                acl::check(&node.acl, permission::DELETE, turn.identities, &path)?;
            }
            if doomed.len() == DELETE_RECURSIVE_NODES_MAX {
                let limit = format!("{DELETE_RECURSIVE_NODES_MAX} nodes in a recursive delete");
                return Err(CoordinationError::LimitReached { limit });
            }
            doomed.push((path, node));
        }
        // From the leaves up, as a client would have to do it that deletes one by one.
        doomed.reverse();
        for (path, node) in &doomed {
            let parent_acl = self.parent_acl(path);
            turn.note(ChangeKind::Deleted, path, node, &parent_acl);
            self.forget(path, node);
        }
        self.detach(path, turn.zxid);
        for (path, node) in &doomed {
            self.count_for_quota(path, (-1, -signed(node.data().len())));
        }
        Ok(OpResult::Deleted)
    }

    fn set_data(
        &mut self,
        turn: &mut Turn<'_>,
        path: &str,
        data: Option<&[u8]>,
        version: Option<i32>,
    ) -> Result<OpResult> {
        path::validate(path)?;
        let size = data.map_or(0, <[u8]>::len);
        check_data_size(size)?;
        let node = self.existing(path)?;
        acl::check(&node.acl, permission::WRITE, turn.identities, path)?;
        check_version(node.version, version, path)?;
        let grown = signed(size) - signed(node.data().len());
        self.check_quota(turn, path, (0, grown))?;
        self.update(path, |node| {
            node.set_data(data);
            node.version = node.version.wrapping_add(1);
            node.mzxid = turn.zxid;
            node.mtime_ms = turn.time_ms;
        });
        self.count_for_quota(path, (0, grown));
        let node = self.existing(path)?;
        turn.note(ChangeKind::DataSet, path, &node, &self.parent_acl(path));
        Ok(OpResult::Set { stat: node.stat() })
    }

    /// What the ensemble says of its members. Not a client's: no access list is asked, and as in
    /// ZooKeeper the node's version stays -1.
    pub(super) fn set_config(&mut self, turn: &mut Turn<'_>, config: &str) {
        const PATH: &str = "/zookeeper/config";
        self.update(PATH, |node| {
            node.set_data(Some(config.as_bytes()));
            node.version = -1;
            node.mzxid = turn.zxid;
            node.mtime_ms = turn.time_ms;
        });
        if let Some(node) = self.node(PATH) {
            turn.note(ChangeKind::DataSet, PATH, &node, &self.parent_acl(PATH));
        }
    }

    fn set_acl(
        &mut self,
        turn: &mut Turn<'_>,
        path: &str,
        asked: &[Acl],
        version: Option<i32>,
    ) -> Result<OpResult> {
        path::validate(path)?;
        let acl: AclList = acl::resolve(asked, turn.identities)?.into();
        let node = self.existing(path)?;
        acl::check(&node.acl, permission::ADMIN, turn.identities, path)?;
        check_version(node.aversion, version, path)?;
        let before = Arc::clone(&node.acl);
        self.update(path, |node| {
            node.acl = acl;
            node.aversion = node.aversion.wrapping_add(1);
        });
        let node = self.existing(path)?;
        let stat = node.stat();
        turn.note(ChangeKind::AclSet, path, &node, &self.parent_acl(path));
        if let Some(change) = turn.changes.last_mut() {
            change.acl_before = Some(before);
        }
        Ok(OpResult::Set { stat })
    }

    fn check(
        &self,
        turn: &Turn<'_>,
        path: &str,
        version: Option<i32>,
        czxid: Option<Zxid>,
    ) -> Result<OpResult> {
        path::validate(path)?;
        let node = self.existing(path)?;
        acl::check(&node.acl, permission::READ, turn.identities, path)?;
        check_version(node.version, version, path)?;
        if czxid.is_some_and(|czxid| czxid != node.czxid) {
            return Err(CoordinationError::BadVersion { path: path.to_owned() });
        }
        Ok(OpResult::Checked)
    }

    fn check_absent(&self, turn: &Turn<'_>, path: &str) -> Result<OpResult> {
        path::validate(path)?;
        match self.node(path) {
            None => Ok(OpResult::Checked),
            Some(node) => {
                acl::check(&node.acl, permission::READ, turn.identities, path)?;
                Err(CoordinationError::NodeExists { path: path.to_owned() })
            }
        }
    }

    /// Removes all ephemeral nodes of a session.
    pub(super) fn remove_ephemerals(&mut self, turn: &mut Turn<'_>, session_id: SessionId) {
        let paths: Vec<_> = self.ephemerals_of(session_id).cloned().collect();
        for path in paths {
            self.remove_leaf(turn, &path);
        }
    }

    /// Removes a node if it is idle at the turn's time; returns whether it was.
    pub(super) fn remove_if_idle(&mut self, turn: &mut Turn<'_>, path: &str) -> bool {
        let is_idle = self.node(path).is_some_and(|node| is_idle(&node, turn.time_ms));
        if is_idle {
            self.remove_leaf(turn, path);
        }
        is_idle
    }

    fn remove_leaf(&mut self, turn: &mut Turn<'_>, path: &str) {
        let parent_acl = self.parent_acl(path);
        let node = self.detach(path, turn.zxid);
        self.forget(path, &node);
        turn.note(ChangeKind::Deleted, path, &node, &parent_acl);
        self.count_for_quota(path, (-1, -signed(node.data().len())));
    }

    fn existing(&self, path: &str) -> Result<NodeRef<'_>> {
        self.node(path).ok_or_else(|| CoordinationError::NoNode { path: path.to_owned() })
    }

    /// The node, if it may be deleted by who asks (children aside).
    fn deletable(&self, turn: &Turn<'_>, path: &str, version: Option<i32>) -> Result<NodeRef<'_>> {
        path::validate(path)?;
        if RESERVED.contains(&path) {
            let reason = format!("the node {path} is reserved");
            return Err(CoordinationError::BadArguments { reason });
        }
        let missing = || CoordinationError::NoNode { path: path.to_owned() };
        let parent = path::split(path).and_then(|(parent, _)| self.node(parent));
        let parent = parent.ok_or_else(missing)?;
        acl::check(&parent.acl, permission::DELETE, turn.identities, path)?;
        let node = self.existing(path)?;
        check_version(node.version, version, path)?;
        Ok(node)
    }

    /// The access list of a node's parent; the root's own for the root.
    fn parent_acl(&self, path: &str) -> AclList {
        let parent = path::split(path).map_or("/", |(parent, _)| parent);
        self.node(parent).map_or_else(acl::open, |parent| Arc::clone(&parent.acl))
    }
}

impl Turn<'_> {
    /// Notes a change; the node is as it is after it, or at a deletion before it.
    fn note(&mut self, kind: ChangeKind, path: &str, node: &Node, parent_acl: &AclList) {
        let is_deletion = kind == ChangeKind::Deleted;
        if self.changes.is_empty() {
            // Most commands change one node, and changes are kept for a while.
            self.changes.reserve_exact(1);
        }
        self.changes.push(Change {
            kind,
            path: path.into(),
            data: if is_deletion { Bytes::new() } else { node.shared_data() },
            stat: node.stat(),
            acl: Arc::clone(&node.acl),
            acl_before: None,
            parent_acl: Arc::clone(parent_acl),
        });
    }
}

/// The kind of node that a mode makes, and whether it is numbered.
fn kind_of(mode: CreateMode, session_id: SessionId) -> Result<(NodeKind, bool)> {
    let ttl = |ttl_ms: u64| {
        if (1..=TTL_MAX_MS).contains(&ttl_ms) {
            Ok(NodeKind::Ttl { ttl_ms })
        } else {
            let reason = format!("a time to live of {ttl_ms} ms is not between 1 and {TTL_MAX_MS}");
            Err(CoordinationError::BadArguments { reason })
        }
    };
    Ok(match mode {
        CreateMode::Persistent => (NodeKind::Persistent, false),
        CreateMode::PersistentSequential => (NodeKind::Persistent, true),
        CreateMode::Ephemeral => (NodeKind::Ephemeral(session_id), false),
        CreateMode::EphemeralSequential => (NodeKind::Ephemeral(session_id), true),
        CreateMode::Container => (NodeKind::Container, false),
        CreateMode::PersistentWithTtl { ttl_ms } => (ttl(ttl_ms)?, false),
        CreateMode::PersistentSequentialWithTtl { ttl_ms } => (ttl(ttl_ms)?, true),
    })
}

/// A length that may be subtracted.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn check_data_size(size: usize) -> Result<()> {
    if size <= NODE_DATA_SIZE_MAX {
        return Ok(());
    }
    let limit = format!("{NODE_DATA_SIZE_MAX} bytes of data in a node");
    Err(CoordinationError::LimitReached { limit })
}

fn check_version(actual: i32, expected: Option<i32>, path: &str) -> Result<()> {
    match expected {
        Some(expected) if expected != actual => {
            Err(CoordinationError::BadVersion { path: path.to_owned() })
        }
        _ => Ok(()),
    }
}
