//! The broker.
//!
//! Modules from the bottom up; a module uses only those above it in this list: `limits`, `config`,
//! `network` (which knows nothing but bytes and frames), `storage`, `error`, `metadata`,
//! `security`, `quotas`, then `replication`, then `controller`, then `handlers`, then `broker`,
//! which builds all parts and starts them.

pub mod broker;
pub mod config;
pub mod controller;
pub mod error;
pub mod groups;
pub mod handlers;
pub mod internal_topics;
pub mod limits;
pub mod metadata;
pub mod metrics;
pub mod monitoring;
pub mod network;
pub mod quotas;
pub mod replication;
pub mod security;
pub mod storage;
pub mod telemetry;
