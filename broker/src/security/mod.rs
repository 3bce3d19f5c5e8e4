//! Who is at the other end of a connection.
//!
//! As yet only brokers are told from everybody else: [`inter_broker`].

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod inter_broker;
