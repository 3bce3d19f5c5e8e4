//! Stories of several members in one process, which meet over real sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::*;
use crate::consensus::Leadership;
use crate::consensus::raft::{Member as Seat, Membership, Standing};

/// An ensemble whose members are started and stopped one by one.
struct Trio {
    folders: BTreeMap<u64, TempDir>,
    addresses: BTreeMap<u64, SocketAddr>,
    running: BTreeMap<u64, Member>,
    /// What is not as in [`options`].
    change: fn(EnsembleOptions) -> EnsembleOptions,
}

impl Trio {
    async fn new(change: fn(EnsembleOptions) -> EnsembleOptions) -> Self {
        let mut trio = Self {
            folders: BTreeMap::new(),
            addresses: BTreeMap::new(),
            running: BTreeMap::new(),
            change,
        };
        let mut listeners = BTreeMap::new();
        for id in 1..=3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            trio.addresses.insert(id, listener.local_addr().unwrap());
            trio.folders.insert(id, tempfile::tempdir().unwrap());
            listeners.insert(id, listener);
        }
        for (id, listener) in listeners {
            trio.start_on(id, listener);
        }
        trio
    }

    fn membership(&self) -> Membership {
        let mut membership = Membership::of_voters(self.addresses.keys().map(|id| MemberId(*id)));
        for (id, seat) in &mut membership.members {
            *seat = Seat { peer_address: self.addresses[&id.0].to_string(), ..Seat::default() };
        }
        membership
    }

    fn start_on(&mut self, id: u64, listener: TcpListener) {
        let wal = WalOptions { segment_size: 64 * 1024, allocate_step: 4096 };
        let options = EnsembleOptions {
            membership: self.membership(),
            // Machines that run tests may be busy.
            election_timeout_ms: 1_000,
            heartbeat_interval_ms: 100,
            patience_ms: 60_000,
            wal,
            ..EnsembleOptions::new(MemberId(id), self.folders[&id].path())
        };
        let network = NetworkOptions { listener, key: b"key".as_slice().into() };
        let shutdown = Shutdown::new();
        let started = Ensemble::start_with_others((self.change)(options), Some(network), &shutdown);
        let (ensemble, live) = started.unwrap();
        self.running.insert(id, Member { ensemble, live, shutdown });
    }

    async fn start(&mut self, id: u64) {
        let listener = ottla_common::net::bind(&self.addresses[&id].to_string()).await.unwrap();
        self.start_on(id, listener);
    }

    async fn stop(&mut self, id: u64) {
        self.running.remove(&id).unwrap().stop().await;
    }

    async fn stop_all(mut self) {
        while let Some((_, member)) = self.running.pop_first() {
            member.stop().await;
        }
    }

    fn member(&self, id: u64) -> &Member {
        &self.running[&id]
    }

    fn any(&self) -> &Member {
        self.running.values().next().unwrap()
    }

    /// The member that all running ones follow.
    async fn leader(&self) -> u64 {
        let mut leadership = self.any().ensemble.leadership();
        loop {
            let now = *leadership.wait_for(|now| now.leader_id.is_some()).await.unwrap();
            let leader_id = now.leader_id.unwrap();
            let leads = |now: &Leadership| now.leader_id == Some(leader_id);
            let Some(member) = self.running.get(&leader_id.0) else {
                leadership.changed().await.unwrap();
                continue;
            };
            let mut own = member.ensemble.leadership();
            tokio::select! {
                _ = own.wait_for(leads) => return leader_id.0,
                _ = leadership.changed() => {}
            }
        }
    }

    async fn follower(&self) -> u64 {
        let leader = self.leader().await;
        *self.running.keys().find(|id| **id != leader).unwrap()
    }

    /// Waits until all running members have applied the same, and compares them.
    async fn settle(&self) {
        loop {
            for member in self.running.values() {
                member.ensemble.read_barrier().await.unwrap();
            }
            let states: Vec<_> =
                self.running.values().map(|member| member.live.machine()).collect();
            if states.iter().all(|state| state.zxid() == states[0].zxid()) {
                assert!(states.iter().all(|state| state.digest() == states[0].digest()));
                return;
            }
        }
    }
}

