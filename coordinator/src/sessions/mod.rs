//! When sessions end. Which sessions there are is part of the replicated state
//! ([`crate::tree::SessionTable`]); how long ago each was heard from only the leader knows.

pub mod expiry;
pub mod keeper;
