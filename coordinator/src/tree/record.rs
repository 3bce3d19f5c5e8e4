//! One child of a node as bytes among its siblings'. A node that is small and has no children, as
//! most are, lies wholly in its record; of any other the record holds the name alone.
//!
//! ```text
//! length of the rest u16 | flags u8 | length of the name, the name
//!   | number of the access list u8 | czxid | ctime | by flags: owner or time to live;
//!     mzxid, mtime, version; pzxid, children created; aversion | the data, up to the end
//! ```
//!
//! Numbers are varints, and zxids and times but the first count from the first.

use std::sync::Arc;

use ottla_common::types::{SessionId, Zxid};

use super::command::AclList;
use super::node::{Node, NodeKind};

/// The longest data of a node that is packed into a record, in bytes.
pub const PACKED_DATA_MAX: usize = 512;

/// The longest name of a node that is packed, in bytes.
const PACKED_NAME_MAX: usize = 256;

/// The node lies beside the records.
const SHARED: u8 = 1;
const HAS_DATA: u8 = 1 << 1;
const DATA_CHANGED: u8 = 1 << 2;
const CHILDREN_CHANGED: u8 = 1 << 3;
const ACL_CHANGED: u8 = 1 << 4;
const EPHEMERAL: u8 = 1 << 5;
const CONTAINER: u8 = 2 << 5;
const TTL: u8 = 3 << 5;
const KIND: u8 = 3 << 5;

const LENGTH_SIZE: usize = 2;

/// Whether a node of such a name may be packed.
pub fn is_packable(name: &str, node: &Node) -> bool {
    node.children.is_empty()
        && node.data().len() <= PACKED_DATA_MAX
        && name.len() <= PACKED_NAME_MAX
}

/// The record of a node that lies beside the records.
pub fn of_shared(name: &str) -> Vec<u8> {
    let mut record = begin(name, SHARED, 0);
    end(&mut record);
    record
}

/// The record of a node that is packable.
pub fn of_packed(name: &str, node: &Node, acl: u8) -> Vec<u8> {
    let mut flags = match node.kind {
        NodeKind::Persistent => 0,
        NodeKind::Ephemeral(_) => EPHEMERAL,
        NodeKind::Container => CONTAINER,
        NodeKind::Ttl { .. } => TTL,
    };
    let mut flag = |flag, is_set| flags |= if is_set { flag } else { 0 };
    let data_changed = (node.mzxid, node.mtime_ms, node.version) != (node.czxid, node.ctime_ms, 0);
    let children_changed = (node.pzxid, node.children_created) != (node.czxid, 0);
    flag(HAS_DATA, node.data_if_any().is_some());
    flag(DATA_CHANGED, data_changed);
    flag(CHILDREN_CHANGED, children_changed);
    flag(ACL_CHANGED, node.aversion != 0);
    let mut record = begin(name, flags, node.data().len());
    record.push(acl);
    put_signed(node.czxid.0, &mut record);
    put_signed(node.ctime_ms, &mut record);
    match node.kind {
        NodeKind::Persistent | NodeKind::Container => {}
        NodeKind::Ephemeral(session_id) => put_signed(session_id.0, &mut record),
        NodeKind::Ttl { ttl_ms } => put(ttl_ms, &mut record),
    }
    if data_changed {
        put_signed(node.mzxid.0.wrapping_sub(node.czxid.0), &mut record);
        put_signed(node.mtime_ms.wrapping_sub(node.ctime_ms), &mut record);
        put_signed(i64::from(node.version), &mut record);
    }
    if children_changed {
        put_signed(node.pzxid.0.wrapping_sub(node.czxid.0), &mut record);
        put_signed(i64::from(node.children_created), &mut record);
    }
    if node.aversion != 0 {
        put_signed(i64::from(node.aversion), &mut record);
    }
    record.extend_from_slice(node.data());
    end(&mut record);
    record
}

fn begin(name: &str, flags: u8, data_size: usize) -> Vec<u8> {
    const HEAD: usize = 64;
    let mut record = Vec::with_capacity(HEAD + name.len() + data_size);
    record.extend_from_slice(&[0; LENGTH_SIZE]);
    record.push(flags);
    put(name.len() as u64, &mut record);
    record.extend_from_slice(name.as_bytes());
    record
}

fn end(record: &mut [u8]) {
    let length = u16::try_from(record.len().saturating_sub(LENGTH_SIZE));
    match (record.first_chunk_mut(), length) {
        (Some(place), Ok(length)) => *place = length.to_le_bytes(),
        _ => unreachable!("neither a path nor packed data is so long"),
    }
}

/// A record among others.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    flags: u8,
    name: &'a [u8],
    /// What comes behind the name.
    body: &'a [u8],
    /// How long the record is, in bytes.
    pub size: usize,
}

impl<'a> Record<'a> {
    /// The record that some bytes begin with; none at their end.
    pub fn first_of(bytes: &'a [u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let mut fields = Fields(rest.get(..length)?);
        let flags = fields.byte()?;
        let name_length = usize::try_from(fields.number()?).ok()?;
        let (name, body) = fields.0.split_at_checked(name_length)?;
        Some(Self { flags, name, body, size: LENGTH_SIZE + length })
    }

