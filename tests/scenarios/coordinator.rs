//! The coordinator's stories: `tree/`, `sessions/` and `watches/`, told to a state machine with its
//! watches and its leader's deadlines, without disk, network or clock.
//!
//! Commands (`alice` stands for any session's name; each command that writes takes one zxid):
//!
//! ```text
//! open alice [timeout=MS]            opens a session
//! alice OP                           one write: see below
//! alice multi                        the writes of the following lines, all or none
//! alice resume | moved | close       a new connection | a write by the old one | the end
//! alice auth USER:PASSWORD           proves an identity
//! alice watch KIND PATH              data, child, persistent or recursive
//! alice hears                        the events since the last time
//! alice pings | disconnects          as the leader hears of it
//! tree [PATH]                        all nodes with their data
//! stat PATH | acl PATH               of one node
//! clock MS                           moves both clocks on
//! expire                             ends the sessions that are due
//! idle                               removes the nodes that are idle
//! restart                            through a snapshot and back
//! ```
//!
//! Writes: `create PATH [data=D] [mode=M] [ttl=MS] [acl=perms:scheme:id,...]`, `delete PATH [v=N]`,
//! `delete-all PATH [v=N]`, `set PATH [data=D] [v=N]`, `set-acl PATH acl=... [v=N]`,
//! `check PATH [v=N] [czxid=Z]`, `check-absent PATH`.

// All of this is a test.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use futures_util::FutureExt;
use ottla_common::coordination::protocol::{Acl, CreateMode, Op, OpResult, Stat};
use ottla_common::types::{SessionId, Zxid};
use ottla_coordinator::sessions::expiry::Deadlines;
use ottla_coordinator::tree::{
    Action, Command, Effect, Identity, Outcome, SnapshotError, StateMachine, acl,
};
use ottla_coordinator::watches::{
    ConnectionId, ConnectionKind, LiveState, Newcomer, Outbox, Outgoing, WatchKind,
};
use ottla_tests::datadriven::{self, Step, value_in, words};

const GRACE_MS: u64 = 500;

/// A session of a story.
struct Actor {
    session_id: SessionId,
    connection_epoch: u64,
    connection_id: ConnectionId,
    identities: Vec<Identity>,
    outbox: Outbox,
}

struct World {
    live: LiveState,
    deadlines: Deadlines,
    actors: BTreeMap<String, Actor>,
    now_ms: u64,
}

impl World {
    fn new() -> Self {
        Self {
            live: LiveState::new(StateMachine::new()),
            deadlines: Deadlines::new(1),
            actors: BTreeMap::new(),
            now_ms: 0,
        }
    }

    fn run(&mut self, step: &Step) -> String {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        match words[..] {
            ["open", name, ..] => self.open(name, step),
            ["tree"] => self.tree("/"),
            ["tree", path] => self.tree(path),
            ["stat", path] => match self.live.view().tree().node(path) {
                Some(node) => stat_text(&node.stat()),
                None => "no node".to_owned(),
            },
            ["acl", path] => match self.live.view().tree().node(path) {
                Some(node) => acl_text(&node.acl),
                None => "no node".to_owned(),
            },
            ["clock", ms] => {
                self.now_ms += ms.parse::<u64>().unwrap();
                format!("it is {}", self.now_ms)
            }
            ["expire"] => self.expire(),
            ["idle"] => {
                let now_ms = i64::try_from(self.now_ms).unwrap();
                let paths =
                    self.live.view().tree().idle_nodes(now_ms).map(|p| p.to_string()).collect();
                let (zxid, outcome) = self.apply(Command::by_ensemble(Action::RemoveIdle(paths)));
                format!("{zxid}: {}", outcome_text(&outcome))
            }
            ["restart"] => self.restart(),
            [name, ref rest @ ..] => self.act(name, rest, step),
            [] => panic!("an empty command"),
        }
    }

    fn apply(&mut self, command: Command) -> (Zxid, Outcome) {
        let zxid = Zxid(self.live.zxid().0 + 1);
        let time_ms = i64::try_from(self.now_ms).unwrap();
        let outcome = self.live.apply(zxid, time_ms, &command);
        (zxid, outcome)
    }

    fn open(&mut self, name: &str, step: &Step) -> String {
        let session_timeout_ms = step.value("timeout").map_or(10_000, |ms| ms.parse().unwrap());
        let action =
            Action::CreateSession { password: name.as_bytes().to_vec(), session_timeout_ms };
        let (_, outcome) = self.apply(Command::by_ensemble(action));
        self.grant(name, outcome)
    }

