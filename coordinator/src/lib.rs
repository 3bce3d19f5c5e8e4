//! Ottla's coordinator: a replicated tree of nodes with sessions, ephemerals and watches, as
//! ZooKeeper has it.
//!
//! A request's way: a front end (`frontends`) reads it from the wire and hands it to the one brain
//! (`requests`). A read is answered from the state in memory. A write becomes a [`tree::Command`],
//! goes through the log (`consensus`, `storage`), and when it is durable, it is applied to the
//! state machine ([`tree::StateMachine`]: the tree and the table of sessions); what it changed goes
//! to watches and subscriptions (`watches`) *before* anyone can read it, and then its outcome to
//! who asked.
//!
//! Modules from the bottom up: `limits`, `tree` and `sessions` (pure), `storage`, `watches`,
//! `consensus`, `requests`, `frontends`, `server`.

pub mod config;
pub mod consensus;
pub mod frontends;
pub mod limits;
pub mod metrics;
pub mod requests;
pub mod seeded_bugs;
pub mod server;
pub mod sessions;
pub mod storage;
pub mod tree;
pub mod watches;
pub mod zoo_cfg;
