//! What a connection may ask: the requests that both protocols have, and those that only ZooKeeper
//! has.

use ottla_common::coordination::protocol::{CoordinationError, Request};
use ottla_common::types::Zxid;

use super::reconfig::Reconfiguration;
use crate::metrics::RequestKind;
use crate::watches::WatchKind;

/// A request, whichever protocol it came by.
#[derive(Debug)]
pub enum Ask {
    /// What the native protocol has as well.
    Common(Request),
    /// Cannot be done, but gets its answer in its turn like all others.
    Refused(CoordinationError),
    /// Several reads (of data, children), each with a result of its own.
    ReadMany(Vec<Request>),
    /// Leaves a watch that stays, whether or not there is a node and may be read: who may not read
    /// it is told no events.
    AddWatch {
        /// The node.
        path: String,
        /// Whether nodes below are watched as well.
        recursive: bool,
    },
    /// Leaves the watches again that a client had on its last connection.
    SetWatches(Box<WatchesToSet>),
    /// Fails unless the connection has a watch of one of these kinds on the path.
    CheckWatches {
        /// The node.
        path: String,
        /// The kinds.
        kinds: &'static [WatchKind],
    },
    /// Removes the connection's watches of these kinds on the path; fails if there are none.
    RemoveWatches {
        /// The node.
        path: String,
        /// The kinds.
        kinds: &'static [WatchKind],
    },
    /// The number of all nodes below one.
    DescendantCount {
        /// The node.
        path: String,
    },
    /// The session's ephemeral nodes whose paths begin so, be it in the middle of a name.
    EphemeralsFrom {
        /// How they begin.
        prefix: String,
    },
    /// A ping whose answer says that the session certainly lives.
    ConfirmedPing,
    /// The identities that the connection has proved.
    WhoAmI,
    /// Changes the members of the ensemble; answered with their new list.
    Reconfigure(Box<Reconfiguration>),
    /// A step of SASL's DIGEST-MD5: the client's token.
    Sasl(Vec<u8>),
}

/// The watches that a client had on its last connection, and what it had seen by then.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchesToSet {
    /// The highest zxid that the client saw: what was changed later is told at once.
    pub seen: Zxid,
    /// On the data of nodes that were there.
    pub data: Vec<String>,
    /// On nodes that were not there.
    pub absent: Vec<String>,
    /// On the children of nodes.
    pub children: Vec<String>,
    /// Those that stay.
    pub persistent: Vec<String>,
    /// Those that stay and hold for nodes below as well.
    pub recursive: Vec<String>,
}

impl Ask {
    /// What it is counted as.
    pub fn kind(&self) -> RequestKind {
        match self {
            Self::Common(request) => RequestKind::of(request),
            Self::ReadMany(_) => RequestKind::Multi,
            Self::AddWatch { .. }
            | Self::SetWatches(_)
            | Self::CheckWatches { .. }
            | Self::RemoveWatches { .. } => RequestKind::Watch,
            _ => RequestKind::OtherRead,
        }
    }

    /// Whether it takes a place in the log.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Common(Request::Write(_) | Request::Multi(_) | Request::CloseSession))
    }

    /// Whether it may be asked by who must authenticate and has not yet.
    pub fn is_for_all(&self) -> bool {
        matches!(self, Self::Sasl(_) | Self::Common(Request::Auth { .. } | Request::CloseSession))
    }

    /// Whether it is answered only when this member has all that was committed before.
    pub fn needs_barrier(&self) -> bool {
        match self {
            Self::Common(
                Request::Get { linearizable, .. }
                | Request::Exists { linearizable, .. }
                | Request::GetChildren { linearizable, .. },
            ) => *linearizable,
            Self::Common(Request::Sync) => true,
            _ => false,
        }
    }
}
