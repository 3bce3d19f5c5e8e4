//! One subscription: a snapshot of a subtree or a place in the history to go on from, then every
//! change.

use std::sync::Arc;

use bytes::Bytes;
use ottla_common::coordination::protocol::{ChangeKind, CoordinationError, permission};
use ottla_common::types::Zxid;

use super::live::{LiveState, View};
use super::outbox::{Closed, Outbox, Outgoing};
use crate::limits::SUBSCRIPTION_PAGE_SIZE;
use crate::tree::{Change, Identity, Walk, acl, path};

/// How many commands are read from the history at once.
const BATCH: usize = 256;

/// A subscription that has been granted and is to be run.
#[derive(Debug)]
pub struct Subscription {
    number: u64,
    prefix: String,
    identities: Arc<[Identity]>,
    /// All up to here has been sent, or is shown by the snapshot.
    sent: Zxid,
    /// What is to be sent first, unless it goes on from where the client was.
    snapshot: Option<Walk>,
}

impl Subscription {
    /// Begins a subscription at the state that `view` shows. `number` is the xid of its request.
    pub fn begin(
        view: &View<'_>,
        number: u64,
        prefix: &str,
        from_zxid: Option<Zxid>,
        identities: Arc<[Identity]>,
    ) -> Result<Self, CoordinationError> {
        path::validate(prefix)?;
        if from_zxid.is_some_and(|zxid| zxid > view.zxid()) {
            return Err(CoordinationError::MemberBehind);
        }
        let from_zxid = from_zxid.filter(|zxid| view.history_reaches(*zxid));
        let snapshot = from_zxid.is_none().then(|| view.tree().walk(prefix));
        let sent = from_zxid.unwrap_or(view.zxid());
        Ok(Self { number, prefix: prefix.to_owned(), identities, sent, snapshot })
    }

    /// Whether it goes on from where the client was, without a snapshot.
    pub fn is_resumed(&self) -> bool {
        self.snapshot.is_none()
    }

    /// The state that it starts from.
    pub fn zxid(&self) -> Zxid {
        self.sent
    }

