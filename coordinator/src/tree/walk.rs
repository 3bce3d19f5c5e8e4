//! Going through a subtree in the order of paths.

use std::sync::Arc;

use super::children;
use super::node::Node;
use super::path;

/// Yields the nodes of a subtree as it was when the walk began, parents before children.
#[derive(Debug)]
pub struct Walk {
    top: Option<(String, Arc<Node>)>,
    /// The nodes on the way down, each with those of its children that are still to come.
    way: Vec<(String, children::Iter)>,
}

impl Walk {
    pub(super) fn new(path: &str, node: Option<Arc<Node>>) -> Self {
        Self { top: node.map(|node| (path.to_owned(), node)), way: Vec::new() }
    }
}

impl Iterator for Walk {
    type Item = (String, Arc<Node>);

    fn next(&mut self) -> Option<Self::Item> {
        let (path, node) = match self.top.take() {
            Some(top) => top,
            None => loop {
                let (parent, children) = self.way.last_mut()?;
                match children.next() {
                    Some((name, node)) => break (path::join(parent, &name), node),
                    None => {
                        self.way.pop();
                    }
                }
            },
        };
        if !node.children.is_empty() {
            self.way.push((path.clone(), node.children.iter()));
        }
        Some((path, node))
    }
}