    /// Connects an actor to the session that was granted.
    fn grant(&mut self, name: &str, outcome: Outcome) -> String {
        let Ok(Effect::SessionGranted { session_id, session_timeout_ms, connection_epoch }) =
            outcome
        else {
            return outcome_text(&outcome);
        };
        let connection = (session_id, connection_epoch);
        self.deadlines.begin(connection, session_timeout_ms, self.now_ms);
        let identities = vec![Identity { scheme: "ip".to_owned(), id: "10.0.0.1".to_owned() }];
        let outbox = Outbox::new();
        let connection_id = self.live.connect(Newcomer {
            kind: ConnectionKind::Native,
            session_id,
            connection_epoch,
            identities: Arc::from(&identities[..]),
            outbox: outbox.clone(),
        });
        let connection_id = connection_id.unwrap();
        let actor = Actor { session_id, connection_epoch, connection_id, identities, outbox };
        self.actors.insert(name.to_owned(), actor);
        format!("session {session_id}, connection {connection_epoch}")
    }

    fn act(&mut self, name: &str, words: &[&str], step: &Step) -> String {
        let actor = self.actors.get_mut(name).unwrap_or_else(|| panic!("who is {name}?"));
        match *words {
            ["pings"] => match self.deadlines.touch(actor.session_id, self.now_ms) {
                true => "heard".to_owned(),
                false => "too late".to_owned(),
            },
            ["disconnects"] => {
                if let Some(connection_epoch) = self.live.disconnect(actor.connection_id) {
                    let connection = (actor.session_id, connection_epoch);
                    self.deadlines.disconnected(connection, GRACE_MS, self.now_ms);
                }
                String::new()
            }
            ["hears"] => hears(actor),
            ["auth", credential] => {
                actor.identities.extend(acl::digest_identity(credential.as_bytes()));
                let identities = Arc::from(&actor.identities[..]);
                self.live.set_identities(actor.connection_id, identities);
                String::new()
            }
            ["watch", kind, path] => {
                let kind = match kind {
                    "data" => WatchKind::Data,
                    "child" => WatchKind::Child,
                    "persistent" => WatchKind::Persistent,
                    "recursive" => WatchKind::Recursive,
                    other => panic!("no such watch: {other}"),
                };
                match self.live.view().watch(actor.connection_id, kind, path) {
                    Ok(()) => String::new(),
                    Err(error) => format!("error: {error}"),
                }
            }
            ["resume"] => {
                let action = Action::ResumeSession { password: name.as_bytes().to_vec() };
                let command = actor.command(action);
                let (_, outcome) = self.apply(command);
                self.grant(name, outcome)
            }
            ["moved"] => {
                let mut command = actor.command(Action::Write(op(&["check", "/"])));
                command.connection_epoch -= 1;
                outcome_text(&self.apply(command).1)
            }
            _ => self.write(name, words, step),
        }
    }

    fn write(&mut self, name: &str, words: &[&str], step: &Step) -> String {
        let action = match words {
            ["close"] => Action::CloseSession,
            ["multi"] => Action::Multi(step.input().iter().map(|line| op_of(line)).collect()),
            words => Action::Write(op(words)),
        };
        let command = self.actors[name].command(action);
        let (zxid, outcome) = self.apply(command);
        format!("{zxid}: {}", outcome_text(&outcome))
    }

    fn expire(&mut self) -> String {
        let due = self.deadlines.take_due(self.now_ms, usize::MAX);
        if due.is_empty() {
            return "nobody".to_owned();
        }
        let (zxid, outcome) = self.apply(Command::by_ensemble(Action::ExpireSessions(due)));
        format!("{zxid}: {}", outcome_text(&outcome))
    }

    fn restart(&mut self) -> String {
        let before = self.live.machine();
        let records = before.snapshot_records().map(Ok::<_, SnapshotError>);
        let after = StateMachine::from_snapshot(records).unwrap();
        let count = before.snapshot_records().count();
        assert_eq!((after.zxid(), after.digest()), (before.zxid(), before.digest()));
        self.live = LiveState::new(after);
        format!("{count} records, the same digest")
    }

    fn tree(&self, path: &str) -> String {
        let mut text = String::new();
        let view = self.live.view();
        let shown = view.tree().walk(path).filter(|(path, _)| !path.starts_with("/zookeeper"));
        for (path, node) in shown {
            let owner = match node.stat().ephemeral_owner.0 {
                0 => String::new(),
                i64::MIN => " container".to_owned(),
                ttl if ttl < 0 => format!(" ttl={}", ttl & 0xff_ffff_ffff),
                owner => format!(" owner={owner}"),
            };
            let data = String::from_utf8_lossy(node.data()).into_owned();
            let data = if data.is_empty() { data } else { format!(" {data}") };
            let _ = writeln!(text, "{path}{data}{owner}");
        }
        text
    }
}

impl Actor {
    fn command(&self, action: Action) -> Command {
        Command {
            session_id: self.session_id,
            connection_epoch: self.connection_epoch,
            identities: self.identities.clone(),
            ..Command::by_ensemble(action)
        }
    }
}

