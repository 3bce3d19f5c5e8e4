//! What runs the [`Node`]: it gives it the time and what happens, and has the other threads and the
//! peers carry out what follows. It never waits for any of them, so that a heartbeat waits for
//! neither disk nor state nor network.
//!
//! Only where a member is alone, and nothing but the disk can hold it up, does the driver write the
//! log itself: a proposal then passes through one thread less.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ottla_common::clock::Clock;
use ottla_common::types::{MemberId, Uuid};
use tokio::sync::OwnedSemaphorePermit;

use super::Progress;
use super::apply::{ApplyJob, ApplyThread};
use super::intake::Intake;
use super::log_thread::LogThread;
use super::mailbox::Mailbox;
use super::messages::PeerMessage;
use super::node::{Effect, Input, Node, Now, Persist};
use super::raft::{Membership, MessageKind};
use super::snapshot_files::{SnapshotJob, SnapshotThread};
use crate::limits::APPLY_BACKLOG_MAX;

/// How often a member says whom it waits for.
const AWAITED_TOLD_EVERY: Duration = Duration::from_secs(10);

/// What the driver is told.
#[derive(Debug)]
pub enum Letter {
    /// Something happened.
    Input(Input),
    /// A member said something; the permit is for the memory that it takes.
    Peer(MemberId, PeerMessage, Option<OwnedSemaphorePermit>),
    /// The log or the state cannot go on.
    Failed(Arc<str>),
    /// End.
    Stop,
}

/// How the driver reaches other members.
pub trait Network: Send {
    /// Sends, or drops it.
    fn send(&self, to: MemberId, message: PeerMessage);
    /// The members are these now.
    fn set_members(&mut self, membership: &Membership);
    /// This member belongs to this ensemble.
    fn set_cluster_id(&self, cluster_id: Option<Uuid>);
}

/// See the module.
pub struct Driver {
    pub node: Node,
    pub mailbox: Mailbox<Letter>,
    pub intake: Arc<Intake>,
    pub log: LogThread,
    pub applier: ApplyThread,
    pub snapshots: SnapshotThread,
    pub network: Option<Box<dyn Network>>,
    pub progress: Arc<Progress>,
    pub clock: Clock,
    pub tick: Duration,
    /// There is no other member.
    pub is_alone: bool,
    /// Who runs this round looks after what is to be applied when it is over.
    pub applies_soon: bool,
    /// When the log was told last whom a new ensemble waits for.
    pub told_of_awaited: Instant,
}

impl Driver {
    /// To be done before the first round.
    pub fn begin(&self) {
        if let Some(network) = &self.network {
            network.set_cluster_id(self.node.status().hard_state.cluster_id);
        }
    }

    /// Takes note of what happened, and does what follows; returns whether this is the end.
    pub fn round(&mut self, letters: Vec<Letter>, is_tick: bool) -> bool {
        let now = self.now();
        let mut ends = false;
        for letter in letters {
            ends |= self.read(letter, now);
        }
        ends || self.proceed(is_tick, now)
    }

    fn now(&self) -> Now {
        let (monotonic_ms, wall_time_ms) = (self.clock.monotonic_ms(), self.clock.wall_time_ms());
        Now { monotonic_ms, wall_time_ms }
    }

    /// Takes note of one letter; returns whether this is the end.
    fn read(&mut self, letter: Letter, now: Now) -> bool {
        match letter {
            Letter::Input(input) => self.node.handle(input, now),
            Letter::Peer(from, message, permit) => {
                if !(is_append(&message) && self.is_behind()) {
                    self.node.handle(Input::Peer(from, message), now);
                }
                drop(permit);
            }
            Letter::Failed(reason) => {
                self.fail(reason);
                return true;
            }
            Letter::Stop => return true,
        }
        false
    }

    /// Whether so much waits to be applied that no more is to be taken: proposals wait, and what a
    /// leader sends is as good as lost, so that it sends it again.
    fn is_behind(&self) -> bool {
        self.applier.queue().backlog() >= APPLY_BACKLOG_MAX
    }

