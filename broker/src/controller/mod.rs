//! The controller: the one broker that elects partition leaders, and the writes to the tree that
//! any broker makes.
//!
//! Every broker campaigns for the ephemeral `/controller`. Who gets it raises `/controller_epoch`
//! in the same multi, and guards every election with the version of that node: once another
//! controller has been elected, all writes of this one fail. There is no controller-to-broker call:
//! an election is a write of the partition's state, and all brokers learn it from the change
//! stream.

pub mod admin;
pub mod campaign;
pub mod configs;
mod departure;
pub mod election;
mod features;
pub mod internal_topics;
pub mod leaders;
pub mod movements;
pub mod placement;
pub mod producer_ids;
mod quotas;
pub mod reassignment;
mod unregistration;
pub mod writes;
