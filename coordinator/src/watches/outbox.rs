//! What waits to be sent on one connection: replies, watch events and subscriptions' frames, in one
//! queue, so that what went in first goes out first. That is what makes a watch event arrive before
//! any reply that shows what it tells of.
//!
//! Who puts in never waits, so that it can be done under the state's lock; who has a choice asks
//! for [`Outbox::room`] first. Watch events have no choice: where too many wait, the connection
//! ends.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_common::coordination::protocol::{
    Acl, CoordinationError, MemberStatus, OpResult, Stat, WatchEvent,
};
use ottla_common::types::Zxid;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits::{OUTBOX_SIZE_MAX, WATCH_EVENTS_QUEUED_MAX};
use crate::tree::{Change, Node};

/// Something to be sent. Nodes are shared, not copied, until a front end puts them into bytes.
#[derive(Clone, Debug)]
pub enum Outgoing {
    /// The answer to a request.
    Reply {
        /// The request's number.
        xid: u64,
        /// The zxid of the write, or of the state that a read saw.
        zxid: Zxid,
        /// The answer.
        result: Result<Answer, CoordinationError>,
    },
    /// A watch fired.
    Watch(WatchEvent),
    /// A page of a subscription's snapshot.
    Snapshot {
        /// The xid of the subscription's request.
        subscription: u64,
        /// The state that it shows.
        zxid: Zxid,
        /// Some nodes.
        nodes: Vec<(String, Arc<Node>)>,
        /// Whether this is the last page.
        last: bool,
    },
    /// Changes of one zxid.
    Changes {
        /// The xid of the subscription's request.
        subscription: u64,
        /// The zxid.
        zxid: Zxid,
        /// All or some of its changes.
        changes: Vec<Change>,
        /// Whether these are the last of the zxid.
        last: bool,
    },
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done, nothing to tell.
    Done,
    /// The outcome of a write.
    Written(OpResult),
    /// The outcomes of a multi.
    Multi(Vec<OpResult>),
    /// A node, asked for its data.
    Data(Arc<Node>),
    /// A node's stat, if there is a node.
    Exists(Option<Stat>),
    /// A node, asked for its children.
    Children(Arc<Node>),
    /// An access list as the session may see it.
    Acl(Vec<Acl>, Stat),
    /// Paths of ephemeral nodes.
    Ephemerals(Vec<String>),
    /// Figures.
    Status(MemberStatus),
    /// A subscription stands.
    Subscribed {
        /// Whether it goes on from where the client asked.
        resumed: bool,
    },
}

/// The queue of a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something was put in, or the connection is to end.
    filled: Notify,
    /// Something was taken out, or the connection is to end.
    drained: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Outgoing>,
    size: usize,
    watch_events: usize,
    closed: Option<Closed>,
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Because of the client: it asked for it, or went.
    Quietly,
    /// The client is to be told.
    Because(CoordinationError),
}

impl Outbox {
    /// An empty queue.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts something in. After the end of the connection was decided, it is dropped.
    pub fn put(&self, outgoing: Outgoing) {
        let mut queue = self.0.queue.lock();
        if queue.closed.is_some() {
            return;
        }
        if let Outgoing::Watch(_) = outgoing {
            if queue.watch_events == WATCH_EVENTS_QUEUED_MAX {
                let limit = format!("{WATCH_EVENTS_QUEUED_MAX} watch events that wait to be read");
                drop(queue);
                return self.close(Closed::Because(CoordinationError::LimitReached { limit }));
            }
            queue.watch_events += 1;
        }
        queue.size += size_of(&outgoing);
        queue.waiting.push_back(outgoing);
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Decides that the connection ends once what is queued has been sent. The first reason counts.
    pub fn close(&self, closed: Closed) {
        self.0.queue.lock().closed.get_or_insert(closed);
        self.0.filled.notify_one();
        self.0.drained.notify_waiters();
    }

    /// Waits until not too much is queued. Returns whether the connection lives on.
    pub async fn room(&self) -> bool {
        loop {
            let drained = self.0.drained.notified();
            {
                let queue = self.0.queue.lock();
                if queue.closed.is_some() {
                    return false;
                }
                if queue.size < OUTBOX_SIZE_MAX {
                    return true;
                }
            }
            drained.await;
        }
    }

    /// Waits until something is queued and takes about `size` bytes of it; none when the connection
    /// ends and all has been taken. For the one task that sends.
    pub async fn take(&self, size: usize) -> Option<Vec<Outgoing>> {
        loop {
            {
                let mut queue = self.0.queue.lock();
                let mut taken = Vec::new();
                let mut taken_size = 0;
                while taken_size < size {
                    let Some(outgoing) = queue.waiting.pop_front() else { break };
                    taken_size += size_of(&outgoing);
                    if let Outgoing::Watch(_) = outgoing {
                        queue.watch_events -= 1;
                    }
                    taken.push(outgoing);
                }
                queue.size -= taken_size;
                if !taken.is_empty() {
                    drop(queue);
                    self.0.drained.notify_waiters();
                    return Some(taken);
                }
                if queue.closed.is_some() {
                    return None;
                }
            }
            self.0.filled.notified().await;
        }
    }

    /// Why the connection ends, if that has been decided.
    pub fn closed(&self) -> Option<Closed> {
        self.0.queue.lock().closed.clone()
    }

    /// Completes when the connection's end has been decided.
    pub async fn until_closed(&self) {
        loop {
            let drained = self.0.drained.notified();
            if self.0.queue.lock().closed.is_some() {
                return;
            }
            drained.await;
        }
    }
}

/// About how many bytes something takes, on the wire and in memory.
fn size_of(outgoing: &Outgoing) -> usize {
    const HEAD: usize = 128;
    HEAD + match outgoing {
        Outgoing::Reply { result: Ok(answer), .. } => match answer {
            Answer::Data(node) => node.data().len(),
            Answer::Children(node) => node.children.len() * 32,
            Answer::Multi(results) => results.len() * HEAD,
            Answer::Ephemerals(paths) => paths.iter().map(|path| path.len() + 8).sum(),
            _ => 0,
        },
        Outgoing::Reply { result: Err(_), .. } | Outgoing::Watch(_) => 0,
        Outgoing::Snapshot { nodes, .. } => {
            nodes.iter().map(|(path, node)| HEAD + path.len() + node.data().len()).sum()
        }
        Outgoing::Changes { changes, .. } => changes.iter().map(Change::size).sum(),
    }
}
