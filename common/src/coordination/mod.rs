//! The coordination service as its clients see it: the protocol, and the client on it.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod codec;
pub mod protocol;
