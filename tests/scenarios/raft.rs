//! Stories of the raft core: members without disk, network or clock. A story says what arrives
//! where, when a disk has written, and how time passes; what each member then says is printed
//! whole.
//!
//! ```text
//! members N [learners=ID,...] [chunk=BYTES] [kept=BYTES] [append=BYTES]   starts new ones
//! formed                        writes into all disks that the ensemble was formed (at the start)
//! start ID [members=N] [cluster=K] [formed]   one more, with an empty disk
//! log ID TERM,... [term=T]      restarts a member with a log of entries with these terms
//! time MS [only ID,...]         passes in ticks of 20 ms; nothing is delivered or written
//! run MS                        the same, and all messages arrive and all disks write, each tick
//! elect ID                      makes a member lead; prints only who leads, and what is applied
//! quietly MS                    as `run`, and prints as little
//! campaign ID                   time passes for this member alone until it asks for something
//! deliver [from=ID] [to=ID]     what is on its way arrives, with all that it brings about
//! drop [from=ID] [to=ID]        what is on its way is lost
//! cut A>B ... | heal            links that lose everything, one way; all are whole again
//! stall ID | stalled ID | flush ID   the disk stops | the member hears so | it goes on
//! propose ID TEXT...            commands
//! add ID member=M [learner] | promote ID member=M | demote ID member=M | remove ID member=M
//! transfer ID [to=M]            ID hands leadership over
//! read ID N                     ID is asked for a read
//! lease ID                      whether it is sure to lead
//! crash ID | wipe ID | restart ID
//! pause ID | continue ID        its clock goes on, it does nothing
//! snapshot ID                   a snapshot of all that is applied
//! status                        of all members
//! ```
//!
//! Messages between members are delivered in order, and disks write at once unless they are
//! stalled.

// All of this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;
use ottla_common::types::{MemberId, Uuid};
use ottla_coordinator::consensus::raft::{
    Entry, EntryKind, HardState, Member, MemberRole, Membership, MembershipChange, Message,
    MessageKind, Raft, RaftConfig, Ready, Restored, RoleChange, SnapshotMeta, Standing,
};
use ottla_tests::datadriven::{self, Step};

const TICK_MS: u64 = 20;
const SNAPSHOT_SIZE: u64 = 250;

#[derive(Clone, Default)]
struct Disk {
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    entries: Vec<Entry>,
    /// As its configuration says.
    membership: Membership,
}

struct Node {
    /// None while it is down.
    raft: Option<Raft>,
    disk: Disk,
    writes: VecDeque<(Ready, Vec<Message>)>,
    stalled: bool,
    paused: bool,
    applied: u64,
    applied_term: u64,
}

struct World {
    nodes: BTreeMap<MemberId, Node>,
    network: VecDeque<Message>,
    cut: BTreeSet<(MemberId, MemberId)>,
    now_ms: u64,
    config: RaftConfig,
    trace: String,
}

fn id_of(word: &str) -> MemberId {
    MemberId(word.parse().unwrap())
}

fn ids_of(list: &str) -> Vec<MemberId> {
    list.split(',').filter(|word| !word.is_empty()).map(id_of).collect()
}

fn number(step: &Step, name: &str) -> Option<usize> {
    step.value(name).map(|value| value.parse().unwrap())
}

fn command(index: u64, term: u64, text: &str) -> Entry {
    let payload = Bytes::copy_from_slice(text.as_bytes());
    Entry { index, term, time_ms: 0, kind: EntryKind::Command, payload }
}

impl World {
    fn new() -> Self {
        Self {
            nodes: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            now_ms: 0,
            config: RaftConfig::new(MemberId(0)),
            trace: String::new(),
        }
    }

