//! The `ottla-coordinator` server.
fn main() {}
