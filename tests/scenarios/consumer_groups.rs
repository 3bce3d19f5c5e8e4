//! Stories of consumer groups (KIP-848): one group, its members' heartbeats, and time. What a
//! heartbeat is answered, and each record and timer that it brings about, is printed.
//!
//! ```text
//! topic NAME partitions=N       a topic comes, or grows
//! drop NAME                     a topic goes
//! config heartbeat=MS session=MS interval=MS assignors=A,B size=N
//! join MEMBER [topics=A,B] [regex=R] [instance=I] [rack=R] [assignor=A] [rebalance=MS]
//! beat MEMBER [epoch=N] [owns=PARTITIONS|all|nothing] [instance=I] [what may change, as above]
//!                               without epoch=, the one that the member was told last
//! leave MEMBER [instance=I]     epoch -1
//! pause MEMBER instance=I       epoch -2
//! time MS                       passes; timers that are due are carried out
//! commit MEMBER epoch=N PARTITIONS [version=V]
//! fetch MEMBER epoch=N          may it fetch offsets?
//! restart                       the group is forgotten and read from its records
//! describe
//! delete                        the group's end
//! ```
//!
//! Partitions are written `foo:0,1 bar:2`, joined by `;` in one word. A member that was told of an
//! assignment says that it owns it when it is asked to say `owns=all`.

// All of this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use ottla_broker::groups::assignors::{Assignment, Assignor};
use ottla_broker::groups::consumer::heartbeat::{Client, Heartbeaten};
use ottla_broker::groups::consumer::leave::is_leaving;
use ottla_broker::groups::consumer::member::Member;
use ottla_broker::groups::consumer::records::ConsumerGroupRecord;
use ottla_broker::groups::consumer::requests::{Committer, validate};
use ottla_broker::groups::consumer::{
    ConsumerGroup, ConsumerGroupSettings, Decision, MemberTimer, Refusal, Scene,
};
use ottla_broker::internal_topics::Now;
use ottla_broker::internal_topics::machine::TimerChange;
use ottla_broker::metadata::image::{MetadataImage, PartitionImage, TopicImage};
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::consumer_group_describe::response;
use ottla_common::kafka::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest as Request, request::TopicPartitions,
};
use ottla_common::kafka::wire::KafkaString;
use ottla_common::types::TopicId;
use ottla_tests::datadriven::{self, Step};

const START_MS: u64 = 100_000;

struct World {
    group: ConsumerGroup,
    image: MetadataImage,
    now: Now,
    settings: ConsumerGroupSettings,
    /// The epoch and the assignment that each member was told last.
    told: BTreeMap<String, (i32, Assignment)>,
    log: Vec<ConsumerGroupRecord>,
    timers: BTreeMap<MemberTimer, u64>,
    trace: String,
}

impl World {
    fn new() -> Self {
        Self {
            group: ConsumerGroup::new(&"g".into()),
            image: MetadataImage::default(),
            now: Now { monotonic_ms: START_MS, wall_time_ms: START_MS as i64 },
            settings: ConsumerGroupSettings::default(),
            told: BTreeMap::new(),
            log: Vec::new(),
            timers: BTreeMap::new(),
            trace: String::new(),
        }
    }

    fn run(&mut self, step: &Step) -> String {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        match words[..] {
            ["topic", name, ..] => self.set_topic(name, number(step, "partitions").unwrap()),
            ["drop", name] => self.drop_topic(name),
            ["config", ..] => self.configure(step),
            ["join", member, ..] => self.beat(member, 0, step),
            ["beat", member, ..] => {
                let told = self.told.get(member).map_or(0, |(epoch, _)| *epoch);
                let epoch = step.value("epoch").map_or(told, |epoch| epoch.parse().unwrap());
                self.beat(member, epoch, step);
            }
            ["leave", member, ..] => self.beat(member, -1, step),
            ["pause", member, ..] => self.beat(member, -2, step),
            ["time", ms] => self.pass(ms.parse().unwrap()),
            ["commit", member, _, partitions, ..] => self.commit(member, partitions, step),
            ["fetch", member, ..] => {
                let epoch = step.value("epoch").unwrap().parse().unwrap();
                let member = Some(member).filter(|member| *member != "nobody");
                self.say(match self.group.check_fetch(member, epoch) {
                    Ok(()) => "may fetch".to_owned(),
                    Err(error) => error.to_string(),
                });
            }
            ["restart"] => self.restart(),
            ["describe"] => self.describe(),
            ["delete"] => {
                let decision = self.group.remove_group();
                self.apply(decision);
            }
            _ => panic!("what is {words:?}?"),
        }
        std::mem::take(&mut self.trace)
    }

