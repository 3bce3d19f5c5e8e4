//! The children of a node by name: a B-tree of packed leaves whose clones share all that has not
//! changed since.
//!
//! A clone costs one reference count. A change copies the blocks on its way down that a clone still
//! shares, and changes the others in place. That is what lets a snapshot of the whole state, or a
//! multi that may fail half way, cost nothing to begin.

use std::sync::Arc;

use super::leaf::{Leaf, NodeRef, Place};
use super::node::Node;
use super::record;

/// The most blocks below one.
const BRANCHES_MAX: usize = 64;

/// How full, in eighths, two neighbours may be together for one to take from the other what it has
/// too much of: fuller ones had to do it again soon.
const SHARE_EIGHTHS: usize = 14;

/// How full, in eighths, a block may be that is made of two.
const MERGE_EIGHTHS: usize = 6;

/// The children of a node.
#[derive(Clone, Debug, Default)]
pub struct Children {
    root: Option<Arc<Block>>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Block {
    Leaf(Leaf),
    Inner(Vec<Branch>),
}

#[derive(Clone, Debug)]
struct Branch {
    /// No name below is less, and each one of the branch before is. Of the first branch it says
    /// nothing: there the block's own counts.
    from: Box<str>,
    block: Arc<Block>,
}

impl Children {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn leaf_of(&self, name: &str) -> Option<&Leaf> {
        let mut block = self.root.as_ref()?;
        loop {
            match &**block {
                Block::Leaf(leaf) => return Some(leaf),
                Block::Inner(branches) => block = &branches.get(way_to(branches, name))?.block,
            }
        }
    }

    /// The child of a name.
    pub fn get(&self, name: &str) -> Option<NodeRef<'_>> {
        self.leaf_of(name)?.get(name)
    }

    /// The child of a name if it lies by itself, as every one does that has children.
    pub fn get_shared(&self, name: &str) -> Option<&Arc<Node>> {
        self.leaf_of(name)?.get_shared(name)
    }

    /// The same, to be changed. It keeps or gets children.
    pub fn get_shared_mut(&mut self, name: &str) -> Option<&mut Node> {
        self.get_shared(name)?;
        let mut block = self.root.as_mut()?;
        loop {
            match Arc::make_mut(block) {
                Block::Leaf(leaf) => return leaf.get_shared_mut(name).map(Arc::make_mut),
                Block::Inner(branches) => {
                    let way = way_to(branches, name);
                    block = &mut branches.get_mut(way)?.block;
                }
            }
        }
    }

    /// Sets the child of a name.
    pub fn insert(&mut self, name: &str, node: Arc<Node>) {
        let root = self.root.get_or_insert_with(|| Arc::new(Block::Leaf(Leaf::default())));
        self.len += usize::from(root_put(root, name, node));
    }

    /// Changes the child of a name. Returns whether there is one.
    pub fn change(&mut self, name: &str, change: impl FnOnce(&mut Node)) -> bool {
        if let Some(node) = self.get_shared_mut(name) {
            change(node);
            if record::is_packable(name, node) {
                let node = Arc::new(node.clone());
                self.insert(name, node);
            }
            return true;
        }
        let Some(mut node) = self.get(name).map(NodeRef::into_shared) else { return false };
        change(Arc::make_mut(&mut node));
        self.insert(name, node);
        true
    }

    /// Removes the child of a name and returns it.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Node>> {
        self.leaf_of(name).filter(|leaf| leaf.contains(name))?;
        let root = self.root.as_mut()?;
        let removed = remove(root, name);
        self.len -= usize::from(removed.is_some());
        while let Block::Inner(branches) = &mut *Arc::make_mut(root) {
            match branches.pop() {
                Some(only) if branches.is_empty() => *root = only.block,
                Some(last) => {
                    branches.push(last);
                    break;
                }
                None => break,
            }
        }
        if self.len == 0 {
            self.root = None;
        }
        removed
    }

    /// Calls `each` with the names, in their order.
    pub fn each_name(&self, each: &mut dyn FnMut(&str)) {
        self.each_leaf(&mut |leaf| leaf.names().for_each(&mut *each));
    }

    /// Calls `each` with the children that lie by themselves.
    pub fn each_shared(&self, each: &mut dyn FnMut(&Node)) {
        self.each_leaf(&mut |leaf| leaf.shared().iter().for_each(|node| each(node)));
    }

    fn each_leaf(&self, each: &mut dyn FnMut(&Leaf)) {
        if let Some(root) = &self.root {
            root.each_leaf(each);
        }
    }

    /// The children in the order of their names, as they are now, however long this is kept.
    pub fn iter(&self) -> Iter {
        let mut iter = Iter { way: Vec::new(), leaf: None };
        if let Some(root) = &self.root {
            iter.descend(Arc::clone(root));
        }
        iter
    }
}

