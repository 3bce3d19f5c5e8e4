//! Connections between the members of an ensemble.
//!
//! Each member dials each other one and sends on the connection that it dialled; what it receives
//! comes on the connections that it accepted. So messages of one member to another stay in order as
//! long as a connection lives, and what was on its way when one broke is lost: who needs an answer
//! is told ([`Receiver::disconnected`]).
//!
//! A connection begins with a handshake (`handshake.rs`), in which both sides prove that they know
//! the ensemble's key, tell who they are and to which ensemble they belong. Nothing that an unknown
//! peer sends is looked at.
//!
//! Then come frames: a 4-byte big-endian length and a message in MessagePack, without field names,
//! since both sides are of the same kind and entries are many.

mod accept;
mod dial;
mod handshake;
mod refusals;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ottla_common::shutdown::Shutdown;
use ottla_common::types::{MemberId, Uuid};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use self::refusals::Refusals;
use crate::limits::{PEER_BYTES_QUEUED_MAX, PEER_GUESTS_MAX, PEER_MESSAGES_QUEUED_MAX};

/// What members say to each other.
pub trait PeerMessage: Serialize + DeserializeOwned + Send + 'static {
    /// About how many bytes it takes, on the wire and in memory.
    fn size(&self) -> usize;
}

/// Who hears what other members say. Called from the connections' tasks: must not wait for long.
pub trait Receiver<M>: Send + Sync + 'static {
    /// The ensemble that this member belongs to, once it knows.
    fn cluster_id(&self) -> Option<Uuid>;
    /// What a member said. Messages of one connection come in their order, and the next is not read
    /// before this has returned.
    fn received(&self, from: MemberId, message: M) -> impl Future<Output = ()> + Send;
    /// Messages to this member are sent from now on.
    fn connected(&self, to: MemberId);
    /// What was sent to this member and not yet answered may be lost, and nothing is sent until it
    /// is connected again.
    fn disconnected(&self, to: MemberId);
}

/// How a member meets the others.
#[derive(Clone)]
pub struct PeerOptions {
    /// This member.
    pub member_id: MemberId,
    /// Where the others reach it.
    pub address: String,
    /// The secret that all members share; empty if they trust everybody who reaches them.
    pub key: Arc<[u8]>,
}

impl std::fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = if self.key.is_empty() { "none" } else { "hidden" };
        f.debug_struct("PeerOptions")
            .field("member_id", &self.member_id)
            .field("address", &self.address)
            .field("key", &key)
            .finish()
    }
}

/// The way to the other members. Clones share it.
pub struct Peers<M, R> {
    shared: Arc<Shared<M, R>>,
}

impl<M, R> Clone for Peers<M, R> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M, R> std::fmt::Debug for Peers<M, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peers").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

struct Shared<M, R> {
    options: PeerOptions,
    receiver: Arc<R>,
    peers: Mutex<BTreeMap<MemberId, Peer<M>>>,
    /// Members that nobody has named yet, but who have proved that they belong to the ensemble.
    guests: Mutex<BTreeMap<MemberId, String>>,
    /// Who is connected to us, with what ends that connection when a newer one comes.
    incoming: Mutex<HashMap<MemberId, Incoming>>,
    refusals: Refusals,
    shutdown: Shutdown,
}

/// Another member.
struct Peer<M> {
    address: String,
    /// There while it is connected.
    link: Option<Link<M>>,
    _dialling: AbortOnDropHandle<()>,
}

/// Where messages to a member wait to be sent.
struct Link<M> {
    queue: mpsc::Sender<M>,
    size: Arc<AtomicUsize>,
}

/// A connection that a member has dialled.
struct Incoming {
    number: u64,
    end: Arc<tokio::sync::Notify>,
}

impl<M: PeerMessage, R: Receiver<M>> Peers<M, R> {
    /// Accepts connections on `listener` until the member stops. Nobody is dialled, and nobody is
    /// let in, before [`Peers::set_members`].
    pub fn start(
        options: PeerOptions,
        listener: TcpListener,
        receiver: Arc<R>,
        shutdown: &Shutdown,
    ) -> Self {
        let shared = Arc::new(Shared {
            options,
            receiver,
            peers: Mutex::default(),
            guests: Mutex::default(),
            incoming: Mutex::default(),
            refusals: Refusals::default(),
            shutdown: shutdown.clone(),
        });
        shutdown.spawn(accept::accept(Arc::clone(&shared), listener));
        Self { shared }
    }

