//! A group and its members, driven by chance: what must hold whatever happens.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::indexing_slicing)]

use std::sync::Arc;

use ottla_common::kafka::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest as Request, request::TopicPartitions,
};

use super::heartbeat::{Client, Heartbeaten};
use super::member::LEFT_FOR_A_WHILE;
use super::records::ConsumerGroupRecord;
use super::*;
use crate::metadata::image::{PartitionImage, TopicImage};

const TOPICS: [&str; 3] = ["bar", "foo", "qux"];

/// A client: what it believes.
#[derive(Clone, Debug)]
struct Consumer {
    id: KafkaString,
    instance: Option<&'static str>,
    assignor: Option<&'static str>,
    topics: BTreeSet<&'static str>,
    regex: &'static str,
    epoch: i32,
    owned: Assignment,
    /// It says all with its next heartbeat, since it is not sure what the broker knows.
    is_unsure: bool,
    has_joined: bool,
}

struct World {
    random: fastrand::Rng,
    group: ConsumerGroup,
    image: MetadataImage,
    now: Now,
    settings: ConsumerGroupSettings,
    consumers: Vec<Consumer>,
    log: Vec<ConsumerGroupRecord>,
    timers: BTreeMap<MemberTimer, u64>,
    next_id: u32,
}

fn topic_id(name: &str, life: u8) -> TopicId {
    let mut id = TopicId::ZERO;
    id.0[..3].copy_from_slice(name.as_bytes());
    id.0[15] = life;
    id
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            random: fastrand::Rng::with_seed(seed),
            group: ConsumerGroup::new(&"g".into()),
            image: MetadataImage::default(),
            now: Now { monotonic_ms: 1_000_000, wall_time_ms: 1_000_000 },
            settings: ConsumerGroupSettings::default(),
            consumers: Vec::new(),
            log: Vec::new(),
            timers: BTreeMap::new(),
            next_id: 0,
        };
        world.set_topic("bar", 3);
        world.set_topic("foo", 6);
        world
    }

    fn set_topic(&mut self, name: &str, partitions: usize) {
        self.image.zxid.0 += 1;
        let life = self.image.topic(name).map_or(self.image.zxid.0 as u8, |topic| topic.id.0[15]);
        let id = topic_id(name, life);
        let name: Arc<str> = name.into();
        let partitions = vec![PartitionImage::default(); partitions];
        let topic = TopicImage { name: name.clone(), id, partitions, node_version: 0 };
        self.image.topics.insert(name.clone(), Arc::new(topic));
        self.image.topic_names.insert(id, name.clone());
        self.group.topics_changed([&*name]);
    }

    fn drop_topic(&mut self, name: &str) {
        self.image.zxid.0 += 1;
        if let Some(topic) = self.image.topics.remove(name) {
            self.image.topic_names.remove(&topic.id);
            self.group.topics_changed([name]);
        }
    }

    fn apply<R>(&mut self, decision: Decision<R>) -> R {
        for record in decision.records {
            // What is written is what is read.
            let bytes = record.encode().unwrap();
            assert_eq!(ConsumerGroupRecord::decode(&bytes).unwrap().as_ref(), Some(&record));
            self.group.replay(&record);
            self.log.push(record);
        }
        for timer in decision.timers {
            match timer {
                TimerChange::Set(timer, at_ms) => self.timers.insert(timer, at_ms),
                TimerChange::Cancel(timer) => self.timers.remove(&timer),
            };
        }
        self.check();
        decision.response
    }

    fn decide<R>(
        &mut self,
        decide: impl Fn(&ConsumerGroup, &Scene<'_>) -> Result<Decision<R>, Refusal>,
    ) -> Result<R, Refusal> {
        let scene = Scene { now: self.now, image: &self.image, settings: &self.settings };
        let decision = decide(&self.group, &scene)?;
        if decision.records.is_empty() {
            self.group.heard(&decision);
        }
        Ok(self.apply(decision))
    }

    fn pass(&mut self, ms: u64) {
        self.now.monotonic_ms += ms;
        self.now.wall_time_ms += ms as i64;
        loop {
            let due = self.timers.iter().find(|(_, at_ms)| **at_ms <= self.now.monotonic_ms);
            let Some(timer) = due.map(|(timer, _)| timer.clone()) else { break };
            self.timers.remove(&timer);
            // Whom the broker gives up has to notice by itself.
            let (MemberTimer::Session(id)
            | MemberTimer::Rebalance(id)
            | MemberTimer::Join(id)
            | MemberTimer::Sync(id)) = &timer;
            self.consumers.retain(|consumer| consumer.id != *id);
            let scene = Scene { now: self.now, image: &self.image, settings: &self.settings };
            let gone = self.group.due(&timer);
            if let Some(decision) = gone.and_then(|id| self.group.remove(id, &scene)) {
                self.apply(decision);
            }
        }
    }

    fn request(&self, index: usize) -> Request {
        let consumer = &self.consumers[index];
        let is_joining = consumer.epoch == 0;
        let says_all = is_joining || consumer.is_unsure;
        let owned = consumer.owned.iter().map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
            ..TopicPartitions::default()
        });
        let names = || consumer.topics.iter().map(|name| KafkaString::from(*name)).collect();
        Request {
            group_id: "g".into(),
            member_id: consumer.id.clone(),
            member_epoch: consumer.epoch,
            instance_id: consumer.instance.map(Into::into),
            rebalance_timeout_ms: if says_all { 20_000 } else { -1 },
            subscribed_topic_names: says_all.then(names),
            subscribed_topic_regex: says_all.then(|| consumer.regex.into()),
            server_assignor: consumer.assignor.filter(|_| says_all).map(Into::into),
            topic_partitions: Some(owned.collect()),
            ..Request::default()
        }
    }

    /// A heartbeat, whose response may be lost.
    fn beat(&mut self, index: usize, is_lost: bool) {
        let request = self.request(index);
        requests::validate(&request, 1, &self.settings).unwrap();
        let client = Client { id: "c", host: "/h" };
        let result = self.decide(|group, scene| group.heartbeat(&request, client, scene));
        let consumer = &mut self.consumers[index];
        match result {
            _ if is_lost => consumer.is_unsure = true,
            Ok(Heartbeaten { member_epoch, assignment, .. }) => {
                (consumer.epoch, consumer.is_unsure) = (member_epoch, false);
                consumer.has_joined = true;
                if let Some(assignment) = assignment {
                    consumer.owned = assignment;
                }
            }
            Err(refusal) if refusal.code == ErrorCode::UnreleasedInstanceId => {}
            Err(refusal) => {
                let is_fenced = matches!(
                    refusal.code,
                    ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId
                );
                assert!(is_fenced, "{refusal:?}");
                consumer.owned.clear();
                consumer.epoch = 0;
            }
        }
        self.check();
    }

    fn join(&mut self) {
        const REGEXES: [&str; 4] = ["", "", "f.*", "b.*|qux"];
        self.next_id += 1;
        let id: KafkaString = format!("m{:03}", self.next_id).into();
        let instance = self.random.choice([None, None, Some("i1"), Some("i2")]).unwrap();
        if instance.is_some() && self.consumers.iter().any(|c| c.instance == instance) {
            return;
        }
        let mut topics: BTreeSet<&'static str> = BTreeSet::new();
        for name in TOPICS {
            if self.random.u8(..4) != 0 {
                topics.insert(name);
            }
        }
        self.consumers.push(Consumer {
            id,
            instance,
            assignor: self.random.choice([None, Some("uniform"), Some("range")]).unwrap(),
            topics,
            regex: self.random.choice(REGEXES).unwrap(),
            epoch: 0,
            owned: Assignment::new(),
            is_unsure: false,
            has_joined: false,
        });
        self.beat(self.consumers.len() - 1, false);
    }

    fn leave(&mut self, index: usize) {
        let consumer = self.consumers.remove(index);
        let will_return = consumer.instance.is_some() && self.random.bool();
        let request = Request {
            group_id: "g".into(),
            member_id: consumer.id.clone(),
            member_epoch: if will_return { LEFT_FOR_A_WHILE } else { -1 },
            instance_id: consumer.instance.map(Into::into),
            ..Request::default()
        };
        let result = self.decide(|group, scene| group.leave(&request, scene));
        assert!(result.is_ok() || consumer.epoch == 0 || !consumer.has_joined, "{result:?}");
        if will_return {
            self.next_id += 1;
            let id = format!("m{:03}", self.next_id).into();
            let fresh = Consumer { id, epoch: 0, owned: Assignment::new(), ..consumer };
            self.consumers.push(fresh);
        }
    }

    fn step(&mut self) {
        let count = self.consumers.len();
        let index = if count == 0 { 0 } else { self.random.usize(..count) };
        match self.random.u8(..40) {
            0..=3 if count < 6 => self.join(),
            4 if count > 0 => self.leave(index),
            // It stops without a word.
            5 if count > 0 && self.random.bool() => {
                self.consumers.remove(index);
            }
            6 => {
                let name = self.random.choice(TOPICS).unwrap();
                let has = self.image.topic(name).map_or(0, |topic| topic.partitions.len());
                let more = self.random.usize(..3);
                self.set_topic(name, has + more);
            }
            7 if self.random.bool() => {
                let name = self.random.choice(TOPICS).unwrap();
                self.drop_topic(name);
            }
            8 if count > 0 => {
                let name = self.random.choice(TOPICS).unwrap();
                let consumer = &mut self.consumers[index];
                if !consumer.topics.remove(name) {
                    consumer.topics.insert(name);
                }
                consumer.is_unsure = true;
            }
            9 => self.restart(),
            10..=14 => {
                let ms = self.random.u64(..3_000);
                self.pass(ms);
            }
            15..=17 if count > 0 => self.beat(index, true),
            _ if count > 0 => self.beat(index, false),
            _ => {}
        }
    }

    /// The broker forgets everything, and reads its log.
    fn restart(&mut self) {
        let before = self.group.clone();
        let mut group = ConsumerGroup::new(&"g".into());
        for record in &self.log {
            group.replay(record);
        }
        let scene = Scene { now: self.now, image: &self.image, settings: &self.settings };
        let timers = group.loaded(&scene);
        self.group = group;
        assert_eq!(self.group, ConsumerGroup { has_stale_topics: true, ..before });
        self.timers.clear();
        self.apply(Decision { response: (), records: Vec::new(), timers });
    }

    /// No two consumers believe to own the same partition, and the broker knows who may.
    fn check(&self) {
        let mut owners: BTreeMap<(TopicId, i32), &KafkaString> = BTreeMap::new();
        for consumer in &self.consumers {
            for (topic, partitions) in &consumer.owned {
                for partition in partitions {
                    let other = owners.insert((*topic, *partition), &consumer.id);
                    assert_eq!(other, None, "{topic}-{partition} and {}", consumer.id);
                }
            }
        }
        let mut held = HashMap::new();
        for member in self.group.members() {
            for partition in member.held() {
                let other = held.insert(partition, member.id.clone());
                assert_eq!(other, None, "{partition:?} is held twice");
            }
        }
        assert_eq!(held, self.group.holders);
    }

    /// Everybody is heard until nothing changes any more.
    fn settle(&mut self) {
        // Those who are gone without a word are given up, and those who are away.
        for _ in 0..30 {
            self.pass(2_000);
            for index in 0..self.consumers.len() {
                self.beat(index, false);
            }
        }
        let quiet = self.log.len();
        self.pass(2_000);
        for index in 0..self.consumers.len() {
            self.beat(index, false);
        }
        assert_eq!(self.log.len(), quiet, "still busy: {:?}", &self.log[quiet..]);
        let state = if self.consumers.is_empty() { GroupState::Empty } else { GroupState::Stable };
        assert_eq!(self.group.state(), state);
        assert_eq!(self.group.members.len(), self.consumers.len());
        let wanted = self.group.subscribed_topics();
        let mut all = BTreeSet::new();
        for topic in wanted.iter().filter_map(|name| self.image.topic(name)) {
            all.extend((0..topic.partitions.len()).map(|p| (topic.id, p as i32)));
        }
        let mut owned = BTreeSet::new();
        for consumer in &self.consumers {
            for (topic, partitions) in &consumer.owned {
                owned.extend(partitions.iter().map(|p| (*topic, *p)));
            }
        }
        assert_eq!(owned, all, "not everything is assigned");
    }
}

