//! Server-side assignors: which member of a consumer group shall own which partition (KIP-848).
//!
//! Pure functions of the members, what they subscribe to, what they are assigned already, and how
//! many partitions there are. The same input gives the same result, whatever order it came in.
//!
//! Neither looks at racks, as Kafka's do not since 3.8 (KAFKA-16694).

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod range;
pub mod uniform;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use ottla_common::types::TopicId;

/// Partitions by topic. A topic without partitions does not stand in it.
pub type Assignment = BTreeMap<TopicId, BTreeSet<i32>>;

/// An assignor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// As even as it can be, and as few moves as that allows.
    Uniform,
    /// Each topic by itself in ranges, in the order of the members: partitions of the same number
    /// of equally large topics go to the same member.
    Range,
}

impl Assignor {
    /// The assignor of a name, as configs and clients write it.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "uniform" => Some(Self::Uniform),
            "range" => Some(Self::Range),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// Assigns all partitions of all topics that anyone subscribes to. The result stands in the
    /// order of the members.
    pub fn assign(self, members: &[Subscriber<'_>], topics: &Topics) -> Vec<Assignment> {
        match self {
            Self::Uniform => uniform::assign(members, topics),
            Self::Range => range::assign(members, topics),
        }
    }
}

/// How many partitions each topic has.
pub type Topics = BTreeMap<TopicId, i32>;

/// A member, as an assignor sees it.
#[derive(Clone, Debug)]
pub struct Subscriber<'a> {
    /// Its id, unique in the group.
    pub member_id: &'a str,
    /// The id that a static member keeps over its lives.
    pub instance_id: Option<&'a str>,
    /// What it subscribes to; topics that do not exist may be among them.
    pub topics: &'a BTreeSet<TopicId>,
    /// What it was to own by the last assignment.
    pub assigned: &'a Assignment,
}
