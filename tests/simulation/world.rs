//! The world: what happens when. One queue of events in the order of time; each is carried out at
//! once and to its end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::rc::Rc;

use fastrand::Rng;
use ottla_common::types::MemberId;
use ottla_coordinator::consensus::messages::PeerMessage;
use ottla_coordinator::consensus::raft::Membership;

use crate::clients::{Client, Stage, Surroundings, ToClient, ToMember, Wish};
use crate::invariants::{Check, Violation, violation};
use crate::member::{EXPIRY_TICK_MS, Member};
use crate::network::{End, Network};
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::tell;
use crate::trace::Trace;

/// How often a member is told the time, in microseconds of its clock.
const TICK_US: u64 = 20_000;

/// So many events do not happen in a run unless members keep each other busy with nothing.
const EVENTS_MAX: u64 = 3_000_000;

/// Something that is going to happen.
#[derive(Debug)]
pub enum Event {
    /// A member's process is told the time.
    Tick(u64, u64),
    /// It looks for sessions that are over.
    Expire(u64, u64),
    /// Its disk has done what it was given.
    Disk(u64, u64),
    /// It applies what is committed.
    Apply(u64, u64),
    /// A message between members arrives.
    Peer(u64, u64, Box<PeerMessage>),
    /// A member's process learns whether another can be reached.
    Reach(u64, u64, u64, bool),
    /// A message of a client arrives.
    ToMember(u64, ToMember),
    /// A message for a client arrives.
    ToClient(u64, ToClient),
    /// A member that stood still goes on.
    Resume(u64),
    /// A client does something.
    Act(usize),
    /// A member starts.
    Start(u64),
    /// Something breaks.
    Fault,
    /// The network is whole again.
    Heal,
}

struct Scheduled(u64, u64, Event);

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// A client's connection.
#[derive(Clone, Copy, Debug)]
struct Route {
    client: usize,
    member: u64,
    run: u64,
    to_member_us: u64,
    to_client_us: u64,
}

/// See the module.
pub struct World {
    /// The frame of the run.
    pub plan: Plan,
    /// The time, in microseconds since the beginning.
    pub now_us: u64,
    /// What happened.
    pub trace: Trace,
    /// What nothing else decides.
    pub random: Rng,
    /// The network.
    pub network: Network,
    /// All machines.
    pub members: Vec<Member>,
    /// All clients.
    pub clients: Vec<Client>,
    /// What is known of all of it.
    pub oracle: Oracle,
    /// The members as they are configured at the start.
    pub configured: Membership,
    /// Faults happen.
    pub is_faulty: bool,
    /// Events so far.
    pub events: u64,
    /// Held by whoever waits for a change of the members.
    pub changes_wanted: Rc<()>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    routes: BTreeMap<u64, Route>,
}

impl World {
    /// The world at its beginning.
    pub fn new(plan: Plan, is_traced: bool) -> Self {
        let mut random = Rng::with_seed(plan.seed ^ 0x5eed);
        let count = plan.members + plan.spares;
        let members = (1..=count).map(|id| Member::new(id, &plan, &mut random)).collect();
        let clients = (0..plan.clients).map(|id| Client::new(id, random.u64(..))).collect();
        let network = Network::new(plan.weather, random.u64(..));
        let mut world = Self {
            now_us: 1,
            trace: Trace::new(is_traced),
            network,
            members,
            clients,
            oracle: Oracle::default(),
            configured: Membership::of_voters((1..=plan.members).map(MemberId)),
            is_faulty: true,
            events: 0,
            changes_wanted: Rc::new(()),
            queue: BinaryHeap::new(),
            scheduled: 0,
            routes: BTreeMap::new(),
            random,
            plan,
        };
        world.oracle.membership = world.configured.clone();
        for id in 1..=world.plan.members {
            let in_us = world.random.u64(..50_000);
            world.schedule(in_us, Event::Start(id));
        }
        for id in 0..world.plan.clients {
            let in_us = world.random.u64(..100_000);
            world.schedule(in_us, Event::Act(id));
        }
        world.schedule(200_000, Event::Fault);
        world
    }

    /// Has something happen, in microseconds from now.
    pub fn schedule(&mut self, in_us: u64, event: Event) {
        self.scheduled += 1;
        self.queue.push(Reverse(Scheduled(self.now_us + in_us, self.scheduled, event)));
    }

    /// A machine.
    pub fn member(&mut self, id: u64) -> &mut Member {
        let place = usize::try_from(id).unwrap_or_default() - 1;
        &mut self.members[place]
    }

