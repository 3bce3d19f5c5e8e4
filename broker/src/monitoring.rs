//! The figures of a broker under the names that Prometheus stores them by, on the address
//! `http.listen`; see [`ottla_common::http`]. All names begin with `ottla_broker_`; times are in
//! seconds, sizes in bytes.
//!
//! How far each consumer group is behind is among them, for the groups that this broker keeps and
//! the partitions that it holds. Figures of single partitions are told for so many at most as
//! [`limits`](crate::limits) say; `series_left_out` tells how many are not. What clients push is
//! told by `clients`.

mod clients;

use std::fmt;
use std::sync::Arc;

use ottla_common::http::{Pages, encode_durations};
use ottla_common::kafka::ApiKey;
use ottla_common::metrics::Durations;
use ottla_common::types::TopicPartition;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::handlers::APIS;
use crate::handlers::context::Parts;
use crate::limits::{METRICS_GROUP_SERIES_MAX, METRICS_PARTITION_SERIES_MAX};
use crate::telemetry::clients::TelemetryFigures;

/// What a broker tells of itself.
pub struct BrokerPages {
    /// Its parts.
    pub parts: Arc<Parts>,
    /// In which life it is; `None` while it is not registered.
    pub broker_epoch: watch::Receiver<Option<i64>>,
}

impl Pages for BrokerPages {
    fn metrics(&self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("ottla_broker");
        registry.register_collector(Box::new(Figures::of(self)));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }

    fn health(&self) -> Result<(), String> {
        let dirs = self.parts.replicas.logs().dirs();
        if dirs.iter().all(|dir| dir.offline_reason().is_some()) {
            return Err("no log directory is online".to_owned());
        }
        Ok(())
    }

    async fn readiness(&self) -> Result<(), String> {
        self.health()?;
        if self.broker_epoch.borrow().is_none() {
            return Err("not registered with the coordinator".to_owned());
        }
        let image = self.parts.image.load();
        if !image.brokers.contains_key(&self.parts.broker_id) {
            return Err("the cluster does not know this broker yet".to_owned());
        }
        image.controller.map(drop).ok_or_else(|| "the cluster has no controller".to_owned())
    }
}

/// A partition that is held here.
#[derive(Debug)]
struct PartitionFigures {
    name: TopicPartition,
    log_end_offset: i64,
    log_start_offset: i64,
    size_bytes: u64,
}

/// How far a group is behind in a partition.
#[derive(Debug)]
struct Lag {
    group: Arc<str>,
    partition: TopicPartition,
    committed_offset: i64,
    lag: i64,
}