    fn say(&mut self, text: impl AsRef<str>) {
        writeln!(self.trace, "{}", text.as_ref()).unwrap();
    }

    fn set_topic(&mut self, name: &str, partitions: u64) {
        self.image.zxid.0 += 1;
        let known = self.image.topic(name).map(|topic| topic.id);
        let id = known.unwrap_or_else(|| {
            let mut id = TopicId::ZERO;
            id.0[..name.len()].copy_from_slice(name.as_bytes());
            id.0[15] = self.image.zxid.0 as u8;
            id
        });
        let name: Arc<str> = name.into();
        let partitions = vec![PartitionImage::default(); partitions as usize];
        let topic = TopicImage { name: name.clone(), id, partitions, node_version: 0 };
        self.image.topics.insert(name.clone(), Arc::new(topic));
        self.image.topic_names.insert(id, name.clone());
        self.group.topics_changed([&*name]);
    }

    fn drop_topic(&mut self, name: &str) {
        self.image.zxid.0 += 1;
        // Its name stays known to this test, so that it can be printed.
        self.image.topics.remove(name).expect("no such topic");
        self.group.topics_changed([name]);
    }

    fn configure(&mut self, step: &Step) {
        let settings = &mut self.settings;
        let set = |name: &str, place: &mut i32| {
            *place = number(step, name).map_or(*place, |value| value as i32);
        };
        set("heartbeat", &mut settings.heartbeat_interval_ms);
        set("session", &mut settings.session_timeout_ms);
        set("interval", &mut settings.assignment_interval_ms);
        if let Some(size) = number(step, "size") {
            settings.size_max = size as usize;
        }
        if let Some(names) = step.value("assignors") {
            settings.assignors = names.split(',').filter_map(Assignor::from_name).collect();
        }
    }

    fn request(&self, member: &str, epoch: i32, step: &Step) -> Request {
        let mut owned = match step.value("owns") {
            None => None,
            Some("all") => self.told.get(member).map(|(_, assignment)| assignment.clone()),
            Some("nothing") => Some(Assignment::new()),
            Some(partitions) => Some(self.partitions(partitions)),
        };
        if epoch == 0 {
            owned = Some(owned.unwrap_or_default());
        }
        let topics = |owned: Assignment| {
            let topic = |(topic_id, all): (TopicId, BTreeSet<i32>)| {
                let partitions = all.into_iter().collect();
                TopicPartitions { topic_id, partitions, ..TopicPartitions::default() }
            };
            owned.into_iter().map(topic).collect()
        };
        let names = |names: &str| {
            names.split(',').filter(|name| !name.is_empty()).map(Into::into).collect()
        };
        let rebalance = step.value("rebalance").map(|ms| ms.parse().unwrap());
        Request {
            group_id: "g".into(),
            member_id: member.into(),
            member_epoch: epoch,
            instance_id: step.value("instance").map(Into::into),
            rack_id: step.value("rack").map(Into::into),
            rebalance_timeout_ms: rebalance.unwrap_or(if epoch == 0 { 60_000 } else { -1 }),
            subscribed_topic_names: step.value("topics").map(names),
            subscribed_topic_regex: step.value("regex").map(Into::into),
            server_assignor: step.value("assignor").map(Into::into),
            topic_partitions: owned.map(topics),
            ..Request::default()
        }
    }

    fn beat(&mut self, member: &str, epoch: i32, step: &Step) {
        let request = self.request(member, epoch, step);
        match self.decide(&request) {
            Err(Refusal { code, message }) => {
                self.say(format!("{code}: {}", message.unwrap_or_default()));
            }
            Ok(decision) => {
                self.group.heard(&decision);
                let Heartbeaten { member_epoch, assignment, .. } = decision.response.clone();
                let told = self.told.entry(member.to_owned()).or_default();
                told.0 = member_epoch;
                let mut text = format!("epoch {member_epoch}");
                if let Some(assignment) = assignment {
                    told.1 = assignment.clone();
                    write!(text, ", is to own {}", self.show(&assignment)).unwrap();
                }
                self.say(text);
                self.apply(decision);
            }
        }
    }

