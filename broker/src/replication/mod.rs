//! The partitions of this broker: who leads here, how far each is committed, who waits for it.

pub mod fetch_sessions;
pub mod high_watermark;