    /// The child's name.
    pub fn name(&self) -> &'a [u8] {
        self.name
    }

    /// The same as text.
    pub fn name_text(&self) -> &'a str {
        std::str::from_utf8(self.name).unwrap_or_else(|_| unreachable!("a name is text"))
    }

    /// Whether the node lies beside the records.
    pub fn is_shared(&self) -> bool {
        self.flags & SHARED != 0
    }

    /// The number of the access list, and how far from the record's begin it stands; none if the
    /// node lies beside.
    pub fn acl(&self) -> Option<(u8, usize)> {
        if self.is_shared() {
            return None;
        }
        self.body.first().map(|number| (*number, self.size - self.body.len()))
    }

    /// The node that is packed in it.
    pub fn unpack(&self, acls: &[AclList]) -> Node {
        self.try_unpack(acls).unwrap_or_else(|| unreachable!("a record was packed whole"))
    }

    fn try_unpack(&self, acls: &[AclList]) -> Option<Node> {
        let mut fields = Fields(self.body);
        let acl = Arc::clone(acls.get(usize::from(fields.byte()?))?);
        let czxid = fields.signed()?;
        let ctime_ms = fields.signed()?;
        let kind = match self.flags & KIND {
            EPHEMERAL => NodeKind::Ephemeral(SessionId(fields.signed()?)),
            CONTAINER => NodeKind::Container,
            TTL => NodeKind::Ttl { ttl_ms: fields.number()? },
            _ => NodeKind::Persistent,
        };
        let mut node = Node::new(acl, kind, Zxid(czxid), ctime_ms);
        if self.flags & DATA_CHANGED != 0 {
            node.mzxid = Zxid(czxid.wrapping_add(fields.signed()?));
            node.mtime_ms = ctime_ms.wrapping_add(fields.signed()?);
            node.version = fields.small()?;
        }
        if self.flags & CHILDREN_CHANGED != 0 {
            node.pzxid = Zxid(czxid.wrapping_add(fields.signed()?));
            node.children_created = fields.small()?;
        }
        if self.flags & ACL_CHANGED != 0 {
            node.aversion = fields.small()?;
        }
        let has_data = self.flags & HAS_DATA != 0;
        node.set_data(has_data.then_some(fields.0));
        Some(node)
    }
}

fn put(mut value: u64, out: &mut Vec<u8>) {
    loop {
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            return out.push(low & 0x7f);
        }
        out.push(low | 0x80);
    }
}

/// Numbers near zero, of either sign, are short.
fn put_signed(value: i64, out: &mut Vec<u8>) {
    put(((value << 1) ^ (value >> 63)).cast_unsigned(), out);
}

/// What has not been read yet.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let value = self.number()?;
        Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    fn small(&mut self) -> Option<i32> {
        i32::try_from(self.signed()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::acl;
    use super::*;

    fn number() -> impl Strategy<Value = i64> {
        prop_oneof![Just(0), Just(1), Just(-1), Just(i64::MIN), Just(i64::MAX), any::<i64>()]
    }

    fn kind() -> impl Strategy<Value = NodeKind> {
        prop_oneof![
            Just(NodeKind::Persistent),
            Just(NodeKind::Container),
            number().prop_map(|id| NodeKind::Ephemeral(SessionId(id))),
            any::<u64>().prop_map(|ttl_ms| NodeKind::Ttl { ttl_ms }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_packed_comes_out_again(
            (kind, czxid, ctime_ms) in (kind(), number(), number()),
            (mzxid, mtime_ms, version) in (number(), number(), any::<i32>()),
            (pzxid, children_created, aversion) in (number(), 0..3_i32, -1..2_i32),
            data in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..300)),
            (name, is_fresh) in ("[a-zä日]{1,80}", any::<bool>()),
        ) {
            let acls = [acl::open(), acl::open()];
            let mut node = Node::new(acl::open(), kind, Zxid(czxid), ctime_ms);
            if !is_fresh {
                (node.mzxid, node.mtime_ms, node.version) = (Zxid(mzxid), mtime_ms, version);
                (node.pzxid, node.children_created) = (Zxid(pzxid), children_created);
                node.aversion = aversion;
            }
            node.set_data(data.as_deref());
            prop_assert!(is_packable(&name, &node));
            let mut bytes = of_packed(&name, &node, 1);
            let size = bytes.len();
            bytes.extend(of_shared("next"));
            let record = Record::first_of(&bytes).unwrap();
            prop_assert_eq!((record.name_text(), record.size), (name.as_str(), size));
            let unpacked = record.unpack(&acls);
            prop_assert_eq!(unpacked.data_if_any(), data.as_deref());
            prop_assert_eq!(unpacked.stat(), node.stat());
            prop_assert_eq!(unpacked.digest("/a"), node.digest("/a"));
            let next = Record::first_of(&bytes[size..]).unwrap();
            prop_assert!(next.is_shared() && next.name() == b"next" && next.acl().is_none());
            prop_assert!(Record::first_of(&bytes[size + next.size..]).is_none());
        }
    }
}
