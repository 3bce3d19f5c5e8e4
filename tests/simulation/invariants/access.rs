//! Who may not read a node is shown neither its data nor its events (Z15).

use super::{Check, violation};

/// A node that nobody here may read.
pub const SECRET: &str = "/secret";

/// A client was shown something of the node.
pub fn shown(client: usize, what: &str) -> Check {
    Err(violation("access", format!("client {client} was shown {what} of {SECRET}")))
}