    fn run(&mut self, step: &Step) -> String {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        match words[..] {
            ["members", count, ..] => self.members(count.parse().unwrap(), step),
            ["formed"] => self.formed(),
            ["start", id, ..] => self.start_one(id_of(id), step),
            ["log", id, terms, ..] => {
                self.set_log(id_of(id), terms, number(step, "term"));
            }
            ["time", ms, ..] => self.time(ms.parse().unwrap(), &words),
            ["run", ms] => self.run_for(ms.parse().unwrap()),
            ["quietly", ms] => {
                self.run_for(ms.parse().unwrap());
                self.be_brief();
            }
            ["elect", id] => {
                self.time(300, &[]);
                self.campaign(id_of(id));
                self.deliver_all(|_| true);
                self.run_for(60);
                self.be_brief();
            }
            ["campaign", id] => self.campaign(id_of(id)),
            ["deliver", ..] => self.deliver(step),
            ["drop", ..] => self.lose(step),
            ["cut", ref links @ ..] => {
                for link in links {
                    let (from, to) = link.split_once('>').unwrap();
                    self.cut.insert((id_of(from), id_of(to)));
                }
            }
            ["heal"] => self.cut.clear(),
            ["status"] => self.status(),
            [verb, id, ref rest @ ..] => self.act(verb, id_of(id), rest, step),
            _ => panic!("what is {words:?}?"),
        }
        std::mem::take(&mut self.trace)
    }

    /// What is done with one member.
    fn act(&mut self, verb: &str, id: MemberId, rest: &[&str], step: &Step) {
        let now_ms = self.now_ms;
        match verb {
            "stall" => self.node(id).stalled = true,
            "stalled" => self.raft(id).disk_stalled(now_ms),
            "flush" => {
                self.node(id).stalled = false;
                self.write(id);
            }
            "propose" => {
                let payloads = rest.iter().map(|word| Bytes::copy_from_slice(word.as_bytes()));
                let payloads = payloads.collect();
                let outcome = self.raft(id).propose(payloads, 0);
                self.say(id, &format!("{outcome:?}"));
            }
            "transfer" => {
                let to = step.value("to").map(id_of);
                if let Err(error) = self.raft(id).transfer_leadership(to, now_ms) {
                    self.say(id, &error.to_string());
                }
            }
            "read" => {
                let read_id = rest[0].parse().unwrap();
                if let Err(error) = self.raft(id).request_read(read_id, now_ms) {
                    self.say(id, &error.to_string());
                }
            }
            "lease" => {
                let sure = self.raft(id).holds_lease(now_ms);
                self.say(id, if sure { "holds the lease" } else { "has no lease" });
                return;
            }
            "crash" => {
                let node = self.node(id);
                (node.raft, node.writes) = (None, VecDeque::new());
                return;
            }
            "wipe" => {
                let node = self.node(id);
                let membership = node.disk.membership.clone();
                node.disk = Disk { membership, ..Disk::default() };
                return;
            }
            "restart" => self.restart(id),
            "pause" => self.node(id).paused = true,
            "continue" => self.node(id).paused = false,
            "snapshot" => return self.take_snapshot(id),
            _ => self.change(verb, id, step),
        }
        self.carry_out(id);
    }

    fn change(&mut self, verb: &str, id: MemberId, step: &Step) {
        let other = step.value("member").map(id_of).unwrap();
        let learner = step.words.iter().any(|word| word == "learner");
        let role = if learner { MemberRole::Learner } else { MemberRole::Voter };
        let change = match verb {
            "add" => {
                MembershipChange::Add { id: other, member: Member { role, ..Member::default() } }
            }
            "promote" => MembershipChange::Promote { id: other },
            "demote" => MembershipChange::Demote { id: other, rejoining: false },
            "remove" => MembershipChange::Remove { id: other },
            _ => panic!("what is {verb}?"),
        };
        match self.raft(id).propose_membership(change, 0) {
            Ok(index) => self.say(id, &format!("proposed as {index}")),
            Err(error) => self.say(id, &format!("refused: {error}")),
        }
    }

