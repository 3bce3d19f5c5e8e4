//! The messages of ZooKeeper's client protocol, encoded and decoded both ways, so that test clients
//! and load generators use them as well as the server.
//!
//! A connection begins with a [`ConnectRequest`] and a [`ConnectResponse`]. Then the client sends
//! [`RequestHeader`]s, each followed by a [`Request`], and the server [`ReplyHeader`]s, each
//! followed by a [`Response`] where the header's `err` is 0, or by a [`WatcherEvent`] where its xid
//! is [`xid::WATCH_EVENT`]. Every message stands behind its length in four bytes.

use bytes::BytesMut;
use ottla_common::coordination::protocol;
use ottla_common::types::{SessionId, Zxid};

use super::jute::{Jute, JuteError, Reader, records};
use crate::limits::MULTI_OPS_MAX;

/// Bytes, or nothing at all.
pub type Buffer = Option<Vec<u8>>;

/// The reserved numbers of requests.
pub mod xid {
    /// Not a reply: a watch fired.
    pub const WATCH_EVENT: i32 = -1;
    /// A ping.
    pub const PING: i32 = -2;
    /// An authentication.
    pub const AUTH: i32 = -4;
    /// Watches set again after a reconnect.
    pub const SET_WATCHES: i32 = -8;
}

/// The numbers of operations.
pub mod opcode {
    #![allow(missing_docs)]
    pub const CREATE: i32 = 1;
    pub const DELETE: i32 = 2;
    pub const EXISTS: i32 = 3;
    pub const GET_DATA: i32 = 4;
    pub const SET_DATA: i32 = 5;
    pub const GET_ACL: i32 = 6;
    pub const SET_ACL: i32 = 7;
    pub const GET_CHILDREN: i32 = 8;
    pub const SYNC: i32 = 9;
    pub const PING: i32 = 11;
    pub const GET_CHILDREN2: i32 = 12;
    pub const CHECK: i32 = 13;
    pub const MULTI: i32 = 14;
    pub const CREATE2: i32 = 15;
    pub const RECONFIG: i32 = 16;
    pub const CHECK_WATCHES: i32 = 17;
    pub const REMOVE_WATCHES: i32 = 18;
    pub const CREATE_CONTAINER: i32 = 19;
    pub const DELETE_CONTAINER: i32 = 20;
    pub const CREATE_TTL: i32 = 21;
    pub const MULTI_READ: i32 = 22;
    pub const AUTH: i32 = 100;
    pub const SET_WATCHES: i32 = 101;
    pub const SASL: i32 = 102;
    pub const GET_EPHEMERALS: i32 = 103;
    pub const GET_ALL_CHILDREN_NUMBER: i32 = 104;
    pub const SET_WATCHES2: i32 = 105;
    pub const ADD_WATCH: i32 = 106;
    pub const WHO_AM_I: i32 = 107;
    pub const CREATE_SESSION: i32 = -10;
    pub const CLOSE_SESSION: i32 = -11;
    /// In a multi's reply: the operation failed.
    pub const ERROR: i32 = -1;
}

/// The numbers of errors.
pub mod error_code {
    #![allow(missing_docs)]
    pub const OK: i32 = 0;
    pub const SYSTEM_ERROR: i32 = -1;
    pub const RUNTIME_INCONSISTENCY: i32 = -2;
    pub const CONNECTION_LOSS: i32 = -4;
    pub const MARSHALLING_ERROR: i32 = -5;
    pub const UNIMPLEMENTED: i32 = -6;
    pub const OPERATION_TIMEOUT: i32 = -7;
    pub const BAD_ARGUMENTS: i32 = -8;
    pub const NEW_CONFIG_NO_QUORUM: i32 = -13;
    pub const RECONFIG_IN_PROGRESS: i32 = -14;
    pub const NO_NODE: i32 = -101;
    pub const NO_AUTH: i32 = -102;
    pub const BAD_VERSION: i32 = -103;
    pub const NO_CHILDREN_FOR_EPHEMERALS: i32 = -108;
    pub const NODE_EXISTS: i32 = -110;
    pub const NOT_EMPTY: i32 = -111;
    pub const SESSION_EXPIRED: i32 = -112;
    pub const INVALID_ACL: i32 = -114;
    pub const AUTH_FAILED: i32 = -115;
    pub const SESSION_MOVED: i32 = -118;
    pub const NOT_READ_ONLY: i32 = -119;
    pub const NO_WATCHER: i32 = -121;
    pub const RECONFIG_DISABLED: i32 = -123;
    pub const SESSION_CLOSED_REQUIRE_SASL_AUTH: i32 = -124;
    pub const QUOTA_EXCEEDED: i32 = -125;
    pub const THROTTLED_OP: i32 = -127;
}

