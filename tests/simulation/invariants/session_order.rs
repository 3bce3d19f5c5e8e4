//! Replies come in the order of the requests, a session's reads see its own earlier writes, and
//! what it asked on a connection is done before it is resumed on another, or never (Z3).

use std::collections::BTreeMap;

use ottla_common::types::SessionId;

use super::{Check, violation};

/// What each client's connection may show next.
#[derive(Debug, Default)]
pub struct SessionOrder {
    /// Per client: the highest zxid of a write of its own that it was told of.
    written: BTreeMap<usize, i64>,
}

impl SessionOrder {
    /// A reply came; `expected` is the request that was asked first of those without one.
    pub fn reply(client: usize, xid: u64, expected: Option<u64>) -> Check {
        if Some(xid) == expected {
            return Ok(());
        }
        let what = format!("client {client} got the reply to {xid} and waited for {expected:?}");
        Err(violation("session_order", what))
    }

    /// A session's command of a connection was done, while another connection was its newest.
    pub fn done(session: SessionId, connection: u64, newest: u64) -> Check {
        if connection == newest {
            return Ok(());
        }
        let what = format!(
            "a write of session {session} on its connection {connection} was done after it had \
             been resumed on connection {newest}"
        );
        Err(violation("session_order", what))
    }

    /// A write of a client was done at a zxid.
    pub fn wrote(&mut self, client: usize, zxid: i64) {
        let written = self.written.entry(client).or_default();
        *written = (*written).max(zxid);
    }

    /// A read of a client shows the state at a zxid.
    pub fn read(&self, client: usize, zxid: i64) -> Check {
        match self.written.get(&client) {
            Some(written) if zxid < *written => {
                let what = format!(
                    "client {client} wrote at zxid {written} and then read the state of {zxid}"
                );
                Err(violation("session_order", what))
            }
            _ => Ok(()),
        }
    }
}
