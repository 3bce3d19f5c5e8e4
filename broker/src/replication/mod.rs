//! The partitions of this broker: who leads here, how far each is committed, who waits for it.
//!
//! [`replica_manager`] applies the changes of the metadata image to the [`partition`]s; those
//! append to and read from their logs; [`high_watermark`] decides what is committed; [`waiting`]
//! parks clients; [`fetch_sessions`] remember what a consumer has been told.

pub mod fetch_sessions;
pub mod high_watermark;
pub mod outcome;
pub mod partition;
pub mod replica_manager;
pub mod settings;
pub mod waiting;

#[cfg(test)]
mod tests;
