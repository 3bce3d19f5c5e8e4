//! Some neighbouring children of a node in one piece of memory: their records one after the other,
//! by name.
//!
//! One piece for some thirty nodes, since an allocation of its own for each of them, with a pointer
//! to it, costs as much as what a small node holds.

use std::ops::Deref;
use std::sync::Arc;

use super::command::AclList;
use super::node::Node;
use super::record::{self, Record};

/// How long the records of a leaf may be in all, in bytes (unless there is only one). The allocator
/// gets eighteen such pieces out of its pages of 64 KiB, and of 4 KiB only fifteen.
const LEAF_SIZE_MAX: usize = 3584;

/// The most records of a leaf: they are searched from the first on.
const LEAF_RECORDS_MAX: usize = 64;

/// The most access lists that a leaf keeps before it drops those that no node has any more.
const ACLS_MAX: usize = 128;

/// A node, wherever it lies.
#[derive(Clone, Debug)]
pub enum NodeRef<'a> {
    /// By itself.
    Shared(&'a Arc<Node>),
    /// Among its siblings: this is a copy.
    Packed(Arc<Node>),
}

impl NodeRef<'_> {
    /// The node, to be held longer than the tree.
    pub fn into_shared(self) -> Arc<Node> {
        match self {
            Self::Shared(node) => Arc::clone(node),
            Self::Packed(node) => node,
        }
    }
}

impl Deref for NodeRef<'_> {
    type Target = Node;

    fn deref(&self) -> &Node {
        match self {
            Self::Shared(node) => node,
            Self::Packed(node) => node,
        }
    }
}

/// A piece of the children of a node. At most a record of each name, in the order of names.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    records: Vec<u8>,
    count: usize,
    /// The nodes that lie beside the records, in their order.
    shared: Vec<Arc<Node>>,
    /// The access lists of those that are packed.
    acls: Vec<AclList>,
}

/// A place between records, or a record's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place {
    /// How many bytes of records come before.
    at: usize,
    /// How many of these are of nodes that lie beside.
    shared: usize,
    /// How many records come before.
    count: usize,
}

impl Place {
    fn behind(self, record: &Record<'_>) -> Self {
        Self {
            at: self.at + record.size,
            shared: self.shared + usize::from(record.is_shared()),
            count: self.count + 1,
        }
    }
}

impl Leaf {
    /// How long its records are in all, in bytes.
    pub fn size(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether it should be made smaller.
    pub fn is_overfull(&self) -> bool {
        self.count > 1 && (self.size() > LEAF_SIZE_MAX || self.count > LEAF_RECORDS_MAX)
    }

    /// Whether it and another would make one that is filled by no more than `eighths`.
    pub fn fits_with(&self, other: &Self, eighths: usize) -> bool {
        self.size() + other.size() <= LEAF_SIZE_MAX / 8 * eighths
            && self.count + other.count <= LEAF_RECORDS_MAX / 8 * eighths
    }

    /// The record at a place, and the node if it lies beside; none at the end.
    fn at(&self, place: Place) -> Option<(Record<'_>, Option<&Arc<Node>>)> {
        let record = Record::first_of(self.records.get(place.at..)?)?;
        let shared = if record.is_shared() { self.shared.get(place.shared) } else { None };
        Some((record, shared))
    }

    /// The name and the node of the record at a place, and the next place; none at the end.
    pub fn child_at(&self, place: Place) -> Option<(&str, NodeRef<'_>, Place)> {
        let (record, shared) = self.at(place)?;
        let node = match shared {
            Some(node) => NodeRef::Shared(node),
            None => NodeRef::Packed(Arc::new(record.unpack(&self.acls))),
        };
        Some((record.name_text(), node, place.behind(&record)))
    }

    /// The names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let mut place = Place::default();
        std::iter::from_fn(move || {
            let (record, _) = self.at(place)?;
            place = place.behind(&record);
            Some(record.name_text())
        })
    }

    /// The nodes that lie beside the records.
    pub fn shared(&self) -> &[Arc<Node>] {
        &self.shared
    }

