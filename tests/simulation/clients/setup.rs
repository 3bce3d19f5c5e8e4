//! The nodes that all clients work with.

use ottla_common::coordination::protocol::{Acl, CreateMode, Op, permission};

use crate::invariants::access::SECRET;
use crate::invariants::multi_atomicity::PAIR;

/// The registers.
pub const REGISTERS: [&str; 3] = ["/r/0", "/r/1", "/r/2"];

/// Nodes that come and go.
pub const FLEETING: [&str; 3] = ["/w/0", "/w/1", "/w/2"];

/// Parents of sequential nodes: of those that stay, and of those that are deleted.
pub const SEQUENCES: [&str; 2] = ["/s", "/q"];

/// What makes the nodes, one after the other; the two of the pair come together.
pub fn steps() -> Vec<Vec<Op>> {
    let plain = |path: &str| Op::Create {
        path: path.to_owned(),
        data: Vec::new(),
        mode: CreateMode::Persistent,
        acl: Acl::open(),
    };
    let mut steps: Vec<Vec<Op>> = Vec::new();
    for path in ["/r", "/w", "/e", "/pair"].into_iter().chain(SEQUENCES).chain(REGISTERS) {
        steps.push(vec![plain(path)]);
    }
    steps.push(PAIR.into_iter().map(plain).collect());
    let acl = vec![Acl {
        permissions: permission::ALL,
        scheme: "digest".to_owned(),
        id: "owner:0123456789abcdefghijklmnopq=".to_owned(),
    }];
    let (path, data, mode) = (SECRET.to_owned(), b"secret".to_vec(), CreateMode::Persistent);
    steps.push(vec![Op::Create { path, data, mode, acl }]);
    steps
}
