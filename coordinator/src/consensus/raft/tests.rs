//! Members in one process, with a network and disks that a seed decides over: what must never
//! happen is looked for at each step. (The simulator does the same with all around the core.)

use std::collections::{BTreeMap, VecDeque};

use super::seeded_bugs::SeededBug;
use super::*;

const TICK_MS: u64 = 20;

/// What a member's disk holds.
#[derive(Clone, Default)]
struct Disk {
    hard_state: HardState,
    snapshot: Option<SnapshotMeta>,
    entries: Vec<Entry>,
}

impl Disk {
    fn write(&mut self, hard_state: Option<HardState>, entries: &[Entry]) {
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state;
        }
        if let Some(first) = entries.first() {
            self.entries.retain(|entry| entry.index < first.index);
            self.entries.extend_from_slice(entries);
        }
    }
}

/// What waits for a member's disk.
struct Write {
    number: u64,
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    messages: Vec<Message>,
}

struct Node {
    raft: Raft,
    disk: Disk,
    writes: VecDeque<Write>,
    /// What it applied in this life, from its snapshot on.
    applied: u64,
    size_of_snapshot: u64,
}

/// Members, what is on its way between them, and what is known to be decided.
struct World {
    random: fastrand::Rng,
    nodes: BTreeMap<MemberId, Node>,
    network: Vec<Message>,
    /// From whom to whom nothing arrives.
    cut: Vec<(MemberId, MemberId)>,
    now_ms: u64,
    voters: u64,
    leaders: BTreeMap<u64, MemberId>,
    /// Every entry that was applied anywhere.
    decided: BTreeMap<u64, Entry>,
    proposals: u64,
    loss: bool,
    /// The index that a read must reach, by its number.
    reads: BTreeMap<u64, u64>,
    bug: Option<SeededBug>,
    reads_done: u64,
    disks_lost: u64,
    changes: bool,
}

impl World {
    fn new(voters: u64, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        let mut world = Self {
            random,
            nodes: BTreeMap::new(),
            network: Vec::new(),
            cut: Vec::new(),
            now_ms: 1_000,
            voters,
            leaders: BTreeMap::new(),
            decided: BTreeMap::new(),
            proposals: 0,
            loss: true,
            reads: BTreeMap::new(),
            bug: None,
            reads_done: 0,
            disks_lost: 0,
            changes: !seed.is_multiple_of(3),
        };
        (1..=voters).for_each(|id| world.start(MemberId(id), Disk::default()));
        world
    }

    fn start(&mut self, id: MemberId, disk: Disk) {
        let mut config = RaftConfig::new(id);
        config.seed = self.random.u64(..);
        config.new_cluster_id = Uuid([u8::try_from(id.0).unwrap(); 16]);
        config.append_size_max = 300;
        config.appends_in_flight_max = 3;
        config.kept_entries_size_max = 1_000;
        config.snapshot_chunk_size = 10;
        #[cfg(feature = "seeded-bugs")]
        {
            config.seeded_bug = self.bug;
        }
        let Disk { hard_state, snapshot, entries } = disk.clone();
        let membership = match &snapshot {
            Some(meta) => meta.membership.clone(),
            None => Membership::of_voters((1..=self.voters).map(MemberId)),
        };
        let applied = snapshot.as_ref().map_or(0, |meta| meta.index);
        let restored = Restored { hard_state, snapshot, membership, entries };
        let raft = Raft::new(config, restored, self.now_ms);
        let node = Node { raft, disk, writes: VecDeque::new(), applied, size_of_snapshot: 0 };
        self.nodes.insert(id, node);
    }

    fn restart(&mut self, id: MemberId, wiped: bool) {
        let node = self.nodes.remove(&id).unwrap();
        self.start(id, if wiped { Disk::default() } else { node.disk });
    }

