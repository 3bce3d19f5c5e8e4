//! One node of the tree.

use std::sync::Arc;

use bytes::Bytes;
use ottla_common::coordination::protocol::Stat;
use ottla_common::types::{SessionId, Zxid};
use serde::{Deserialize, Serialize};

use super::children::Children;
use super::command::AclList;
use super::digest;
use super::record::PACKED_DATA_MAX;

/// A node. What its parent knows (the name) is not in it.
#[derive(Clone, Debug)]
pub struct Node {
    data: Arc<[u8]>,
    has_data: bool,
    /// Kept, so that a change of anything else need not read the data again for the digest.
    data_crc: u32,
    /// Who may do what.
    pub acl: AclList,
    /// What keeps it alive.
    pub kind: NodeKind,
    /// See [`Stat::czxid`], and so on.
    pub czxid: Zxid,
    /// The zxid of the last change of the data.
    pub mzxid: Zxid,
    /// The zxid of the last change of the list of children.
    pub pzxid: Zxid,
    /// When it was created, milliseconds since 1970.
    pub ctime_ms: i64,
    /// When its data was last changed, milliseconds since 1970.
    pub mtime_ms: i64,
    /// How often its data was changed.
    pub version: i32,
    /// How often its access list was changed.
    pub aversion: i32,
    /// How many children were ever made: what numbers sequential ones. Wraps, as ZooKeeper's does.
    pub children_created: i32,
    /// Its children by name.
    pub children: Children,
}

/// What keeps a node alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeKind {
    /// Nothing: it stays.
    Persistent,
    /// A session.
    Ephemeral(SessionId),
    /// Its children, once it has had one.
    Container,
    /// Changes of its data, or children.
    Ttl {
        /// How long it lives without, in milliseconds.
        ttl_ms: u64,
    },
}

impl NodeKind {
    /// ZooKeeper's `ephemeralOwner` of such a node.
    pub fn ephemeral_owner(self) -> SessionId {
        SessionId(match self {
            Self::Persistent => 0,
            Self::Ephemeral(session_id) => session_id.0,
            Self::Container => i64::MIN,
            Self::Ttl { ttl_ms } => (0xff00_0000_0000_0000 | ttl_ms).cast_signed(),
        })
    }
}

impl Node {
    /// A node that is created now, with data of no bytes.
    pub fn new(acl: AclList, kind: NodeKind, zxid: Zxid, time_ms: i64) -> Self {
        Self {
            data_crc: crc32c::crc32c(&[]),
            data: Arc::default(),
            has_data: true,
            acl,
            kind,
            czxid: zxid,
            mzxid: zxid,
            pzxid: zxid,
            ctime_ms: time_ms,
            mtime_ms: time_ms,
            version: 0,
            aversion: 0,
            children_created: 0,
            children: Children::default(),
        }
    }

    /// The data.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The data, to be held longer than the node. Not kept in this form, which takes more memory.
    pub fn shared_data(&self) -> Bytes {
        match self.data.len() {
            0 => Bytes::new(),
            // Nobody else keeps it in this form.
            1..=PACKED_DATA_MAX => Bytes::copy_from_slice(&self.data),
            _ => Bytes::from_owner(Arc::clone(&self.data)),
        }
    }

    /// The data; none if the node has none at all, which ZooKeeper's clients tell from data without
    /// bytes.
    pub fn data_if_any(&self) -> Option<&[u8]> {
        self.has_data.then_some(&*self.data)
    }

    /// Replaces the data.
    pub fn set_data(&mut self, data: Option<&[u8]>) {
        self.has_data = data.is_some();
        self.data = data.map_or_else(Arc::default, Arc::from);
        self.data_crc = crc32c::crc32c(&self.data);
    }

    /// The stat as clients see it.
    pub fn stat(&self) -> Stat {
        // Neither overflows: data is bounded, and so many children do not fit in memory.
        let data_length = i32::try_from(self.data.len()).unwrap_or(i32::MAX);
        let num_children = i32::try_from(self.children.len()).unwrap_or(i32::MAX);
        Stat {
            czxid: self.czxid,
            mzxid: self.mzxid,
            pzxid: self.pzxid,
            ctime_ms: self.ctime_ms,
            mtime_ms: self.mtime_ms,
            version: self.version,
            // ZooKeeper counts creations only, and makes creations and deletions of them so.
            cversion: self.children_created.wrapping_mul(2).wrapping_sub(num_children),
            aversion: self.aversion,
            ephemeral_owner: self.kind.ephemeral_owner(),
            data_length,
            num_children,
        }
    }

    /// The number of all nodes below it.
    pub fn descendant_count(&self) -> u64 {
        // No deeper than a path may be.
        let mut count = self.children.len() as u64;
        self.children.each_shared(&mut |child| count += child.descendant_count());
        count
    }

    /// Whether this is known to be the other, unchanged, with all that is below it. True whenever a
    /// node stayed as it was while someone held it.
    pub fn is_still(self: &Arc<Self>, other: &Arc<Self>) -> bool {
        let is_packed = |node: &Self| node.children.is_empty();
        Arc::ptr_eq(self, other)
            || (is_packed(self) && is_packed(other))
                && self.stat() == other.stat()
                && self.data_if_any() == other.data_if_any()
                && self.acl == other.acl
    }

    /// What this node adds to the tree's digest.
    pub fn digest(&self, path: &str) -> u64 {
        let mut hash = digest::Hasher::new(path);
        let stat = self.stat();
        hash.add(u64::from(self.data_crc) | u64::from(!self.has_data) << 32);
        for field in [stat.czxid.0, stat.mzxid.0, stat.pzxid.0, stat.ctime_ms, stat.mtime_ms] {
            hash.add(field.cast_unsigned());
        }
        hash.add(stat.ephemeral_owner.0.cast_unsigned());
        for field in [self.version, self.children_created, self.aversion, stat.data_length] {
            hash.add(u64::from(field.cast_unsigned()));
        }
        hash.add(u64::from(stat.num_children.cast_unsigned()));
        for entry in &*self.acl {
            hash.add(u64::from(entry.permissions));
            hash.add_text(&entry.scheme);
            hash.add_text(&entry.id);
        }
        hash.finish()
    }
}
