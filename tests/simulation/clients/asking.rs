//! What clients ask.

use ottla_common::coordination::protocol::{Acl, CreateMode, Op, Request};
use ottla_common::types::Zxid;
use ottla_coordinator::requests::{Ask, WatchesToSet};

use super::setup::{FLEETING, REGISTERS, SEQUENCES, steps};
use super::{Client, Pending, Stage, Surroundings, ToMember, Wish};
use crate::invariants::access::SECRET;
use crate::invariants::multi_atomicity::PAIR;

/// A request, as the client remembers it.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    /// A step of the setup.
    Setup,
    /// A sign of life.
    Ping,
    /// A register is set.
    Set {
        /// Which.
        path: String,
        /// To what nobody else sets it.
        value: String,
        /// If it has this version; -1 for any.
        expected: i64,
    },
    /// A register is read as it is now.
    GetNow {
        /// Which.
        path: String,
    },
    /// A node is read as the member has it.
    Get {
        /// Which.
        path: String,
        /// Whether a watch is left.
        watch: bool,
    },
    /// Whether a node is there, as the member has it.
    Exists {
        /// Which.
        path: String,
        /// Whether a watch is left.
        watch: bool,
    },
    /// A node is made or deleted.
    Change,
    /// A sequential node is made.
    Sequential {
        /// Below this one.
        parent: String,
    },
    /// A node is made that goes with the session.
    Ephemeral {
        /// Its path.
        path: String,
    },
    /// Two nodes are set together.
    SetPair,
    /// Both are read together.
    GetPair,
    /// The secret is asked for.
    Secret,
    /// The names below the root.
    Names,
    /// Watches are set again.
    SetWatches,
    /// The session is closed.
    Close,
}

impl Asked {
    /// Whether it takes a place in the log.
    pub fn is_write(&self) -> bool {
        matches!(
            self,
            Self::Setup
                | Self::Set { .. }
                | Self::Change
                | Self::Sequential { .. }
                | Self::Ephemeral { .. }
                | Self::SetPair
                | Self::Close
        )
    }
}

impl Client {
    /// Asks what is to be asked now on an open connection.
    pub(super) fn go_on(&mut self, around: &mut Surroundings<'_>, connection: u64) {
        if self.is_resetting {
            return;
        }
        match self.stage {
            Stage::Setup(step) if self.pending.is_empty() => match steps().into_iter().nth(step) {
                None => self.stage = Stage::Working,
                Some(ops) => {
                    let request = Ask::Common(Request::Multi(ops));
                    self.send(around, connection, (Asked::Setup, request));
                }
            },
            Stage::Working if self.only_looks => self.look(around, connection),
            Stage::Working if self.pending.len() < 4 => {
                for _ in 0..self.random.usize(1..=3) {
                    let asked = self.choose();
                    self.ask(around, connection, asked);
                }
            }
            Stage::Finishing(done) if self.pending.is_empty() => self.finish(around, done),
            _ => {}
        }
    }

    /// Asks now and then for a register.
    fn look(&mut self, around: &mut Surroundings<'_>, connection: u64) {
        if self.pending.is_empty() && self.random.u8(..4) == 0 {
            let path = REGISTERS[self.random.usize(..REGISTERS.len())].to_owned();
            self.ask(around, connection, Asked::GetNow { path });
        }
    }

    /// The next of the requests that show that all is well.
    fn finish(&mut self, around: &mut Surroundings<'_>, done: usize) {
        let super::Link::Open { connection } = self.link else { return };
        let path = REGISTERS[done % REGISTERS.len()].to_owned();
        if done >= 2 * REGISTERS.len() {
            self.stage = Stage::Finished;
        } else if done < REGISTERS.len() {
            let value = self.value();
            self.ask(around, connection, Asked::Set { path, value, expected: -1 });
        } else {
            self.ask(around, connection, Asked::GetNow { path });
        }
    }

    fn value(&mut self) -> String {
        self.next_value += 1;
        format!("{}-{}", self.id, self.next_value)
    }

    fn choose(&mut self) -> Asked {
        let register = REGISTERS[self.random.usize(..REGISTERS.len())].to_owned();
        let fleeting = FLEETING[self.random.usize(..FLEETING.len())].to_owned();
        match self.random.u8(..100) {
            0..10 => Asked::Set { path: register, value: self.value(), expected: -1 },
            10..25 => {
                let known = self.versions.get(&register).copied().unwrap_or_default();
                Asked::Set { path: register, value: self.value(), expected: known }
            }
            25..40 => Asked::GetNow { path: register },
            40..55 => Asked::Get { path: register, watch: self.random.bool() },
            55..62 => Asked::Exists { path: fleeting, watch: self.random.u8(..3) > 0 },
            62..72 => Asked::Change,
            72..80 => {
                let parent = SEQUENCES[self.random.usize(..SEQUENCES.len())].to_owned();
                Asked::Sequential { parent }
            }
            80..86 => Asked::Ephemeral { path: format!("/e/{}", self.value()) },
            86..91 => Asked::SetPair,
            91..95 => Asked::GetPair,
            95..97 => Asked::Secret,
            97..99 => Asked::Names,
            _ if self.random.u8(..3) == 0 => Asked::Close,
            _ => Asked::Ping,
        }
    }