    /// Carries out what a member says.
    fn carry_out(&mut self, id: MemberId) {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&id).unwrap();
        while let Some(ready) = node.raft.ready(now_ms) {
            if let Some(RoleChange::Leader { term }) = ready.role {
                let before = self.leaders.insert(term, id);
                assert!(before.is_none_or(|one| one == id), "two leaders in the term {term}");
            }
            self.network.extend(ready.messages);
            let persists = ready.hard_state.is_some() || !ready.entries.is_empty();
            if persists || !ready.messages_after_persist.is_empty() {
                node.writes.push_back(Write {
                    number: ready.number,
                    hard_state: ready.hard_state,
                    entries: ready.entries,
                    messages: ready.messages_after_persist,
                });
            }
            for entry in ready.committed {
                assert_eq!(entry.index, node.applied + 1, "member {id} applies in order");
                node.applied = entry.index;
                let decided = self.decided.entry(entry.index).or_insert_with(|| entry.clone());
                assert_eq!(*decided, entry, "member {id} applies something else");
            }
            node.raft.applied(node.applied);
            for read in ready.reads {
                let needed = self.reads.remove(&read.id).unwrap();
                self.reads_done += u64::from(read.index.is_some());
                assert!(read.index.is_none_or(|index| index >= needed), "a stale read");
            }
            node.give_snapshots(&ready.snapshots_wanted, &ready.chunks_wanted);
            for chunk in ready.chunks_received.into_iter().filter(|chunk| chunk.last) {
                // All writes before it first, as is the duty.
                while let Some(write) = node.writes.pop_front() {
                    node.disk.write(write.hard_state, &write.entries);
                    node.raft.persisted(write.number, now_ms);
                    self.network.extend(write.messages);
                }
                node.disk.entries.clear();
                node.disk.snapshot = Some(chunk.meta.clone());
                node.applied = chunk.meta.index;
                node.raft.snapshot_installed(chunk.meta, now_ms);
            }
        }
    }

    fn persist(&mut self, id: MemberId) {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(&id).unwrap();
        if let Some(write) = node.writes.pop_front() {
            node.disk.write(write.hard_state, &write.entries);
            node.raft.persisted(write.number, now_ms);
            self.network.extend(write.messages);
            self.carry_out(id);
        }
    }

    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let place = self.random.usize(0..self.network.len().min(8));
        let message = if self.loss && self.random.u8(..) < 8 {
            self.network[place].clone()
        } else {
            self.network.remove(place)
        };
        let lost = self.loss && self.random.u8(..) < 12;
        if lost || self.cut.contains(&(message.from, message.to)) {
            return;
        }
        let to = message.to;
        if let Some(node) = self.nodes.get_mut(&to) {
            node.raft.step(message, self.now_ms);
            self.carry_out(to);
        }
    }

    fn any(&mut self) -> MemberId {
        let ids: Vec<_> = self.nodes.keys().copied().collect();
        ids[self.random.usize(0..ids.len())]
    }

    fn tick(&mut self) {
        self.now_ms += TICK_MS;
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.nodes.get_mut(&id).unwrap().raft.tick(self.now_ms);
            self.carry_out(id);
        }
    }

    fn propose(&mut self) {
        let id = self.any();
        self.proposals += 1;
        let payload = Bytes::from(self.proposals.to_string());
        let _ = self.nodes.get_mut(&id).unwrap().raft.propose(vec![payload], 0);
        self.carry_out(id);
    }

    fn read(&mut self) {
        let id = self.any();
        let read_id = self.random.u64(..);
        let newest = self.decided.keys().next_back().copied().unwrap_or_default();
        if self.nodes.get_mut(&id).unwrap().raft.request_read(read_id, self.now_ms).is_ok() {
            self.reads.insert(read_id, newest);
        }
        self.carry_out(id);
    }

    /// One thing that may happen.
    fn happen(&mut self) {
        match self.random.u32(0..1_000) {
            0..450 => self.deliver(),
            450..750 => {
                let id = self.any();
                self.persist(id);
            }
            750..800 => self.tick(),
            800..900 => self.propose(),
            900..950 => self.read(),
            950..955 => {
                let id = self.any();
                self.restart(id, false);
            }
            955..960 => {
                let (one, other) = (self.any(), self.any());
                self.cut.push((one, other));
            }
            960..970 => {
                if !self.cut.is_empty() {
                    let place = self.random.usize(0..self.cut.len());
                    self.cut.remove(place);
                }
            }
            970..975 => {
                let (id, to) = (self.any(), self.any());
                let node = self.nodes.get_mut(&id).unwrap();
                let _ = node.raft.transfer_leadership(Some(to), self.now_ms);
            }
            975..980 => {
                let id = self.any();
                self.nodes.get_mut(&id).unwrap().compact();
            }
            // Both at once may leave too few that know what they promised.
            980..985 if self.changes => self.change_members(),
            980..983 => self.lose_a_disk(),
            985..987 => {
                let id = self.any();
                self.nodes.get_mut(&id).unwrap().raft.disk_stalled(self.now_ms);
                self.carry_out(id);
            }
            _ => {
                let (id, peer) = (self.any(), self.any());
                self.nodes.get_mut(&id).unwrap().raft.peer_unreachable(peer);
            }
        }
    }

    /// Wipes a member, if all others know what they promised and can do without it.
    fn lose_a_disk(&mut self) {
        let id = self.any();
        let others_know = self.nodes.iter().filter(|(other, _)| **other != id).all(|(_, node)| {
            let certain = node.raft.membership_at(node.applied);
            let mut views = [certain, node.raft.membership()].into_iter();
            let same = views.clone().all(|view| view == self.nodes[&id].raft.membership());
            same && views.all(|view| view.voters().count() > 2)
                && node.disk.hard_state.standing == Standing::Voter
        });
        if others_know {
            self.restart(id, true);
            self.disks_lost += 1;
        }
    }

    fn change_members(&mut self) {
        let (leader, id) = (self.any(), self.any());
        let change = match self.random.u32(0..4) {
            0 => MembershipChange::Promote { id },
            1 => MembershipChange::Demote { id, rejoining: self.random.bool() },
            2 => MembershipChange::Remove { id },
            _ => MembershipChange::Add { id, member: Member::default() },
        };
        let node = self.nodes.get_mut(&leader).unwrap();
        if node.raft.membership().voters().count() > 2 {
            let _ = node.raft.propose_membership(change, 0);
        } else {
            let _ = node
                .raft
                .propose_membership(MembershipChange::Add { id, member: Member::default() }, 0);
        }
        self.carry_out(leader);
    }

    /// The logs on the disks of members agree up to wherever they agree on a term.
    fn check_logs(&self) {
        let logs: Vec<_> = self.nodes.values().map(|node| &node.disk.entries).collect();
        for one in &logs {
            for other in &logs {
                let mut equal = false;
                for entry in one.iter().rev() {
                    let Some(same) = other.iter().find(|same| same.index == entry.index) else {
                        continue;
                    };
                    equal |= same.term == entry.term;
                    assert!(!equal || same == entry, "logs part before where they are equal");
                }
            }
        }
    }

    /// Nothing goes wrong any more: what is proposed must be applied by all voters.
    fn heal(&mut self) {
        (self.loss, self.cut) = (false, Vec::new());
        let aim = self.decided.keys().next_back().copied().unwrap_or_default() + 3;
        for round in 0..2_000 {
            for _ in 0..100 {
                self.deliver();
            }
            for id in self.nodes.keys().copied().collect::<Vec<_>>() {
                while !self.nodes[&id].writes.is_empty() {
                    self.persist(id);
                }
            }
            if round % 10 == 0 {
                self.propose();
            }
            self.tick();
            let leader = self.nodes.values().find(|node| node.raft.status().role == Role::Leader);
            let membership = leader.map(|node| node.raft.membership().clone()).unwrap_or_default();
            let mut voters = membership.voters().filter_map(|id| self.nodes.get(&id)).peekable();
            if voters.peek().is_some() && voters.all(|node| node.applied >= aim) {
                return;
            }
        }
        for (id, node) in &self.nodes {
            println!("{id}: {:?}", node.raft.status());
        }
        panic!("no progress after all was healed");
    }
}