/// The figures at one moment.
#[derive(Debug)]
struct Figures {
    gauges: Vec<(&'static str, &'static str, f64)>,
    counters: Vec<(&'static str, &'static str, u64)>,
    requests: Vec<(&'static str, Durations)>,
    partitions: Vec<PartitionFigures>,
    lags: Vec<Lag>,
    telemetry: TelemetryFigures,
}

impl Figures {
    fn of(pages: &BrokerPages) -> Self {
        let parts = &pages.parts;
        let metrics = &parts.metrics;
        let mut partitions = partitions(parts);
        let mut lags = lags(parts);
        let left_out = partitions.len().saturating_sub(METRICS_PARTITION_SERIES_MAX)
            + lags.len().saturating_sub(METRICS_GROUP_SERIES_MAX);
        partitions.truncate(METRICS_PARTITION_SERIES_MAX);
        lags.truncate(METRICS_GROUP_SERIES_MAX);
        let mut gauges = gauges(pages);
        gauges.push(("series_left_out", "Partitions and lags beyond the bound", left_out as f64));
        let took = |key: ApiKey| metrics.requests(key).map(|took| (key.name(), took.get()));
        let requests = APIS.iter().filter_map(|api| took(api.key));
        Self {
            gauges,
            counters: vec![
                ("produced_bytes", "From producers, appended", metrics.produced_bytes.get()),
                ("produced_records", "From producers, appended", metrics.produced_records.get()),
                ("consumed_bytes", "Sent to consumers", metrics.consumed_bytes.get()),
                ("replicated_bytes", "Sent to followers", metrics.replicated_bytes.get()),
                ("throttled_requests", "Whose clients had to wait for their quotas", {
                    metrics.throttled_requests.get()
                }),
                ("throttled_seconds", "How long those had to wait", {
                    metrics.throttled_ms.get() / 1000
                }),
                ("throttled_connections", "Closed for the quotas of their addresses", {
                    metrics.throttled_connections.get()
                }),
                ("isr_shrinks", "Replicas that left ISRs led here", metrics.isr_shrinks.get()),
                ("isr_expands", "Replicas that joined ISRs led here", metrics.isr_expands.get()),
                ("leader_elections", "Leaders elected by this broker", {
                    metrics.leader_elections.get()
                }),
                ("unclean_leader_elections", "Those who may lack committed records", {
                    metrics.unclean_leader_elections.get()
                }),
            ],
            requests: requests.filter(|(_, took)| took.count() > 0).collect(),
            partitions,
            lags,
            telemetry: parts.telemetry.figures(),
        }
    }
}

fn gauges(pages: &BrokerPages) -> Vec<(&'static str, &'static str, f64)> {
    let parts = &pages.parts;
    let image = parts.image.load();
    let held = parts.replicas.all();
    let (mut leaders, mut under_replicated, mut under_min_isr, mut at_min_isr) = (0, 0, 0, 0);
    for partition in &held {
        let Some(isr) = partition.isr() else { continue };
        let name = partition.topic_partition();
        let placed = image.topic(&name.topic).and_then(|topic| topic.partition(name.partition));
        let min_insync = partition.settings().min_insync;
        leaders += 1;
        under_replicated += i32::from(placed.is_some_and(|p| isr.len() < p.replicas.len()));
        under_min_isr += i32::from(isr.len() < min_insync);
        at_min_isr += i32::from(isr.len() == min_insync);
    }
    let all = image.topics.values().flat_map(|topic| &topic.partitions);
    let offline = all.filter(|partition| partition.leader.is_none()).count();
    let dirs = parts.replicas.logs().dirs();
    let offline_dirs = dirs.iter().filter(|dir| dir.offline_reason().is_some()).count();
    let is_controller = image.controller == Some(parts.broker_id);
    let size: u64 = held.iter().map(|partition| partition.log().size_bytes()).sum();
    let registered = pages.broker_epoch.borrow().is_some();
    vec![
        ("registered", "Whether this broker is registered", f64::from(registered)),
        ("controller", "Whether this broker is the controller", f64::from(is_controller)),
        ("brokers", "Live brokers of the cluster", image.brokers.len() as f64),
        ("image_zxid", "The coordinator's state that is known here", image.zxid.0 as f64),
        ("partitions", "Partitions that are held here", held.len() as f64),
        ("leaders", "Partitions that are led here", f64::from(leaders)),
        ("under_replicated_partitions", "Led here, with replicas that are not in sync", {
            f64::from(under_replicated)
        }),
        ("under_min_isr_partitions", "Led here, with fewer in sync than min.insync.replicas", {
            f64::from(under_min_isr)
        }),
        ("at_min_isr_partitions", "Led here, with just min.insync.replicas in sync", {
            f64::from(at_min_isr)
        }),
        ("offline_partitions", "Partitions of the cluster that nobody leads", offline as f64),
        ("offline_log_dirs", "Log directories that have failed", offline_dirs as f64),
        ("log_size_bytes", "All logs", size as f64),
    ]
}

fn partitions(parts: &Parts) -> Vec<PartitionFigures> {
    let held = parts.replicas.all();
    let mut figures: Vec<PartitionFigures> = held
        .iter()
        .map(|partition| PartitionFigures {
            name: partition.topic_partition().clone(),
            log_end_offset: partition.log_end_offset(),
            log_start_offset: partition.log_start_offset(),
            size_bytes: partition.log().size_bytes(),
        })
        .collect();
    figures.sort_by(|one, other| one.name.cmp(&other.name));
    figures
}

fn lags(parts: &Parts) -> Vec<Lag> {
    let mut lags = Vec::new();
    for shard in parts.groups.partitions() {
        let committed = parts.groups.read(shard, |machine| machine.committed_offsets());
        let Ok(committed) = committed.and_then(|read| read.ready().map_err(|_| NOT_YET)) else {
            continue;
        };
        for (group, partition, committed_offset) in committed {
            let held = parts.replicas.partition(&partition.topic, partition.partition);
            let Ok(held) = held else { continue };
            let lag = held.high_watermark().saturating_sub(committed_offset).max(0);
            lags.push(Lag { group, partition, committed_offset, lag });
        }
    }
    lags
}

/// What was committed last is not on all replicas yet: told the next time.
const NOT_YET: ottla_common::kafka::ErrorCode =
    ottla_common::kafka::ErrorCode::CoordinatorLoadInProgress;

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for (name, help, value) in &self.gauges {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(value)?;
        }
        for (name, help, value) in &self.counters {
            let mut counter = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            counter.encode_counter::<NoLabelSet, _, u64>(value, None)?;
        }
        let (name, help) = ("build", "The version");
        let mut build = encoder.encode_descriptor(name, help, None, MetricType::Info)?;
        build.encode_info(&[("version", env!("CARGO_PKG_VERSION"))])?;
        let (name, help) = ("request_seconds", "How long requests took, by API");
        let mut requests = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (api, took) in &self.requests {
            encode_durations(requests.encode_family(&[("api", *api)])?, took)?;
        }
        self.encode_partitions(&mut encoder)?;
        self.encode_lags(&mut encoder)?;
        clients::encode(&self.telemetry, &mut encoder)
    }
}

impl Figures {
    fn encode_partitions(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        type Figure = fn(&PartitionFigures) -> f64;
        let figures: [(&str, &str, Figure); 3] = [
            ("log_end_offset", "The offset of the next record", |p| p.log_end_offset as f64),
            ("log_start_offset", "The first offset", |p| p.log_start_offset as f64),
            ("partition_size_bytes", "A partition's log", |p| p.size_bytes as f64),
        ];
        for (name, help, figure) in figures {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for partition in &self.partitions {
                let labels = labels_of(&partition.name);
                family.encode_family(&labels)?.encode_gauge(&figure(partition))?;
            }
        }
        Ok(())
    }

    fn encode_lags(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        type Figure = fn(&Lag) -> f64;
        let figures: [(&str, &str, Figure); 2] = [
            ("consumer_group_lag", "Committed records that a group has not", |l| l.lag as f64),
            ("consumer_group_offset", "The offset that a group has committed", |l| {
                l.committed_offset as f64
            }),
        ];
        for (name, help, figure) in figures {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for lag in &self.lags {
                let [topic, partition] = labels_of(&lag.partition);
                let labels = [("group", lag.group.to_string()), topic, partition];
                family.encode_family(&labels)?.encode_gauge(&figure(lag))?;
            }
        }
        Ok(())
    }
}

fn labels_of(name: &TopicPartition) -> [(&'static str, String); 2] {
    [("topic", name.topic.to_string()), ("partition", name.partition.to_string())]
}