records! {
    /// Who someone is, in a scheme.
    Id { scheme: String, id: String, }
    /// An entry of an access list.
    Acl { perms: i32, id: Id, }
    /// What is known of a node beside its data.
    Stat {
        czxid: i64,
        mzxid: i64,
        ctime: i64,
        mtime: i64,
        version: i32,
        cversion: i32,
        aversion: i32,
        ephemeral_owner: i64,
        data_length: i32,
        num_children: i32,
        pzxid: i64,
    }
    /// An identity that a connection has proved.
    ClientInfo { auth_scheme: String, user: String, }
    /// Before each request but the first.
    RequestHeader { xid: i32, op: i32, }
    /// Before each reply and event.
    ReplyHeader { xid: i32, zxid: i64, err: i32, }
    /// A watch fired.
    WatcherEvent { kind: i32, state: i32, path: String, }
    /// Before each operation of a multi and each result of one.
    MultiHeader { op: i32, done: bool, err: i32, }

    /// Makes a node.
    CreateRequest { path: String, data: Buffer, acl: Vec<Acl>, flags: i32, }
    /// Makes a node with a time to live.
    CreateTtlRequest { path: String, data: Buffer, acl: Vec<Acl>, flags: i32, ttl: i64, }
    /// A node and the version that it must have; -1 for any.
    VersionedPath { path: String, version: i32, }
    /// A node, and whether to leave a watch.
    WatchedPath { path: String, watch: bool, }
    /// A node.
    PathRequest { path: String, }
    /// Replaces a node's data.
    SetDataRequest { path: String, data: Buffer, version: i32, }
    /// Replaces a node's access list.
    SetAclRequest { path: String, acl: Vec<Acl>, version: i32, }
    /// Changes the members of the ensemble.
    ReconfigRequest {
        joining_servers: String,
        leaving_servers: String,
        new_members: String,
        cur_config_id: i64,
    }
    /// A node and a type of watches.
    WatchesRequest { path: String, kind: i32, }
    /// Leaves a watch that stays.
    AddWatchRequest { path: String, mode: i32, }
    /// The proof of an identity.
    AuthPacket { kind: i32, scheme: String, auth: Buffer, }
    /// A step of SASL, either way.
    SaslToken { token: Buffer, }
    /// Watches that a client had on its last connection.
    SetWatches {
        relative_zxid: i64,
        data_watches: Vec<String>,
        exist_watches: Vec<String>,
        child_watches: Vec<String>,
    }
    /// The same with those that stay.
    SetWatches2 {
        relative_zxid: i64,
        data_watches: Vec<String>,
        exist_watches: Vec<String>,
        child_watches: Vec<String>,
        persistent_watches: Vec<String>,
        persistent_recursive_watches: Vec<String>,
    }

    /// A path.
    PathResponse { path: String, }
    /// A path and its stat.
    Create2Response { path: String, stat: Stat, }
    /// A stat.
    StatResponse { stat: Stat, }
    /// A node's data.
    GetDataResponse { data: Buffer, stat: Stat, }
    /// The names of a node's children.
    GetChildrenResponse { children: Vec<String>, }
    /// The same with the node's stat.
    GetChildren2Response { children: Vec<String>, stat: Stat, }
    /// A node's access list.
    GetAclResponse { acl: Vec<Acl>, stat: Stat, }
    /// How many nodes are below one.
    GetAllChildrenNumberResponse { total_number: i32, }
    /// The paths of ephemeral nodes.
    GetEphemeralsResponse { ephemerals: Vec<String>, }
    /// What a connection has proved.
    WhoAmIResponse { client_info: Vec<ClientInfo>, }
    /// An error where a record is expected.
    ErrorResponse { err: i32, }
}

