//! The figures of a member under the names that Prometheus stores them by. All begin with
//! `ottla_coordinator_`; times are in seconds, sizes in bytes.

use std::fmt;

use ottla_common::coordination::protocol::admin::{MemberStatus, Members};
use ottla_common::http::encode_durations;
use ottla_common::metrics::Durations;
use ottla_common::types::MemberId;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::metrics::RequestKind;
use crate::requests::Service;

/// The figures at one moment.
#[derive(Debug)]
pub struct Exposition {
    status: MemberStatus,
    members: Members,
    flushes: Durations,
    snapshots: Durations,
    leader_changes: u64,
    requests: Vec<(RequestKind, Durations)>,
}

impl Exposition {
    /// Takes the figures of a member.
    pub fn new(service: &Service) -> Self {
        let metrics = &service.options().metrics;
        let requests = RequestKind::ALL.map(|kind| (kind, metrics.requests(kind).get()));
        Self {
            status: service.status(&service.live().view()),
            members: service.members(),
            flushes: metrics.flushes.get(),
            snapshots: metrics.snapshots.get(),
            leader_changes: metrics.leader_changes.get(),
            requests: requests.into(),
        }
    }

    /// As Prometheus reads them.
    pub fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("ottla_coordinator");
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn gauges(&self) -> [(&'static str, &'static str, f64); 19] {
        let (status, figures) = (&self.status, &self.status.figures);
        let zxid = |zxid: ottla_common::types::Zxid| zxid.0 as f64;
        let lag = figures.committed.0.saturating_sub(status.zxid.0).max(0);
        let knows_leader = status.leader_id.is_some();
        [
            ("leader", "Whether this member leads", f64::from(figures.role == "leader")),
            ("knows_leader", "Whether this member knows a leader", f64::from(knows_leader)),
            ("term", "The term that this member is in", figures.term as f64),
            ("zxid", "The last change that is applied here", zxid(status.zxid)),
            ("committed_zxid", "The last change known to be committed", zxid(figures.committed)),
            ("apply_lag", "Changes that are committed and not applied here", lag as f64),
            ("log_first_zxid", "The oldest change in the log", zxid(figures.first)),
            ("snapshot_zxid", "The change behind which the last snapshot stands", {
                zxid(figures.snapshot)
            }),
            ("log_size_bytes", "The log on disk", figures.log_size as f64),
            ("sessions", "Sessions of the ensemble", status.session_count as f64),
            ("connections", "Connections with a session on this member", {
                figures.connections as f64
            }),
            ("outstanding", "Proposals of this member without an outcome yet", {
                figures.outstanding as f64
            }),
            ("watches", "Watches on this member", status.watch_count as f64),
            ("nodes", "Nodes in the tree", status.node_count as f64),
            ("ephemerals", "Ephemeral nodes in the tree", figures.ephemerals as f64),
            ("members", "Members of the ensemble", self.members.members.len() as f64),
            // What fits in a float whole: to be compared where the zxid is the same.
            ("digest", "A digest of the state", (status.tree_digest >> 12) as f64),
            ("failed", "Whether the log takes nothing more", {
                f64::from(figures.failure.is_some())
            }),
            ("uptime_seconds", "Since the start", figures.uptime_ms as f64 / 1_000.0),
        ]
    }

    /// How far the other members are behind, as far as this one knows: only the leader does.
    fn peer_lags(&self) -> impl Iterator<Item = (MemberId, f64)> {
        let members = self.members.members.iter();
        members.filter_map(|(id, member)| {
            let behind = self.status.figures.committed.0.saturating_sub(member.acknowledged?.0);
            Some((*id, behind.max(0) as f64))
        })
    }
}

impl Collector for Exposition {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for (name, help, value) in self.gauges() {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        let counter = MetricType::Counter;
        let (name, help) = ("leader_changes", "How often this member learnt of a leader");
        let mut changes = encoder.encode_descriptor(name, help, None, counter)?;
        changes.encode_counter::<NoLabelSet, _, u64>(&self.leader_changes, None)?;
        let (name, help) = ("build", "The version");
        let mut build = encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        build.encode_info(&[("version", self.status.build_version.as_str())])?;
        let (name, help) = ("peer_lag", "Committed changes that a member is not known to have");
        let mut lags = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (id, lag) in self.peer_lags() {
            lags.encode_family(&[("member", id.0)])?.encode_gauge(&lag)?;
        }
        let histogram = MetricType::Histogram;
        let (name, help) = ("flush_seconds", "How long flushes of the log took");
        encode_durations(encoder.encode_descriptor(name, help, None, histogram)?, &self.flushes)?;
        let histogram = MetricType::Histogram;
        let (name, help) = ("snapshot_seconds", "How long snapshots took");
        encode_durations(encoder.encode_descriptor(name, help, None, histogram)?, &self.snapshots)?;
        let histogram = MetricType::Histogram;
        let (name, help) = ("request_seconds", "How long requests took, by what was asked");
        let mut requests = encoder.encode_descriptor(name, help, None, histogram)?;
        for (kind, took) in &self.requests {
            encode_durations(requests.encode_family(&[("kind", kind.name())])?, took)?;
        }
        Ok(())
    }
}