    fn decide(&self, request: &Request) -> Result<Decision<Heartbeaten>, Refusal> {
        validate(request, 1, &self.settings)?;
        let scene = Scene { now: self.now, image: &self.image, settings: &self.settings };
        if is_leaving(request.member_epoch) {
            return self.group.leave(request, &scene);
        }
        self.group.heartbeat(request, Client { id: "client", host: "/h" }, &scene)
    }

    fn apply<R>(&mut self, decision: Decision<R>) {
        for record in decision.records {
            let text = self.show_record(&record);
            self.say(format!("  {text}"));
            // What is read is what was written.
            let bytes = record.encode().unwrap();
            assert_eq!(ConsumerGroupRecord::decode(&bytes).unwrap().as_ref(), Some(&record));
            self.group.replay(&record);
            self.log.push(record);
        }
        for timer in decision.timers {
            match timer {
                TimerChange::Set(timer, at_ms) => {
                    // Sessions are set anew by each heartbeat, which would only be noise.
                    if let MemberTimer::Rebalance(id) = &timer {
                        let ms = at_ms - self.now.monotonic_ms;
                        self.say(format!("  {id} has {ms} ms to give up partitions"));
                    }
                    self.timers.insert(timer, at_ms);
                }
                TimerChange::Cancel(timer) => {
                    self.timers.remove(&timer);
                }
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let end_ms = self.now.monotonic_ms + ms;
        loop {
            let next = self.timers.iter().min_by_key(|(timer, at_ms)| (**at_ms, (*timer).clone()));
            let next = next.map(|(timer, at_ms)| (timer.clone(), *at_ms));
            let Some((timer, at_ms)) = next.filter(|(_, at_ms)| *at_ms <= end_ms) else { break };
            self.timers.remove(&timer);
            self.set_time(at_ms);
            let what = match &timer {
                MemberTimer::Session(id) => format!("{id} was silent for too long"),
                MemberTimer::Rebalance(id) => format!("{id} did not give up partitions in time"),
                MemberTimer::Join(id) => format!("{id} did not join again in time"),
                MemberTimer::Sync(id) => format!("{id} did not ask for its assignment in time"),
            };
            self.say(format!("after {} ms: {what}", at_ms - (end_ms - ms)));
            let scene = Scene { now: self.now, image: &self.image, settings: &self.settings };
            let gone = self.group.due(&timer);
            if let Some(decision) = gone.and_then(|id| self.group.remove(id, &scene)) {
                self.apply(decision);
            }
        }
        self.set_time(end_ms);
    }

    fn set_time(&mut self, ms: u64) {
        self.now = Now { monotonic_ms: ms, wall_time_ms: ms as i64 };
    }

    fn commit(&mut self, member: &str, partitions: &str, step: &Step) {
        let committer = Committer {
            member_id: if member == "nobody" { "" } else { member },
            member_epoch: step.value("epoch").unwrap().parse().unwrap(),
            api_version: step.value("version").map_or(9, |version| version.parse().unwrap()),
        };
        let partitions = self.partitions(partitions);
        let committable = match self.group.check_commit(&committer) {
            Ok(committable) => committable,
            Err(error) => return self.say(error.to_string()),
        };
        let mut lines = Vec::new();
        for (topic, all) in &partitions {
            for partition in all {
                let result = committable.check(*topic, *partition);
                let code = result.err().unwrap_or(ErrorCode::None);
                lines.push(format!("{}-{partition}: {code}", self.name(*topic)));
            }
        }
        self.say(lines.join("\n"));
    }

    fn restart(&mut self) {
        let mut group = ConsumerGroup::new(&"g".into());
        for record in &self.log {
            group.replay(record);
        }
        let scene = Scene { now: self.now, image: &self.image, settings: &self.settings };
        let timers = group.loaded(&scene);
        // What no record stands for is equal from here on.
        let _ = self.group.loaded(&scene);
        assert_eq!(group, self.group, "records do not tell all");
        self.group = group;
        self.timers.clear();
        self.apply(Decision { response: (), records: Vec::new(), timers });
    }

    fn describe(&mut self) {
        let group = self.group.describe(&self.settings, &self.image);
        let (state, assignor) = (group.group_state.as_str(), group.assignor_name.as_str());
        let (epoch, assigned) = (group.group_epoch, group.assignment_epoch);
        self.say(format!("{state}, epoch {epoch}, assigned for {assigned} by {assignor}"));
        let show = |assignment: &response::Assignment| {
            let mut all = Assignment::new();
            for topic in &assignment.topic_partitions {
                all.insert(topic.topic_id, topic.partitions.iter().copied().collect());
            }
            self.show(&all)
        };
        let lines = group.members.iter().map(|member| {
            let (owns, target) = (show(&member.assignment), show(&member.target_assignment));
            let target =
                if target == owns { "".to_owned() } else { format!(", is to own {target}") };
            format!("{} in epoch {} owns {owns}{target}", member.member_id, member.member_epoch)
        });
        let lines: Vec<String> = lines.collect();
        if !lines.is_empty() {
            self.say(lines.join("\n"));
        }
    }

    /// Partitions of the form `foo:0,1;bar:2`.
    fn partitions(&self, text: &str) -> Assignment {
        let topic = |text: &str| {
            let (name, partitions) = text.split_once(':').unwrap();
            let id = self.image.topic_names.iter().find(|(_, known)| &***known == name);
            let partitions = partitions.split(',').map(|partition| partition.parse().unwrap());
            (*id.expect("no such topic").0, partitions.collect())
        };
        text.split(';').map(topic).collect()
    }

    fn name(&self, topic: TopicId) -> &str {
        self.image.topic_names.get(&topic).map_or("?", |name| name)
    }

    fn show(&self, assignment: &Assignment) -> String {
        let topic = |(id, partitions): (&TopicId, &BTreeSet<i32>)| {
            let partitions: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            format!("{}:{}", self.name(*id), partitions.join(","))
        };
        let topics: Vec<String> = assignment.iter().map(topic).collect();
        if topics.is_empty() { "nothing".to_owned() } else { topics.join(";") }
    }

    fn show_record(&self, record: &ConsumerGroupRecord) -> String {
        match record {
            ConsumerGroupRecord::Member(key, None) => format!("{} is no member", key.member_id),
            ConsumerGroupRecord::Member(key, Some(value)) => {
                let mut text = format!("{} subscribes to", key.member_id);
                for name in &value.subscribed_topic_names {
                    write!(text, " {name}").unwrap();
                }
                let said = [
                    ("regex", &value.subscribed_topic_regex),
                    ("instance", &value.instance_id),
                    ("rack", &value.rack_id),
                    ("assignor", &value.server_assignor),
                ];
                for (name, value) in said {
                    if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
                        write!(text, " {name}={value}").unwrap();
                    }
                }
                text
            }
            ConsumerGroupRecord::Group(_, None) => "the group is gone".to_owned(),
            ConsumerGroupRecord::Group(_, Some(value)) => format!("group epoch {}", value.epoch),
            ConsumerGroupRecord::Partitions(_) => "no metadata of topics".to_owned(),
            ConsumerGroupRecord::Regex(key, None) => {
                format!("{} is not used", key.regular_expression)
            }
            ConsumerGroupRecord::Regex(key, Some(value)) => {
                format!("{} stands for {}", key.regular_expression, join(&value.topics))
            }
            ConsumerGroupRecord::Target(key, None) => format!("{} has no target", key.member_id),
            ConsumerGroupRecord::Target(key, Some(value)) => {
                let topics = value.topic_partitions.iter();
                let target = topics.map(|t| (t.topic_id, t.partitions.iter().copied().collect()));
                let target = self.show(&target.collect());
                format!("{} is to own {target}", key.member_id)
            }
            ConsumerGroupRecord::Assignment(_, None) => "no assignment".to_owned(),
            ConsumerGroupRecord::Assignment(_, Some(value)) => {
                format!("assigned for epoch {}", value.assignment_epoch)
            }
            ConsumerGroupRecord::Progress(key, None) => format!("{} owns nothing", key.member_id),
            ConsumerGroupRecord::Progress(key, Some(value)) => {
                let mut member = Member::default();
                member.set_progress(value);
                let owns = self.show(&member.assignment());
                let (state, epoch) = (member.state, member.epoch);
                let previous = member.previous_epoch;
                let id = &key.member_id;
                let gone = Member { assigned: member.revoking, ..Member::default() };
                let mut text = format!("{id} in epoch {epoch} after {previous} owns {owns}");
                if !gone.assigned.is_empty() {
                    write!(text, " and gives up {}", self.show(&gone.assignment())).unwrap();
                }
                format!("{text}: {state:?}")
            }
        }
    }
}

fn join(names: &[KafkaString]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ")
}

fn number(step: &Step, name: &str) -> Option<u64> {
    step.value(name).map(|value| value.parse().unwrap())
}

#[test]
fn consumer_groups() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/groups/consumer");
    datadriven::tell_all(&folder, World::new, World::run);
}