/// The first message of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectRequest {
    /// 0.
    pub protocol_version: i32,
    /// The highest zxid that the client saw.
    pub last_zxid_seen: i64,
    /// The session timeout that it wants, in milliseconds.
    pub time_out: i32,
    /// The session to go on with; 0 for a new one.
    pub session_id: i64,
    /// That session's secret.
    pub passwd: Buffer,
    /// Whether a member will do that can only read. Old clients do not say.
    pub read_only: Option<bool>,
}

/// The answer to a [`ConnectRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectResponse {
    /// 0.
    pub protocol_version: i32,
    /// The session timeout in force, in milliseconds; 0 if the session has expired.
    pub time_out: i32,
    /// The session; 0 if it has expired.
    pub session_id: i64,
    /// Its secret.
    pub passwd: Buffer,
    /// Whether this member can only read. Not said to those who did not.
    pub read_only: Option<bool>,
}

impl Jute for ConnectRequest {
    const SIZE_MIN: usize = 28;

    fn encode(&self, out: &mut BytesMut) {
        self.protocol_version.encode(out);
        self.last_zxid_seen.encode(out);
        self.time_out.encode(out);
        self.session_id.encode(out);
        self.passwd.encode(out);
        if let Some(read_only) = self.read_only {
            read_only.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        Ok(Self {
            protocol_version: reader.read()?,
            last_zxid_seen: reader.read()?,
            time_out: reader.read()?,
            session_id: reader.read()?,
            passwd: reader.read()?,
            read_only: if reader.is_empty() { None } else { Some(reader.read()?) },
        })
    }
}

impl Jute for ConnectResponse {
    const SIZE_MIN: usize = 20;

