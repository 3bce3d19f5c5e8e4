//! Children as a sorted map, beside a model.

use std::collections::BTreeMap;

use ottla_common::coordination::protocol::Acl;
use ottla_common::types::Zxid;
use proptest::prelude::*;

use super::super::acl;
use super::super::node::NodeKind;
use super::*;

/// What the nodes of these tests differ in.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    data: Vec<u8>,
    version: i32,
    /// Whether the node has a child of its own.
    is_parent: bool,
    /// The permissions of its access list.
    permissions: u32,
}

fn node(plain: &Plain) -> Arc<Node> {
    let acl: Vec<Acl> =
        Acl::open().into_iter().map(|acl| Acl { permissions: plain.permissions, ..acl }).collect();
    let mut node = Node::new(acl.into(), NodeKind::Persistent, Zxid(7), 8);
    set(&mut node, plain);
    Arc::new(node)
}

fn set(node: &mut Node, plain: &Plain) {
    node.set_data(Some(&plain.data));
    node.version = plain.version;
    if plain.is_parent {
        let child = Node::new(acl::open(), NodeKind::Persistent, Zxid(1), 1);
        node.children.insert("child", Arc::new(child));
    } else {
        node.children.remove("child");
    }
}

fn plain_of(node: &Node) -> Plain {
    Plain {
        data: node.data().to_vec(),
        version: node.version,
        is_parent: !node.children.is_empty(),
        permissions: node.acl[0].permissions,
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert(String, Plain),
    Change(String, Plain),
    /// Inserts so many with names that follow each other.
    Fill(u16, u16),
    Remove(String),
    /// Removes so many of the first names from one on.
    Empty(u16, u16),
    Clone,
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        20 => (0..4_000_u16).prop_map(name_of),
        1 => (0..40_u16).prop_map(|number| "long".repeat(usize::from(number) * 20)),
    ]
}

fn name_of(number: u16) -> String {
    format!("n{number:05}")
}

