//! What the tests of whole processes and clusters stand on.

pub mod datadriven;
pub mod proxy;
