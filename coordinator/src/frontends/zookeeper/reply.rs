//! The coordinator's answers and events, as ZooKeeper's clients read them. They are put into bytes
//! straight from the nodes.

use bytes::{BufMut, BytesMut};
use ottla_common::coordination::protocol::{
    Acl, CoordinationError, OpResult, WatchEvent, WatchEventKind,
};
use ottla_common::types::Zxid;

use super::jute::{Jute, put_length, put_message, put_slice};
use super::messages::{
    ReplyHeader, Stat, error_code, opcode, put_multi_end, put_multi_error, put_multi_header, xid,
};
use super::translate::{Expected, Shape};
use crate::tree::{Identity, Node, acl};
use crate::watches::Answer;

/// The state that events tell: connected.
const SYNC_CONNECTED: i32 = 3;

/// Appends the reply to a request.
pub fn put_reply(
    expected: &Expected,
    zxid: Zxid,
    result: Result<Answer, CoordinationError>,
    out: &mut BytesMut,
) {
    let Expected { xid, shape, .. } = expected;
    // ZooKeeper's.
    let zxid = if matches!(shape, Shape::Auth | Shape::Token) { 0 } else { zxid.0 };
    put_message(out, |out| match (shape, result) {
        (Shape::Refused(code), _) => ReplyHeader { xid: *xid, zxid, err: *code }.encode(out),
        (Shape::Multi(shapes), Err(CoordinationError::MultiFailed { index, error })) => {
            ReplyHeader { xid: *xid, zxid, err: 0 }.encode(out);
            put_failed_multi(shapes, index, &error, out);
        }
        (_, Ok(Answer::Exists(None))) => {
            ReplyHeader { xid: *xid, zxid, err: error_code::NO_NODE }.encode(out);
        }
        // ZooKeeper does not ask whether a path that is read can be one.
        (shape, Err(CoordinationError::BadArguments { .. })) if shape.is_of_a_node() => {
            ReplyHeader { xid: *xid, zxid, err: error_code::NO_NODE }.encode(out);
        }
        (_, Err(error)) => ReplyHeader { xid: *xid, zxid, err: code(&error) }.encode(out),
        (shape, Ok(answer)) => {
            ReplyHeader { xid: *xid, zxid, err: error_code::OK }.encode(out);
            put_answer(shape, answer, out);
        }
    });
}

/// Appends a watch event.
pub fn put_event(event: &WatchEvent, out: &mut BytesMut) {
    put_message(out, |out| {
        ReplyHeader { xid: xid::WATCH_EVENT, zxid: event.zxid.0, err: 0 }.encode(out);
        let kind = match event.kind {
            WatchEventKind::NodeCreated => 1,
            WatchEventKind::NodeDeleted => 2,
            WatchEventKind::NodeDataChanged => 3,
            WatchEventKind::NodeChildrenChanged => 4,
        };
        out.put_i32(kind);
        out.put_i32(SYNC_CONNECTED);
        put_slice(event.path.as_bytes(), out);
    });
}

fn put_answer(shape: &Shape, answer: Answer, out: &mut BytesMut) {
    match (shape, answer) {
        (Shape::Zero, _) => out.put_i32(0),
        (Shape::SamePath(path), _) => put_slice(path.as_bytes(), out),
        (shape, Answer::Written(result)) => put_result(shape, &result, out),
        (Shape::Multi(shapes), Answer::Multi(results)) => {
            for (shape, result) in shapes.iter().zip(&results) {
                put_multi_header(op_of(shape, result), out);
                put_result(shape, result, out);
            }
            put_multi_end(out);
        }
        (Shape::ReadMany(shapes), Answer::Many(answers)) => {
            for (shape, answer) in shapes.iter().zip(answers) {
                match answer {
                    Ok(answer) => {
                        put_multi_header(read_op(shape), out);
                        put_answer(shape, answer, out);
                    }
                    Err(error) => put_multi_error(code(&error), out),
                }
            }
            put_multi_end(out);
        }
        (_, Answer::Data(node)) => {
            match node.data_if_any() {
                Some(data) => put_slice(data, out),
                None => out.put_i32(-1),
            }
            Stat::from(node.stat()).encode(out);
        }
        (_, Answer::Exists(Some(stat))) => Stat::from(stat).encode(out),
        (shape, Answer::Children(node)) => {
            put_names(&node, out);
            if *shape == Shape::ChildrenAndStat {
                Stat::from(node.stat()).encode(out);
            }
        }
        (_, Answer::Acl(acl, stat)) => {
            put_acl(&acl, out);
            Stat::from(stat).encode(out);
        }
        (_, Answer::Ephemerals(paths)) => paths.encode(out),
        (_, Answer::Token(token)) => put_slice(&token, out),
        (_, Answer::Count(count)) => out.put_i32(i32::try_from(count).unwrap_or(i32::MAX)),
        (_, Answer::Identities(identities)) => put_identities(&identities, out),
        _ => {}
    }
}