    fn encode(&self, out: &mut BytesMut) {
        self.protocol_version.encode(out);
        self.time_out.encode(out);
        self.session_id.encode(out);
        self.passwd.encode(out);
        if let Some(read_only) = self.read_only {
            read_only.encode(out);
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        Ok(Self {
            protocol_version: reader.read()?,
            time_out: reader.read()?,
            session_id: reader.read()?,
            passwd: reader.read()?,
            read_only: if reader.is_empty() { None } else { Some(reader.read()?) },
        })
    }
}

/// Declares the requests: the number, the name, the record of the request and of the response.
macro_rules! operations {
    ($($(#[$attribute:meta])* $number:ident $name:ident($($request:ty)?) -> ($($response:ty)?);)*)
    => {
        /// What a client asks.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Request {
            $($(#[$attribute])* $name $(($request))?,)*
        }

        /// What the server answers, if all went well.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Response {
            $($(#[$attribute])* $name $(($response))?,)*
        }

        impl Request {
            /// The number of the operation.
            pub fn op(&self) -> i32 {
                match self {
                    $(Self::$name { .. } => opcode::$number,)*
                }
            }

            /// Appends the request without its header.
            pub fn encode(&self, out: &mut BytesMut) {
                match self {
                    $(operations!(@pattern request $name $(($request))?) => {
                        let _ = &out;
                        $(<$request as Jute>::encode(request, out);)?
                    })*
                }
            }

            /// Reads the request of an operation; none if there is no such operation.
            pub fn decode(
                op: i32,
                reader: &mut Reader<'_>,
            ) -> Result<Option<Self>, JuteError> {
                Ok(match op {
                    $(opcode::$number =>
                        Some(operations!(@read reader $name $(($request))?)),)*
                    _ => None,
                })
            }
        }

        impl Response {
            /// Appends the response without its header.
            pub fn encode(&self, out: &mut BytesMut) {
                match self {
                    $(operations!(@pattern response $name $(($response))?) => {
                        let _ = &out;
                        $(<$response as Jute>::encode(response, out);)?
                    })*
                }
            }

            /// Reads the response of an operation; none if there is no such operation.
            pub fn decode(
                op: i32,
                reader: &mut Reader<'_>,
            ) -> Result<Option<Self>, JuteError> {
                Ok(match op {
                    $(opcode::$number =>
                        Some(operations!(@read reader $name $(($response))?)),)*
                    _ => None,
                })
            }
        }
    };
    (@pattern $record:ident $name:ident) => { Self::$name };
    (@pattern $record:ident $name:ident ($type:ty)) => { Self::$name($record) };
    (@read $reader:ident $name:ident) => { Self::$name };
    (@read $reader:ident $name:ident ($type:ty)) => { Self::$name($reader.read()?) };
}

operations! {
    /// Makes a node; answered with its path.
    CREATE Create(CreateRequest) -> (PathResponse);
    /// Makes a node; answered with its path and stat.
    CREATE2 Create2(CreateRequest) -> (Create2Response);
    /// Makes a container.
    CREATE_CONTAINER CreateContainer(CreateRequest) -> (Create2Response);
    /// Makes a node with a time to live.
    CREATE_TTL CreateTtl(CreateTtlRequest) -> (Create2Response);
    /// Removes a node.
    DELETE Delete(VersionedPath) -> ();
    /// Removes an idle container; for members among themselves.
    DELETE_CONTAINER DeleteContainer(PathRequest) -> ();
    /// Asks for a node's stat.
    EXISTS Exists(WatchedPath) -> (StatResponse);
    /// Asks for a node's data.
    GET_DATA GetData(WatchedPath) -> (GetDataResponse);
    /// Replaces a node's data.
    SET_DATA SetData(SetDataRequest) -> (StatResponse);
    /// Asks for a node's access list.
    GET_ACL GetAcl(PathRequest) -> (GetAclResponse);
    /// Replaces a node's access list.
    SET_ACL SetAcl(SetAclRequest) -> (StatResponse);
    /// Asks for the names of a node's children.
    GET_CHILDREN GetChildren(WatchedPath) -> (GetChildrenResponse);
    /// The same with the node's stat.
    GET_CHILDREN2 GetChildren2(WatchedPath) -> (GetChildren2Response);
    /// Waits until the member has caught up with the leader.
    SYNC Sync(PathRequest) -> (PathResponse);
    /// Keeps the session alive.
    PING Ping() -> ();
    /// Checks a node's version.
    CHECK Check(VersionedPath) -> ();
    /// Several operations, all or none.
    MULTI Multi(MultiRequest) -> (MultiResponse);
    /// Several reads.
    MULTI_READ MultiRead(MultiRequest) -> (MultiResponse);
    /// Changes the members of the ensemble; answered with the new configuration.
    RECONFIG Reconfig(ReconfigRequest) -> (GetDataResponse);
    /// Asks whether there is a watch.
    CHECK_WATCHES CheckWatches(WatchesRequest) -> ();
    /// Removes watches.
    REMOVE_WATCHES RemoveWatches(WatchesRequest) -> ();
    /// Proves an identity.
    AUTH Auth(AuthPacket) -> ();
    /// Sets watches again after a reconnect.
    SET_WATCHES SetWatches(SetWatches) -> ();
    /// The same with those that stay.
    SET_WATCHES2 SetWatches2(SetWatches2) -> ();
    /// A step of SASL.
    SASL Sasl(SaslToken) -> (SaslToken);
    /// Asks for the session's ephemeral nodes below a prefix.
    GET_EPHEMERALS GetEphemerals(PathRequest) -> (GetEphemeralsResponse);
    /// Asks how many nodes are below one.
    GET_ALL_CHILDREN_NUMBER GetAllChildrenNumber(PathRequest) -> (GetAllChildrenNumberResponse);
    /// Leaves a watch that stays.
    ADD_WATCH AddWatch(AddWatchRequest) -> (ErrorResponse);
    /// Asks what the connection has proved.
    WHO_AM_I WhoAmI() -> (WhoAmIResponse);
    /// Ends the session.
    CLOSE_SESSION CloseSession() -> ();
}

/// The operations of a multi.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiRequest {
    /// Each one of those that a multi may have.
    pub ops: Vec<Request>,
}

/// The results of a multi.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MultiResponse {
    /// One for each operation: a response, or the number of an error.
    pub results: Vec<Result<Response, i32>>,
}

/// The header behind the last item of a multi.
const MULTI_END: MultiHeader = MultiHeader { op: -1, done: true, err: -1 };

impl Jute for MultiRequest {
    const SIZE_MIN: usize = 9;

    fn encode(&self, out: &mut BytesMut) {
        for op in &self.ops {
            MultiHeader { op: op.op(), done: false, err: -1 }.encode(out);
            op.encode(out);
        }
        MULTI_END.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        let mut ops = Vec::new();
        loop {
            let MultiHeader { op, done, .. } = reader.read()?;
            if done {
                return Ok(Self { ops });
            }
            if ops.len() == MULTI_OPS_MAX {
                return Err(JuteError::TooMany { most: MULTI_OPS_MAX });
            }
            let request = if is_multi_op(op) { Request::decode(op, reader)? } else { None };
            ops.push(request.ok_or(JuteError::Type { type_code: op })?);
        }
    }
}

/// Whether an operation may be part of a multi, of writes or of reads.
fn is_multi_op(op: i32) -> bool {
    use opcode::{
        CHECK, CREATE, CREATE_CONTAINER, CREATE_TTL, CREATE2, DELETE, GET_CHILDREN, GET_DATA,
        SET_DATA,
    };
    matches!(
        op,
        CREATE
            | CREATE2
            | CREATE_TTL
            | CREATE_CONTAINER
            | DELETE
            | SET_DATA
            | CHECK
            | GET_CHILDREN
            | GET_DATA
    )
}

impl Response {
    /// The number that stands before it in the reply to a multi.
    fn multi_op(&self) -> i32 {
        match self {
            Self::Create(_) => opcode::CREATE,
            Self::Create2(_) | Self::CreateTtl(_) | Self::CreateContainer(_) => opcode::CREATE2,
            Self::Delete => opcode::DELETE,
            Self::SetData(_) => opcode::SET_DATA,
            Self::Check => opcode::CHECK,
            Self::GetChildren(_) => opcode::GET_CHILDREN,
            Self::GetData(_) => opcode::GET_DATA,
            _ => opcode::ERROR,
        }
    }
}

impl Jute for MultiResponse {
    const SIZE_MIN: usize = 9;

    fn encode(&self, out: &mut BytesMut) {
        for result in &self.results {
            match result {
                Ok(response) => {
                    MultiHeader { op: response.multi_op(), done: false, err: 0 }.encode(out);
                    response.encode(out);
                }
                Err(err) => put_multi_error(*err, out),
            }
        }
        MULTI_END.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, JuteError> {
        let mut results = Vec::new();
        loop {
            let MultiHeader { op, done, .. } = reader.read()?;
            if done {
                return Ok(Self { results });
            }
            if results.len() == MULTI_OPS_MAX {
                return Err(JuteError::TooMany { most: MULTI_OPS_MAX });
            }
            if op == opcode::ERROR {
                let ErrorResponse { err } = reader.read()?;
                results.push(Err(err));
                continue;
            }
            let response = if is_multi_op(op) { Response::decode(op, reader)? } else { None };
            results.push(Ok(response.ok_or(JuteError::Type { type_code: op })?));
        }
    }
}

/// Appends one result of a multi, a failure.
pub(super) fn put_multi_error(err: i32, out: &mut BytesMut) {
    MultiHeader { op: opcode::ERROR, done: false, err }.encode(out);
    err.encode(out);
}

/// Appends the header before one result of a multi, a success.
pub(super) fn put_multi_header(op: i32, out: &mut BytesMut) {
    MultiHeader { op, done: false, err: 0 }.encode(out);
}

/// Appends what stands behind the last result of a multi.
pub(super) fn put_multi_end(out: &mut BytesMut) {
    MULTI_END.encode(out);
}

impl From<protocol::Stat> for Stat {
    fn from(stat: protocol::Stat) -> Self {
        // Inside, containers and nodes with a time to live have owners that are no sessions.
        // ZooKeeper's servers keep such owners too, and do not show them.
        let SessionId(ephemeral_owner) = stat.ephemeral_owner;
        let ephemeral_owner = ephemeral_owner.max(0);
        let (Zxid(czxid), Zxid(mzxid), Zxid(pzxid)) = (stat.czxid, stat.mzxid, stat.pzxid);
        Self {
            czxid,
            mzxid,
            ctime: stat.ctime_ms,
            mtime: stat.mtime_ms,
            version: stat.version,
            cversion: stat.cversion,
            aversion: stat.aversion,
            ephemeral_owner,
            data_length: stat.data_length,
            num_children: stat.num_children,
            pzxid,
        }
    }
}

#[cfg(test)]
mod tests;