#[test]
fn whatever_happens_partitions_have_one_owner_and_in_the_end_all_are_assigned() {
    let given = std::env::var("OTTLA_SEED").ok().and_then(|seed| seed.parse().ok());
    let first: u64 = given.unwrap_or_else(|| fastrand::u64(..));
    let rounds = if given.is_some() { 1 } else { 20 };
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        println!("OTTLA_SEED={seed}");
        let mut world = World::new(seed);
        for _ in 0..4 {
            for _ in 0..80 {
                world.step();
            }
            world.settle();
        }
    }
}

#[test]
fn a_group_of_a_thousand_settles_in_few_rounds() {
    let mut world = World::new(1);
    world.set_topic("foo", 1_000);
    for number in 0..1_000 {
        let id = format!("m{number:04}").into();
        world.consumers.push(Consumer {
            id,
            instance: None,
            assignor: None,
            topics: BTreeSet::from(["foo"]),
            regex: "",
            epoch: 0,
            owned: Assignment::new(),
            is_unsure: false,
            has_joined: false,
        });
    }
    for round in 0..4 {
        for index in 0..world.consumers.len() {
            let request = world.request(index);
            let client = Client { id: "c", host: "/h" };
            let result = world.group.heartbeat(
                &request,
                client,
                &Scene { now: world.now, image: &world.image, settings: &world.settings },
            );
            let decision = result.unwrap();
            world.group.heard(&decision);
            for record in &decision.records {
                world.group.replay(record);
            }
            let consumer = &mut world.consumers[index];
            consumer.epoch = decision.response.member_epoch;
            if let Some(assignment) = decision.response.assignment {
                consumer.owned = assignment;
            }
        }
        world.now.wall_time_ms += 5_000;
        println!("round {round}: {}", world.group.state().name());
    }
    assert_eq!(world.group.state(), GroupState::Stable);
    assert!(world.group.members().all(|member| member.held().count() == 1));
}

