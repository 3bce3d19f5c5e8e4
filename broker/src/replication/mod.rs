//! The partitions of this broker: who leads here, whom it follows, how far each is committed, who
//! waits for it.
//!
//! [`replica_manager`] applies the changes of the metadata image to the [`partition`]s; those
//! append to and read from their logs. As leader a partition keeps a [`leadership`], which decides
//! with [`high_watermark`] what is committed and who is in sync; [`isr_changes`] writes that to the
//! tree; a [`follower_session`] is what a leader keeps for a follower. As follower it is fed by a
//! [`fetcher`], one of a [`fetcher_pool`], over a [`peer`]'s connection; [`assignments`] are what a
//! fetcher follows, [`fetch_fields`] what Ottla adds to Kafka's Fetch. [`divergence`] tells where
//! two logs part. [`resignation`] takes a
//! broker out of ISRs whose records it has not got any more. [`read_replica`] sends consumers to
//! followers near them. [`waiting`] parks clients; [`fetch_sessions`] remember what a reader was
//! told. [`log_dir_moves`] takes replicas to other directories of this broker.

pub mod assignments;
pub mod divergence;
pub mod fetch_fields;
pub mod fetch_sessions;
pub mod fetcher;
pub mod fetcher_pool;
pub mod follower_session;
pub mod high_watermark;
pub mod isr_changes;
pub mod leadership;
pub mod log_dir_moves;
pub mod outcome;
pub mod partition;
pub mod peer;
pub mod read_replica;
pub mod replica_manager;
pub mod resignation;
pub mod settings;
pub mod throttle;
pub mod waiting;

#[cfg(test)]
mod tests;
