//! The coordination service as its clients see it.
//!
//! [`protocol`] is what goes over the wire, in the frames of [`codec`]; [`client`] keeps a session,
//! [`subscription`] follows a subtree, and [`recipes`] are what is built from them again and again.
//! [`admin_client`] asks one member, without a session.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation, clippy::cast_sign_loss)]

pub mod admin_client;
pub mod client;
pub mod codec;
pub mod protocol;
pub mod recipes;
pub mod subscription;
