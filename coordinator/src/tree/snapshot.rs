//! A state in pieces, and back. How the pieces are laid out in a file is the storage's concern.

use std::sync::Arc;

use ottla_common::coordination::protocol::Acl;
use ottla_common::types::{SessionId, Zxid};
use serde::{Deserialize, Serialize};

use super::{Node, NodeKind, Session, StateMachine, Tree, path};
use crate::seeded_bugs::{MemberBug, has};

/// One piece of a snapshot: small enough to be framed and checked on its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SnapshotRecord {
    /// A session.
    Session(SessionRecord),
    /// A node. Its parent comes before it.
    Node(NodeRecord),
    /// The last record: what the whole must come to.
    End {
        /// The state's zxid.
        zxid: Zxid,
        /// Its digest.
        digest: u64,
    },
}

/// A session in a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    session_id: SessionId,
    #[serde(with = "serde_bytes")]
    password: Vec<u8>,
    session_timeout_ms: u32,
    connection_epoch: u64,
    created_ms: i64,
}

/// A node in a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    path: String,
    #[serde(with = "serde_bytes")]
    data: Option<Vec<u8>>,
    /// None if it is equal to the parent's.
    acl: Option<Vec<Acl>>,
    kind: NodeKind,
    czxid: Zxid,
    mzxid: Zxid,
    pzxid: Zxid,
    ctime_ms: i64,
    mtime_ms: i64,
    version: i32,
    aversion: i32,
    children_created: i32,
}

/// A snapshot's records do not make up a state.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The last record is missing, or something comes after it.
    #[error("the snapshot is not complete")]
    Incomplete,
    /// A node is there twice, or its parent is missing, or a path is not valid.
    #[error("the snapshot holds a node that cannot be: {0}")]
    BadNode(String),
    /// The state is not the one that was written.
    #[error("the snapshot's digest is {expected:#018x}, but what it holds comes to {actual:#018x}")]
    WrongDigest {
        /// As the snapshot tells.
        expected: u64,
        /// As computed.
        actual: u64,
    },
}

impl StateMachine {
    /// The state in pieces: sessions first, then nodes, parents before children, then the end.
    pub fn snapshot_records(&self) -> impl Iterator<Item = SnapshotRecord> + use<'_> {
        let sessions = self.sessions.iter().map(|(session_id, session)| {
            SnapshotRecord::Session(SessionRecord {
                session_id,
                password: session.password.to_vec(),
                session_timeout_ms: session.session_timeout_ms,
                connection_epoch: session.connection_epoch,
                created_ms: session.created_ms,
            })
        });
        let nodes = self.tree.walk("/").map(|(path, node)| {
            SnapshotRecord::Node(NodeRecord {
                acl: self.own_acl(&path, &node),
                data: node.data_if_any().map(<[u8]>::to_vec),
                path,
                kind: node.kind,
                czxid: node.czxid,
                mzxid: node.mzxid,
                pzxid: node.pzxid,
                ctime_ms: node.ctime_ms,
                mtime_ms: node.mtime_ms,
                version: node.version,
                aversion: node.aversion,
                children_created: node.children_created,
            })
        });
        let end = SnapshotRecord::End { zxid: self.zxid, digest: self.digest() };
        sessions.chain(nodes).chain(std::iter::once(end))
    }

    /// The access list, unless it is the parent's.
    fn own_acl(&self, path: &str, node: &Node) -> Option<Vec<Acl>> {
        let parent = path::split(path).and_then(|(parent, _)| self.tree.node(parent));
        match parent {
            Some(parent) if parent.acl == node.acl => None,
            _ => Some(node.acl.to_vec()),
        }
    }

    /// The state that [`StateMachine::snapshot_records`] took apart. Ends at the first record that
    /// could not be read.
    pub fn from_snapshot<E: From<SnapshotError>>(
        records: impl IntoIterator<Item = Result<SnapshotRecord, E>>,
    ) -> Result<Self, E> {
        let mut records = records.into_iter();
        let mut state = Self::new();
        let mut has_root = false;
        for record in &mut records {
            match record? {
                SnapshotRecord::Session(record) => {
                    let session = Session {
                        password: record.password.into(),
                        session_timeout_ms: record.session_timeout_ms,
                        connection_epoch: record.connection_epoch,
                        created_ms: record.created_ms,
                    };
                    state.sessions.insert(record.session_id, session);
                }
                SnapshotRecord::Node(record) if !has_root => {
                    if record.path != "/" {
                        return Err(SnapshotError::BadNode(record.path).into());
                    }
                    has_root = true;
                    state.tree = Tree::with_root(record.into_node(&super::acl::open()));
                }
                SnapshotRecord::Node(record) => state.tree.restore(record)?,
                SnapshotRecord::End { zxid, digest } => {
                    if !has_root || records.next().is_some() {
                        return Err(SnapshotError::Incomplete.into());
                    }
                    state.zxid = zxid;
                    let actual = state.digest();
                    if actual != digest {
                        return Err(SnapshotError::WrongDigest { expected: digest, actual }.into());
                    }
                    if has(MemberBug::SnapshotForgetsSession) {
                        let first = state.sessions.iter().next().map(|(session_id, _)| session_id);
                        first.map(|session_id| state.sessions.remove(session_id));
                    }
                    return Ok(state);
                }
            }
        }
        Err(SnapshotError::Incomplete.into())
    }
}

impl Tree {
    fn restore(&mut self, record: NodeRecord) -> Result<(), SnapshotError> {
        let path = record.path.clone();
        let parent = path::split(&path).and_then(|(parent, _)| self.node(parent));
        let parent_acl = match parent {
            Some(parent) if self.node(&path).is_none() && path::validate(&path).is_ok() => {
                Arc::clone(&parent.acl)
            }
            _ => return Err(SnapshotError::BadNode(path)),
        };
        self.attach(&path, record.into_node(&parent_acl), |_| ());
        Ok(())
    }
}

impl NodeRecord {
    fn into_node(self, parent_acl: &Arc<[Acl]>) -> Node {
        let acl = self.acl.map_or_else(|| Arc::clone(parent_acl), Into::into);
        let mut node = Node::new(acl, self.kind, self.czxid, self.ctime_ms);
        node.set_data(self.data.as_deref());
        node.mzxid = self.mzxid;
        node.pzxid = self.pzxid;
        node.mtime_ms = self.mtime_ms;
        node.version = self.version;
        node.aversion = self.aversion;
        node.children_created = self.children_created;
        node
    }
}