    fn fail(&self, reason: Arc<str>) {
        tracing::error!(%reason, "the member cannot go on, it stops");
        self.progress.failure.send_replace(Some(reason));
    }

    /// Takes what is asked, and does what follows; returns whether this is the end.
    fn proceed(&mut self, is_tick: bool, now: Now) -> bool {
        if is_tick {
            self.node.handle(Input::Tick, now);
            self.tell_of_awaited();
        }
        for input in self.intake.collect_questions(is_tick) {
            self.node.handle(input, now);
        }
        if !self.is_behind()
            && let Some(proposals) = self.intake.collect_proposals()
        {
            self.node.handle(proposals, now);
        }
        loop {
            let effects = self.node.effects(now);
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                if let Err(reason) = self.carry_out(effect, now) {
                    self.fail(reason);
                    return true;
                }
            }
        }
        self.progress.look(&self.node, is_tick);
        false
    }

    /// A new ensemble that does not begin must say why.
    fn tell_of_awaited(&mut self) {
        if self.told_of_awaited.elapsed() < AWAITED_TOLD_EVERY {
            return;
        }
        self.told_of_awaited = Instant::now();
        let members = self.node.awaited();
        if !members.is_empty() {
            tracing::warn!(
                ?members,
                "a new ensemble begins when all its voters have been there once; these have not yet"
            );
        }
    }

    fn carry_out(&mut self, effect: Effect, now: Now) -> Result<(), Arc<str>> {
        match self.intake.answer(effect) {
            None => {}
            Some(Effect::Persist(persist)) => return self.persist(persist, now),
            Some(Effect::Send(to, message)) => {
                if let Some(network) = &self.network {
                    network.send(to, message);
                }
            }
            Some(Effect::Apply(entries)) => self.apply(ApplyJob::Entries(entries)),
            Some(Effect::Lead { term }) => self.apply(ApplyJob::Lead { term }),
            Some(Effect::SnapshotWanted { to, index_min }) => {
                self.snapshots.put(SnapshotJob::Wanted { to, index_min });
            }
            Some(Effect::ReadChunk(wanted)) => self.snapshots.put(SnapshotJob::Read(wanted)),
            Some(Effect::ReceiveChunk(chunk)) => self.snapshots.put(SnapshotJob::Received(chunk)),
            Some(Effect::Members(membership)) => {
                let own = self.node.member_id();
                self.is_alone = membership.members.keys().all(|id| *id == own);
                if let Some(network) = &mut self.network {
                    network.set_members(&membership);
                }
            }
            Some(Effect::Role(role)) => {
                tracing::info!(member_id = %self.node.member_id(), ?role, "who leads has changed");
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn apply(&self, job: ApplyJob) {
        if self.applies_soon {
            self.applier.queue().put_quietly(job);
        } else {
            self.applier.queue().put(job);
        }
    }

    fn persist(&mut self, persist: Persist, now: Now) -> Result<(), Arc<str>> {
        if let (Some(network), Some(hard_state)) = (&self.network, &persist.hard_state) {
            network.set_cluster_id(hard_state.cluster_id);
        }
        let writer = if self.is_alone { self.log.if_idle() } else { None };
        let Some(writer) = writer else {
            self.log.persist(persist);
            return Ok(());
        };
        let number = persist.number;
        let persisted = writer.lock().persist(vec![persist]);
        persisted.map_err(|error| Arc::from(error.to_string()))?;
        self.node.handle(Input::Persisted(number), now);
        Ok(())
    }

    /// Whoever still waits learns that the member stops; who comes later as well.
    pub fn finish(mut self) {
        self.network = None;
        self.snapshots.finish();
        self.log.finish();
        self.applier.finish();
        self.progress.ended();
        self.intake.close();
    }
}

fn is_append(message: &PeerMessage) -> bool {
    match message {
        PeerMessage::Raft(message) => {
            matches!(&message.kind, MessageKind::Append { entries, .. } if !entries.is_empty())
        }
        _ => false,
    }
}
