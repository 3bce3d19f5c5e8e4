//! The native protocol between a coordinator member and its clients.
//!
//! A client opens a TCP connection and sends the eight bytes of [`PREAMBLE`], which tell this
//! protocol from the others on the same port. Then both sides send frames: a 4-byte big-endian
//! length and that many bytes of MessagePack (named fields, so that a side may know fields that the
//! other does not). The first frame of the client is a [`ClientHello`], the member answers with a
//! [`ServerHello`]; then come [`RequestFrame`]s from the client and [`ServerFrame`]s from the
//! member.
//!
//! Promises of a member to one session (ZooKeeper's):
//! - replies come in the order of the requests, and a read sees all of the session's earlier
//!   writes;
//! - no zxid that a session sees is ever lower than one it saw before, on any member;
//! - a watch event comes before any reply that shows what it tells of;
//! - all changes of one zxid come together: in one [`ServerFrame::Changes`], or if they are too
//!   many for a frame, in several that follow each other, of which only the last says so.
//!
//! Watches and subscriptions belong to the connection: after a reconnect the client sets them again
//! (a subscription from the last zxid that it has). A resumed session's earlier writes are decided
//! when the hello is answered: those that were not done by then never will be.

pub mod admin;

use serde::{Deserialize, Serialize};

pub use admin::MemberStatus;

use crate::types::{MemberId, SessionId, Zxid};

/// The first bytes of a native connection.
pub const PREAMBLE: [u8; 8] = *b"OTTLA\x00\x00\x01";

/// The newest version of the frames that this build speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// The longest frame that either side accepts, in bytes.
pub const FRAME_SIZE_MAX: usize = 16 * 1024 * 1024;

/// The longest frame that a member accepts from a client, in bytes. Smaller than a frame may be,
/// since the reply to a multi may be longer than its request.
pub const REQUEST_SIZE_MAX: usize = 8 * 1024 * 1024;

/// The most data that one node may hold, in bytes (ZooKeeper's `jute.maxbuffer`).
pub const NODE_DATA_SIZE_MAX: usize = 1024 * 1024;

/// Who asks, and for which session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClientHello {
    /// The oldest protocol version that the client speaks.
    pub version_min: u16,
    /// The newest protocol version that the client speaks.
    pub version_max: u16,
    /// What the client calls itself, for logs and `cons`.
    pub client_name: String,
    /// The session to open or to go on with.
    pub session: SessionRequest,
    /// The highest zxid that the client saw. A member that is behind it refuses.
    pub last_zxid_seen: Zxid,
}

/// Which session a connection speaks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SessionRequest {
    /// A new session that ends after this many milliseconds without a word.
    New {
        /// Asked timeout; the member clamps it to its bounds and tells the result.
        session_timeout_ms: u32,
    },
    /// The session of an earlier connection.
    Resume {
        /// The session's number.
        session_id: SessionId,
        /// The secret that the session was opened with.
        #[serde(with = "serde_bytes")]
        password: Vec<u8>,
    },
    /// None: the connection is an administrator's (see [`admin`]), and needs no leader.
    None,
}

/// The member's answer to a [`ClientHello`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerHello {
    /// The version that both sides speak from here on.
    pub version: u16,
    /// The member that answers.
    pub member_id: MemberId,
    /// The session, or why there is none. After an error the member closes the connection.
    pub session: Result<SessionGrant, CoordinationError>,
}

/// A session that a member granted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionGrant {
    /// The session's number.
    pub session_id: SessionId,
    /// The secret to resume the session with.
    #[serde(with = "serde_bytes")]
    pub password: Vec<u8>,
    /// The timeout in force.
    pub session_timeout_ms: u32,
    /// How long the session lives after the client has closed its connection or gone, if that is
    /// shorter than the timeout: then its lease is as short.
    pub disconnect_grace_ms: u32,
    /// The member's last applied zxid.
    pub zxid: Zxid,
}

/// A request and the number that its reply will carry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RequestFrame {
    /// Chosen by the client, ascending.
    pub xid: u64,
    /// What is asked.
    pub request: Request,
}

