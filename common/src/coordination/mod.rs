//! The coordination service as its clients see it: the protocol, and the client on it.

pub mod protocol;
