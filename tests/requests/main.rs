//! Each API as a client meets it: raw requests of chosen versions to a node in this process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod admin;
mod asked;
mod features;
mod fetch;
mod hostile;
mod metadata;
mod offsets;
mod produce;
mod quotas;
mod telemetry;
mod versions;
