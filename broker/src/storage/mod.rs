//! Partition logs on disk, in Apache Kafka's file formats. No async, no clock: times come in as
//! parameters.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod aborted_index;
mod append;
pub mod append_validation;
pub mod batch_scan;
pub mod checkpoints;
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
