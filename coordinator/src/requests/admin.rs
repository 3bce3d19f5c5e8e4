//! What administrators ask: figures for everyone, changes for who may do everything.
//!
//! Whoever can connect may look, as ZooKeeper's four-letter words let them. A change is for who has
//! proved to be the one of `super.digest`; if none is configured, for whoever connects from this
//! machine.

use std::net::IpAddr;

use ottla_common::coordination::protocol::CoordinationError;
use ottla_common::coordination::protocol::admin::{
    AdminRequest, AdminResponse, MemberFigures, MemberInfo, MemberStatus, Members,
};
use ottla_common::types::{MemberId, Zxid};

use super::Service;
use super::reconfig::not_changed;
use crate::consensus::raft::{Member, MemberRole, MembershipChange, Role};
use crate::limits::IDENTITIES_MAX;
use crate::tree::{Identity, acl};
use crate::watches::View;

/// Who asks, on one connection.
#[derive(Debug)]
pub struct Administrator {
    address: IpAddr,
    is_super: bool,
    proofs: usize,
}

impl Administrator {
    /// Someone who connects from an address and has proved nothing.
    pub fn new(address: IpAddr) -> Self {
        Self { address: address.to_canonical(), is_super: false, proofs: 0 }
    }
}

impl Service {
    /// Does what an administrator asks.
    pub async fn administer(
        &self,
        administrator: &mut Administrator,
        request: AdminRequest,
    ) -> Result<AdminResponse, CoordinationError> {
        let changes = match request {
            AdminRequest::Status => {
                let status = self.status(&self.live.view());
                return Ok(AdminResponse::Status(Box::new(status)));
            }
            AdminRequest::Members => return Ok(AdminResponse::Members(self.members())),
            AdminRequest::Digests => return Ok(AdminResponse::Digests(self.live.digests())),
            AdminRequest::Auth { scheme, credential } => {
                return self.authenticate(administrator, &scheme, &credential);
            }
            changes => changes,
        };
        if !self.may_change(administrator) {
            return Err(CoordinationError::NoAuth { path: "/zookeeper/config".to_owned() });
        }
        tracing::info!(by = %administrator.address, request = ?changes, "administrator's request");
        self.change(changes).await
    }

    fn authenticate(
        &self,
        administrator: &mut Administrator,
        scheme: &str,
        credential: &[u8],
    ) -> Result<AdminResponse, CoordinationError> {
        administrator.proofs += 1;
        if scheme != "digest" || administrator.proofs > IDENTITIES_MAX {
            return Err(CoordinationError::AuthFailed);
        }
        let identity: Option<Identity> = acl::digest_identity(credential);
        let identity = identity.ok_or(CoordinationError::AuthFailed)?;
        administrator.is_super |= self.is_super(&identity);
        Ok(AdminResponse::Done)
    }

    fn may_change(&self, administrator: &Administrator) -> bool {
        match self.options.super_digest {
            Some(_) => administrator.is_super,
            None => administrator.address.is_loopback(),
        }
    }

    async fn change(&self, request: AdminRequest) -> Result<AdminResponse, CoordinationError> {
        match request {
            AdminRequest::AddMember { id, member } => {
                let member = Member {
                    role: if member.is_learner { MemberRole::Learner } else { MemberRole::Voter },
                    rejoining: false,
                    peer_address: member.peer_address,
                    client_address: member.client_address,
                    election_address: String::new(),
                };
                let is_known = self.ensemble.membership().members.contains_key(&id);
                self.change_members(if is_known {
                    MembershipChange::Readdress { id, member }
                } else {
                    MembershipChange::Add { id, member }
                })
                .await
            }
            AdminRequest::RemoveMember { id } => {
                self.change_members(MembershipChange::Remove { id }).await
            }
            AdminRequest::TransferLeadership { to } => {
                let begun = self.ensemble.transfer_leadership(to).await;
                begun.map(|()| AdminResponse::Done).map_err(|error| not_changed(&error))
            }
            AdminRequest::TakeSnapshot => {
                self.ensemble.take_snapshot();
                Ok(AdminResponse::Done)
            }
            AdminRequest::Status
            | AdminRequest::Members
            | AdminRequest::Digests
            | AdminRequest::Auth { .. } => unreachable!("not a change"),
        }
    }

