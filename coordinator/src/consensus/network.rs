//! The driver's way to the other members: its messages over [`Peers`], and what they say into its
//! mailbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_common::shutdown::Shutdown;
use ottla_common::types::{MemberId, Uuid};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::driver::{Letter, Network};
use super::mailbox::Mailbox;
use super::messages::PeerMessage;
use super::node::Input;
use super::peers::{self, PeerOptions, Peers};
use super::raft::{Membership, MessageKind};
use crate::limits::PEER_BYTES_RECEIVED_MAX;

/// A message that is not longer than this is looked at by the task that reads it, in bytes.
const ATTENDED_SIZE_MAX: u32 = 16 * 1024;

/// How a member meets the others.
#[derive(Debug)]
pub struct NetworkOptions {
    /// Where they connect.
    pub listener: TcpListener,
    /// The secret that all members share; empty if they trust everybody who reaches them.
    pub key: Arc<[u8]>,
}

/// Who hears what other members say.
#[derive(Debug)]
pub struct Ear {
    mailbox: Mailbox<Letter>,
    cluster_id: Mutex<Option<Uuid>>,
    memory: Arc<Semaphore>,
}

/// See the module.
#[derive(Debug)]
pub struct PeerNetwork {
    peers: Peers<PeerMessage, Ear>,
    ear: Arc<Ear>,
    /// As they were configured: they are met even if the log does not know them, and at these
    /// addresses unless the log has got another one since this member was started.
    configured: Membership,
    /// The log's addresses when this member was started.
    at_start: Option<Membership>,
    runtime: Handle,
}

impl PeerNetwork {
    /// Meets the members that are configured. `cluster_id` is the ensemble's, if it is known.
    pub fn start(
        (member_id, configured): (MemberId, Membership),
        cluster_id: Option<Uuid>,
        options: NetworkOptions,
        (mailbox, shutdown): (Mailbox<Letter>, &Shutdown),
    ) -> Self {
        let ear = Arc::new(Ear {
            mailbox,
            cluster_id: Mutex::new(cluster_id),
            memory: Arc::new(Semaphore::new(PEER_BYTES_RECEIVED_MAX)),
        });
        let NetworkOptions { listener, key } = options;
        let own = configured.members.get(&member_id);
        let address = own.map_or_else(String::new, |own| own.peer_address.clone());
        let options = PeerOptions { member_id, address, key };
        let peers = Peers::start(options, listener, Arc::clone(&ear), shutdown);
        let members = configured.members.iter();
        let met = members.map(|(id, member)| (*id, member.peer_address.clone()));
        // Whoever dials while the core takes up its state is not refused.
        peers.set_members(&met.filter(|(_, address)| !address.is_empty()).collect());
        Self { peers, ear, configured, at_start: None, runtime: Handle::current() }
    }
}

impl Network for PeerNetwork {
    fn send(&self, to: MemberId, message: PeerMessage) {
        // What is dropped is sent again by who needs it.
        self.peers.send(to, message);
    }

    fn set_members(&mut self, membership: &Membership) {
        let at_start = self.at_start.get_or_insert_with(|| membership.clone());
        let mut addresses = BTreeMap::new();
        for (id, member) in &membership.members {
            if at_start.members.get(id).is_none_or(|old| old.peer_address != member.peer_address) {
                addresses.insert(*id, member.peer_address.clone());
            }
        }
        for (id, member) in self.configured.members.iter().chain(&membership.members) {
            if !member.peer_address.is_empty() {
                addresses.entry(*id).or_insert_with(|| member.peer_address.clone());
            }
        }
        addresses.retain(|_, address| !address.is_empty());
        let _entered = self.runtime.enter();
        self.peers.set_members(&addresses);
    }

    fn set_cluster_id(&self, cluster_id: Option<Uuid>) {
        *self.ear.cluster_id.lock() = cluster_id;
    }
}

impl peers::Receiver<PeerMessage> for Ear {
    fn cluster_id(&self) -> Option<Uuid> {
        *self.cluster_id.lock()
    }

    async fn received(&self, from: MemberId, message: PeerMessage) {
        let size = u32::try_from(peers::PeerMessage::size(&message)).unwrap_or(u32::MAX);
        let memory = Arc::clone(&self.memory);
        // Never closed. While there is none, the connection is not read.
        if let Ok(permit) = memory.acquire_many_owned(size).await {
            let letter = Letter::Peer(from, message, Some(permit));
            if size <= ATTENDED_SIZE_MAX {
                self.mailbox.put_and_attend(letter);
            } else {
                self.mailbox.put(letter);
            }
        }
    }

    fn connected(&self, to: MemberId) {
        self.mailbox.put(Letter::Input(Input::PeerUp(to)));
    }

    fn disconnected(&self, to: MemberId) {
        self.mailbox.put(Letter::Input(Input::PeerDown(to)));
    }
}

impl peers::PeerMessage for PeerMessage {
    fn size(&self) -> usize {
        const HEAD: usize = 64;
        HEAD + match self {
            Self::Raft(message) => match &message.kind {
                MessageKind::Append { entries, .. } => {
                    entries.iter().map(|entry| HEAD + entry.payload.len()).sum()
                }
                MessageKind::SnapshotChunk { bytes, .. } => bytes.len(),
                _ => 0,
            },
            Self::Forward(forward) => {
                forward.payloads.iter().map(|payload| HEAD + payload.len()).sum()
            }
            Self::Touch(touch) => 8 * touch.sessions.len() + 16 * touch.disconnected.len(),
            _ => 0,
        }
    }
}
