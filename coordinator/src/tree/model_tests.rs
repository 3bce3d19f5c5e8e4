//! The tree against a model so plain that it can be believed: a sorted map from paths to nodes.

use std::collections::BTreeMap;

use ottla_common::coordination::protocol::{
    Acl, ChangeKind, CoordinationError, CreateMode, Op, OpResult,
};
use ottla_common::types::{SessionId, Zxid};
use proptest::prelude::*;

use super::*;

/// What the model knows of a node.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    data: Vec<u8>,
    owner: i64,
    czxid: i64,
    mzxid: i64,
    pzxid: i64,
    version: i32,
    created: i32,
}

#[derive(Clone, Debug, Default)]
struct Model {
    nodes: BTreeMap<String, Plain>,
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        for path in RESERVED {
            model.nodes.insert(path.to_owned(), Plain::new(Vec::new(), 0, 0));
        }
        model
    }

    fn children(&self, path: &str) -> Vec<&str> {
        let paths = self.nodes.keys().filter_map(|path| path::split(path));
        paths.filter(|(parent, _)| *parent == path).map(|(_, name)| name).collect()
    }

    /// What the operation leads to: the path that was made, or the error's kind.
    fn apply(&mut self, zxid: i64, session: i64, op: &Op) -> Result<Option<String>, &'static str> {
        match op {
            Op::Create { path, data, mode, .. } => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                let parent_path = if parent.is_empty() { "/" } else { parent };
                let parent = self.nodes.get_mut(parent_path).ok_or("NoNode")?;
                let (owner, is_sequential) = match mode {
                    CreateMode::Persistent => (0, false),
                    CreateMode::PersistentSequential => (0, true),
                    CreateMode::Ephemeral => (session, false),
                    _ => (session, true),
                };
                let created = parent.created;
                let name =
                    if is_sequential { format!("{name}{created:010}") } else { name.to_owned() };
                let parent_owner = parent.owner;
                let path = path::join(parent_path, &name);
                if self.nodes.contains_key(&path) {
                    return Err("NodeExists");
                }
                if parent_owner != 0 {
                    return Err("NoChildrenForEphemerals");
                }
                let parent = self.nodes.get_mut(parent_path).unwrap();
                parent.created += 1;
                parent.pzxid = zxid;
                self.nodes.insert(path.clone(), Plain::new(data.clone(), owner, zxid));
                Ok(Some(path))
            }
            Op::Delete { path, version } => {
                self.check(path, *version)?;
                if !self.children(path).is_empty() {
                    return Err("NotEmpty");
                }
                self.remove(zxid, path);
                Ok(None)
            }
            Op::DeleteRecursive { path, version } => {
                self.check(path, *version)?;
                self.nodes.retain(|other, _| other == path || !path::is_within(other, path));
                self.remove(zxid, path);
                Ok(None)
            }
            Op::SetData { path, data, version } => {
                self.check(path, *version)?;
                let node = self.nodes.get_mut(path).unwrap();
                node.data.clone_from(data);
                node.version += 1;
                node.mzxid = zxid;
                Ok(None)
            }
            Op::Check { path, version, czxid } => {
                self.check(path, *version)?;
                let is_other = czxid.is_some_and(|czxid| czxid.0 != self.nodes[path].czxid);
                if is_other { Err("BadVersion") } else { Ok(None) }
            }
            Op::CheckAbsent { path } => {
                if self.nodes.contains_key(path) {
                    Err("NodeExists")
                } else {
                    Ok(None)
                }
            }
            Op::CreateWithoutData { .. } | Op::ClearData { .. } | Op::SetAcl { .. } => {
                unreachable!("not generated")
            }
        }
    }

    fn check(&self, path: &str, version: Option<i32>) -> Result<(), &'static str> {
        let node = self.nodes.get(path).ok_or("NoNode")?;
        if version.is_some_and(|version| version != node.version) {
            return Err("BadVersion");
        }
        Ok(())
    }

    fn remove(&mut self, zxid: i64, path: &str) {
        self.nodes.remove(path);
        let (parent, _) = path::split(path).unwrap();
        self.nodes.get_mut(parent).unwrap().pzxid = zxid;
    }

    fn end_session(&mut self, zxid: i64, session: i64) {
        let owned = self.nodes.iter().filter(|(_, node)| node.owner == session);
        let owned: Vec<String> = owned.map(|(path, _)| path.clone()).collect();
        for path in owned {
            self.remove(zxid, &path);
        }
    }
}

impl Plain {
    fn new(data: Vec<u8>, owner: i64, zxid: i64) -> Self {
        Self { data, owner, czxid: zxid, mzxid: zxid, pzxid: zxid, version: 0, created: 0 }
    }
}