    /// Lets things happen until a time.
    ///
    /// # Errors
    /// If something happens that cannot.
    pub fn run_until(&mut self, until_us: u64) -> Check {
        while let Some(Reverse(next)) = self.queue.peek() {
            if next.0 > until_us {
                break;
            }
            let Some(Reverse(Scheduled(at_us, _, event))) = self.queue.pop() else { break };
            self.now_us = at_us;
            self.events += 1;
            if self.events > EVENTS_MAX {
                return Err(violation("liveness", format!("{EVENTS_MAX} events and no end")));
            }
            self.happen(event)?;
        }
        self.now_us = until_us;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Check {
        match event {
            Event::Tick(id, run) => self.tick(id, run),
            Event::Expire(id, run) => self.expire(id, run),
            Event::Disk(id, run) => self.disk_done(id, run),
            Event::Apply(id, run) => self.apply(id, run),
            Event::Peer(from, id, message) => self.peer(from, id, message),
            Event::Reach(id, run, other, up) => self.reach((id, run), other, up),
            Event::ToMember(connection, message) => self.member_hears(connection, message),
            Event::ToClient(connection, message) => self.client_hears(connection, message),
            Event::Resume(id) => self.resume(id),
            Event::Act(client) => self.act(client),
            Event::Start(id) => self.start(id),
            Event::Fault => {
                self.fault();
                Ok(())
            }
            Event::Heal => {
                tell!(self, "the network is whole again");
                self.network.heal();
                self.reconnect();
                Ok(())
            }
        }
    }

    /// Whether a member's process is the one that is meant and can do something. If it stands
    /// still, what was to happen waits until it goes on.
    pub(crate) fn awake(&mut self, id: u64, run: u64, event: Event) -> Option<Event> {
        let now_us = self.now_us;
        let member = self.member(id);
        if member.run != run || member.process.is_none() {
            return None;
        }
        if member.paused_until_us > now_us || !member.held.is_empty() {
            member.held.push_back(event);
            return None;
        }
        member.clocks.show(now_us);
        Some(event)
    }

    /// A member goes on: what happened meanwhile happens to it now.
    fn resume(&mut self, id: u64) -> Check {
        let now_us = self.now_us;
        let member = self.member(id);
        if member.paused_until_us > now_us {
            let in_us = member.paused_until_us - now_us;
            self.schedule(in_us, Event::Resume(id));
            return Ok(());
        }
        let held = std::mem::take(&mut member.held);
        for event in self.shuffle(held) {
            self.happen(event)?;
        }
        Ok(())
    }

    /// What happened to a member that stood still comes in any order, but for what came on the same
    /// way.
    fn shuffle(&mut self, held: VecDeque<Event>) -> Vec<Event> {
        let mut ways: BTreeMap<(u8, u64), VecDeque<Event>> = BTreeMap::new();
        for event in held {
            let way = match &event {
                Event::Peer(from, ..) | Event::Reach(_, _, from, _) => (0, *from),
                Event::ToMember(connection, _) => (1, *connection),
                Event::Disk(..) => (2, 0),
                Event::Apply(..) => (3, 0),
                Event::Tick(..) => (4, 0),
                _ => (5, 0),
            };
            ways.entry(way).or_default().push_back(event);
        }
        let mut shuffled = Vec::new();
        let mut ways: Vec<_> = ways.into_values().collect();
        while !ways.is_empty() {
            let place = self.random.usize(..ways.len());
            shuffled.extend(ways[place].pop_front());
            if ways[place].is_empty() {
                ways.swap_remove(place);
            }
        }
        shuffled
    }

    fn tick(&mut self, id: u64, run: u64) -> Check {
        if self.awake(id, run, Event::Tick(id, run)).is_none() {
            return Ok(());
        }
        let in_us = self.member(id).clocks.in_world(TICK_US);
        self.schedule(in_us, Event::Tick(id, run));
        self.step(id, true)
    }

    fn expire(&mut self, id: u64, run: u64) -> Check {
        if self.awake(id, run, Event::Expire(id, run)).is_none() {
            return Ok(());
        }
        let in_us = self.member(id).clocks.in_world(EXPIRY_TICK_MS * 1_000);
        self.schedule(in_us, Event::Expire(id, run));
        if let Some(process) = &mut self.member(id).process {
            process.expire();
        }
        self.step(id, false)
    }

    fn peer(&mut self, from: u64, id: u64, message: Box<PeerMessage>) -> Check {
        let run = self.member(id).run;
        let event = self.awake(id, run, Event::Peer(from, id, message));
        let Some(Event::Peer(_, _, message)) = event else { return Ok(()) };
        if self.trace.has_messages {
            tell!(self, "{from} to {id}: {message:?}");
        }
        if let Some(process) = &mut self.member(id).process {
            process.stepped.hear(MemberId(from), *message);
        }
        // At times the member is busy, and finds several messages when it looks again.
        if self.random.u8(..16) == 0 { Ok(()) } else { self.step(id, false) }
    }

    fn member_hears(&mut self, connection: u64, message: ToMember) -> Check {
        let Some(route) = self.routes.get(&connection).copied() else { return Ok(()) };
        let Route { member: id, run, .. } = route;
        if self.member(id).run != run || self.member(id).process.is_none() {
            // Nobody is there who would know of this connection.
            let in_us = self.network.delay_us();
            self.schedule(in_us, Event::ToClient(connection, ToClient::Closed(None)));
            return Ok(());
        }
        let event = self.awake(id, run, Event::ToMember(connection, message));
        let Some(Event::ToMember(_, message)) = event else { return Ok(()) };
        if let Some(process) = &mut self.member(id).process {
            process.hear(connection, message);
        }
        self.step(id, false)
    }

    /// What clients look at, and the client that looks.
    fn with_client(
        &mut self,
        id: usize,
        action: impl FnOnce(&mut Client, &mut Surroundings<'_>) -> Check,
    ) -> Check {
        let members: Vec<u64> = match self.is_faulty {
            true => self.members.iter().map(|member| member.id).collect(),
            // Whoever tells clients where members are leaves out those that are none any more.
            false => self.oracle.membership.members.keys().map(|id| id.0).collect(),
        };
        let mut around = Surroundings {
            now_us: self.now_us,
            oracle: &mut self.oracle,
            members: &members,
            plan: &self.plan,
            wishes: Vec::new(),
        };
        let outcome = action(&mut self.clients[id], &mut around);
        for wish in std::mem::take(&mut around.wishes) {
            self.fulfil(id, wish);
        }
        outcome
    }

    fn act(&mut self, id: usize) -> Check {
        let mut in_us = 0;
        self.with_client(id, |client, around| {
            in_us = client.act(around);
            Ok(())
        })?;
        self.schedule(in_us, Event::Act(id));
        if self.clients[id].stage == Stage::Working {
            for client in &mut self.clients {
                if client.stage == Stage::Waiting {
                    client.stage = Stage::Working;
                }
            }
        }
        Ok(())
    }

    fn client_hears(&mut self, connection: u64, message: ToClient) -> Check {
        let Some(route) = self.routes.get(&connection) else { return Ok(()) };
        let client = route.client;
        tell!(self, "client {client} hears {message:?}");
        self.with_client(client, |client, around| client.hear(around, connection, message))
    }

    /// A client goes for good, with a word or without.
    pub fn client_vanishes(&mut self, id: usize, tells: bool) {
        tell!(self, "client {id} goes for good");
        let _ = self.with_client(id, |client, around| {
            client.vanish(around, tells);
            Ok(())
        });
    }

    /// A client loses its connection.
    pub fn client_leaves(&mut self, id: usize) {
        tell!(self, "client {id} breaks its connection");
        let _ = self.with_client(id, |client, around| {
            client.leave(around, true);
            Ok(())
        });
    }

    fn fulfil(&mut self, client: usize, wish: Wish) {
        match wish {
            Wish::Connect(connection, member) => {
                tell!(self, "client {client} connects to member {member}");
                let run = self.member(member).run;
                let route = Route { client, member, run, to_member_us: 0, to_client_us: 0 };
                self.routes.insert(connection, route);
            }
            Wish::Send(connection, message) => {
                tell!(self, "client {client} sends {message:?}");
                let in_us = self.network.delay_us();
                let now_us = self.now_us;
                let Some(route) = self.routes.get_mut(&connection) else { return };
                let (from, to) = (End::Client(client), End::Member(route.member));
                if self.network.reaches(from, to) {
                    route.to_member_us = route.to_member_us.max(now_us + in_us);
                    let in_us = route.to_member_us - now_us;
                    self.schedule(in_us, Event::ToMember(connection, message));
                } else {
                    // What comes later in a stream cannot arrive either.
                    route.to_member_us = u64::MAX / 2;
                }
            }
        }
    }

    /// Sends what a member has for its clients.
    pub(crate) fn deliver(&mut self, id: u64, messages: Vec<(u64, ToClient)>) {
        for (connection, message) in messages {
            let in_us = self.network.delay_us();
            let now_us = self.now_us;
            let Some(route) = self.routes.get_mut(&connection) else { continue };
            if self.network.reaches(End::Member(id), End::Client(route.client)) {
                route.to_client_us = route.to_client_us.max(now_us + in_us);
                let in_us = route.to_client_us - now_us;
                self.schedule(in_us, Event::ToClient(connection, message));
            } else {
                route.to_client_us = u64::MAX / 2;
            }
        }
    }

    /// What is wrong with a run that ended well so far.
    pub fn finish(&mut self) -> Result<(), Violation> {
        crate::ending::check(self)
    }
}
