//! What this broker knows of the cluster: the [`image`], kept up to date by the [`watcher`] from
//! the coordinator's change stream, and this broker's own [`registration`] in the tree.

pub mod image;
pub mod registration;
pub mod watcher;