fn kind_of(error: &CoordinationError) -> &'static str {
    match error {
        CoordinationError::NoNode { .. } => "NoNode",
        CoordinationError::NodeExists { .. } => "NodeExists",
        CoordinationError::BadVersion { .. } => "BadVersion",
        CoordinationError::NotEmpty { .. } => "NotEmpty",
        CoordinationError::NoChildrenForEphemerals { .. } => "NoChildrenForEphemerals",
        other => panic!("no such error was expected: {other}"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    Write { session: usize, op: Op },
    Multi { session: usize, ops: Vec<Op> },
    EndSession(usize),
    Expire(Vec<usize>),
}

fn path() -> impl Strategy<Value = String> {
    proptest::collection::vec(0..4_u8, 1..4).prop_map(|names| {
        names.iter().map(|name| format!("/{}", char::from(b'a' + name))).collect()
    })
}

fn op() -> impl Strategy<Value = Op> {
    let version = || proptest::option::weighted(0.3, 0..3_i32);
    let data = || proptest::collection::vec(any::<u8>(), 0..4);
    let mode = prop_oneof![
        4 => Just(CreateMode::Persistent),
        1 => Just(CreateMode::PersistentSequential),
        2 => Just(CreateMode::Ephemeral),
        1 => Just(CreateMode::EphemeralSequential),
    ];
    let czxid = proptest::option::weighted(0.3, (0..60_i64).prop_map(Zxid));
    prop_oneof![
        6 => (path(), data(), mode)
            .prop_map(|(path, data, mode)| Op::Create { path, data, mode, acl: Acl::open() }),
        2 => (path(), version()).prop_map(|(path, version)| Op::Delete { path, version }),
        1 => (path(), version()).prop_map(|(path, version)| Op::DeleteRecursive { path, version }),
        3 => (path(), data(), version())
            .prop_map(|(path, data, version)| Op::SetData { path, data, version }),
        1 => (path(), version(), czxid)
            .prop_map(|(path, version, czxid)| Op::Check { path, version, czxid }),
        1 => path().prop_map(|path| Op::CheckAbsent { path }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3_usize, op()).prop_map(|(session, op)| Step::Write { session, op }),
        3 => (0..3_usize, proptest::collection::vec(op(), 0..5))
            .prop_map(|(session, ops)| Step::Multi { session, ops }),
        1 => (0..3_usize).prop_map(Step::EndSession),
        1 => proptest::collection::vec(0..3_usize, 0..3).prop_map(Step::Expire),
    ]
}

/// A state machine and its model, driven by the same steps.
struct Pair {
    machine: StateMachine,
    model: Model,
    sessions: Vec<SessionId>,
    zxid: i64,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            machine: StateMachine::new(),
            model: Model::new(),
            sessions: Vec::new(),
            zxid: 0,
        };
        for _ in 0..3 {
            let session = pair.open_session();
            pair.sessions.push(session);
        }
        pair
    }

    fn apply(&mut self, session_id: SessionId, action: Action) -> (Outcome, Vec<Change>) {
        self.zxid += 1;
        let command = Command { session_id, ..Command::by_ensemble(action) };
        self.machine.apply(Zxid(self.zxid), self.zxid * 1_000, &command)
    }

    fn open_session(&mut self) -> SessionId {
        let action = Action::CreateSession { password: vec![7; 16], session_timeout_ms: 1_000 };
        match self.apply(Command::ENSEMBLE, action).0.unwrap() {
            Effect::SessionGranted { session_id, .. } => session_id,
            other => panic!("{other:?}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Write { session, op } => {
                let session = self.sessions[*session];
                let (outcome, changes) = self.apply(session, Action::Write(op.clone()));
                let expected = self.model.apply(self.zxid, session.0, op);
                assert_eq!(outcome.as_ref().err().map(kind_of), expected.as_ref().err().copied());
                if let (Ok(Effect::Written(OpResult::Created { path, .. })), Ok(expected)) =
                    (&outcome, &expected)
                {
                    assert_eq!(Some(path), expected.as_ref());
                }
                assert!(outcome.is_ok() || changes.is_empty());
                self.check_changes(&changes);
            }
            Step::Multi { session, ops } => {
                let session = self.sessions[*session];
                let (outcome, changes) = self.apply(session, Action::Multi(ops.clone()));
                let mut draft = self.model.clone();
                let mut results =
                    ops.iter().map(|op| draft.apply(self.zxid, session.0, op)).enumerate();
                match results.find_map(|(index, result)| Some((index, result.err()?))) {
                    None => {
                        assert!(outcome.is_ok(), "{outcome:?}");
                        drop(results);
                        self.model = draft;
                    }
                    Some((index, error)) => match outcome {
                        Err(CoordinationError::MultiFailed { index: at, error: actual }) => {
                            assert_eq!((at, kind_of(&actual)), (index, error));
                            assert!(changes.is_empty());
                        }
                        other => panic!("{other:?}"),
                    },
                }
            }
            Step::EndSession(session) => {
                let id = self.sessions[*session];
                let (_, changes) = self.apply(id, Action::CloseSession);
                self.model.end_session(self.zxid, id.0);
                assert!(changes.iter().all(|change| change.kind == ChangeKind::Deleted));
                self.sessions[*session] = self.open_session();
            }
            Step::Expire(sessions) => {
                let ids: Vec<_> = sessions.iter().map(|session| self.sessions[*session]).collect();
                let due = ids.iter().map(|id| Expiry { session_id: *id, connection_epoch: 0 });
                let (outcome, _) =
                    self.apply(Command::ENSEMBLE, Action::ExpireSessions(due.collect()));
                assert!(outcome.is_ok());
                ids.iter().for_each(|id| self.model.end_session(self.zxid, id.0));
                for session in sessions {
                    self.sessions[*session] = self.open_session();
                }
            }
        }
    }

    /// The last change of each path shows how it is now.
    fn check_changes(&self, changes: &[Change]) {
        for change in changes {
            let node = self.machine.tree().node(&change.path);
            match change.kind {
                ChangeKind::Deleted => assert!(node.is_none()),
                _ => assert_eq!(node.unwrap().data(), &*change.data),
            }
        }
    }

    fn check(&self) {
        let tree = self.machine.tree();
        let mut digest = 0_u64;
        let walked: BTreeMap<String, Plain> = tree
            .walk("/")
            .map(|(path, node)| {
                digest = digest.wrapping_add(node.digest(&path));
                let stat = node.stat();
                let children = self.model.children(&path);
                assert!(node.children.iter().map(|(name, _)| name).eq(children.iter().copied()));
                assert_eq!(usize::try_from(stat.num_children), Ok(children.len()));
                assert_eq!(stat.cversion, node.children_created * 2 - stat.num_children);
                let plain = Plain {
                    data: node.data().to_vec(),
                    owner: stat.ephemeral_owner.0,
                    czxid: stat.czxid.0,
                    mzxid: stat.mzxid.0,
                    pzxid: stat.pzxid.0,
                    version: stat.version,
                    created: node.children_created,
                };
                (path, plain)
            })
            .collect();
        assert_eq!(walked, self.model.nodes);
        assert_eq!(digest, tree.digest(), "the digest kept is the digest counted");
        assert_eq!(tree.node_count(), walked.len() as u64);
        for session in &self.sessions {
            let owned = walked.iter().filter(|(_, node)| node.owner == session.0);
            assert!(tree.ephemerals_of(*session).map(|path| &**path).eq(owned.map(|(p, _)| &**p)));
        }
        let records = self.machine.snapshot_records().map(Ok::<_, SnapshotError>);
        let restored = StateMachine::from_snapshot(records).unwrap();
        assert_eq!(restored.digest(), self.machine.digest());
        assert_eq!(restored.tree().ephemeral_count(), tree.ephemeral_count());
    }
}

