//! Kafka's wire protocol.

pub mod compression;
pub mod partitioner;
pub mod record_batch;
pub mod records;
pub mod varint;
