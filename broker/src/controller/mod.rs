//! The controller: elects leaders, places replicas, and writes the cluster's metadata.

pub mod election;
pub mod placement;