/// What one write led to.
fn put_result(shape: &Shape, result: &OpResult, out: &mut BytesMut) {
    match result {
        OpResult::Created { path, stat } => {
            put_slice(path.as_bytes(), out);
            if *shape == Shape::PathAndStat {
                Stat::from(*stat).encode(out);
            }
        }
        OpResult::Set { stat } => Stat::from(*stat).encode(out),
        OpResult::Deleted | OpResult::Checked => {}
    }
}

/// The operation that a result of a multi tells of.
fn op_of(shape: &Shape, result: &OpResult) -> i32 {
    match result {
        OpResult::Created { .. } if *shape == Shape::PathAndStat => opcode::CREATE2,
        OpResult::Created { .. } => opcode::CREATE,
        OpResult::Set { .. } => opcode::SET_DATA,
        OpResult::Deleted => opcode::DELETE,
        OpResult::Checked => opcode::CHECK,
    }
}

fn read_op(shape: &Shape) -> i32 {
    if *shape == Shape::Data { opcode::GET_DATA } else { opcode::GET_CHILDREN }
}

/// The results of a multi that failed: those before the failure tell that nothing was wrong with
/// them, those behind it that they were not tried.
fn put_failed_multi(
    shapes: &[Shape],
    failed: usize,
    error: &CoordinationError,
    out: &mut BytesMut,
) {
    for (index, shape) in shapes.iter().enumerate() {
        put_multi_error(
            match (index.cmp(&failed), shape) {
                (std::cmp::Ordering::Less, _) => error_code::OK,
                (std::cmp::Ordering::Equal, Shape::Refused(code)) => *code,
                (std::cmp::Ordering::Equal, _) => code(error),
                (std::cmp::Ordering::Greater, _) => error_code::RUNTIME_INCONSISTENCY,
            },
            out,
        );
    }
    put_multi_end(out);
}

fn put_names(node: &Node, out: &mut BytesMut) {
    put_length(node.children.len(), out);
    node.children.each_name(&mut |name| put_slice(name.as_bytes(), out));
}

fn put_acl(acl: &[Acl], out: &mut BytesMut) {
    put_length(acl.len(), out);
    for entry in acl {
        out.put_i32(entry.permissions.cast_signed());
        put_slice(entry.scheme.as_bytes(), out);
        put_slice(entry.id.as_bytes(), out);
    }
}

/// Who someone is; without the hash of a password.
fn put_identities(identities: &[Identity], out: &mut BytesMut) {
    let shown = || identities.iter().filter(|identity| identity.scheme != acl::SUPER);
    put_length(shown().count(), out);
    for Identity { scheme, id } in shown() {
        let user = match id.split_once(':') {
            Some((user, _)) if scheme == "digest" => user,
            _ => id,
        };
        put_slice(scheme.as_bytes(), out);
        put_slice(user.as_bytes(), out);
    }
}

/// ZooKeeper's number of an error.
pub fn code(error: &CoordinationError) -> i32 {
    match error {
        CoordinationError::NoNode { .. } => error_code::NO_NODE,
        CoordinationError::NodeExists { .. } => error_code::NODE_EXISTS,
        CoordinationError::BadVersion { .. } => error_code::BAD_VERSION,
        CoordinationError::NotEmpty { .. } => error_code::NOT_EMPTY,
        CoordinationError::NoChildrenForEphemerals { .. } => error_code::NO_CHILDREN_FOR_EPHEMERALS,
        CoordinationError::NoAuth { .. } => error_code::NO_AUTH,
        CoordinationError::NoWatch { .. } => error_code::NO_WATCHER,
        CoordinationError::InvalidAcl => error_code::INVALID_ACL,
        CoordinationError::BadArguments { .. } => error_code::BAD_ARGUMENTS,
        CoordinationError::MultiFailed { error, .. } => code(error),
        CoordinationError::QuotaExceeded { .. } => error_code::QUOTA_EXCEEDED,
        CoordinationError::SessionExpired => error_code::SESSION_EXPIRED,
        CoordinationError::SessionMoved => error_code::SESSION_MOVED,
        CoordinationError::AuthFailed => error_code::AUTH_FAILED,
        CoordinationError::ReadOnly => error_code::NOT_READ_ONLY,
        CoordinationError::ReconfigDisabled => error_code::RECONFIG_DISABLED,
        CoordinationError::ReconfigInProgress => error_code::RECONFIG_IN_PROGRESS,
        CoordinationError::NewConfigNoQuorum => error_code::NEW_CONFIG_NO_QUORUM,
        CoordinationError::SaslRequired => error_code::SESSION_CLOSED_REQUIRE_SASL_AUTH,
        CoordinationError::Unimplemented => error_code::UNIMPLEMENTED,
        CoordinationError::MemberBehind | CoordinationError::Unavailable => {
            error_code::CONNECTION_LOSS
        }
        CoordinationError::LimitReached { .. } | CoordinationError::UnsupportedVersion => {
            error_code::SYSTEM_ERROR
        }
    }
}
