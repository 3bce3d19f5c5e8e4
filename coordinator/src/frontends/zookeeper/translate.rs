//! What ZooKeeper's requests ask for, in the coordinator's words.

use ottla_common::coordination::protocol::{
    self, CoordinationError, CreateMode, Op, Request as Common,
};
use ottla_common::types::Zxid;

use super::jute::{JuteError, Reader};
use super::messages::{self, MultiRequest, Request, RequestHeader, error_code};
use crate::requests::{Ask, Reconfiguration, WatchesToSet};
use crate::watches::WatchKind;

/// How a request is to be answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    /// The request's number.
    pub xid: i32,
    /// What kind of request it is.
    pub op: i32,
    /// When it was read, in milliseconds of a monotonic clock.
    pub received_ms: u64,
    /// What stands behind the reply's header.
    pub shape: Shape,
}

/// What stands behind a reply's header, if all went well.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing.
    Empty,
    /// Nothing, and no zxid in the header.
    Auth,
    /// The number 0, where there is nothing to tell.
    Zero,
    /// The path that was created.
    Path,
    /// The same and the node's stat.
    PathAndStat,
    /// The path that was asked about.
    SamePath(String),
    /// The stat of a node that was changed.
    Stat,
    /// The stat of a node, if there is one.
    ExistingStat,
    /// Data and stat.
    Data,
    /// Data and stat of the node that tells the members.
    Config,
    /// Names.
    Children,
    /// Names and stat.
    ChildrenAndStat,
    /// An access list and stat.
    Acl,
    /// Paths.
    Ephemerals,
    /// A number.
    Count,
    /// Identities.
    Identities,
    /// A token of SASL, and no zxid in the header.
    Token,
    /// The results of these operations.
    Multi(Vec<Shape>),
    /// The results of these reads.
    ReadMany(Vec<Shape>),
    /// Whatever the error is that the request was refused with, this is what the client is told.
    Refused(i32),
}

impl Shape {
    /// Whether it shows a node that was only read.
    pub fn is_of_a_node(&self) -> bool {
        matches!(
            self,
            Self::ExistingStat
                | Self::Data
                | Self::Children
                | Self::ChildrenAndStat
                | Self::Acl
                | Self::Count
        )
    }
}

/// Reads a request. An error if not even its header can be read: then the connection is of no more
/// use.
pub fn request(message: &[u8], received_ms: u64) -> Result<(Expected, Ask), JuteError> {
    let mut reader = Reader::new(message);
    let RequestHeader { xid, op } = reader.read()?;
    let (shape, ask) = match Request::decode(op, &mut reader) {
        Ok(Some(request)) => translate(request),
        Ok(None) => refused(error_code::UNIMPLEMENTED),
        Err(error) => {
            tracing::debug!(op, %error, "request cannot be read");
            refused(error_code::MARSHALLING_ERROR)
        }
    };
    Ok((Expected { xid, op, received_ms, shape }, ask))
}

/// Answers with an error in the request's turn.
fn refused(code: i32) -> (Shape, Ask) {
    (Shape::Refused(code), Ask::Refused(CoordinationError::Unimplemented))
}

