//! Quotas, as ZooKeeper keeps them in the tree itself: for the node `/a`, the node
//! `/zookeeper/quota/a/zookeeper_limits` says how many nodes there may be (itself and all below it)
//! and how many bytes of data, and `/zookeeper/quota/a/zookeeper_stats` how many there are. Both
//! hold text like `count=5,bytes=100=;byteHardLimit=200;countHardLimit=10`; -1 means no limit.
//!
//! The nearest node with a quota counts. A soft limit is told in the log, a hard one refuses the
//! change where quotas are enforced.

use std::fmt;

use ottla_common::coordination::protocol::CoordinationError;

use super::{Tree, Turn, path};

const QUOTAS: &str = "/zookeeper/quota";
const LIMITS: &str = "/zookeeper_limits";
const STATS: &str = "/zookeeper_stats";

/// Limits, or what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Figures {
    count: i64,
    bytes: i64,
    count_hard_limit: i64,
    byte_hard_limit: i64,
}

impl Figures {
    /// Reads what it can: what is missing or cannot be read limits nothing.
    fn parse(text: &[u8]) -> Self {
        let mut figures = Self { count: -1, bytes: -1, count_hard_limit: -1, byte_hard_limit: -1 };
        let text = String::from_utf8_lossy(text);
        for part in text.split([',', ';']) {
            let mut words = part.split('=');
            let (Some(name), Some(Ok(value))) = (words.next(), words.next().map(str::parse)) else {
                continue;
            };
            match name {
                "count" => figures.count = value,
                "bytes" => figures.bytes = value,
                "countHardLimit" => figures.count_hard_limit = value,
                "byteHardLimit" => figures.byte_hard_limit = value,
                _ => {}
            }
        }
        figures
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count={},bytes={}", self.count, self.bytes)?;
        if self.byte_hard_limit > -1 || self.count_hard_limit > -1 {
            f.write_str("=")?;
        }
        if self.byte_hard_limit > -1 {
            write!(f, ";byteHardLimit={}", self.byte_hard_limit)?;
        }
        if self.count_hard_limit > -1 {
            write!(f, ";countHardLimit={}", self.count_hard_limit)?;
        }
        Ok(())
    }
}

/// The node that a node of limits belongs to.
pub fn path_of_limits(path: &str) -> Option<&str> {
    path_of(path, LIMITS)
}

fn path_of<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let path = path.strip_prefix(QUOTAS)?.strip_suffix(name)?;
    path.starts_with('/').then_some(path)
}

/// A limit that is exceeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excess {
    /// The node with the quota.
    pub path: String,
    /// `nodes` or `bytes`.
    pub what: &'static str,
    /// What there is or would be.
    pub actual: i64,
    /// What there may be.
    pub limit: i64,
    /// Whether the limit is a hard one.
    pub is_hard: bool,
}

impl Tree {
    /// Whether any node has a quota.
    pub fn has_quotas(&self) -> bool {
        !self.quotas.is_empty()
    }

    /// The limits that a change at a path would exceed, or exceeds if it changes nothing: by so
    /// many nodes and bytes more.
    pub fn exceeded_quotas(&self, path: &str, (count, bytes): (i64, i64)) -> Vec<Excess> {
        let Some(path) = self.nearest_quota(path) else { return Vec::new() };
        let figures = |name| {
            let node = self.node(&[QUOTAS, path, name].concat());
            node.map(|node| Figures::parse(node.data()))
        };
        let (Some(limits), Some(stats)) = (figures(LIMITS), figures(STATS)) else {
            return Vec::new();
        };
        let mut exceeded = Vec::new();
        let mut check = |what, actual, hard: i64, soft: i64| {
            let is_hard = hard > -1;
            let limit = if is_hard { hard } else { soft };
            if limit > -1 && actual > limit {
                exceeded.push(Excess { path: path.to_owned(), what, actual, limit, is_hard });
            }
        };
        check("nodes", stats.count.saturating_add(count), limits.count_hard_limit, limits.count);
        check("bytes", stats.bytes.saturating_add(bytes), limits.byte_hard_limit, limits.bytes);
        exceeded
    }

    /// Fails if a hard limit is in the way of so many nodes and bytes more.
    pub(super) fn check_quota(
        &self,
        turn: &Turn<'_>,
        path: &str,
        (count, bytes): (i64, i64),
    ) -> Result<(), CoordinationError> {
        if !turn.enforces_quota || !self.has_quotas() {
            return Ok(());
        }
        let exceeded = self.exceeded_quotas(path, (count, bytes));
        let mut exceeded = exceeded.into_iter().filter(|excess| {
            let difference = if excess.what == "nodes" { count } else { bytes };
            excess.is_hard && difference != 0
        });
        match exceeded.next() {
            Some(Excess { path, .. }) => Err(CoordinationError::QuotaExceeded { path }),
            None => Ok(()),
        }
    }

    /// Counts so many nodes and bytes more at a path that was changed.
    pub(super) fn count_for_quota(&mut self, path: &str, (count, bytes): (i64, i64)) {
        if !self.has_quotas() {
            return;
        }
        // Who begins to count finds what is there.
        if count > 0
            && let Some(path) = path_of(path, STATS)
        {
            let path = path.to_owned();
            let (mut count, mut bytes) = (0, 0);
            for (_, node) in self.walk(&path) {
                count += 1;
                bytes += i64::try_from(node.data().len()).unwrap_or(i64::MAX);
            }
            self.set_stats(&path, |stats| (stats.count, stats.bytes) = (count, bytes));
        }
        if (count, bytes) == (0, 0) {
            return;
        }
        if let Some(path) = self.nearest_quota(path).map(str::to_owned) {
            self.set_stats(&path, |stats| {
                stats.count = stats.count.saturating_add(count);
                stats.bytes = stats.bytes.saturating_add(bytes);
            });
        }
    }

    fn set_stats(&mut self, path: &str, change: impl FnOnce(&mut Figures)) {
        let path = [QUOTAS, path, STATS].concat();
        let Some(node) = self.node(&path) else { return };
        let mut stats = Figures::parse(node.data());
        change(&mut stats);
        // As in ZooKeeper this is no change of the node that anybody is told of.
        self.update(&path, |node| node.set_data(Some(stats.to_string().as_bytes())));
    }

    /// The node with a quota that is nearest to a path on the way up; never the root.
    fn nearest_quota<'a>(&self, path: &'a str) -> Option<&'a str> {
        path::ancestors(path).find(|path| self.quotas.contains_key(*path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_written_as_zookeeper_writes_them() {
        for text in [
            "count=5,bytes=-1",
            "count=5,bytes=10=;byteHardLimit=5;countHardLimit=6",
            "count=-1,bytes=-1=;countHardLimit=7",
        ] {
            assert_eq!(Figures::parse(text.as_bytes()).to_string(), text);
        }
        assert_eq!(Figures::parse(b"rubbish,count=x,=,bytes").to_string(), "count=-1,bytes=-1");
    }

    #[test]
    fn the_paths_of_quotas_are_told_from_others() {
        assert_eq!(path_of_limits("/zookeeper/quota/a/b/zookeeper_limits"), Some("/a/b"));
        for path in ["/zookeeper/quota/zookeeper_limits", "/zookeeper/quota/a", "/a"] {
            assert_eq!(path_of_limits(path), None, "{path}");
        }
    }
}