impl Node {
    fn compact(&mut self) {
        let index = self.applied.min(self.disk.entries.last().map_or(0, |entry| entry.index));
        let Some(entry) = self.disk.entries.iter().find(|entry| entry.index == index) else {
            return;
        };
        let membership = self.raft.membership_at(index).clone();
        let meta = SnapshotMeta { index, term: entry.term, membership };
        self.disk.entries.retain(|entry| entry.index > index);
        self.raft.compact(&meta);
        self.disk.snapshot = Some(meta);
    }

    fn give_snapshots(&mut self, wanted: &[MemberId], chunks: &[ChunkWanted]) {
        for to in wanted {
            self.compact();
            self.size_of_snapshot = 25;
            match &self.disk.snapshot {
                Some(meta) if meta.index >= self.raft.snapshot_index_min() => {
                    self.raft.snapshot_to_send(*to, meta.clone(), 25);
                }
                _ => self.raft.snapshot_unavailable(*to),
            }
        }
        for chunk in chunks {
            let bytes = Bytes::from(vec![0; chunk.length]);
            self.raft.send_chunk(chunk.to, chunk.index, chunk.offset, bytes);
        }
    }
}

fn seed() -> Option<u64> {
    std::env::var("OTTLA_SEED").ok().and_then(|text| text.parse().ok())
}