/// What a member sends after its hello.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ServerFrame {
    /// The answer to one request.
    Reply {
        /// The request's number.
        xid: u64,
        /// The zxid of the write, or of the state that a read saw.
        zxid: Zxid,
        /// The answer.
        result: Result<Response, CoordinationError>,
    },
    /// A watch fired.
    Watch(WatchEvent),
    /// One page of a subscription's first snapshot, in the order of the paths.
    Snapshot {
        /// Which subscription (the xid of its request).
        subscription: u64,
        /// The state that all pages together show.
        zxid: Zxid,
        /// Some of the nodes.
        nodes: Vec<SnapshotNode>,
        /// Whether this was the last page.
        last: bool,
    },
    /// All changes of one zxid below a subscription's prefix.
    Changes {
        /// Which subscription (the xid of its request).
        subscription: u64,
        /// Their place in the order of all changes.
        zxid: Zxid,
        /// The changes, in the order in which they were made.
        changes: Vec<Change>,
        /// Whether these are the zxid's last. If not, the next frame of this subscription goes on.
        last: bool,
    },
    /// The member's last frame: it closes the connection. After
    /// [`CoordinationError::SessionExpired`] the session is gone; after any other error it may be
    /// resumed.
    Closed {
        /// Why.
        error: CoordinationError,
    },
}

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// Keeps the session alive.
    Ping,
    /// One operation that changes the tree.
    Write(Op),
    /// Several, all or none.
    Multi(Vec<Op>),
    /// Data and stat of a node.
    Get {
        /// The node.
        path: String,
        /// Leave a one-shot watch for its change or deletion.
        watch: bool,
        /// Ask the leader, so that every write that completed before is seen.
        linearizable: bool,
    },
    /// The stat of a node, or none.
    Exists {
        /// The node.
        path: String,
        /// Leave a one-shot watch for its creation, change or deletion.
        watch: bool,
        /// As for `Get`.
        linearizable: bool,
    },
    /// The names of a node's children, sorted, and its stat.
    GetChildren {
        /// The node.
        path: String,
        /// Leave a one-shot watch for a child's creation or deletion, or the node's deletion.
        watch: bool,
        /// As for `Get`.
        linearizable: bool,
    },
    /// A node's access list and stat.
    GetAcl {
        /// The node.
        path: String,
    },
    /// The paths of the session's ephemeral nodes below a prefix.
    GetEphemerals {
        /// `/` for all of them.
        prefix: String,
    },
    /// Completes when this member has applied all that was committed when it was asked.
    Sync,
    /// Leaves a watch that stays until it is removed or the connection ends.
    AddWatch {
        /// The node.
        path: String,
        /// Whether nodes below are watched as well.
        recursive: bool,
    },
    /// Removes the watches of this connection on a path.
    RemoveWatches {
        /// The node.
        path: String,
    },
    /// Sends the nodes below a prefix (and the prefix itself), then every change of them with its
    /// data, until the connection ends. Answered by [`Response::Subscribed`], which comes before
    /// the first frame of the subscription. Nodes that the session may not read are left out.
    Subscribe {
        /// A path; `/` for the whole tree.
        prefix: String,
        /// The last zxid that the client has; the member sends only what follows if its history
        /// reaches back so far, else a snapshot.
        from_zxid: Option<Zxid>,
    },
    /// Ends a subscription of this connection.
    Unsubscribe {
        /// The xid of its request.
        subscription: u64,
    },
    /// Adds an identity to the connection (`digest`: `user:password`).
    Auth {
        /// ZooKeeper's scheme.
        scheme: String,
        /// The proof.
        #[serde(with = "serde_bytes")]
        credential: Vec<u8>,
    },
    /// The member's state and figures.
    Status,
    /// Ends the session now; its ephemeral nodes go.
    CloseSession,
}

/// An operation that changes the tree or, as a part of a multi, guards it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Makes a node.
    Create {
        /// The path; a sequential node's number is appended to it.
        path: String,
        /// The node's data.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
        /// The kind of node.
        mode: CreateMode,
        /// Who may do what.
        acl: Vec<Acl>,
    },
    /// Makes a node that has no data at all, which ZooKeeper's clients tell from data without
    /// bytes.
    CreateWithoutData {
        /// The path; a sequential node's number is appended to it.
        path: String,
        /// The kind of node.
        mode: CreateMode,
        /// Who may do what.
        acl: Vec<Acl>,
    },
    /// Removes a node that has no children.
    Delete {
        /// The node.
        path: String,
        /// The version of its data that it must have.
        version: Option<i32>,
    },
    /// Removes a node and everything below it.
    DeleteRecursive {
        /// The node.
        path: String,
        /// The version of its data that it must have.
        version: Option<i32>,
    },
    /// Replaces a node's data.
    SetData {
        /// The node.
        path: String,
        /// The new data.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
        /// The version of its data that it must have.
        version: Option<i32>,
    },
    /// Takes a node's data away; see [`Op::CreateWithoutData`].
    ClearData {
        /// The node.
        path: String,
        /// The version of its data that it must have.
        version: Option<i32>,
    },
    /// Replaces a node's access list.
    SetAcl {
        /// The node.
        path: String,
        /// The new list.
        acl: Vec<Acl>,
        /// The version of its list that it must have.
        version: Option<i32>,
    },
    /// Changes nothing; fails unless the node is there and is as told.
    Check {
        /// The node.
        path: String,
        /// The version of its data that it must have.
        version: Option<i32>,
        /// The zxid that it must have been created at: tells a node from a later one of the same
        /// path.
        czxid: Option<Zxid>,
    },
    /// Changes nothing; fails if the node is there.
    CheckAbsent {
        /// The path.
        path: String,
    },
}

