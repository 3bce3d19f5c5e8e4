//! What administrators want to know of clients: the subscriptions, which are configs of the
//! resource type CLIENT_METRICS.

use std::borrow::Cow;

use regex::{Regex, RegexBuilder};

use ottla_common::cluster_tree::ConfigKind;

use crate::config::client_metrics::{MATCH, METRICS, PUSH_INTERVAL_MS, interval_ms, items};
use crate::config::{Overrides, client_metrics};
use crate::limits::{TELEMETRY_PREFIXES_MAX, TELEMETRY_REGEX_SIZE_MAX};
use crate::metadata::image::MetadataImage;

/// Stands for all metrics.
const ALL_METRICS: &str = "*";

/// What some clients are to send.
#[derive(Clone, Debug)]
struct Subscription {
    /// Prefixes of the metrics' names.
    metrics: Vec<String>,
    interval_ms: i32,
    /// What of the client has to match what; all of it.
    patterns: Vec<(String, Regex)>,
}

/// What one client is to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Prefixes of the metrics' names, [`ALL_METRICS`] alone for all; none for nothing.
    pub metrics: Vec<String>,
    /// Time between two pushes.
    pub interval_ms: i32,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// The names and the versions of their nodes.
    read: Vec<(String, i32)>,
    all: Vec<Subscription>,
    version: u64,
}

impl Subscriptions {
    /// Reads the subscriptions of an image, unless they are the same as before.
    pub fn refresh(&mut self, image: &MetadataImage) {
        let first = (ConfigKind::ClientMetrics, String::new());
        let configs = image.other_configs.range(first..);
        let configs = configs.take_while(|((kind, _), _)| *kind == ConfigKind::ClientMetrics);
        let mut known = self.read.iter();
        let is_same = configs.clone().all(|((_, name), config)| {
            let known = known.next();
            known.is_some_and(|known| known.0 == *name && known.1 == config.node_version)
        });
        if is_same && known.next().is_none() {
            return;
        }
        let named = configs.clone().map(|((_, name), config)| (name.clone(), config.node_version));
        self.read = named.collect();
        self.all = configs
            .filter(|(_, config)| !config.value.is_empty())
            .filter_map(|(_, config)| Subscription::of(&config.value))
            .collect();
        self.version += 1;
    }

    /// A number that grows with each change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// What a client is to send by all subscriptions that it matches.
    /// `attribute` tells of the client.
    pub fn wanted<'a>(&self, attribute: &dyn Fn(&str) -> Option<Cow<'a, str>>) -> Wanted {
        let mut wanted = Wanted { metrics: Vec::new(), interval_ms: PUSH_INTERVAL_MS };
        for subscription in self.all.iter().filter(|each| each.matches(attribute)) {
            wanted.interval_ms = wanted.interval_ms.min(subscription.interval_ms);
            for prefix in &subscription.metrics {
                let has_room = wanted.metrics.len() < TELEMETRY_PREFIXES_MAX;
                if has_room && !wanted.metrics.contains(prefix) {
                    wanted.metrics.push(prefix.clone());
                }
            }
        }
        if wanted.metrics.iter().any(|prefix| prefix == ALL_METRICS) {
            wanted.metrics = vec![ALL_METRICS.to_owned()];
        }
        wanted
    }
}

impl Subscription {
    /// `None` for one that was written past the checks and cannot be read.
    fn of(config: &Overrides) -> Option<Self> {
        let list = |key: &str| config.get(key).map(|text| items(text)).unwrap_or_default();
        let patterns = list(MATCH).into_iter().map(|item| {
            let (name, pattern) = client_metrics::parse_match(item)?;
            Some((name.to_owned(), compile(pattern).ok()?))
        });
        let metrics = list(METRICS).into_iter().map(str::to_owned);
        Some(Self {
            metrics: metrics.filter(|prefix| !prefix.is_empty()).collect(),
            interval_ms: interval_ms(config),
            patterns: patterns.collect::<Option<_>>()?,
        })
    }

    fn matches<'a>(&self, attribute: &dyn Fn(&str) -> Option<Cow<'a, str>>) -> bool {
        let has = |(name, regex): &(String, Regex)| {
            attribute(name).is_some_and(|value| regex.is_match(&value))
        };
        self.patterns.iter().all(has)
    }
}

/// A pattern that the whole text has to match.
fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    let size = TELEMETRY_REGEX_SIZE_MAX;
    let whole = format!("^(?:{pattern})$");
    RegexBuilder::new(&whole).size_limit(size).dfa_size_limit(size).build()
}