fn explore(voters: u64, seed: u64, steps: usize, bug: Option<SeededBug>) -> World {
    println!("OTTLA_SEED={seed}");
    let mut world = World::new(voters, seed);
    world.bug = bug;
    if bug.is_some() {
        (1..=voters).for_each(|id| world.restart(MemberId(id), true));
    }
    for step in 0..steps {
        world.happen();
        if step % 500 == 0 {
            world.check_logs();
        }
    }
    world.check_logs();
    world.heal();
    world.check_logs();
    world
}

#[test]
fn whatever_the_network_does_all_members_decide_the_same() {
    let seeds: Vec<u64> = match seed() {
        Some(seed) => vec![seed],
        None => (0..40).map(|_| fastrand::u64(..)).collect(),
    };
    let (mut decided, mut lost) = (0, 0);
    for seed in seeds {
        let world = explore(if seed.is_multiple_of(2) { 3 } else { 5 }, seed, 4_000, None);
        decided += world.decided.len();
        lost += world.disks_lost;
        assert!(world.decided.len() > 2);
    }
    println!("{decided} entries decided, {lost} disks lost");
}

/// A number near an edge.
fn edge(random: &mut fastrand::Rng) -> u64 {
    match random.u32(0..6) {
        0 => 0,
        1 => u64::MAX,
        2 => u64::MAX - random.u64(0..3),
        3 => NUMBER_MAX - 1,
        _ => random.u64(0..12),
    }
}

fn absurd_entries(random: &mut fastrand::Rng, index: u64) -> Vec<Entry> {
    let membership = Membership::of_voters((0..random.u64(0..4)).map(MemberId));
    let payload = match random.u32(0..3) {
        0 => Bytes::from_static(b"\xdf\xff\xff\xff\xff"),
        1 => ottla_common::coordination::codec::encode_message(&membership).unwrap().into(),
        _ => Bytes::new(),
    };
    let kinds = [EntryKind::Command, EntryKind::Membership, EntryKind::Blank];
    let (term, count) = (edge(random), random.u64(0..4));
    let entries = (1..=count).map(|more| Entry {
        index: index.wrapping_add(more),
        term,
        time_ms: i64::MIN,
        kind: kinds[random.usize(0..3)],
        payload: payload.clone(),
    });
    entries.collect()
}