/// The kind of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CreateMode {
    /// Stays until it is deleted.
    #[default]
    Persistent,
    /// Stays; its name ends in a number of ten digits, counted by its parent.
    PersistentSequential,
    /// Goes with the session that made it.
    Ephemeral,
    /// Goes with the session; numbered.
    EphemeralSequential,
    /// Goes when it has had children and the last of them has gone.
    Container,
    /// Goes when it has had neither change nor children for a time.
    PersistentWithTtl {
        /// That time.
        ttl_ms: u64,
    },
    /// The same, numbered.
    PersistentSequentialWithTtl {
        /// That time.
        ttl_ms: u64,
    },
}

/// One entry of an access list.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Acl {
    /// Bits of [`permission`].
    pub permissions: u32,
    /// How the identity is proved: `world`, `auth`, `digest`, `ip`, `x509`, `sasl`.
    pub scheme: String,
    /// The identity.
    pub id: String,
}

/// The permissions of an [`Acl`], as bits.
pub mod permission {
    /// Read data and list children.
    pub const READ: u32 = 1;
    /// Replace data.
    pub const WRITE: u32 = 2;
    /// Make children.
    pub const CREATE: u32 = 4;
    /// Remove children.
    pub const DELETE: u32 = 8;
    /// Replace the access list.
    pub const ADMIN: u32 = 16;
    /// All of them.
    pub const ALL: u32 = 31;
}

impl Acl {
    /// Everyone may do everything: what nodes get unless told otherwise.
    pub fn open() -> Vec<Self> {
        vec![Self {
            permissions: permission::ALL,
            scheme: "world".to_owned(),
            id: "anyone".to_owned(),
        }]
    }
}

/// What is known of a node beside its data; ZooKeeper's `Stat`. Goes over the wire as a list
/// without names, since there are so many of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StatFields", into = "StatFields")]
pub struct Stat {
    /// The zxid that created it.
    pub czxid: Zxid,
    /// The zxid that last changed its data.
    pub mzxid: Zxid,
    /// The zxid that last changed its list of children.
    pub pzxid: Zxid,
    /// When it was created, milliseconds since 1970.
    pub ctime_ms: i64,
    /// When its data was last changed, milliseconds since 1970.
    pub mtime_ms: i64,
    /// How often its data was changed.
    pub version: i32,
    /// How often its list of children was changed.
    pub cversion: i32,
    /// How often its access list was changed.
    pub aversion: i32,
    /// The session that it goes with; 0 if it stays. As in ZooKeeper a container has `i64::MIN`,
    /// and a node with a time to live `0xff` in the highest byte and the time in the lowest five.
    pub ephemeral_owner: SessionId,
    /// The length of its data in bytes.
    pub data_length: i32,
    /// The number of its children.
    pub num_children: i32,
}

type StatFields = (Zxid, Zxid, Zxid, i64, i64, i32, i32, i32, SessionId, i32, i32);

impl From<Stat> for StatFields {
    fn from(stat: Stat) -> Self {
        (
            stat.czxid,
            stat.mzxid,
            stat.pzxid,
            stat.ctime_ms,
            stat.mtime_ms,
            stat.version,
            stat.cversion,
            stat.aversion,
            stat.ephemeral_owner,
            stat.data_length,
            stat.num_children,
        )
    }
}

impl From<StatFields> for Stat {
    fn from(fields: StatFields) -> Self {
        let (czxid, mzxid, pzxid, ctime_ms, mtime_ms, version, cversion, aversion, ..) = fields;
        let (.., ephemeral_owner, data_length, num_children) = fields;
        Self {
            czxid,
            mzxid,
            pzxid,
            ctime_ms,
            mtime_ms,
            version,
            cversion,
            aversion,
            ephemeral_owner,
            data_length,
            num_children,
        }
    }
}

/// Answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Response {
    /// Done, nothing to tell.
    Done,
    /// The outcome of a write.
    Written(OpResult),
    /// The outcomes of a multi that succeeded.
    Multi(Vec<OpResult>),
    /// A node's data.
    Data {
        /// The data.
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
        /// The node's stat.
        stat: Stat,
    },
    /// Whether a node is there.
    Exists(Option<Stat>),
    /// A node's children.
    Children {
        /// Their names, sorted.
        names: Vec<String>,
        /// The node's stat.
        stat: Stat,
    },
    /// A node's access list.
    Acl {
        /// The list.
        acl: Vec<Acl>,
        /// The node's stat.
        stat: Stat,
    },
    /// Paths, sorted.
    Ephemerals(Vec<String>),
    /// The member's figures.
    Status(Box<MemberStatus>),
    /// The subscription stands. The reply's zxid is the state that it starts from.
    Subscribed {
        /// Whether changes follow from where the client asked; else a snapshot comes first.
        resumed: bool,
    },
}

