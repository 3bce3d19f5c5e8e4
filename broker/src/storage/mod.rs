//! Partition logs on disk, in Apache Kafka's file formats. No async, no clock: times come in as
//! parameters, and who must not block calls from a thread that may.
//!
//! # What lies where
//!
//! A **log directory** (`log.dirs`):
//!
//! | file | what | see |
//! |---|---|---|
//! | `.lock` | locked while a broker uses the directory | [`log_dirs`] |
//! | `meta.properties` | whose it is: cluster, broker, its own id | [`meta_properties`] |
//! | `.kafka_cleanshutdown` | only there after a clean stop; has the broker epoch | [`log_dirs`] |
//! | `recovery-point-offset-checkpoint` | before it no recovery is needed | [`checkpoints`] |
//! | `replication-offset-checkpoint` | high watermarks | [`checkpoints`] |
//! | `log-start-offset-checkpoint` | where logs start, if within a segment | [`checkpoints`] |
//! | `cleaner-offset-checkpoint` | before it logs are compacted | [`checkpoints`] |
//! | `<topic>-<partition>/` | a log | |
//! | `<topic>-<partition>.<id>-delete/` | a deleted log, perhaps in use | [`log_manager`] |
//! | `<topic>-<partition>.<id>-stray/` | another topic's log, kept | [`log_manager`] |
//! | `<topic>-<partition>.<id>-future/` | a copy that is to replace a log | [`movements`] |
//!
//! A **log's folder**; `N` is the first offset of a segment in 20 digits:
//!
//! | file | what | see |
//! |---|---|---|
//! | `N.log` | record batches (format 2), one after another, nothing between them | [`segment`] |
//! | `N.index` | offset → position, about every `index.interval.bytes` | [`offset_index`] |
//! | `N.timeindex` | timestamp → offset, as often; last of all the largest | [`time_index`] |
//! | `N.txnindex` | aborted transactions; not there if there are none | [`aborted_index`] |
//! | `N.snapshot` | the producers as they were when the log ended at N | [`producer_snapshot`] |
//! | `leader-epoch-checkpoint` | where each leader epoch began | [`leader_epochs`] |
//! | `partition.metadata` | the topic's id | [`checkpoints`] |
//! | `*.deleted`, `*.cleaned`, `*.swap`, `*.tmp` | work that a crash interrupted | [`leftovers`] |
//!
//! Kafka reads all of this, and this reads what Kafka left, cleanly stopped or not.
//!
//! # What is on disk when
//!
//! Appending writes batches to the page cache; their order is fixed then, and they can be read. A
//! **flush** ([`flushing`], asked for through the [`flusher`]) syncs the segment files, and the
//! folder if it has new names. Everything below `flushed_offset` survives a power cut.
//!
//! The indexes, snapshots and epochs only repeat what the batches say. They are synced by
//! [`log::Log::prepare_checkpoint`], after which the **recovery point** may be written down; what
//! lies before it is not read again after a crash. Behind it [`recovery`] reads the batches, checks
//! their CRCs, cuts the log where they stop being whole, and makes the side files anew.
//!
//! A failed sync takes its directory offline for good, since nobody knows what it left on disk. A
//! full disk does not: the append is refused and what was written of it is taken back. Bytes before
//! the recovery point that are not valid are damage: such a log is kept as it is and not served.
//!
//! # Modules
//!
//! From the bottom up: [`files`] (the only way to the disk), the formats, [`segment`], [`log`] (one
//! partition; it names the files that its methods are in), [`log_dirs`], [`flusher`], [`cleaner`],
//! [`log_manager`].
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod aborted_index;
mod append;
pub mod append_validation;
pub mod batch_scan;
pub mod checkpoints;
pub mod cleaner;
pub mod error;
pub mod files;
pub mod flusher;
pub mod flushing;
mod index_file;
pub mod leader_epochs;
pub mod leftovers;
mod loading;
pub mod log;
pub mod log_config;
pub mod log_dirs;
pub mod log_manager;
pub mod log_reader;
pub mod meta_properties;
pub mod movements;
pub mod offset_index;
pub mod offsets;
pub mod producer_snapshot;
pub mod producer_state;
pub mod recovery;
mod retention;
pub mod segment;
pub mod time_index;
pub mod timestamps;
mod truncation;

#[cfg(test)]
mod tests;
