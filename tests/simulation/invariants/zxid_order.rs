//! The zxid that a client sees never goes back, on whatever member (Z4), and none is beyond what
//! was committed.
//!
//! The reply to a write carries the write's own zxid. An event of a later change may come before
//! it, so that such a reply is compared with replies only.

use std::collections::BTreeMap;

use super::{Check, violation};

/// What shows a zxid to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The answer to a hello, or to a read.
    Read,
    /// The answer to a write.
    Write,
    /// An event.
    Event,
}

/// The highest zxids that a client saw.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    by_replies: i64,
    by_events: i64,
}

/// The highest zxids that each client saw.
#[derive(Debug, Default)]
pub struct ZxidOrder {
    seen: BTreeMap<usize, Seen>,
}

impl ZxidOrder {
    /// A client sees a zxid.
    pub fn seen(&mut self, client: usize, zxid: i64, committed: u64, by: By) -> Check {
        let seen = self.seen.entry(client).or_default();
        let before = match by {
            By::Read | By::Event => seen.by_replies.max(seen.by_events),
            By::Write => seen.by_replies,
        };
        if zxid < before {
            let what = format!("client {client} saw zxid {before} and then {zxid} by {by:?}");
            return Err(violation("zxid_order", what));
        }
        if zxid.unsigned_abs() > committed {
            let what = format!(
                "client {client} saw zxid {zxid} by {by:?}, but nothing after {committed} is \
                 committed"
            );
            return Err(violation("zxid_order", what));
        }
        match by {
            By::Event => seen.by_events = zxid,
            By::Read | By::Write => seen.by_replies = zxid,
        }
        Ok(())
    }
}