#[test]
fn an_operator_removes_members_of_the_consumer_protocol() {
    let mut world = World::new(1);
    while world.consumers.len() < 6 {
        world.join();
    }
    world.settle();
    let is_static = |consumer: &&Consumer| consumer.instance.is_some();
    let lasting = world.consumers.iter().find(is_static).unwrap();
    let other = world.consumers.iter().find(|consumer| consumer.instance.is_none()).unwrap();
    let leaving = |id: &str, instance| world.group.leaving(id, instance).map(|member| &member.id);
    assert_eq!(leaving(&other.id, None), Ok(&other.id));
    assert_eq!(leaving("", lasting.instance), Ok(&lasting.id));
    assert_eq!(leaving(&lasting.id, lasting.instance), Ok(&lasting.id));
    assert_eq!(leaving("nobody", lasting.instance), Err(ErrorCode::FencedInstanceId));
    assert_eq!(leaving("nobody", None), Err(ErrorCode::UnknownMemberId));
    assert_eq!(leaving("", Some("nobody")), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_member_has_the_bytes_that_kafka_writes() {
    // What a Kafka 4.4 has written for the same member.
    let written: &[u8] = &[
        0, 0, 0, 0, 6, b'p', b'r', b'o', b'b', b'e', 0x0b, b'/', b'1', b'2', b'7', b'.', b'0',
        b'.', b'0', b'.', b'1', 1, 8, b'(', b'?', b'i', b')', b'F', b'O', b'O', 0, 4, 0x93, 0xe0,
        0, 1, 0, 1, 0,
    ];
    let member = member::Member {
        client_id: "probe".into(),
        client_host: "/127.0.0.1".into(),
        topic_regex: "(?i)FOO".into(),
        rebalance_timeout_ms: 300_000,
        ..member::Member::default()
    };
    let mut draft = records::Draft::new(&"g5".into());
    draft.member(&member);
    let record = draft.records[0].encode().unwrap();
    assert_eq!(record.value.as_deref(), Some(written));
    assert_eq!(ConsumerGroupRecord::decode(&record).unwrap().as_ref(), draft.records.first());
}
