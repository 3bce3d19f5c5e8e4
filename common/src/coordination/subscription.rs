//! A subtree as it is, then every change of it, without a gap.
//!
//! The stream outlives connections: after a reconnect it goes on behind the last zxid that it gave,
//! or, if the member's history does not reach back so far, with a new snapshot that replaces
//! everything.

use std::time::Duration;

use tokio::sync::mpsc;

use super::client::Client;
use super::protocol::{Change, ServerFrame, SnapshotNode};
use crate::types::Zxid;

/// Between two attempts to open a subscription.
const REOPEN_PAUSE: Duration = Duration::from_millis(50);

/// What a subscription tells.
#[derive(Clone, Debug, PartialEq)]
pub enum SubscriptionEvent {
    /// All nodes as they are: whatever was known before is void.
    Snapshot {
        /// The state that is shown.
        zxid: Zxid,
        /// The nodes, in the order of their paths.
        nodes: Vec<SnapshotNode>,
    },
    /// All changes of one zxid.
    Changes {
        /// Their place in the order of all changes.
        zxid: Zxid,
        /// The changes, in the order in which they were made.
        changes: Vec<Change>,
    },
}

/// A stream of a subtree's changes.
#[derive(Debug)]
pub struct Subscription {
    client: Client,
    prefix: String,
    from_zxid: Option<Zxid>,
    frames: Option<mpsc::Receiver<ServerFrame>>,
    nodes: Vec<SnapshotNode>,
    changes: Vec<Change>,
}

impl Subscription {
    /// Subscribes to the nodes below `prefix`, and to itself; `/` for the whole tree.
    pub fn open(client: &Client, prefix: &str) -> Self {
        Self {
            client: client.clone(),
            prefix: prefix.to_owned(),
            from_zxid: None,
            frames: None,
            nodes: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// The next event; `None` when the client is closed. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<SubscriptionEvent> {
        loop {
            let Some(frames) = &mut self.frames else {
                // Half a snapshot of the old connection is worth nothing on the new one.
                self.nodes.clear();
                self.changes.clear();
                let opened = self.client.open_frames(self.prefix.clone(), self.from_zxid).await;
                match opened {
                    Some(frames) => self.frames = Some(frames),
                    None if self.client.is_closed() => return None,
                    // The connection broke meanwhile, or the member refused.
                    None => tokio::time::sleep(REOPEN_PAUSE).await,
                }
                continue;
            };
            let Some(frame) = frames.recv().await else {
                self.frames = None;
                continue;
            };
            if let Some(event) = self.take(frame) {
                return Some(event);
            }
        }
    }

    /// An event, when the frame was its last.
    fn take(&mut self, frame: ServerFrame) -> Option<SubscriptionEvent> {
        match frame {
            ServerFrame::Snapshot { zxid, nodes, last, .. } => {
                self.nodes.extend(nodes);
                last.then(|| {
                    self.from_zxid = Some(zxid);
                    SubscriptionEvent::Snapshot { zxid, nodes: std::mem::take(&mut self.nodes) }
                })
            }
            ServerFrame::Changes { zxid, changes, last, .. } => {
                self.changes.extend(changes);
                last.then(|| {
                    self.from_zxid = Some(zxid);
                    let changes = std::mem::take(&mut self.changes);
                    SubscriptionEvent::Changes { zxid, changes }
                })
            }
            ServerFrame::Reply { .. } | ServerFrame::Watch(_) | ServerFrame::Closed { .. } => None,
        }
    }
}
