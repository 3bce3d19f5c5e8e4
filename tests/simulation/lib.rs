//! Whole ensembles of coordinators in one thread, all of it decided by a seed.
//!
//! A [`world`] has machines ([`member`]) with disks that lose what was not flushed ([`disk`]) and
//! clocks that run apart ([`clock`]), a [`network`] that loses, doubles and delays, and
//! [`clients`]. On the machines runs the product itself: raft, log and snapshots, tree, sessions,
//! watches, and the requests' queues; only sockets, files, time and threads are the simulator's
//! own. First [`faults`] happen; when they are over, all must become well ([`ending`]). What must
//! hold stands in [`invariants`], one file for each; the [`oracle`] gathers what they look at.
//!
//! The same seed is the same run, so a run that failed is run again to be told ([`trace`]).

pub mod bugs;
pub mod clients;
pub mod clock;
mod cluster;
pub mod disk;
mod ending;
pub mod executor;
mod faults;
pub mod front;
pub mod invariants;
pub mod member;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod run;
pub mod shadow;
pub mod trace;
pub mod world;

#[path = "../harness/history/mod.rs"]
pub mod history;