    /// Whether the log takes what it is given; if not, why.
    pub fn health(&self) -> Result<(), String> {
        match self.ensemble.status().failure {
            None => Ok(()),
            Some(failure) => Err(format!("the log has failed: {failure}")),
        }
    }

    /// Completes when this member has applied all that was committed when it was asked; fails if it
    /// cannot know.
    pub async fn readiness(&self) -> Result<(), String> {
        self.health()?;
        self.ensemble.read_barrier().await.map_err(|error| error.to_string())
    }

    /// Who belongs to the ensemble, as this member knows it.
    pub fn members(&self) -> Members {
        let log = self.ensemble.status();
        let acknowledged = |id: MemberId| {
            let own =
                (log.role == Role::Leader && id == self.member_id()).then_some(log.last_index);
            let progress = log.progress.iter().find(|progress| progress.member_id == id);
            own.or(progress.map(|progress| progress.match_index)).map(zxid_of)
        };
        let members = log.membership.members.iter().map(|(id, member)| {
            let info = MemberInfo {
                is_learner: member.role == MemberRole::Learner,
                rejoining: member.rejoining,
                peer_address: member.peer_address.clone(),
                client_address: member.client_address.clone(),
                acknowledged: acknowledged(*id),
            };
            (*id, info)
        });
        Members {
            leader_id: log.leader_id,
            cluster_id: log.cluster_id.map(|id| id.to_string()),
            members: members.collect(),
        }
    }

    /// Has the leader change the membership, and waits until the change is applied here.
    async fn change_members(
        &self,
        change: MembershipChange,
    ) -> Result<AdminResponse, CoordinationError> {
        let index =
            self.ensemble.change_members(change).await.map_err(|error| not_changed(&error))?;
        let mut applied = self.live.progress();
        let reached = applied.wait_for(|zxid| *zxid >= zxid_of(index)).await;
        reached.map(|_| AdminResponse::Done).map_err(|_| CoordinationError::Unavailable)
    }

    /// The member's state and figures.
    pub fn status(&self, view: &View<'_>) -> MemberStatus {
        let machine = view.machine();
        MemberStatus {
            member_id: self.options.member_id,
            leader_id: self.ensemble.leader_id(),
            zxid: view.zxid(),
            node_count: machine.tree().node_count(),
            session_count: machine.sessions().len() as u64,
            watch_count: self.live.watch_count() as u64,
            tree_digest: machine.digest(),
            build_version: env!("CARGO_PKG_VERSION").to_owned(),
            figures: self.figures(machine.tree().ephemeral_count() as u64),
        }
    }

    fn figures(&self, ephemerals: u64) -> MemberFigures {
        let log = self.ensemble.status();
        let flushes = self.options.metrics.flushes.get();
        let zxid = zxid_of;
        let member = log.membership.members.get(&self.member_id());
        let is_learner = member.is_some_and(|member| member.role == MemberRole::Learner);
        let role = match log.role {
            Role::Leader => "leader",
            Role::Candidate | Role::PreCandidate => "candidate",
            Role::Follower if is_learner => "learner",
            Role::Follower => "follower",
        };
        MemberFigures {
            role: role.to_owned(),
            term: log.term,
            first: zxid(log.first_index),
            committed: zxid(log.committed_index),
            snapshot: zxid(log.snapshot_index),
            log_size: log.log_size,
            flushes: flushes.count(),
            flush_micros_last: log.flush_micros_last,
            flush_micros_p50: flushes.quantile_micros(0.5),
            flush_micros_p99: flushes.quantile_micros(0.99),
            connections: self.live.connection_count() as u64,
            requests: self.options.metrics.requests_answered(),
            outstanding: self.ensemble.outstanding() as u64,
            ephemerals,
            uptime_ms: self.ensemble.clock().monotonic_ms().saturating_sub(self.started_ms),
            failure: log.failure.map(|failure| failure.to_string()),
        }
    }
}

fn zxid_of(index: u64) -> Zxid {
    Zxid(i64::try_from(index).unwrap_or(i64::MAX))
}
