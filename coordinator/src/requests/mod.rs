//! The one brain behind all front ends: sessions are opened, and requests answered, here and
//! nowhere else.
//!
//! [`Service`] is what all connections share. A connection opens or resumes its session
//! ([`Service::open_session`]) and gets a [`Conversation`], which answers its requests in their
//! order (`session_queue`): writes go to the ensemble, reads are answered from this member's state
//! (`reads`). `upkeep` is what the leader does unasked: it ends sessions and removes idle nodes.

mod admin;
mod ask;
mod authentication;
mod opening;
mod read_only;
mod reads;
mod reconfig;
pub mod sasl;
pub mod secrets;
mod session_queue;
pub mod tasks;
mod upkeep;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use ottla_common::clock::Clock;
use ottla_common::types::{MemberId, SessionId};

pub use admin::Administrator;
pub use ask::{Ask, WatchesToSet};
pub use opening::{Granted, Opening};
pub use reconfig::Reconfiguration;
pub use session_queue::{Conversation, Submission};

use self::secrets::Secrets;
use self::tasks::Tasks;
use crate::config::zookeeper::ZooKeeperOptions;
use crate::consensus::Ensemble;
use crate::metrics::Metrics;
use crate::tree::Identity;
use crate::watches::LiveState;

/// What the requests need to know of the configuration.
#[derive(Clone, Debug)]
pub struct ServiceOptions {
    /// This member.
    pub member_id: MemberId,
    /// The shortest session timeout that is granted, in milliseconds.
    pub session_timeout_min_ms: u32,
    /// The longest.
    pub session_timeout_max_ms: u32,
    /// How exactly sessions' deadlines are kept, in milliseconds.
    pub expiry_tick_ms: u64,
    /// How often idle nodes are looked for, in milliseconds.
    pub idle_check_interval_ms: u64,
    /// The digest identity (`user:hash`) that may do everything, if there is one.
    pub super_digest: Option<String>,
    /// Whether hard quotas are enforced.
    pub enforces_quota: bool,
    /// Whether access lists are not asked.
    pub skips_acl: bool,
    /// Who authenticates by SASL.
    pub sasl: sasl::SaslOptions,
    /// The subject of the certificate whose owner may do everything, if there is one.
    pub x509_super_user: Option<String>,
    /// The brokers' listener that Kafka's clients are told, if one is configured.
    pub kafka_listener_name: Option<String>,
    /// What the member counts.
    pub metrics: Arc<Metrics>,
    /// What only clients of ZooKeeper's protocol notice.
    pub zookeeper: ZooKeeperOptions,
    /// How what runs beside the requests is run.
    pub tasks: Tasks,
    /// Where passwords and nonces come from.
    pub secrets: Secrets,
}

/// What all connections of a member share.
#[derive(Debug)]
pub struct Service {
    options: ServiceOptions,
    live: Arc<LiveState>,
    ensemble: Ensemble,
    started_ms: u64,
    /// Since when no leader is known; `u64::MAX` if one is.
    leaderless_since_ms: AtomicU64,
    leaderless: AtomicBool,
}

impl Service {
    /// Answers requests from `live`, and through `ensemble`.
    pub fn new(options: ServiceOptions, live: Arc<LiveState>, ensemble: Ensemble) -> Self {
        let started_ms = ensemble.clock().monotonic_ms();
        Self {
            options,
            live,
            ensemble,
            started_ms,
            leaderless_since_ms: AtomicU64::new(u64::MAX),
            leaderless: AtomicBool::new(false),
        }
    }

    /// What is configured.
    pub fn options(&self) -> &ServiceOptions {
        &self.options
    }

    /// This member's clock.
    pub fn clock(&self) -> &Clock {
        self.ensemble.clock()
    }

    /// The member's part in the ensemble.
    pub fn ensemble(&self) -> &Ensemble {
        &self.ensemble
    }

    /// The applied state.
    pub fn live(&self) -> &Arc<LiveState> {
        &self.live
    }

    /// This member's number.
    pub fn member_id(&self) -> MemberId {
        self.options.member_id
    }

    /// A session was heard from.
    pub fn touch(&self, session_id: SessionId) {
        self.ensemble.touch(session_id);
    }

    /// Whether someone has proved to be the one who may do everything.
    fn is_super(&self, identity: &Identity) -> bool {
        let named = match identity.scheme.as_str() {
            "digest" => &self.options.super_digest,
            "sasl" => &self.options.sasl.super_user,
            "x509" => &self.options.x509_super_user,
            _ => return false,
        };
        named.as_ref() == Some(&identity.id)
    }
}