    fn node(&mut self, id: MemberId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    fn raft(&mut self, id: MemberId) -> &mut Raft {
        self.node(id).raft.as_mut().expect("the member is up")
    }

    fn ids(&self) -> Vec<MemberId> {
        self.nodes.keys().copied().collect()
    }

    fn say(&mut self, id: MemberId, text: &str) {
        let _ = writeln!(self.trace, "{:>4} {id}: {text}", self.now_ms);
    }

    fn members(&mut self, count: u64, step: &Step) {
        if let Some(chunk) = number(step, "chunk") {
            self.config.snapshot_chunk_size = chunk;
        }
        if let Some(kept) = number(step, "kept") {
            self.config.kept_entries_size_max = kept;
        }
        if let Some(size) = number(step, "append") {
            self.config.append_size_max = size;
        }
        let mut membership = Membership::of_voters((1..=count).map(MemberId));
        for id in step.value("learners").map(ids_of).unwrap_or_default() {
            membership.members.entry(id).or_default().role = MemberRole::Learner;
        }
        for id in (1..=count).map(MemberId) {
            self.create(id, Disk { membership: membership.clone(), ..Disk::default() });
        }
    }

    /// A member of an ensemble of `members`.
    fn start_one(&mut self, id: MemberId, step: &Step) {
        let count = number(step, "members").map_or(id.0, |count| count as u64);
        let membership = Membership::of_voters((1..=count).map(MemberId));
        let cluster_id = step.value("cluster").map(|value| Uuid([value.parse().unwrap(); 16]));
        let formed = step.words.iter().any(|word| word == "formed");
        let standing = if formed { Standing::Voter } else { Standing::Fresh };
        let hard_state = HardState { standing, cluster_id, ..HardState::default() };
        self.create(id, Disk { hard_state, membership, ..Disk::default() });
        self.carry_out(id);
    }

    fn create(&mut self, id: MemberId, disk: Disk) {
        let node = Node {
            raft: None,
            disk,
            writes: VecDeque::new(),
            stalled: false,
            paused: false,
            applied: 0,
            applied_term: 0,
        };
        self.nodes.insert(id, node);
        self.restart(id);
    }

    /// As if the ensemble had been formed long ago, and nobody had led it yet.
    fn formed(&mut self) {
        for id in self.ids() {
            self.node(id).disk.hard_state.standing = Standing::Voter;
            self.restart(id);
        }
    }

    /// A log with an entry for each of the terms; the newest is the member's own.
    fn set_log(&mut self, id: MemberId, terms: &str, term: Option<usize>) {
        let terms: Vec<u64> = terms.split(',').map(|term| term.parse().unwrap()).collect();
        let node = self.node(id);
        node.disk.hard_state.standing = Standing::Voter;
        let last = terms.last().copied().unwrap_or_default();
        node.disk.hard_state.term = term.map_or(last, |term| term as u64);
        node.disk.entries = (1..)
            .zip(&terms)
            .map(|(index, term)| command(index, *term, &format!("old{index}.{term}")))
            .collect();
        self.restart(id);
    }

    fn restart(&mut self, id: MemberId) {
        let now_ms = self.now_ms;
        let mut config = self.config.clone();
        (config.member_id, config.seed) = (id, id.0);
        config.new_cluster_id = Uuid([u8::try_from(id.0).unwrap(); 16]);
        let node = self.node(id);
        let Disk { hard_state, snapshot, entries, membership } = node.disk.clone();
        let membership = snapshot.as_ref().map_or(membership, |meta| meta.membership.clone());
        node.applied = snapshot.as_ref().map_or(0, |meta| meta.index);
        node.writes.clear();
        let restored = Restored { hard_state, snapshot, membership, entries };
        node.raft = Some(Raft::new(config, restored, now_ms));
    }

    fn take_snapshot(&mut self, id: MemberId) {
        let node = self.node(id);
        let (index, term) = (node.applied, node.applied_term);
        let raft = node.raft.as_mut().unwrap();
        let membership = raft.membership_at(index).clone();
        let meta = SnapshotMeta { index, term, membership };
        raft.compact(&meta);
        node.disk.entries.retain(|entry| entry.index > index);
        node.disk.snapshot = Some(meta);
        self.say(id, &format!("has a snapshot of {index}"));
    }

    fn tick(&mut self, ids: &[MemberId]) {
        self.now_ms += TICK_MS;
        let now_ms = self.now_ms;
        for id in ids {
            let node = self.node(*id);
            if let Some(raft) = node.raft.as_mut().filter(|_| !node.paused) {
                raft.tick(now_ms);
                self.carry_out(*id);
            }
        }
    }

    fn time(&mut self, ms: u64, words: &[&str]) {
        let ids = match words {
            [_, _, "only", list] => ids_of(list),
            _ => self.ids(),
        };
        for _ in 0..ms / TICK_MS {
            self.tick(&ids);
        }
    }

    fn run_for(&mut self, ms: u64) {
        for _ in 0..ms / TICK_MS {
            self.tick(&self.ids());
            self.deliver_all(|_| true);
        }
    }

    /// Leaves out of the trace what was said and written.
    fn be_brief(&mut self) {
        let lines = self.trace.lines();
        let brief = lines.filter(|line| !line.contains("-> ") && !line.contains(": writes "));
        self.trace = brief.map(|line| format!("{line}\n")).collect();
    }

    fn campaign(&mut self, id: MemberId) {
        for _ in 0..100 {
            let before = self.trace.len();
            self.tick(&[id]);
            if self.trace[before..].contains("ote{") {
                return;
            }
        }
        panic!("member {id} does not campaign");
    }

    fn deliver(&mut self, step: &Step) {
        let (from, to) = (step.value("from").map(id_of), step.value("to").map(id_of));
        self.deliver_all(|message| {
            from.is_none_or(|id| message.from == id) && to.is_none_or(|id| message.to == id)
        });
    }

    fn deliver_all(&mut self, wanted: impl Fn(&Message) -> bool) {
        while let Some(place) = self.network.iter().position(&wanted) {
            let message = self.network.remove(place).unwrap();
            let (to, now_ms) = (message.to, self.now_ms);
            if self.cut.contains(&(message.from, to)) {
                continue;
            }
            if let Some(node) = self.nodes.get_mut(&to).filter(|node| !node.paused)
                && let Some(raft) = &mut node.raft
            {
                raft.step(message, now_ms);
                self.carry_out(to);
            }
        }
    }

    fn lose(&mut self, step: &Step) {
        let (from, to) = (step.value("from").map(id_of), step.value("to").map(id_of));
        self.network.retain(|message| {
            let wanted =
                from.is_none_or(|id| message.from == id) && to.is_none_or(|id| message.to == id);
            !wanted
        });
    }

    /// Does what a member says, and prints it.
    fn carry_out(&mut self, id: MemberId) {
        let now_ms = self.now_ms;
        loop {
            let node = self.node(id);
            if node.paused {
                return;
            }
            let Some(raft) = &mut node.raft else { return };
            let Some(mut ready) = raft.ready(now_ms) else { return };
            self.tell(id, &ready);
            self.network.extend(std::mem::take(&mut ready.messages));
            self.apply(id, &ready);
            self.snapshots(id, &ready);
            let after = std::mem::take(&mut ready.messages_after_persist);
            self.node(id).writes.push_back((ready, after));
            if !self.node(id).stalled {
                self.write(id);
            }
        }
    }

    fn apply(&mut self, id: MemberId, ready: &Ready) {
        let node = self.node(id);
        if let Some(last) = ready.committed.last() {
            (node.applied, node.applied_term) = (last.index, last.term);
        }
        let applied = node.applied;
        self.raft(id).applied(applied);
    }

    fn snapshots(&mut self, id: MemberId, ready: &Ready) {
        let now_ms = self.now_ms;
        for to in &ready.snapshots_wanted {
            let meta = self.node(id).disk.snapshot.clone();
            match meta {
                Some(meta) => self.raft(id).snapshot_to_send(*to, meta, SNAPSHOT_SIZE),
                None => self.raft(id).snapshot_unavailable(*to),
            }
        }
        for chunk in &ready.chunks_wanted {
            let bytes = Bytes::from(vec![0; chunk.length]);
            self.raft(id).send_chunk(chunk.to, chunk.index, chunk.offset, bytes);
        }
        for chunk in ready.chunks_received.iter().filter(|chunk| chunk.last) {
            self.write(id);
            self.say(id, &format!("installs the snapshot of {}", chunk.meta.index));
            let node = self.node(id);
            node.disk.entries.clear();
            node.disk.snapshot = Some(chunk.meta.clone());
            node.applied = chunk.meta.index;
            self.raft(id).snapshot_installed(chunk.meta.clone(), now_ms);
        }
    }

    /// The member's disk writes all that waits for it.
    fn write(&mut self, id: MemberId) {
        let now_ms = self.now_ms;
        while let Some((ready, after)) = self.node(id).writes.pop_front() {
            let node = self.node(id);
            if let Some(hard_state) = ready.hard_state {
                node.disk.hard_state = hard_state;
            }
            if let Some(first) = ready.entries.first() {
                node.disk.entries.retain(|entry| entry.index < first.index);
                node.disk.entries.extend_from_slice(&ready.entries);
            }
            self.network.extend(after);
            self.raft(id).persisted(ready.number, now_ms);
        }
    }

    fn tell(&mut self, id: MemberId, ready: &Ready) {
        match ready.role {
            Some(RoleChange::Leader { term }) => self.say(id, &format!("leads in term {term}")),
            Some(RoleChange::Follower { term, leader_id: Some(leader_id) }) => {
                self.say(id, &format!("follows {leader_id} in term {term}"));
            }
            Some(RoleChange::Follower { leader_id: None, .. }) => self.say(id, "has no leader"),
            None => {}
        }
        if let Some(HardState { term, vote, standing, cluster_id }) = ready.hard_state {
            let vote = vote.map_or_else(|| "nobody".to_owned(), |vote| vote.to_string());
            let cluster =
                cluster_id.map_or_else(String::new, |id| format!(", cluster {}", id.0[0]));
            self.say(id, &format!("writes term {term}, vote for {vote}, {standing:?}{cluster}"));
        }
        if !ready.entries.is_empty() {
            self.say(id, &format!("writes {}", entries_text(&ready.entries)));
        }
        for message in &ready.messages {
            self.say(id, &format!("-> {}", message_text(message)));
        }
        for message in &ready.messages_after_persist {
            self.say(id, &format!("then -> {}", message_text(message)));
        }
        if !ready.committed.is_empty() {
            self.say(id, &format!("applies {}", entries_text(&ready.committed)));
        }
        for read in &ready.reads {
            let text = read.index.map_or_else(
                || format!("read {} must be asked again", read.id),
                |index| format!("read {} at {index}", read.id),
            );
            self.say(id, &text);
        }
    }

    fn status(&mut self) {
        for id in self.ids() {
            let Some(raft) = &self.node(id).raft else {
                self.say(id, "is down");
                continue;
            };
            let status = raft.status();
            let members: Vec<_> = status.membership.members.iter().map(member_text).collect();
            let mut text = format!(
                "{:?} in term {}, {:?}, leader {}, log to {} of term {}, committed {}, members {}",
                status.role,
                status.hard_state.term,
                status.hard_state.standing,
                status.leader_id.map_or_else(|| "unknown".to_owned(), |id| id.to_string()),
                status.last_index,
                status.last_term,
                status.commit_index,
                members.join(" "),
            );
            for one in &status.progress {
                let (id, matched, next) = (one.member_id, one.match_index, one.next_index);
                let _ = write!(text, "; {id} {} {matched}/{next}", one.state);
            }
            self.say(id, &text);
        }
    }
}

fn member_text((id, member): (&MemberId, &Member)) -> String {
    let role = match (member.role, member.rejoining) {
        (MemberRole::Voter, _) => "",
        (MemberRole::Learner, false) => "(learner)",
        (MemberRole::Learner, true) => "(rejoining)",
    };
    format!("{id}{role}")
}

fn entries_text(entries: &[Entry]) -> String {
    let texts = entries.iter().map(|entry| {
        let what = match entry.kind {
            EntryKind::Command => String::from_utf8_lossy(&entry.payload).into_owned(),
            EntryKind::Membership => "members".to_owned(),
            EntryKind::Blank => "blank".to_owned(),
        };
        format!("{}/{} {what}", entry.index, entry.term)
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn standing_text(standing: Standing, blank: bool) -> String {
    let blank = if blank { ", blank" } else { "" };
    format!("{standing:?}{blank}")
}

fn message_text(message: &Message) -> String {
    let (to, term) = (message.to, message.term);
    let text = match &message.kind {
        MessageKind::Append { prev_index, prev_term, commit_index, entries } => {
            let entries = entries_text(entries);
            format!("Append{{after {prev_index}/{prev_term}, commit {commit_index}: {entries}}}")
        }
        MessageKind::Appended { match_index, .. } => format!("Appended{{{match_index}}}"),
        MessageKind::AppendRefused { prev_index, hint_index, hint_term, .. } => {
            format!("AppendRefused{{after {prev_index}, perhaps {hint_index}/{hint_term}}}")
        }
        MessageKind::PreVote { campaign_term, last_index, last_term } => {
            format!("PreVote{{for term {campaign_term}, log to {last_index}/{last_term}}}")
        }
        MessageKind::PreVoteResponse { granted, .. } => format!("PreVoteResponse{{{granted}}}"),
        MessageKind::Vote { last_index, last_term, transfer_round } => {
            let leave = if transfer_round.is_some() { ", by the leader's leave" } else { "" };
            format!("Vote{{log to {last_index}/{last_term}{leave}}}")
        }
        MessageKind::VoteResponse { granted } => format!("VoteResponse{{{granted}}}"),
        MessageKind::Heartbeat { commit_index, round, .. } => {
            format!("Heartbeat{{round {round}, commit {commit_index}}}")
        }
        MessageKind::HeartbeatResponse { round, match_index, .. } => {
            format!("HeartbeatResponse{{round {round}, has {match_index}}}")
        }
        MessageKind::Committed { commit_index } => format!("Committed{{{commit_index}}}"),
        MessageKind::SnapshotChunk { meta, offset, bytes, size } => {
            format!("SnapshotChunk{{of {}, {offset}+{} of {size}}}", meta.index, bytes.len())
        }
        MessageKind::SnapshotAck { index, offset, failed } => {
            format!("SnapshotAck{{of {index}, has {offset}, failed {failed}}}")
        }
        MessageKind::Greeting { standing, blank } => {
            format!("Greeting{{{}}}", standing_text(*standing, *blank))
        }
        MessageKind::GreetingResponse { standing, blank, members } => {
            let members: Vec<_> = members.iter().map(ToString::to_string).collect();
            let standing = standing_text(*standing, *blank);
            format!("GreetingResponse{{{standing}, members {}}}", members.join(" "))
        }
        MessageKind::TimeoutNow { .. } => "TimeoutNow".to_owned(),
    };
    format!("{to} in term {term}: {text}")
}

#[test]
fn raft() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/raft");
    datadriven::tell_all(&folder, World::new, World::run);
}