    /// Where the record of a name is or would be, and whether it is there.
    fn place_of(&self, name: &str) -> (Place, bool) {
        let mut place = Place::default();
        while let Some((record, _)) = self.at(place) {
            match record.name().cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => place = place.behind(&record),
                std::cmp::Ordering::Equal => return (place, true),
                std::cmp::Ordering::Greater => break,
            }
        }
        (place, false)
    }

    /// The node of a name.
    pub fn get(&self, name: &str) -> Option<NodeRef<'_>> {
        match self.place_of(name) {
            (place, true) => self.child_at(place).map(|(_, node, _)| node),
            (_, false) => None,
        }
    }

    /// Whether there is such a name.
    pub fn contains(&self, name: &str) -> bool {
        self.place_of(name).1
    }

    /// The node of a name if it lies by itself.
    pub fn get_shared(&self, name: &str) -> Option<&Arc<Node>> {
        let (place, is_there) = self.place_of(name);
        if is_there { self.at(place)?.1 } else { None }
    }

    /// The same, to be changed.
    pub fn get_shared_mut(&mut self, name: &str) -> Option<&mut Arc<Node>> {
        let (place, is_there) = self.place_of(name);
        let is_shared = is_there && self.at(place)?.1.is_some();
        if is_shared { self.shared.get_mut(place.shared) } else { None }
    }

    /// Sets the node of a name. Returns whether there was none.
    pub fn put(&mut self, name: &str, node: Arc<Node>) -> bool {
        let (place, is_there) = self.place_of(name);
        let before = if is_there { self.at(place) } else { None };
        let (old_size, was_shared) =
            before.map_or((0, false), |(record, shared)| (record.size, shared.is_some()));
        let record = if record::is_packable(name, &node) {
            if was_shared {
                self.shared.remove(place.shared);
            }
            let acl = self.number_of(&node.acl);
            record::of_packed(name, &node, acl)
        } else {
            match self.shared.get_mut(place.shared).filter(|_| was_shared) {
                Some(shared) => *shared = node,
                None => self.shared.insert(place.shared, node),
            }
            record::of_shared(name)
        };
        self.replace(place.at, old_size, &record);
        self.count += usize::from(!is_there);
        !is_there
    }

    /// Removes a name and returns its node.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Node>> {
        let (place, is_there) = self.place_of(name);
        if !is_there {
            return None;
        }
        let (record, shared) = self.at(place)?;
        let (size, is_shared) = (record.size, shared.is_some());
        let node = if is_shared {
            self.shared.remove(place.shared)
        } else {
            self.child_at(place)?.1.into_shared()
        };
        self.replace(place.at, size, &[]);
        self.count -= 1;
        Some(node)
    }

    /// Puts bytes in the place of others.
    fn replace(&mut self, at: usize, old_size: usize, new: &[u8]) {
        let size = self.records.len();
        let size_then = size - old_size + new.len();
        if size_then > self.records.capacity() {
            self.records.reserve_exact(good_size(size_then) - size);
        }
        if size_then > size {
            self.records.resize(size_then, 0);
        }
        self.records.copy_within(at + old_size..size, at + new.len());
        self.records.truncate(size_then);
        if let Some(place) = self.records.get_mut(at..at + new.len()) {
            place.copy_from_slice(new);
        }
    }

    /// The number of an access list.
    fn number_of(&mut self, acl: &AclList) -> u8 {
        if self.acls.len() >= ACLS_MAX {
            self.forget_acls();
        }
        let known = self.acls.iter().position(|known| Arc::ptr_eq(known, acl) || known == acl);
        let number = known.unwrap_or_else(|| {
            self.acls.reserve_exact(1);
            self.acls.push(Arc::clone(acl));
            self.acls.len() - 1
        });
        u8::try_from(number).unwrap_or_else(|_| unreachable!("there are fewer records than that"))
    }

    /// Drops the access lists that no node has.
    fn forget_acls(&mut self) {
        let before = std::mem::take(&mut self.acls);
        let mut place = Place::default();
        while let Some((record, _)) = self.at(place) {
            let next = place.behind(&record);
            if let Some((number, offset)) = record.acl()
                && let Some(acl) = before.get(usize::from(number))
            {
                let number = self.number_of(acl);
                if let Some(byte) = self.records.get_mut(place.at + offset) {
                    *byte = number;
                }
            }
            place = next;
        }
    }

    /// Takes the records behind the first of about `size` bytes out; at least one stays, and one is
    /// taken if there are two.
    pub fn split_off(&mut self, size: usize) -> Self {
        let mut place = Place::default();
        while let Some((record, _)) = self.at(place) {
            let next = place.behind(&record);
            if place.count > 0 && (next.at > size || next.count == self.count) {
                break;
            }
            place = next;
        }
        let taken = self.records.split_off(place.at);
        let mut taken = Self {
            records: taken,
            count: self.count - place.count,
            shared: self.shared.split_off(place.shared),
            acls: self.acls.clone(),
        };
        self.count = place.count;
        self.tidy();
        taken.tidy();
        taken
    }

    /// How many bytes stand before a name's record.
    pub fn size_before(&self, name: &str) -> usize {
        self.place_of(name).0.at
    }

    /// Whether a name is the last.
    pub fn ends_with(&self, name: &str) -> bool {
        let (place, is_there) = self.place_of(name);
        is_there && place.count + 1 == self.count
    }

    /// Puts the records of the neighbour behind its own.
    pub fn append(&mut self, mut right: Self) {
        let acls = std::mem::take(&mut right.acls);
        self.forget_acls();
        let mut place = Place::default();
        while let Some((record, _)) = right.at(place) {
            let next = place.behind(&record);
            if let Some((number, offset)) = record.acl()
                && let Some(acl) = acls.get(usize::from(number))
            {
                let number = self.number_of(acl);
                if let Some(byte) = right.records.get_mut(place.at + offset) {
                    *byte = number;
                }
            }
            place = next;
        }
        self.replace(self.size(), 0, &right.records);
        self.count += right.count;
        self.shared.append(&mut right.shared);
        self.shared.shrink_to_fit();
    }

    /// Gives memory back that is not needed.
    fn tidy(&mut self) {
        self.forget_acls();
        let size = good_size(self.records.len());
        if self.records.capacity() > size {
            // Made anew, since an allocator shrinks nothing by little.
            let mut records = Vec::with_capacity(size);
            records.extend_from_slice(&self.records);
            self.records = records;
        }
        self.shared.shrink_to_fit();
    }
}

/// The next size that the allocator has a class of: four between a power of two and the next.
fn good_size(size: usize) -> usize {
    let step = (size.next_power_of_two() / 8).max(16);
    size.next_multiple_of(step)
}
