//! A client that watches a node hears of a change before it sees anything of it (Z5), also if the
//! change came while it went from one member to another (Z6), and not without reason.
//!
//! While a connection lasts, each change is told. Over a change of connections the client is told
//! if the node then is not as it was: a node that came and went meanwhile may go unnoticed, as with
//! ZooKeeper.

use std::collections::BTreeMap;

use super::{Check, violation};

/// When nodes changed.
#[derive(Debug, Default)]
pub struct Changes {
    /// Per path: the zxid of each change of the node itself, and when its data was last written if
    /// it was there behind it.
    by_path: BTreeMap<String, Vec<(i64, Option<i64>)>>,
}

impl Changes {
    /// A node was made, set or deleted.
    pub fn changed(&mut self, path: &str, zxid: i64, mzxid: Option<i64>) {
        let changes = match self.by_path.get_mut(path) {
            Some(changes) => changes,
            None => self.by_path.entry(path.to_owned()).or_default(),
        };
        match changes.last_mut() {
            // A multi may change it more than once.
            Some(last) if last.0 == zxid => last.1 = mzxid,
            _ => changes.push((zxid, mzxid)),
        }
    }

    /// Whether the node changed in `(from, to]`.
    fn any(&self, path: &str, (from, to): (i64, i64)) -> Option<i64> {
        let changes = self.by_path.get(path)?;
        let next = changes.partition_point(|(zxid, _)| *zxid <= from);
        changes.get(next).map(|(zxid, _)| *zxid).filter(|zxid| *zxid <= to)
    }

    /// When the node's data was written last at a zxid; none if there was no node.
    fn at(&self, path: &str, zxid: i64) -> Option<i64> {
        let changes = self.by_path.get(path)?;
        let next = changes.partition_point(|(changed, _)| *changed <= zxid);
        changes.get(next.checked_sub(1)?)?.1
    }
}

/// A watch that a client relies on.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    /// The client knows of all up to here.
    pub since: i64,
    /// Whether the node was there.
    pub exists: bool,
    /// Set again on another connection: only how things are then counts, at this zxid.
    pub reset_at: Option<i64>,
}

impl Watch {
    /// Whether the event must have come before the client sees the state of `zxid`; the change that
    /// it tells of.
    pub fn missed(&self, path: &str, zxid: i64, changes: &Changes) -> Option<i64> {
        let Some(reset_at) = self.reset_at else { return changes.any(path, (self.since, zxid)) };
        let then = changes.at(path, reset_at);
        let differs = match then {
            None => self.exists,
            Some(mzxid) => !self.exists || mzxid > self.since,
        };
        if differs { Some(reset_at) } else { changes.any(path, (reset_at, zxid)) }
    }
}

/// A client sees the state of `zxid` while it waits for these watches.
pub fn check<'a>(
    client: usize,
    zxid: i64,
    watches: impl Iterator<Item = (&'a String, &'a Watch)>,
    changes: &Changes,
) -> Check {
    for (path, watch) in watches {
        if let Some(changed) = watch.missed(path, zxid, changes) {
            let what = format!(
                "client {client} watches {path} ({watch:?}), which changed at zxid {changed}, and \
                 saw the state of {zxid} without having been told"
            );
            return Err(violation("watch_order", what));
        }
    }
    Ok(())
}

/// An event came for a node that a client watches, or does not.
pub fn event(client: usize, path: &str, watch: Option<&Watch>) -> Check {
    if watch.is_some() {
        return Ok(());
    }
    let what = format!("client {client} was told of {path}, which it does not watch");
    Err(violation("watch_order", what))
}