#[tokio::test]
async fn three_members_elect_a_leader_and_each_of_them_takes_writes() {
    let trio = Trio::new(|options| options).await;
    for (number, member) in (0..).zip(trio.running.values()) {
        member.ensemble.propose(create(number)).await.unwrap().outcome.unwrap();
    }
    // One that began late is taken in as if it had lost its data, and votes a little later.
    loop {
        let leader_id = Some(MemberId(trio.leader().await));
        let belongs = |member: &Member| {
            let status = member.ensemble.status();
            status.standing == Standing::Voter
                && status.leader_id == leader_id
                && status.cluster_id.is_some()
                && status.membership.members.len() == 3
        };
        if trio.running.values().all(belongs) {
            break;
        }
        tokio::task::yield_now().await;
    }
    trio.settle().await;
    for member in trio.running.values() {
        assert_eq!(names(member), 3);
        let machine = member.live.machine();
        let config = machine.tree().node("/zookeeper/config").unwrap().data().to_vec();
        let config = String::from_utf8(config.to_vec()).unwrap();
        assert!(config.contains("server.3=127.0.0.1:"), "{config}");
    }
    trio.stop_all().await;
}

#[tokio::test]
async fn the_others_go_on_when_the_leader_dies_and_it_catches_up() {
    let mut trio = Trio::new(|options| options).await;
    for number in 0..50 {
        trio.any().ensemble.propose(create(number)).await.unwrap();
    }
    for round in 1..4 {
        let leader = trio.leader().await;
        trio.stop(leader).await;
        for number in round * 50..(round + 1) * 50 {
            trio.any().ensemble.propose(create(number)).await.unwrap();
        }
        trio.start(leader).await;
        trio.settle().await;
        assert_eq!(names(trio.member(leader)) as u64, (round + 1) * 50);
    }
    trio.stop_all().await;
}

#[tokio::test]
async fn the_order_of_a_followers_proposals_is_kept_and_none_is_done_twice() {
    let mut trio = Trio::new(|options| options).await;
    let follower = trio.follower().await;
    let mut proposals = Vec::new();
    for round in 0..3 {
        for number in 0..200 {
            proposals.push(trio.member(follower).ensemble.propose(create(round * 200 + number)));
        }
        let leader = trio.leader().await;
        if leader != follower {
            // Among the proposals that are under way.
            trio.stop(leader).await;
            trio.start(leader).await;
        }
    }
    let mut last = Zxid(0);
    for proposal in proposals {
        let applied = proposal.await.unwrap();
        assert!(applied.zxid > last);
        last = applied.zxid;
        assert!(applied.outcome.is_ok(), "done twice: {:?}", applied.outcome);
    }
    trio.settle().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn a_member_that_lacks_too_much_gets_a_snapshot() {
    let mut trio = Trio::new(|options| EnsembleOptions {
        snapshot_after_records: 40,
        kept_entries_size_max: 1,
        ..options
    })
    .await;
    trio.any().ensemble.propose(create(1_000)).await.unwrap();
    trio.settle().await;
    let follower = trio.follower().await;
    trio.stop(follower).await;
    for number in 0..200 {
        trio.any().ensemble.propose(create(number)).await.unwrap();
    }
    trio.start(follower).await;
    trio.settle().await;
    assert_eq!(names(trio.member(follower)), 201);
    assert!(trio.member(follower).ensemble.status().first_index > 100, "no snapshot was sent");
    // It goes on from what it received, alone and with others.
    trio.stop(follower).await;
    trio.any().ensemble.propose(create(2_000)).await.unwrap();
    trio.start(follower).await;
    trio.settle().await;
    // Where a machine stands still for a second another may lead, and what came of it is unknown.
    while trio.member(follower).ensemble.propose(create(3_000)).await.is_err() {}
    trio.settle().await;
    trio.stop_all().await;
}

#[tokio::test]
async fn a_member_that_lost_its_data_comes_back_as_a_voter_by_itself() {
    let mut trio = Trio::new(|options| options).await;
    for number in 0..20 {
        trio.any().ensemble.propose(create(number)).await.unwrap();
    }
    trio.settle().await;
    let follower = trio.follower().await;
    trio.stop(follower).await;
    trio.folders.insert(follower, tempfile::tempdir().unwrap());
    trio.start(follower).await;
    loop {
        let status = trio.member(follower).ensemble.status();
        if status.standing == Standing::Voter && status.membership.is_voter(MemberId(follower)) {
            break;
        }
        trio.member(follower).ensemble.read_barrier().await.unwrap();
    }
    trio.settle().await;
    assert_eq!(names(trio.member(follower)), 20);
    // Its vote counts: one of the others may go.
    let leader = trio.leader().await;
    trio.stop(leader).await;
    trio.any().ensemble.propose(create(100)).await.unwrap();
    trio.settle().await;
    trio.stop_all().await;
}
