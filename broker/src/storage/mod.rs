//! Partition logs on disk, in Apache Kafka's file formats. No async, no clock: times come in as
//! parameters.
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod error;
pub mod flusher;
pub mod log;
pub mod log_config;
pub mod log_dirs;
pub mod log_manager;
pub mod log_reader;