    /// Says who the other members are and where: those that are new are dialled, connections to
    /// those that are gone are closed.
    pub fn set_members(&self, addresses: &BTreeMap<MemberId, String>) {
        let mut all = addresses.clone();
        let mut guests = self.shared.guests.lock();
        guests.retain(|id, _| !addresses.contains_key(id));
        all.extend(guests.iter().map(|(id, address)| (*id, address.clone())));
        drop(guests);
        self.shared.meet(&all);
    }

    /// Queues a message for a member. Returns whether it was taken: it is not if the member is not
    /// connected, or if too much waits for it already.
    pub fn send(&self, to: MemberId, message: M) -> bool {
        let peers = self.shared.peers.lock();
        let Some(link) = peers.get(&to).and_then(|peer| peer.link.as_ref()) else { return false };
        let size = message.size();
        if link.size.fetch_add(size, Ordering::Relaxed) > PEER_BYTES_QUEUED_MAX
            || link.queue.try_send(message).is_err()
        {
            link.size.fetch_sub(size, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Whether messages to a member are being sent.
    pub fn is_connected(&self, to: MemberId) -> bool {
        self.shared.peers.lock().get(&to).is_some_and(|peer| peer.link.is_some())
    }
}

impl<M: PeerMessage, R: Receiver<M>> Shared<M, R> {
    /// Dials those who are new, and lets go of those who are gone.
    fn meet(self: &Arc<Self>, addresses: &BTreeMap<MemberId, String>) {
        let mut peers = self.peers.lock();
        let own = self.options.member_id;
        peers.retain(|id, peer| addresses.get(id) == Some(&peer.address));
        for (id, address) in addresses.iter().filter(|(id, _)| **id != own) {
            peers.entry(*id).or_insert_with(|| self.peer(*id, address.clone()));
        }
        drop(peers);
        self.incoming.lock().retain(|id, incoming| {
            let stays = addresses.contains_key(id);
            if !stays {
                incoming.end.notify_one();
            }
            stays
        });
    }

    fn peer(self: &Arc<Self>, id: MemberId, address: String) -> Peer<M> {
        let dialling = dial::dial(Arc::downgrade(self), id, address.clone());
        let _dialling = AbortOnDropHandle::new(self.shutdown.spawn(dialling));
        Peer { address, link: None, _dialling }
    }

    /// A member that is not known here has proved that it belongs to the ensemble: it gets answers.
    fn welcome(self: &Arc<Self>, id: MemberId, address: String) {
        let mut guests = self.guests.lock();
        if self.is_member(id) || address.is_empty() || guests.len() >= PEER_GUESTS_MAX {
            return;
        }
        tracing::info!(member_id = %id, address, "met a member that was not known here");
        guests.insert(id, address.clone());
        drop(guests);
        self.peers.lock().entry(id).or_insert_with(|| self.peer(id, address));
    }

    /// Opens the way to a member that has just been connected.
    fn open(&self, to: MemberId) -> Option<(mpsc::Receiver<M>, Arc<AtomicUsize>)> {
        let (queue, queued) = mpsc::channel(PEER_MESSAGES_QUEUED_MAX);
        let size = Arc::new(AtomicUsize::new(0));
        self.peers.lock().get_mut(&to)?.link = Some(Link { queue, size: Arc::clone(&size) });
        self.receiver.connected(to);
        Some((queued, size))
    }

    /// Closes it again, if it is still this one: a member's address may have changed meanwhile.
    fn close(&self, to: MemberId, size: &Arc<AtomicUsize>) {
        if let Some(peer) = self.peers.lock().get_mut(&to)
            && peer.link.as_ref().is_none_or(|link| Arc::ptr_eq(&link.size, size))
        {
            peer.link = None;
        }
        self.receiver.disconnected(to);
    }

    fn is_member(&self, id: MemberId) -> bool {
        self.peers.lock().contains_key(&id)
    }
}