    /// Sends the snapshot and then changes until the connection ends. One that falls behind what is
    /// kept ends its connection.
    pub async fn run(mut self, live: &LiveState, outbox: &Outbox) {
        let mut progress = live.progress();
        if let Some(walk) = self.snapshot.take()
            && !self.send_snapshot(walk, outbox).await
        {
            return;
        }
        loop {
            // Marked as seen before the history is read: what comes later wakes us again.
            progress.borrow_and_update();
            loop {
                let Some(batch) = live.changes_after(self.sent, BATCH) else {
                    let limit = "changes that wait for a subscriber".to_owned();
                    let error = CoordinationError::LimitReached { limit };
                    return outbox.close(Closed::Because(error));
                };
                let Some(newest) = batch.last().map(|committed| committed.zxid) else { break };
                for committed in &batch {
                    let changes = self.visible(&committed.changes);
                    if !self.send_changes(committed.zxid, changes, outbox).await {
                        return;
                    }
                }
                self.sent = newest;
            }
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    async fn send_snapshot(&self, walk: Walk, outbox: &Outbox) -> bool {
        let readable = |acl: &[_]| acl::allows(acl, permission::READ, &self.identities);
        let mut nodes = Vec::new();
        let mut size = 0;
        for (path, node) in walk.filter(|(_, node)| readable(&node.acl)) {
            size += 128 + path.len() + node.data().len();
            nodes.push((path, node));
            if size >= SUBSCRIPTION_PAGE_SIZE {
                if !self.send_page(std::mem::take(&mut nodes), false, outbox).await {
                    return false;
                }
                size = 0;
            }
        }
        self.send_page(nodes, true, outbox).await
    }

    async fn send_page(
        &self,
        nodes: Vec<(String, Arc<crate::tree::Node>)>,
        last: bool,
        outbox: &Outbox,
    ) -> bool {
        let is_open = outbox.room().await;
        let (subscription, zxid) = (self.number, self.sent);
        outbox.put(Outgoing::Snapshot { subscription, zxid, nodes, last });
        is_open
    }

    async fn send_changes(&self, zxid: Zxid, changes: Vec<Change>, outbox: &Outbox) -> bool {
        let mut page = Vec::new();
        let mut size = 0;
        let mut changes = changes.into_iter().peekable();
        while let Some(change) = changes.next() {
            size += change.size();
            page.push(change);
            let last = changes.peek().is_none();
            if last || size >= SUBSCRIPTION_PAGE_SIZE {
                if !outbox.room().await {
                    return false;
                }
                let (subscription, changes) = (self.number, std::mem::take(&mut page));
                outbox.put(Outgoing::Changes { subscription, zxid, changes, last });
                size = 0;
            }
        }
        true
    }

    /// The changes below the prefix as this subscriber may see them. A node whose new access list
    /// hides it is gone for him, and one that it shows has come.
    fn visible(&self, changes: &[Change]) -> Vec<Change> {
        let readable = |acl: &[_]| acl::allows(acl, permission::READ, &self.identities);
        let mut visible = Vec::new();
        for change in changes.iter().filter(|change| path::is_within(&change.path, &self.prefix)) {
            let after = readable(&change.acl);
            let before = change.acl_before.as_ref().map_or(after, |acl| readable(acl));
            let kind = match (before, after) {
                (true, true) => change.kind,
                (false, true) => ChangeKind::Created,
                (true, false) => ChangeKind::Deleted,
                (false, false) => continue,
            };
            let mut change = Change { kind, ..change.clone() };
            if kind == ChangeKind::Deleted {
                change.data = Bytes::new();
            }
            visible.push(change);
        }
        visible
    }
}

#[cfg(test)]
mod tests {
    use ottla_common::coordination::protocol::{Acl, CreateMode, Op};

    use super::*;
    use crate::limits::HISTORY_SIZE_MAX;
    use crate::tree::{Action, Command};

    fn write(live: &LiveState, op: Op) {
        let command = Command::by_ensemble(Action::Write(op));
        live.apply(Zxid(live.zxid().0 + 1), 0, &command).unwrap();
    }

    fn set(size: usize) -> Op {
        Op::SetData { path: "/a".to_owned(), data: vec![0; size], version: None }
    }

    #[tokio::test]
    async fn a_subscriber_that_falls_behind_what_is_kept_is_cut_off() {
        let live = Arc::new(LiveState::default());
        let path = "/a".to_owned();
        let (data, mode, acl) = (Vec::new(), CreateMode::Persistent, Acl::open());
        write(&live, Op::Create { path, data, mode, acl });
        let outbox = Outbox::new();
        let nobody = Arc::from([]);
        let subscription = Subscription::begin(&live.view(), 1, "/", None, nobody).unwrap();
        let running = {
            let (live, outbox) = (Arc::clone(&live), outbox.clone());
            tokio::spawn(async move { subscription.run(&live, &outbox).await })
        };
        // It reads the snapshot and a few changes, and then no more, while others write.
        outbox.take(1).await.unwrap();
        const SIZE: usize = 1_000_000;
        for _ in 0..12 {
            write(&live, set(SIZE));
        }
        while !outbox.is_full() {
            tokio::task::yield_now().await;
        }
        for _ in 0..HISTORY_SIZE_MAX / SIZE + 300 {
            write(&live, set(SIZE));
        }
        let mut frames = 0;
        while outbox.take(1).await.is_some() {
            frames += 1;
        }
        running.await.unwrap();
        assert!(frames >= 8, "what was queued is still sent");
        let closed = outbox.closed();
        assert!(matches!(closed, Some(Closed::Because(CoordinationError::LimitReached { .. }))));
    }
}