fn hears(actor: &Actor) -> String {
    let mut text = String::new();
    while let Some(Some(batch)) = actor.outbox.take(usize::MAX).now_or_never() {
        for outgoing in batch {
            if let Outgoing::Watch(event) = outgoing {
                let _ = writeln!(text, "{}: {:?} {}", event.zxid, event.kind, event.path);
            }
        }
    }
    if let Some(closed) = actor.outbox.closed() {
        let _ = writeln!(text, "closed: {closed:?}");
    }
    if text.is_empty() { "nothing".to_owned() } else { text }
}

fn op_of(line: &str) -> Op {
    let words = words(line);
    op(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

fn op(words: &[&str]) -> Op {
    let [kind, path, options @ ..] = words else { panic!("no such write: {words:?}") };
    let options: Vec<String> = options.iter().map(|word| (*word).to_owned()).collect();
    let value = |name| value_in(&options, name);
    let path = (*path).to_owned();
    let version = value("v").map(|version| version.parse().unwrap());
    let data = value("data").unwrap_or_default().as_bytes().to_vec();
    let acl = value("acl").map_or_else(Acl::open, parse_acl);
    match *kind {
        "create" => {
            let ttl_ms = value("ttl").map(|ttl| ttl.parse().unwrap());
            let mode = match (value("mode").unwrap_or("persistent"), ttl_ms) {
                ("persistent", None) => CreateMode::Persistent,
                ("persistent", Some(ttl_ms)) => CreateMode::PersistentWithTtl { ttl_ms },
                ("sequential", None) => CreateMode::PersistentSequential,
                ("sequential", Some(ttl_ms)) => CreateMode::PersistentSequentialWithTtl { ttl_ms },
                ("ephemeral", None) => CreateMode::Ephemeral,
                ("ephemeral-sequential", None) => CreateMode::EphemeralSequential,
                ("container", None) => CreateMode::Container,
                other => panic!("no such mode: {other:?}"),
            };
            Op::Create { path, data, mode, acl }
        }
        "delete" => Op::Delete { path, version },
        "delete-all" => Op::DeleteRecursive { path, version },
        "set" => Op::SetData { path, data, version },
        "set-acl" => Op::SetAcl { path, acl, version },
        "check" => {
            let czxid = value("czxid").map(|zxid| Zxid(zxid.parse().unwrap()));
            Op::Check { path, version, czxid }
        }
        "check-absent" => Op::CheckAbsent { path },
        other => panic!("no such write: {other}"),
    }
}

/// `permissions:scheme:id`, separated by commas; permissions are letters of `rwcda`.
fn parse_acl(text: &str) -> Vec<Acl> {
    let entries = text.split(',').filter(|entry| !entry.is_empty());
    let parse = |entry: &str| {
        let mut parts = entry.splitn(3, ':');
        let letters = parts.next().unwrap_or_default();
        let permissions =
            letters.chars().map(|letter| 1 << "rwcda".find(letter).unwrap()).sum::<u32>();
        let mut next = || parts.next().unwrap_or_default().to_owned();
        Acl { permissions, scheme: next(), id: next() }
    };
    entries.map(parse).collect()
}

fn acl_text(acl: &[Acl]) -> String {
    let mut text = String::new();
    for Acl { permissions, scheme, id } in acl {
        let letters = "rwcda".chars().enumerate();
        let letters = letters.filter(|(bit, _)| permissions & (1 << bit) != 0);
        let letters: String = letters.map(|(_, letter)| letter).collect();
        let _ = writeln!(text, "{letters}:{scheme}:{id}");
    }
    text
}

fn stat_text(stat: &Stat) -> String {
    format!(
        "czxid={} mzxid={} pzxid={} ctime={} mtime={}\n\
         version={} cversion={} aversion={} owner={:#x} data_length={} num_children={}",
        stat.czxid,
        stat.mzxid,
        stat.pzxid,
        stat.ctime_ms,
        stat.mtime_ms,
        stat.version,
        stat.cversion,
        stat.aversion,
        stat.ephemeral_owner.0,
        stat.data_length,
        stat.num_children
    )
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Err(error) => format!("error: {error}"),
        Ok(Effect::Written(result)) => result_text(result),
        Ok(Effect::Multi(results)) => {
            results.iter().map(result_text).collect::<Vec<_>>().join(", ")
        }
        Ok(Effect::SessionsEnded(ids)) => {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            format!("ended {}", ids.join(" "))
        }
        Ok(Effect::IdleRemoved(count)) => format!("removed {count}"),
        Ok(other) => format!("{other:?}"),
    }
}

fn result_text(result: &OpResult) -> String {
    match result {
        OpResult::Created { path, .. } => format!("created {path}"),
        OpResult::Set { stat } => {
            format!("set, version {}, aversion {}", stat.version, stat.aversion)
        }
        OpResult::Deleted => "deleted".to_owned(),
        OpResult::Checked => "checked".to_owned(),
    }
}

fn tell(folder: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(folder);
    datadriven::tell_all(&folder, World::new, World::run);
}

#[test]
fn tree() {
    tell("tree");
}

#[test]
fn sessions() {
    tell("sessions");
}

#[test]
fn watches() {
    tell("watches");
}