/// Messages that no honest member sends, with numbers near the edges.
fn absurd(random: &mut fastrand::Rng) -> Message {
    let standing = [Standing::Fresh, Standing::Voter, Standing::Amnesiac][random.usize(0..3)];
    let (from, to, term) = (MemberId(random.u64(0..6)), MemberId(1), edge(random));
    let cluster_id = random.bool().then_some(Uuid([1; 16]));
    let kind = if random.bool() {
        absurd_from_leader(random)
    } else {
        absurd_from_follower(random, standing)
    };
    Message { from, to, term, cluster_id, kind }
}

fn absurd_from_leader(random: &mut fastrand::Rng) -> MessageKind {
    let (one, two, three, four) = (edge(random), edge(random), edge(random), edge(random));
    match random.u32(0..7) {
        0 => {
            let (round, sent_ms) = (two, three);
            MessageKind::Heartbeat { commit_index: one, round, sent_ms, last_index: four }
        }
        1 => {
            let membership = Membership::of_voters((0..one % 4).map(MemberId));
            let meta = SnapshotMeta { index: one, term: two, membership };
            let bytes = Bytes::from(vec![0; random.usize(0..3)]);
            MessageKind::SnapshotChunk { meta, size: three, offset: four, bytes }
        }
        2 => MessageKind::TimeoutNow { round: one },
        3 => MessageKind::Committed { commit_index: one },
        _ => {
            let entries = absurd_entries(random, one);
            MessageKind::Append { prev_index: one, prev_term: two, commit_index: three, entries }
        }
    }
}

fn absurd_from_follower(random: &mut fastrand::Rng, standing: Standing) -> MessageKind {
    let (one, two, three, four) = (edge(random), edge(random), edge(random), edge(random));
    let (granted, blank) = (random.bool(), random.bool());
    match random.u32(0..10) {
        0 => MessageKind::PreVote { campaign_term: one, last_index: two, last_term: three },
        1 => MessageKind::PreVoteResponse { campaign_term: one, granted },
        2 => {
            let transfer_round = granted.then_some(three);
            MessageKind::Vote { last_index: one, last_term: two, transfer_round }
        }
        3 => MessageKind::VoteResponse { granted },
        4 => MessageKind::Appended { match_index: one },
        5 => {
            let (hint_index, hint_term) = (two, three);
            MessageKind::AppendRefused { prev_index: one, hint_index, hint_term }
        }
        6 => {
            let (round, sent_ms, match_index, verified_index) = (one, two, three, four);
            MessageKind::HeartbeatResponse { round, sent_ms, match_index, verified_index, standing }
        }
        7 => MessageKind::SnapshotAck { index: one, offset: two, failed: granted },
        8 => MessageKind::Greeting { standing, blank },
        _ => {
            let members = (0..one % 9).map(MemberId).collect();
            MessageKind::GreetingResponse { standing, blank, members }
        }
    }
}

#[test]
fn no_message_makes_a_member_panic() {
    let seed = seed().unwrap_or_else(|| fastrand::u64(..));
    println!("OTTLA_SEED={seed}");
    for round in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed.wrapping_add(round));
        let mut world = World::new(1 + round % 3, seed);
        world.loss = false;
        for _ in 0..random.usize(0..120) {
            world.tick();
            (0..20).for_each(|_| world.deliver());
            (1..=world.voters).for_each(|id| world.persist(MemberId(id)));
        }
        let node = world.nodes.get_mut(&MemberId(1)).unwrap();
        for _ in 0..60 {
            let now_ms = world.now_ms + random.u64(0..2_000);
            node.raft.step(absurd(&mut random), now_ms);
            node.raft.tick(now_ms);
            let _ = node.raft.propose(vec![Bytes::new()], i64::MAX);
            if let Some(ready) = node.raft.ready(now_ms) {
                node.raft.persisted(ready.number.wrapping_mul(random.u64(0..2)), now_ms);
                for chunk in ready.chunks_received.into_iter().filter(|chunk| chunk.last) {
                    node.raft.snapshot_installed(chunk.meta, now_ms);
                }
            }
        }
    }
}