    pub(super) fn ask(&mut self, around: &mut Surroundings<'_>, connection: u64, asked: Asked) {
        let ask = self.request(&asked);
        self.send(around, connection, (asked, ask));
    }

    /// The first request of a connection: the watches of the one before.
    pub(super) fn set_watches(&mut self, around: &mut Surroundings<'_>, connection: u64) {
        if self.watches.is_empty() {
            return;
        }
        let mut watches = WatchesToSet { seen: Zxid(self.last_zxid), ..WatchesToSet::default() };
        for (path, watch) in &mut self.watches {
            // What was seen is all that the member is told of.
            watch.since = self.last_zxid;
            let list = if watch.exists { &mut watches.data } else { &mut watches.absent };
            list.push(path.clone());
        }
        self.is_resetting = true;
        let ask = Ask::SetWatches(Box::new(watches));
        self.send(around, connection, (Asked::SetWatches, ask));
    }

    fn send(&mut self, around: &mut Surroundings<'_>, connection: u64, (asked, ask): (Asked, Ask)) {
        let xid = self.next_xid;
        self.next_xid += 1;
        let start_us = around.now_us;
        let acknowledged = around.oracle.acknowledged;
        self.pending.push_back(Pending { xid, asked, start_us, acknowledged });
        around.wishes.push(Wish::Send(connection, ToMember::Ask(xid, ask)));
    }

    fn request(&mut self, asked: &Asked) -> Ask {
        let get = |path: &str, watch, linearizable| Request::Get {
            path: path.to_owned(),
            watch,
            linearizable,
        };
        let set = |path: &str, value: &str, version| Op::SetData {
            path: path.to_owned(),
            data: value.as_bytes().to_vec(),
            version,
        };
        let create = |path: &str, mode| Op::Create {
            path: path.to_owned(),
            data: b"x".to_vec(),
            mode,
            acl: Acl::open(),
        };
        Ask::Common(match asked {
            Asked::Ping if self.is_native => return Ask::ConfirmedPing,
            Asked::Ping | Asked::Setup | Asked::SetWatches => Request::Ping,
            Asked::Set { path, value, expected } => {
                let version = i32::try_from(*expected).ok().filter(|version| *version >= 0);
                Request::Write(set(path, value, version))
            }
            Asked::GetNow { path } => get(path, false, true),
            Asked::Get { path, watch } => get(path, *watch, false),
            Asked::Exists { path, watch } => {
                let (path, watch) = (path.clone(), *watch);
                Request::Exists { path, watch, linearizable: false }
            }
            Asked::Change => {
                let path = FLEETING[self.random.usize(..FLEETING.len())].to_owned();
                Request::Write(match self.random.u8(..4) {
                    0 | 1 => create(&path, CreateMode::Persistent),
                    2 => set(&path, "y", None),
                    _ => Op::Delete { path, version: None },
                })
            }
            Asked::Sequential { parent } => {
                let path = format!("{parent}/n-");
                let mode = match parent.as_str() {
                    "/q" => CreateMode::EphemeralSequential,
                    _ => CreateMode::PersistentSequential,
                };
                Request::Write(create(&path, mode))
            }
            Asked::Ephemeral { path } => Request::Write(create(path, CreateMode::Ephemeral)),
            Asked::SetPair => {
                let value = self.value();
                Request::Multi(PAIR.into_iter().map(|path| set(path, &value, None)).collect())
            }
            Asked::GetPair => {
                let both = PAIR.into_iter().map(|path| get(path, false, false));
                return Ask::ReadMany(both.collect());
            }
            Asked::Secret => match self.random.u8(..3) {
                0 => get(SECRET, true, false),
                1 => Request::GetAcl { path: SECRET.to_owned() },
                _ => Request::GetChildren {
                    path: SECRET.to_owned(),
                    watch: false,
                    linearizable: false,
                },
            },
            Asked::Names => {
                Request::GetChildren { path: "/".to_owned(), watch: false, linearizable: true }
            }
            Asked::Close => Request::CloseSession,
        })
    }
}