/// The outcome of one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OpResult {
    /// The node that was made.
    Created {
        /// Its path, with its number if it is sequential.
        path: String,
        /// Its stat.
        stat: Stat,
    },
    /// Data or list replaced.
    Set {
        /// The node's stat.
        stat: Stat,
    },
    /// Removed.
    Deleted,
    /// The guard held.
    Checked,
}

/// One change of the tree, with the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The node it happened to.
    pub path: String,
    /// The node's data after the change; empty after a deletion.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    /// The node's stat after the change; at a deletion, before it.
    pub stat: Stat,
}

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It was made.
    Created,
    /// Its data was replaced.
    DataSet,
    /// Its access list was replaced.
    AclSet,
    /// It was removed.
    Deleted,
}

/// One node of a subscription's snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotNode {
    /// Its path.
    pub path: String,
    /// Its data.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    /// Its stat.
    pub stat: Stat,
}

/// A watch fired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchEvent {
    /// What happened.
    pub kind: WatchEventKind,
    /// The node that the watch was left on, or for a recursive watch the one that changed.
    pub path: String,
    /// The change's place in the order of all changes.
    pub zxid: Zxid,
}

/// What a watch tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum WatchEventKind {
    /// The node was made.
    NodeCreated,
    /// The node was removed.
    NodeDeleted,
    /// Its data was replaced.
    NodeDataChanged,
    /// A child came or went.
    NodeChildrenChanged,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum CoordinationError {
    /// No such node.
    #[error("no node at {path}")]
    NoNode {
        /// The path that was looked for.
        path: String,
    },
    /// The node is there already.
    #[error("there is a node at {path} already")]
    NodeExists {
        /// The path.
        path: String,
    },
    /// A version or czxid is not the one that was asked for.
    #[error("the node at {path} has changed since it was read")]
    BadVersion {
        /// The node.
        path: String,
    },
    /// The node has children.
    #[error("the node at {path} has children")]
    NotEmpty {
        /// The node.
        path: String,
    },
    /// Ephemeral nodes cannot have children.
    #[error("the node at {path} is ephemeral and cannot have children")]
    NoChildrenForEphemerals {
        /// The parent.
        path: String,
    },
    /// The session may not do this.
    #[error("not allowed at {path}")]
    NoAuth {
        /// The node.
        path: String,
    },
    /// There is no watch of this connection at the path.
    #[error("no watch at {path}")]
    NoWatch {
        /// The path.
        path: String,
    },
    /// The access list is empty, or names what cannot be proved.
    #[error("the access list is not valid")]
    InvalidAcl,
    /// The path or another argument is not valid.
    #[error("{reason}")]
    BadArguments {
        /// What is wrong with it.
        reason: String,
    },
    /// One part of a multi failed, so nothing was done.
    #[error("part {index} of the multi failed: {error}")]
    MultiFailed {
        /// Which part, from 0.
        index: usize,
        /// Why.
        error: Box<CoordinationError>,
    },
    /// There is no such session any more.
    #[error("the session has expired")]
    SessionExpired,
    /// The session lives on another connection now.
    #[error("the session has moved to another connection")]
    SessionMoved,
    /// The identity was not proved.
    #[error("authentication failed")]
    AuthFailed,
    /// Only who has authenticated by SASL is answered.
    #[error("authentication by SASL is required")]
    SaslRequired,
    /// This member can only read now, since it knows no leader.
    #[error("this member can only read")]
    ReadOnly,
    /// The ensemble's members are not to be changed by clients.
    #[error("clients may not change the ensemble's members")]
    ReconfigDisabled,
    /// The ensemble's members are just being changed.
    #[error("another change of the ensemble's members is under way")]
    ReconfigInProgress,
    /// Too few of the members that there would be are ready.
    #[error("the members that there would be cannot decide")]
    NewConfigNoQuorum,
    /// The member has not yet applied what the client has seen.
    #[error("this member is behind what the client has seen")]
    MemberBehind,
    /// The node's quota does not allow it.
    #[error("the quota of {path} is exceeded")]
    QuotaExceeded {
        /// The node with the quota.
        path: String,
    },
    /// No leader, or no majority: it may be asked again. A write may or may not have been done.
    #[error("the ensemble cannot answer now")]
    Unavailable,
    /// Nothing is left for more of these; the text names the limit.
    #[error("limit reached: {limit}")]
    LimitReached {
        /// Which limit.
        limit: String,
    },
    /// The versions of client and member have none in common.
    #[error("no protocol version in common")]
    UnsupportedVersion,
    /// This member does not know such a request.
    #[error("not implemented by this member")]
    Unimplemented,
}