/// See [`Children::iter`].
#[derive(Debug)]
pub struct Iter {
    /// The blocks on the way down, each with the next of its branches.
    way: Vec<(Arc<Block>, usize)>,
    leaf: Option<(Arc<Block>, Place)>,
}

impl Iter {
    fn descend(&mut self, block: Arc<Block>) {
        match &*block {
            Block::Leaf(_) => self.leaf = Some((block, Place::default())),
            Block::Inner(_) => self.way.push((block, 0)),
        }
    }

    fn next_in_leaf(&mut self) -> Option<(String, Arc<Node>)> {
        let (block, place) = self.leaf.as_mut()?;
        let Block::Leaf(leaf) = &**block else { return None };
        let (name, node, next) = leaf.child_at(*place)?;
        *place = next;
        Some((name.to_owned(), node.into_shared()))
    }
}

impl Iterator for Iter {
    type Item = (String, Arc<Node>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(child) = self.next_in_leaf() {
                return Some(child);
            }
            self.leaf = None;
            let (block, way) = self.way.last_mut()?;
            let Block::Inner(branches) = &**block else { return None };
            let next = branches.get(*way).map(|branch| Arc::clone(&branch.block));
            *way += 1;
            match next {
                Some(block) => self.descend(block),
                None => {
                    self.way.pop();
                }
            }
        }
    }
}

impl Block {
    fn each_leaf(&self, each: &mut dyn FnMut(&Leaf)) {
        match self {
            Self::Leaf(leaf) => each(leaf),
            Self::Inner(branches) => {
                branches.iter().for_each(|branch| branch.block.each_leaf(each))
            }
        }
    }

    fn is_overfull(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.is_overfull(),
            Self::Inner(branches) => branches.len() > BRANCHES_MAX,
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Leaf(leaf) => leaf.is_empty(),
            Self::Inner(branches) => branches.is_empty(),
        }
    }

    /// Whether it and its neighbour would make one that is filled by no more than `eighths`.
    fn fits_with(&self, other: &Self, eighths: usize) -> bool {
        match (self, other) {
            (Self::Leaf(left), Self::Leaf(right)) => left.fits_with(right, eighths),
            (Self::Inner(left), Self::Inner(right)) => {
                left.len() + right.len() <= BRANCHES_MAX / 8 * eighths
            }
            _ => false,
        }
    }

    /// The least name below, or what stands for it.
    fn first(&self) -> Box<str> {
        match self {
            Self::Leaf(leaf) => leaf.names().next().unwrap_or_default().into(),
            Self::Inner(branches) => {
                branches.first().map_or_else(Box::default, |branch| branch.from.clone())
            }
        }
    }

    /// Takes the end out that a new neighbour gets. Where names come in their order, which is when
    /// the newest is the last, the block stays full.
    fn split_off(&mut self, newest: &str) -> Self {
        match self {
            Self::Leaf(leaf) if leaf.ends_with(newest) => {
                Self::Leaf(leaf.split_off(leaf.size_before(newest)))
            }
            Self::Leaf(leaf) => Self::Leaf(leaf.split_off(leaf.size() / 2)),
            Self::Inner(branches) => {
                let is_last = way_to(branches, newest) + 1 == branches.len();
                let at = if is_last { branches.len() - 1 } else { branches.len() / 2 };
                Self::Inner(branches.split_off(at))
            }
        }
    }

    /// Puts what the neighbour has behind its own.
    fn append(&mut self, right: Self) {
        match (self, right) {
            (Self::Leaf(left), Self::Leaf(right)) => left.append(right),
            (Self::Inner(left), Self::Inner(mut right)) => left.append(&mut right),
            _ => unreachable!("all leaves are equally deep"),
        }
    }
}

/// Which branch a name belongs into.
fn way_to(branches: &[Branch], name: &str) -> usize {
    branches.partition_point(|branch| *branch.from <= *name).saturating_sub(1)
}

fn branch(block: Block) -> Branch {
    Branch { from: block.first(), block: Arc::new(block) }
}

