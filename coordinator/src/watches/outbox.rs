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
use crate::tree::{Change, Identity, Node};

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
    /// A number of nodes.
    Count(u64),
    /// What a connection has proved.
    Identities(Arc<[Identity]>),
    /// A token of SASL.
    Token(Vec<u8>),
    /// The answers to several reads.
    Many(Vec<Result<Answer, CoordinationError>>),
    /// Figures.
    Status(Box<MemberStatus>),
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
    /// Events that wait for the next reply, which must not be.
    #[cfg(feature = "seeded-bugs")]
    held: Vec<Outgoing>,
}

impl Queue {
    #[cfg(not(feature = "seeded-bugs"))]
    fn push(&mut self, outgoing: Outgoing) {
        self.waiting.push_back(outgoing);
    }

    #[cfg(feature = "seeded-bugs")]
    fn push(&mut self, outgoing: Outgoing) {
        use crate::seeded_bugs::{MemberBug, has};
        if has(MemberBug::EventBehindReply) && matches!(outgoing, Outgoing::Watch(_)) {
            return self.held.push(outgoing);
        }
        self.waiting.push_back(outgoing);
        self.waiting.extend(self.held.drain(..));
    }
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
        queue.push(outgoing);
        drop(queue);
        self.0.filled.notify_one();
    }

    /// Decides that the connection ends once what is queued has been sent. The first reason counts.
    pub fn close(&self, closed: Closed) {
        self.0.queue.lock().closed.get_or_insert(closed);
        self.0.filled.notify_one();
        self.0.drained.notify_waiters();
    }

    /// Whether so much is queued that the client must read first.
    pub fn is_full(&self) -> bool {
        self.0.queue.lock().size >= OUTBOX_SIZE_MAX
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
                queue.take(size, &mut taken);
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

    /// Takes about `size` bytes of what is queued, without waiting, and appends it to `taken`.
    /// Returns whether more may come.
    pub fn take_now(&self, size: usize, taken: &mut Vec<Outgoing>) -> bool {
        let mut queue = self.0.queue.lock();
        queue.take(size, taken);
        let lives = queue.closed.is_none() || !queue.waiting.is_empty();
        drop(queue);
        if !taken.is_empty() {
            self.0.drained.notify_waiters();
        }
        lives
    }

    /// Gives back the memory of the queue if nothing is queued.
    pub fn rest(&self) {
        let mut queue = self.0.queue.lock();
        if queue.waiting.is_empty() {
            queue.waiting = VecDeque::new();
        }
    }

    /// Completes when something is queued, or the end of the connection was decided. For the one
    /// task that sends.
    pub async fn until_filled(&self) {
        loop {
            {
                let queue = self.0.queue.lock();
                if !queue.waiting.is_empty() || queue.closed.is_some() {
                    return;
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

impl Queue {
    fn take(&mut self, size: usize, taken: &mut Vec<Outgoing>) {
        let mut taken_size = 0;
        while taken_size < size {
            let Some(outgoing) = self.waiting.pop_front() else { break };
            taken_size += size_of(&outgoing);
            if let Outgoing::Watch(_) = outgoing {
                self.watch_events -= 1;
            }
            taken.push(outgoing);
        }
        self.size -= taken_size;
    }
}

/// About how many bytes something takes, on the wire and in memory.
fn size_of(outgoing: &Outgoing) -> usize {
    HEAD_SIZE
        + match outgoing {
            Outgoing::Reply { result: Ok(answer), .. } => size_of_answer(answer),
            Outgoing::Reply { result: Err(_), .. } | Outgoing::Watch(_) => 0,
            Outgoing::Snapshot { nodes, .. } => {
                nodes.iter().map(|(path, node)| HEAD_SIZE + path.len() + node.data().len()).sum()
            }
            Outgoing::Changes { changes, .. } => changes.iter().map(Change::size).sum(),
        }
}

/// What anything takes beside its content.
const HEAD_SIZE: usize = 128;

fn size_of_answer(answer: &Answer) -> usize {
    match answer {
        Answer::Data(node) => node.data().len(),
        Answer::Children(node) => node.children.len() * 32,
        Answer::Multi(results) => results.len() * HEAD_SIZE,
        Answer::Ephemerals(paths) => paths.iter().map(|path| path.len() + 8).sum(),
        Answer::Many(answers) => {
            answers.iter().flatten().map(|answer| HEAD_SIZE + size_of_answer(answer)).sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use ottla_common::coordination::protocol::WatchEventKind;

    use super::*;

    fn event() -> Outgoing {
        let (kind, path) = (WatchEventKind::NodeCreated, "/a".to_owned());
        Outgoing::Watch(WatchEvent { kind, path, zxid: Zxid(1) })
    }

    fn reply(xid: u64, size: usize) -> Outgoing {
        let answer = Answer::Ephemerals(vec!["x".repeat(size)]);
        Outgoing::Reply { xid, zxid: Zxid(1), result: Ok(answer) }
    }

    #[test]
    fn what_went_in_first_comes_out_first_and_the_end_comes_last() {
        let outbox = Outbox::new();
        assert!(outbox.take(1).now_or_never().is_none());
        outbox.put(reply(1, 0));
        outbox.put(event());
        outbox.put(reply(2, 0));
        outbox.close(Closed::Quietly);
        outbox.put(reply(3, 0));
        let taken = outbox.take(usize::MAX).now_or_never().unwrap().unwrap();
        assert!(matches!(
            taken[..],
            [Outgoing::Reply { xid: 1, .. }, Outgoing::Watch(_), Outgoing::Reply { xid: 2, .. }]
        ));
        assert!(outbox.take(1).now_or_never().unwrap().is_none());
    }

    #[test]
    fn there_is_room_again_when_enough_was_taken() {
        let outbox = Outbox::new();
        assert_eq!(outbox.room().now_or_never(), Some(true));
        for xid in 0..3 {
            outbox.put(reply(xid, OUTBOX_SIZE_MAX / 2));
        }
        assert!(outbox.is_full() && outbox.room().now_or_never().is_none());
        outbox.take(1).now_or_never().unwrap().unwrap();
        outbox.take(1).now_or_never().unwrap().unwrap();
        assert_eq!(outbox.room().now_or_never(), Some(true));
        outbox.close(Closed::Quietly);
        assert_eq!(outbox.room().now_or_never(), Some(false));
    }

    #[test]
    fn a_client_that_does_not_read_its_events_is_cut_off() {
        let outbox = Outbox::new();
        for _ in 0..WATCH_EVENTS_QUEUED_MAX {
            outbox.put(event());
        }
        assert_eq!(outbox.closed(), None);
        outbox.put(event());
        let closed = outbox.closed();
        assert!(matches!(closed, Some(Closed::Because(CoordinationError::LimitReached { .. }))));
    }
}
