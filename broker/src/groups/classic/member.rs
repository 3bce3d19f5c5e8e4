//! A member of a classic group.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use ottla_common::kafka::messages::join_group::JoinGroupRequest;
use ottla_common::kafka::messages::records::group_metadata::MemberMetadata;

use crate::internal_topics::Ticket;

/// Names a member within its group.
pub type MemberId = Arc<str>;

/// The client behind a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Its client id.
    pub id: String,
    /// Its address, as Java writes one: `/127.0.0.1`.
    pub host: String,
}

/// A member. What it has joined with, what it was assigned, and what it waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: MemberId,
    /// Its name that outlives it, if it is static (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// Its client.
    pub client: Client,
    /// How long it may take to join again.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// The protocols that it knows, best first, with what it says under each.
    pub protocols: Vec<(String, Bytes)>,
    /// What the leader has given it.
    pub assignment: Bytes,
    /// Its JoinGroup that waits.
    pub joining: Option<Ticket>,
    /// Its SyncGroup that waits.
    pub syncing: Option<Ticket>,
    /// It has never been told its id: it cannot send heartbeats yet.
    pub is_new: bool,
}

impl Member {
    /// A member as it joins.
    pub fn new(id: MemberId, request: &JoinGroupRequest, client: Client, ticket: Ticket) -> Self {
        let mut member = Self {
            id,
            instance_id: request.group_instance_id.as_ref().map(|id| id.as_str().into()),
            client,
            rebalance_timeout_ms: 0,
            session_timeout_ms: 0,
            protocols: Vec::new(),
            assignment: Bytes::new(),
            joining: Some(ticket),
            syncing: None,
            is_new: true,
        };
        member.update(request);
        member
    }

    /// A member as a record has it. It knows one protocol: the group's.
    pub fn from_record(value: &MemberMetadata, protocol: &str) -> Self {
        let rebalance_timeout_ms = match value.rebalance_timeout {
            -1 => value.session_timeout,
            timeout_ms => timeout_ms,
        };
        Self {
            id: value.member_id.as_str().into(),
            instance_id: value.group_instance_id.as_ref().map(|id| id.as_str().into()),
            client: Client {
                id: value.client_id.as_str().to_owned(),
                host: value.client_host.as_str().to_owned(),
            },
            rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout,
            protocols: vec![(protocol.to_owned(), value.subscription.clone())],
            assignment: value.assignment.clone(),
            joining: None,
            syncing: None,
            is_new: false,
        }
    }

    /// The member as a record has it, with this assignment.
    pub fn to_record(&self, protocol: &str, assignment: Bytes) -> MemberMetadata {
        MemberMetadata {
            member_id: (&*self.id).into(),
            group_instance_id: self.instance_id.as_deref().map(Into::into),
            client_id: self.client.id.as_str().into(),
            client_host: self.client.host.as_str().into(),
            rebalance_timeout: self.rebalance_timeout_ms,
            session_timeout: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment,
            ..MemberMetadata::default()
        }
    }

    /// Takes over what a JoinGroup says.
    pub fn update(&mut self, request: &JoinGroupRequest) {
        self.session_timeout_ms = request.session_timeout_ms;
        // Version 0 has one timeout for both.
        self.rebalance_timeout_ms = match request.rebalance_timeout_ms {
            -1 => request.session_timeout_ms,
            timeout_ms => timeout_ms,
        };
        // Copies: a slice would keep the whole request.
        let copied = request.protocols.iter().map(|protocol| {
            (protocol.name.as_str().to_owned(), Bytes::copy_from_slice(&protocol.metadata))
        });
        self.protocols = copied.collect();
    }

    /// Whether a JoinGroup says what the member has said before.
    pub fn matches(&self, request: &JoinGroupRequest) -> bool {
        let said = request.protocols.iter().map(|p| (p.name.as_str(), &*p.metadata));
        let known = self.protocols.iter().map(|(name, metadata)| (name.as_str(), &**metadata));
        said.eq(known)
    }

    /// What it says under a protocol; empty if it does not know it.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| name == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// The names of the protocols that it knows, each once.
    pub fn protocol_names(&self) -> BTreeSet<&str> {
        self.protocols.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The best of the candidates in the member's eyes.
    pub fn vote(&self, is_candidate: impl Fn(&str) -> bool) -> Option<&str> {
        self.protocols.iter().map(|(name, _)| name.as_str()).find(|name| is_candidate(name))
    }

    /// Whether its JoinGroup waits.
    pub fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// Whether nobody expects heartbeats of it: one that waits is alive.
    pub fn is_excused(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }
}
