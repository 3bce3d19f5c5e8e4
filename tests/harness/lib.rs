//! What the tests of whole processes and clusters stand on.
//!
//! [`process`] runs `ottla dev` as a process that can be killed;
//! [`node`] runs a coordinator and a broker in this process, [`brokers`] several; [`raw`] sends
//! them single requests of a chosen version; [`proxy`] stands between a client and a server;
//! [`ports`] finds ports for servers that start again; [`datadriven`] plays stories.

pub mod brokers;
pub mod datadriven;
pub mod history;
pub mod node;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod raw;
