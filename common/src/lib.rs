//! What every Ottla process shares.
//!
//! Modules from the bottom up; a module uses only those above it in this list:
//! `types`, `clock`, `config`, `telemetry`, `metrics`, `shutdown`, `open_files`, `net`, then
//! `kafka` (the wire protocol) and `coordination` (the coordinator's client and protocol), then
//! `cluster_tree` (what stands where in the coordinator's tree).

pub mod clock;
pub mod cluster_tree;
pub mod config;
pub mod coordination;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod net;
pub mod open_files;
pub mod shutdown;
pub mod telemetry;
pub mod types;
