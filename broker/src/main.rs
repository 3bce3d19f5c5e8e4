//! The `ottla-broker` server.
fn main() {}
