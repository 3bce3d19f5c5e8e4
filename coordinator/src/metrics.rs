//! What a member counts. Read by `frontends/http.rs`, which gives the figures their names, and by
//! administrators' requests.

use std::sync::atomic::{AtomicU64, Ordering};

use ottla_common::coordination::protocol::{Op, Request};
use ottla_common::metrics::Histogram;

/// The counters of a member.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Flushes of the log to disk.
    pub flushes: Histogram,
    /// Snapshots that were written.
    pub snapshots: Histogram,
    /// How often this member learnt of a leader.
    pub leader_changes: Counter,
    requests: [Histogram; RequestKind::ALL.len()],
}

/// Something that is counted.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// One more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The kinds of requests that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestKind {
    /// Makes a node.
    Create,
    /// Removes nodes.
    Delete,
    /// Replaces data.
    Set,
    /// Replaces an access list, or guards only.
    OtherWrite,
    /// Several writes at once.
    Multi,
    /// Reads data.
    Get,
    /// Asks for a stat.
    Exists,
    /// Reads names of children.
    List,
    /// Reads anything else.
    OtherRead,
    /// Waits until all is applied.
    Sync,
    /// Sets or removes watches, or subscribes.
    Watch,
    /// Keeps a session alive or ends it, or proves an identity.
    Session,
}

impl RequestKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 12] = [
        Self::Create,
        Self::Delete,
        Self::Set,
        Self::OtherWrite,
        Self::Multi,
        Self::Get,
        Self::Exists,
        Self::List,
        Self::OtherRead,
        Self::Sync,
        Self::Watch,
        Self::Session,
    ];

    /// The name in figures.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Set => "set",
            Self::OtherWrite => "other_write",
            Self::Multi => "multi",
            Self::Get => "get",
            Self::Exists => "exists",
            Self::List => "list",
            Self::OtherRead => "other_read",
            Self::Sync => "sync",
            Self::Watch => "watch",
            Self::Session => "session",
        }
    }

    /// The kind of a request.
    pub fn of(request: &Request) -> Self {
        match request {
            Request::Write(Op::Create { .. }) => Self::Create,
            Request::Write(Op::Delete { .. } | Op::DeleteRecursive { .. }) => Self::Delete,
            Request::Write(Op::SetData { .. }) => Self::Set,
            Request::Write(_) => Self::OtherWrite,
            Request::Multi(_) => Self::Multi,
            Request::Get { .. } => Self::Get,
            Request::Exists { .. } => Self::Exists,
            Request::GetChildren { .. } => Self::List,
            Request::Sync => Self::Sync,
            Request::AddWatch { .. }
            | Request::RemoveWatches { .. }
            | Request::Subscribe { .. }
            | Request::Unsubscribe { .. } => Self::Watch,
            Request::Ping | Request::Auth { .. } | Request::CloseSession => Self::Session,
            _ => Self::OtherRead,
        }
    }
}

impl Metrics {
    /// How long requests of a kind took, from when they were read to when they were answered.
    pub fn requests(&self, kind: RequestKind) -> &Histogram {
        match self.requests.get(kind as usize) {
            Some(histogram) => histogram,
            None => unreachable!("there is a histogram for {kind:?}"),
        }
    }

    /// How many requests were answered.
    pub fn requests_answered(&self) -> u64 {
        self.requests.iter().map(|histogram| histogram.get().count()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_place() {
        for (place, kind) in RequestKind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, place);
            Metrics::default().requests(kind).observe_micros(1);
        }
    }
}