fn translate(request: Request) -> (Shape, Ask) {
    let (linearizable, common) = (false, Ask::Common);
    match request {
        Request::Create(_)
        | Request::Create2(_)
        | Request::CreateContainer(_)
        | Request::CreateTtl(_)
        | Request::Delete(_)
        | Request::SetData(_) => match write(request) {
            Ok((shape, op)) => (shape, common(Common::Write(op))),
            Err(code) => refused(code),
        },
        Request::SetAcl(request) => {
            let op = Op::SetAcl {
                path: request.path,
                acl: acl(request.acl),
                version: version(request.version),
            };
            (Shape::Stat, common(Common::Write(op)))
        }
        Request::Multi(request) => multi(request),
        Request::MultiRead(request) => read_many(request),
        Request::GetData(_) | Request::GetChildren(_) => match read(request) {
            Some((shape, request)) => (shape, common(request)),
            None => refused(error_code::UNIMPLEMENTED),
        },
        Request::Exists(request) => {
            let (path, watch) = (request.path, request.watch);
            if path.contains('\0') {
                return refused(error_code::BAD_ARGUMENTS);
            }
            (Shape::ExistingStat, common(Common::Exists { path, watch, linearizable }))
        }
        Request::GetChildren2(request) => {
            let (path, watch) = (request.path, request.watch);
            (Shape::ChildrenAndStat, common(Common::GetChildren { path, watch, linearizable }))
        }
        Request::GetAcl(request) => (Shape::Acl, common(Common::GetAcl { path: request.path })),
        Request::Sync(request) => (Shape::SamePath(request.path), common(Common::Sync)),
        Request::Ping => (Shape::Empty, common(Common::Ping)),
        Request::CloseSession => (Shape::Empty, common(Common::CloseSession)),
        Request::Auth(request) => {
            let credential = request.auth.unwrap_or_default();
            (Shape::Auth, common(Common::Auth { scheme: request.scheme, credential }))
        }
        Request::GetEphemerals(request) => {
            (Shape::Ephemerals, Ask::EphemeralsFrom { prefix: request.path })
        }
        Request::GetAllChildrenNumber(request) => {
            (Shape::Count, Ask::DescendantCount { path: request.path })
        }
        Request::WhoAmI => (Shape::Identities, Ask::WhoAmI),
        // Not for clients, and not on its own.
        Request::DeleteContainer(_) | Request::Check(_) => refused(error_code::UNIMPLEMENTED),
        Request::Reconfig(request) => {
            let wanted = Reconfiguration {
                joining: request.joining_servers,
                leaving: request.leaving_servers,
                new_members: request.new_members,
                from_version: (request.cur_config_id != -1).then_some(request.cur_config_id),
            };
            (Shape::Config, Ask::Reconfigure(Box::new(wanted)))
        }
        Request::Sasl(request) => (Shape::Token, Ask::Sasl(request.token.unwrap_or_default())),
        Request::SetWatches(_)
        | Request::SetWatches2(_)
        | Request::AddWatch(_)
        | Request::CheckWatches(_)
        | Request::RemoveWatches(_) => watching(request),
    }
}

/// The requests that are about watches.
fn watching(request: Request) -> (Shape, Ask) {
    match request {
        Request::SetWatches(request) => {
            let watches = WatchesToSet {
                seen: Zxid(request.relative_zxid),
                data: request.data_watches,
                absent: request.exist_watches,
                children: request.child_watches,
                ..WatchesToSet::default()
            };
            (Shape::Empty, Ask::SetWatches(Box::new(watches)))
        }
        Request::SetWatches2(request) => {
            let watches = WatchesToSet {
                seen: Zxid(request.relative_zxid),
                data: request.data_watches,
                absent: request.exist_watches,
                children: request.child_watches,
                persistent: request.persistent_watches,
                recursive: request.persistent_recursive_watches,
            };
            (Shape::Empty, Ask::SetWatches(Box::new(watches)))
        }
        Request::AddWatch(request) => match request.mode {
            mode @ (0 | 1) => {
                (Shape::Zero, Ask::AddWatch { path: request.path, recursive: mode == 1 })
            }
            _ => refused(error_code::MARSHALLING_ERROR),
        },
        Request::CheckWatches(request) => match watch_kinds(request.kind) {
            Some(kinds) => (Shape::Empty, Ask::CheckWatches { path: request.path, kinds }),
            None => refused(error_code::MARSHALLING_ERROR),
        },
        Request::RemoveWatches(request) => match watch_kinds(request.kind) {
            Some(kinds) => (Shape::Empty, Ask::RemoveWatches { path: request.path, kinds }),
            None => refused(error_code::MARSHALLING_ERROR),
        },
        _ => refused(error_code::UNIMPLEMENTED),
    }
}

/// The kinds of watches that a type stands for.
fn watch_kinds(kind: i32) -> Option<&'static [WatchKind]> {
    Some(match kind {
        1 => &[WatchKind::Child],
        2 => &[WatchKind::Data],
        3 => &WatchKind::ALL,
        4 => &[WatchKind::Persistent],
        5 => &[WatchKind::Recursive],
        _ => return None,
    })
}