#[test]
fn who_is_not_known_changes_nothing() {
    let seed = seed().unwrap_or_else(|| fastrand::u64(..));
    println!("OTTLA_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(3, seed);
    world.loss = false;
    world.heal();
    let (now_ms, node) = (world.now_ms, world.nodes.get_mut(&MemberId(1)).unwrap());
    let before = node.raft.status();
    for _ in 0..5_000 {
        let mut message = absurd(&mut random);
        message.from = MemberId(4 + random.u64(0..3));
        node.raft.step(message.clone(), now_ms);
        // Or one of another ensemble.
        (message.from, message.cluster_id) = (MemberId(2), Some(Uuid([99; 16])));
        node.raft.step(message, now_ms);
    }
    assert_eq!(node.raft.status(), before);
    let said = node.raft.ready(now_ms).map(|ready| ready.messages).unwrap_or_default();
    let polite = |message: &Message| matches!(message.kind, MessageKind::GreetingResponse { .. });
    assert!(said.iter().all(polite), "only greetings are answered");
}

/// A leader of three members, all of whom it hears.
fn leader_of_three(seed: u64) -> (World, MemberId) {
    let mut world = World::new(3, seed);
    world.loss = false;
    world.heal();
    let leads = |(_, node): &(&MemberId, &Node)| node.raft.status().role == Role::Leader;
    let leader_id = *world.nodes.iter().find(leads).unwrap().0;
    (world, leader_id)
}

#[test]
fn answers_that_come_late_do_not_tell_what_a_member_is() {
    let seed = seed().unwrap_or_else(|| fastrand::u64(..));
    println!("OTTLA_SEED={seed}");
    let (mut world, leader_id) = leader_of_three(seed);
    let now_ms = world.now_ms;
    let other_id = MemberId(leader_id.0 % 3 + 1);
    let raft = &mut world.nodes.get_mut(&leader_id).unwrap().raft;
    let newest = raft.leading.as_ref().unwrap().progress[&other_id].acked_round;
    let mut say = |round: u64, standing: Standing| {
        let (match_index, verified_index) = (1, 1);
        let kind = MessageKind::HeartbeatResponse {
            round,
            sent_ms: now_ms,
            match_index,
            verified_index,
            standing,
        };
        let (term, cluster_id) = (raft.status().hard_state.term, None);
        raft.step(Message { from: other_id, to: leader_id, term, cluster_id, kind }, now_ms);
        raft.known(other_id).standing
    };
    assert_eq!(say(newest - 1, Standing::Amnesiac), Some(Standing::Voter), "said before");
    assert_eq!(say(newest, Standing::Amnesiac), Some(Standing::Amnesiac));
}

#[test]
fn a_member_that_refuses_the_same_again_is_not_asked_again_at_once() {
    let seed = seed().unwrap_or_else(|| fastrand::u64(..));
    println!("OTTLA_SEED={seed}");
    let (mut world, leader_id) = leader_of_three(seed);
    let now_ms = world.now_ms;
    let other_id = MemberId(leader_id.0 % 3 + 1);
    let raft = &mut world.nodes.get_mut(&leader_id).unwrap().raft;
    while raft.ready(now_ms).is_some() {}
    let prev_index = raft.leading.as_ref().unwrap().progress[&other_id].matched;
    raft.progress_of(other_id).unwrap().probe(0);
    let mut appends = 0;
    for _ in 0..10 {
        while let Some(ready) = raft.ready(now_ms) {
            let is_append = |message: &&Message| {
                message.to == other_id && matches!(message.kind, MessageKind::Append { .. })
            };
            appends += ready.messages.iter().filter(is_append).count();
        }
        // It has lost its log, which the leader does not know yet.
        let kind = MessageKind::AppendRefused { prev_index, hint_index: 0, hint_term: 0 };
        let (term, cluster_id) = (raft.status().hard_state.term, None);
        raft.step(Message { from: other_id, to: leader_id, term, cluster_id, kind }, now_ms);
    }
    assert_eq!(appends, 1);
}
