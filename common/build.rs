//! Turns the schema files of `schema/` into Rust.
fn main() {}
