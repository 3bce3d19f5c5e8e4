//! What this broker knows of the cluster: the [`image`], kept up to date by the [`watcher`] from
//! the coordinator's change stream, this broker's own [`registration`] in the tree, and the rule of
//! who is [`eligible`] as a leader out of the ISR; the [`features`] and their levels; and what the
//! [`ensemble`] of the coordinators says of itself.

pub mod eligible;
pub mod ensemble;
pub mod features;
pub mod image;
pub mod registration;
pub mod watcher;