fn plain() -> impl Strategy<Value = Plain> {
    let size = prop_oneof![10 => 0..150_usize, 1 => 500..600_usize];
    (size, any::<i32>(), proptest::bool::weighted(0.1), 1..40_u32).prop_map(
        |(size, version, is_parent, permissions)| {
            let data = vec![permissions.to_le_bytes()[0]; size];
            Plain { data, version, is_parent, permissions }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (name(), plain()).prop_map(|(name, plain)| Step::Insert(name, plain)),
        10 => (name(), plain()).prop_map(|(name, plain)| Step::Change(name, plain)),
        2 => (0..4_000_u16, 1..500_u16).prop_map(|(from, count)| Step::Fill(from, count)),
        10 => name().prop_map(Step::Remove),
        1 => (0..4_000_u16, 1..1_000_u16).prop_map(|(from, count)| Step::Empty(from, count)),
        2 => Just(Step::Clone),
    ]
}

/// Checks the order of names, the bounds of blocks and that all leaves are equally deep; returns
/// how deep they are.
fn check(block: &Block, from: Option<&str>, to: Option<&str>) -> usize {
    assert!(!block.is_empty());
    match block {
        Block::Leaf(leaf) => {
            let names: Vec<_> = leaf.names().collect();
            assert!(names.is_sorted());
            assert!(from.is_none_or(|from| from <= names[0]), "{from:?} {names:?}");
            assert!(to.is_none_or(|to| *names.last().unwrap() < to), "{to:?} {names:?}");
            1
        }
        Block::Inner(branches) => {
            assert!(branches.len() <= BRANCHES_MAX && !branches.is_empty());
            let depths = branches.iter().enumerate().map(|(index, branch)| {
                let from = if index == 0 { from } else { Some(&*branch.from) };
                let next = branches.get(index + 1).map_or(to, |next| Some(&*next.from));
                check(&branch.block, from, next)
            });
            let depths: Vec<_> = depths.collect();
            assert!(depths.iter().all(|depth| *depth == depths[0]));
            depths[0] + 1
        }
    }
}

fn leaf_sizes(children: &Children) -> Vec<usize> {
    let mut sizes = Vec::new();
    children.each_leaf(&mut |leaf| sizes.push(leaf.size()));
    sizes
}

fn assert_same(children: &Children, model: &BTreeMap<String, Plain>) {
    assert_eq!(children.len(), model.len());
    let shown: Vec<_> = children.iter().map(|(name, node)| (name, plain_of(&node))).collect();
    assert!(shown.iter().map(|(name, plain)| (name, plain)).eq(model.iter()));
    let mut names = Vec::new();
    children.each_name(&mut |name| names.push(name.to_owned()));
    assert!(names.iter().eq(model.keys()));
    let mut parents = 0;
    children.each_shared(&mut |node| parents += usize::from(!node.children.is_empty()));
    assert_eq!(parents, model.values().filter(|plain| plain.is_parent).count());
    for (name, plain) in model {
        assert_eq!(children.get(name).map(|node| plain_of(&node)).as_ref(), Some(plain));
    }
    assert!(children.get("none").is_none());
}

fn apply(step: &Step, children: &mut Children, model: &mut BTreeMap<String, Plain>) {
    match step {
        Step::Insert(name, plain) => {
            children.insert(name, node(plain));
            model.insert(name.clone(), plain.clone());
        }
        Step::Change(name, plain) => {
            let is_there = model.get(name).is_some();
            let change = |node: &mut Node| set(node, plain);
            assert_eq!(children.change(name, change), is_there);
            model.entry(name.clone()).and_modify(|known| {
                *known = Plain { permissions: known.permissions, ..plain.clone() };
            });
        }
        Step::Fill(from, count) => {
            for number in *from..from + count {
                let data = number.to_le_bytes().repeat(40);
                let plain = Plain { data, version: 0, is_parent: false, permissions: 31 };
                children.insert(&name_of(number), node(&plain));
                model.insert(name_of(number), plain);
            }
        }
        Step::Remove(name) => remove_both(name, children, model),
        Step::Empty(from, count) => {
            let from = name_of(*from);
            let names = model.range(from..).take(usize::from(*count));
            let names: Vec<_> = names.map(|(name, _)| name.clone()).collect();
            names.iter().for_each(|name| remove_both(name, children, model));
        }
        Step::Clone => {}
    }
}

fn remove_both(name: &str, children: &mut Children, model: &mut BTreeMap<String, Plain>) {
    let removed = children.remove(name).map(|node| plain_of(&node));
    assert_eq!(removed, model.remove(name));
}

proptest! {
    #[test]
    fn it_is_a_sorted_map_and_its_clones_stay_as_they_were(
        steps in proptest::collection::vec(step(), 0..120),
    ) {
        let (mut children, mut model) = (Children::default(), BTreeMap::new());
        let mut clones = Vec::new();
        for step in &steps {
            apply(step, &mut children, &mut model);
            if matches!(step, Step::Clone) {
                clones.push((children.clone(), model.clone()));
            }
            if let Some(root) = &children.root {
                check(root, None, None);
            }
        }
        clones.push((children, model));
        for (children, model) in &clones {
            assert_same(children, model);
        }
    }
}

/// Names in their order, as sequential nodes have them, and in none.
#[test]
fn leaves_are_full_whatever_the_order_of_names() {
    let plain = Plain { data: vec![1; 100], version: 0, is_parent: false, permissions: 31 };
    for (stride, least) in [(1, 0.95), (7_919, 0.70)] {
        let mut children = Children::default();
        for number in 0..20_000_u64 {
            let name = format!("n{:010}", number * stride % 20_000);
            children.insert(&name, node(&plain));
        }
        let sizes = leaf_sizes(&children);
        let sum: usize = sizes.iter().sum();
        let filled = sum as f64 / (sizes.len() * 3584) as f64;
        assert!(filled > least, "stride {stride}: {filled}");
        let per_node = sum / 20_000;
        assert!(per_node < 135, "{per_node} bytes a node");
    }
}

#[test]
fn few_are_left_in_few_leaves() {
    let plain = Plain { data: vec![1; 100], version: 0, is_parent: false, permissions: 31 };
    let mut children = Children::default();
    (0..4_000).for_each(|number| children.insert(&name_of(number), node(&plain)));
    let before = leaf_sizes(&children).len();
    for number in (0..4_000).filter(|number| number % 40 != 0) {
        children.remove(&name_of(number));
    }
    assert_eq!(children.len(), 100);
    let after = leaf_sizes(&children).len();
    assert!(after * 10 < before, "{before} leaves, then {after}");
}
