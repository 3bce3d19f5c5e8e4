//! Random lives of a group: clients come, work, restart, fall silent and leave, appends fail, the
//! shard is loaded anew. In one generation no work is given to two members; when the world calms
//! down, all who live work, and all of the work is done; what the log says is what the group is.
//! `OTTLA_SEED=…` repeats a life.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use ottla_broker::groups::shard::{Answer, Group};
use ottla_broker::groups::{classic::State, settings::GroupSettings};
use ottla_common::kafka::ErrorCode;
use ottla_tests::datadriven::{Step, words};

use super::{World, short_id};

/// Pieces of work, one character each.
const WORK: &str = "abcdefghij";

#[derive(Clone, Debug, Default)]
struct Client {
    instance: Option<String>,
    id: String,
    generation: i32,
    doing: Doing,
    /// Does nothing any more, and does not say so.
    is_silent: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Doing {
    #[default]
    Nothing,
    Waiting,
    Working,
}

struct Life {
    world: World,
    clients: BTreeMap<String, Client>,
    /// Who was given what: generation → piece of work → member.
    owners: BTreeMap<(i32, char), String>,
    random: Rng,
    names: u32,
}

fn seeds() -> Vec<u64> {
    let given = std::env::var("OTTLA_SEED").ok().and_then(|seed| seed.parse().ok());
    given.map_or_else(|| (0..40).map(|_| fastrand::u64(..)).collect(), |seed: u64| vec![seed])
}

#[test]
fn random_lives_end_well() {
    for seed in seeds() {
        println!("OTTLA_SEED={seed}");
        let mut life = Life::new(seed);
        for _ in 0..400 {
            life.step();
        }
        life.calm_down();
    }
}

impl Life {
    fn new(seed: u64) -> Self {
        let mut world = World::new();
        world.settings = std::sync::Arc::new(GroupSettings {
            initial_rebalance_delay_ms: 500,
            ..GroupSettings::default()
        });
        world.load();
        let random = Rng::with_seed(seed);
        Self { world, clients: BTreeMap::new(), owners: BTreeMap::new(), random, names: 0 }
    }

    fn command(&mut self, text: &str) -> String {
        let printed = self.world.run(&Step::of(words(text)));
        self.deliver();
        printed
    }

    fn step(&mut self) {
        match self.random.u32(0..100) {
            0..8 if self.clients.len() < 8 => self.come(),
            8..11 => self.someone(|life, name| {
                if let Some(client) = life.clients.get_mut(&name) {
                    client.is_silent = true;
                }
            }),
            11..14 => self.someone(Self::go),
            14..17 => self.someone(|life, name| life.forget_id(&name)),
            17..19 => {
                self.world.appends_fail = !self.world.appends_fail;
            }
            19 => self.load_anew(),
            20..45 => {
                let ms = self.random.u32(0..4_000);
                self.command(&format!("pass {ms}"));
            }
            _ => self.someone(Self::act),
        }
    }

    fn someone(&mut self, act: impl FnOnce(&mut Self, String)) {
        let index = self.random.usize(..self.clients.len().max(1));
        if let Some(name) = self.clients.keys().nth(index).cloned() {
            act(self, name);
        }
    }

    fn come(&mut self) {
        self.names += 1;
        let name = format!("c{}", self.names);
        let instance = self.random.bool().then(|| format!("i{}", self.names));
        let client = Client { instance, ..Client::default() };
        self.clients.insert(name, client);
    }

    fn go(&mut self, name: String) {
        let Some(client) = self.clients.remove(&name) else { return };
        if !client.id.is_empty() {
            self.command(&format!("leave {}", short_id(&client.id)));
        }
    }

    /// The client restarts.
    fn forget_id(&mut self, name: &str) {
        if let Some(client) = self.clients.get_mut(name) {
            self.world.tickets.retain(|_, waits| waits != name);
            (client.id, client.doing) = (String::new(), Doing::Nothing);
        }
    }

    /// A new leader of the partition: whoever waits is told so.
    fn load_anew(&mut self) {
        self.world.appends_fail = false;
        self.world.load();
        for client in self.clients.values_mut().filter(|client| client.doing == Doing::Waiting) {
            client.doing = Doing::Nothing;
        }
    }