/// Sets a child, and makes the tree higher where it must. Returns whether there was none.
fn root_put(root: &mut Arc<Block>, name: &str, node: Arc<Node>) -> bool {
    let is_new = put(root, name, node);
    if root.is_overfull() {
        let left = std::mem::replace(root, Arc::new(Block::Inner(Vec::new())));
        let mut branches = vec![Branch { from: Box::default(), block: left }];
        relieve(&mut branches, 0, name);
        *root = Arc::new(Block::Inner(branches));
    }
    is_new
}

/// Sets a child below a block, which may be overfull then. Returns whether there was none.
fn put(block: &mut Arc<Block>, name: &str, node: Arc<Node>) -> bool {
    match Arc::make_mut(block) {
        Block::Leaf(leaf) => leaf.put(name, node),
        Block::Inner(branches) => {
            let way = way_to(branches, name);
            let Some(branch) = branches.get_mut(way) else { unreachable!("a block is not empty") };
            let is_new = put(&mut branch.block, name, node);
            if branch.block.is_overfull() {
                relieve(branches, way, name);
            }
            is_new
        }
    }
}

/// Removes a child below a block, which may be empty then.
fn remove(block: &mut Arc<Block>, name: &str) -> Option<Arc<Node>> {
    match Arc::make_mut(block) {
        Block::Leaf(leaf) => leaf.remove(name),
        Block::Inner(branches) => {
            let way = way_to(branches, name);
            let removed = remove(&mut branches.get_mut(way)?.block, name);
            if branches.get(way)?.block.is_empty() {
                branches.remove(way);
            } else {
                merge(branches, way);
            }
            removed
        }
    }
}

/// Makes an overfull block smaller: a neighbour that has room takes part of it, else it becomes
/// two. So blocks are fuller than if each that overflows were halved.
fn relieve(branches: &mut Vec<Branch>, way: usize, newest: &str) {
    let has_room = |neighbour: usize| match (branches.get(way), branches.get(neighbour)) {
        (Some(full), Some(neighbour)) => match (&*full.block, &*neighbour.block) {
            (full @ Block::Leaf(_), neighbour) => full.fits_with(neighbour, SHARE_EIGHTHS),
            _ => false,
        },
        _ => false,
    };
    if has_room(way + 1) {
        return share(branches, way);
    }
    if let Some(left) = way.checked_sub(1).filter(|left| has_room(*left)) {
        return share(branches, left);
    }
    let Some(full) = branches.get_mut(way) else { return };
    let right = Arc::make_mut(&mut full.block).split_off(newest);
    branches.insert(way + 1, branch(right));
    // One of them may still be: a long record beside many short ones.
    for way in [way + 1, way] {
        if branches.get(way).is_some_and(|branch| branch.block.is_overfull()) {
            relieve(branches, way, newest);
        }
    }
}

/// Divides what two neighbouring leaves hold between them.
fn share(branches: &mut Vec<Branch>, left: usize) {
    if left + 1 >= branches.len() {
        return;
    }
    let right = Arc::unwrap_or_clone(branches.remove(left + 1).block);
    let Some(left_branch) = branches.get_mut(left) else { return };
    let (Block::Leaf(leaf), Block::Leaf(right)) = (Arc::make_mut(&mut left_branch.block), right)
    else {
        unreachable!("only leaves share")
    };
    leaf.append(right);
    let right = Block::Leaf(leaf.split_off(leaf.size() / 2));
    branches.insert(left + 1, branch(right));
}

/// Makes one of a block and a neighbour if both have become small.
fn merge(branches: &mut Vec<Branch>, way: usize) {
    let fits = |left: usize| match (branches.get(left), branches.get(left + 1)) {
        (Some(left), Some(right)) => left.block.fits_with(&right.block, MERGE_EIGHTHS),
        _ => false,
    };
    let left = [Some(way), way.checked_sub(1)].into_iter().flatten().find(|left| fits(*left));
    let Some(left) = left else { return };
    let Branch { from, block } = branches.remove(left + 1);
    let mut right = Arc::unwrap_or_clone(block);
    if let Block::Inner(branches) = &mut right
        && let Some(first) = branches.first_mut()
    {
        first.from = from;
    }
    if let Some(branch) = branches.get_mut(left) {
        Arc::make_mut(&mut branch.block).append(right);
    }
}

#[cfg(test)]
mod tests;