proptest! {
    #[test]
    fn the_tree_does_what_the_model_does(steps in proptest::collection::vec(step(), 0..80)) {
        let mut pair = Pair::new();
        for step in &steps {
            let before = pair.machine.clone();
            let digest = before.digest();
            pair.step(step);
            prop_assert_eq!(before.digest(), digest);
        }
        pair.check();
    }
}

#[test]
fn the_deepest_tree_that_paths_allow_is_built_copied_and_dropped() {
    let mut pair = Pair::new();
    let deepest = "/a".repeat(crate::limits::PATH_DEPTH_MAX);
    for (position, _) in deepest.match_indices('/').skip(1).chain([(deepest.len(), "")]) {
        let path = deepest[..position].to_owned();
        let op = Op::Create { path, data: vec![], mode: CreateMode::Persistent, acl: Acl::open() };
        pair.step(&Step::Write { session: 0, op });
    }
    let copy = pair.machine.clone();
    let op = Op::DeleteRecursive { path: "/a".to_owned(), version: None };
    pair.step(&Step::Write { session: 0, op });
    assert_eq!(copy.tree().node_count() - pair.machine.tree().node_count(), 128);
}

#[test]
fn a_snapshot_that_was_changed_is_refused() {
    let mut pair = Pair::new();
    let op = Op::Create {
        path: "/a".to_owned(),
        data: b"x".to_vec(),
        mode: CreateMode::Persistent,
        acl: Acl::open(),
    };
    pair.step(&Step::Write { session: 0, op });
    let records: Vec<_> = pair.machine.snapshot_records().collect();
    let load = |records: Vec<SnapshotRecord>| {
        StateMachine::from_snapshot(records.into_iter().map(Ok::<_, SnapshotError>)).map(drop)
    };
    assert_eq!(load(records.clone()), Ok(()));
    for index in 0..records.len() {
        let mut without = records.clone();
        without.remove(index);
        assert!(load(without).is_err(), "without record {index}");
        let mut twice = records.clone();
        twice.insert(index, records[index].clone());
        let is_session = matches!(records[index], SnapshotRecord::Session(_));
        assert_eq!(load(twice).is_err(), !is_session, "record {index} twice");
    }
}