    /// The client does what its protocol says.
    fn act(&mut self, name: String) {
        let Some(client) = self.clients.get_mut(&name).filter(|client| !client.is_silent) else {
            return;
        };
        let id = short_id(&client.id);
        let instance =
            client.instance.as_ref().map_or_else(String::new, |i| format!(" instance={i}"));
        match client.doing {
            Doing::Waiting => {}
            Doing::Nothing => {
                client.doing = Doing::Waiting;
                self.command(&format!("join {name} id={id}{instance} rebalance=20000"));
            }
            Doing::Working => {
                let generation = client.generation;
                let beat = format!("heartbeat id={id} gen={generation}{instance}");
                let printed = self.command(&beat);
                let Some(client) = self.clients.get_mut(&name) else { return };
                if !printed.contains("all is well") {
                    client.doing = Doing::Nothing;
                    if !printed.contains("REBALANCE") && !printed.contains("COORDINATOR") {
                        client.id = String::new();
                    }
                }
            }
        }
    }

    /// What clients make of their answers.
    fn deliver(&mut self) {
        for (name, answer) in std::mem::take(&mut self.world.delivered) {
            let Some(client) = self.clients.get_mut(&name) else { continue };
            let error = match &answer {
                Err(error) => *error,
                Ok(Answer::Join(join)) => ErrorCode::from_code(join.error_code),
                Ok(Answer::Sync(sync)) => ErrorCode::from_code(sync.error_code),
            };
            if !error.is_none() {
                client.doing = Doing::Nothing;
                match (&answer, error) {
                    (Ok(Answer::Join(join)), ErrorCode::MemberIdRequired) => {
                        client.id = join.member_id.as_str().to_owned();
                    }
                    (_, ErrorCode::RebalanceInProgress | ErrorCode::CoordinatorNotAvailable) => {}
                    _ => client.id = String::new(),
                }
                continue;
            }
            match answer {
                Ok(Answer::Join(join)) => {
                    client.id = join.member_id.as_str().to_owned();
                    client.generation = join.generation_id;
                    let leads = join.leader == join.member_id && !join.skip_assignment;
                    let members = join.members.iter().map(|m| m.member_id.as_str().to_owned());
                    self.sync(&name, &members.filter(|_| leads).collect::<Vec<_>>());
                }
                Ok(Answer::Sync(sync)) => {
                    client.doing = Doing::Working;
                    let given = super::bytes_text(&sync.assignment);
                    let (owner, generation) = (name.clone(), client.generation);
                    for piece in given.chars() {
                        let known = self.owners.insert((generation, piece), owner.clone());
                        let is_same = known.as_ref().is_none_or(|known| *known == owner);
                        assert!(is_same, "{piece} in generation {generation}: {known:?}, {owner}");
                    }
                }
                Err(_) => {}
            }
        }
    }

    fn sync(&mut self, name: &str, members: &[String]) {
        let Some(client) = self.clients.get(name) else { return };
        let mut given: BTreeMap<&str, String> = BTreeMap::new();
        for (piece, member) in WORK.chars().zip(members.iter().cycle()) {
            given.entry(member).or_default().push(piece);
        }
        let given = given.iter().map(|(id, work)| format!("{}:{work}", short_id(id)));
        let given = given.collect::<Vec<_>>().join(",");
        let (id, generation) = (short_id(&client.id), client.generation);
        let instance =
            client.instance.as_ref().map_or_else(String::new, |i| format!(" instance={i}"));
        self.command(&format!("sync {name} id={id} gen={generation} assign={given}{instance}"));
    }

    /// Faults end; those who live do what they have to, until all work.
    fn calm_down(&mut self) {
        self.world.appends_fail = false;
        self.clients.retain(|_, client| !client.is_silent);
        for _ in 0..300 {
            for name in self.clients.keys().cloned().collect::<Vec<_>>() {
                self.act(name);
            }
            self.command("pass 1000");
        }
        let Some(Group::Classic(group)) = self.world.shard.group("g") else {
            return assert!(self.clients.is_empty());
        };
        let live: BTreeSet<&str> = self.clients.values().map(|client| &*client.id).collect();
        let members: BTreeSet<&str> = group.members().map(|member| &*member.id).collect();
        assert_eq!(members, live, "{:?}", self.clients);
        let expected = if live.is_empty() { State::Empty } else { State::Stable };
        assert_eq!(group.state(), expected);
        let given = group.members().map(|member| super::bytes_text(&member.assignment));
        let mut given: Vec<char> = given.collect::<String>().chars().collect();
        given.sort_unstable();
        assert_eq!(given.iter().collect::<String>(), if live.is_empty() { "" } else { WORK });
        let before = self.command("state");
        self.world.load();
        assert_eq!(self.command("state"), before, "the log says what the group is");
    }
}