/// The operations that may be part of a multi. An error is the number that the client is told.
fn write(request: Request) -> Result<(Shape, Op), i32> {
    let op = match request {
        Request::Create(request) => {
            return Ok((Shape::Path, create(request, Mode::Plain)?));
        }
        Request::Create2(request) => {
            return Ok((Shape::PathAndStat, create(request, Mode::Plain)?));
        }
        Request::CreateContainer(request) => {
            return Ok((Shape::PathAndStat, create(request, Mode::Container)?));
        }
        Request::CreateTtl(request) => {
            let messages::CreateTtlRequest { path, data, acl, flags, ttl } = request;
            let request = messages::CreateRequest { path, data, acl, flags };
            return Ok((Shape::PathAndStat, create(request, Mode::Ttl(ttl))?));
        }
        Request::Delete(request) => {
            let op = Op::Delete { path: request.path, version: version(request.version) };
            return Ok((Shape::Empty, op));
        }
        Request::SetData(messages::SetDataRequest { path, data, version: asked }) => {
            let version = version(asked);
            match data {
                Some(data) => Op::SetData { path, data, version },
                None => Op::ClearData { path, version },
            }
        }
        Request::Check(request) => {
            let (path, version) = (request.path, version(request.version));
            return Ok((Shape::Empty, Op::Check { path, version, czxid: None }));
        }
        _ => return Err(error_code::UNIMPLEMENTED),
    };
    Ok((Shape::Stat, op))
}

/// Which of the requests that create.
#[derive(Clone, Copy)]
enum Mode {
    Plain,
    Container,
    Ttl(i64),
}

fn create(request: messages::CreateRequest, asked: Mode) -> Result<Op, i32> {
    let ttl = || match asked {
        Mode::Ttl(ttl) => u64::try_from(ttl).map_err(|_| error_code::BAD_ARGUMENTS),
        Mode::Plain | Mode::Container => Err(error_code::BAD_ARGUMENTS),
    };
    if request.flags <= 4 && ttl().is_ok() {
        return Err(error_code::BAD_ARGUMENTS);
    }
    let mode = match request.flags {
        0 => CreateMode::Persistent,
        1 => CreateMode::Ephemeral,
        2 => CreateMode::PersistentSequential,
        3 => CreateMode::EphemeralSequential,
        4 => CreateMode::Container,
        5 => CreateMode::PersistentWithTtl { ttl_ms: ttl()? },
        6 => CreateMode::PersistentSequentialWithTtl { ttl_ms: ttl()? },
        _ => return Err(error_code::BAD_ARGUMENTS),
    };
    let (path, acl) = (request.path, acl(request.acl));
    Ok(match request.data {
        Some(data) => Op::Create { path, data, mode, acl },
        None => Op::CreateWithoutData { path, mode, acl },
    })
}

/// The reads that may be part of a multi.
fn read(request: Request) -> Option<(Shape, Common)> {
    let linearizable = false;
    match request {
        Request::GetData(request) => {
            let (path, watch) = (request.path, request.watch);
            Some((Shape::Data, Common::Get { path, watch, linearizable }))
        }
        Request::GetChildren(request) => {
            let (path, watch) = (request.path, request.watch);
            Some((Shape::Children, Common::GetChildren { path, watch, linearizable }))
        }
        _ => None,
    }
}

fn multi(request: MultiRequest) -> (Shape, Ask) {
    let mut shapes = Vec::with_capacity(request.ops.len());
    let mut ops = Vec::with_capacity(request.ops.len());
    for request in request.ops {
        let (shape, op) = match write(request) {
            Ok(op) => op,
            Err(error_code::UNIMPLEMENTED) => return refused(error_code::MARSHALLING_ERROR),
            // Those before it may fail for another reason; it fails in its turn, by its path.
            Err(code) => {
                let (path, version, czxid) = (String::new(), None, None);
                (Shape::Refused(code), Op::Check { path, version, czxid })
            }
        };
        shapes.push(shape);
        ops.push(op);
    }
    (Shape::Multi(shapes), Ask::Common(Common::Multi(ops)))
}

fn read_many(request: MultiRequest) -> (Shape, Ask) {
    match request.ops.into_iter().map(read).collect::<Option<Vec<_>>>() {
        Some(reads) => {
            let (shapes, reads) = reads.into_iter().unzip();
            (Shape::ReadMany(shapes), Ask::ReadMany(reads))
        }
        None => refused(error_code::MARSHALLING_ERROR),
    }
}

fn version(version: i32) -> Option<i32> {
    (version != -1).then_some(version)
}

fn acl(acl: Vec<messages::Acl>) -> Vec<protocol::Acl> {
    let entry = |messages::Acl { perms, id }| protocol::Acl {
        permissions: i32::cast_unsigned(perms),
        scheme: id.scheme,
        id: id.id,
    };
    acl.into_iter().map(entry).collect()
}
