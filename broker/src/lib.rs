//! The broker.
//!
//! Modules from the bottom up; a module uses only those above it in this list: `limits`, `config`,
//! `network` (which knows nothing but bytes and frames), `storage`, `error`, `metadata`, then
//! `replication`, then `controller`, then `handlers`, then `broker`, which builds all parts and
//! starts them.

pub mod broker;
pub mod config;
pub mod controller;
pub mod error;
pub mod groups;
pub mod handlers;
pub mod internal_topics;
pub mod limits;
pub mod metadata;
pub mod network;
pub mod replication;
pub mod storage;
