//! Stories of groups: one shard without log, network or clock. A story says what clients ask and
//! how time passes; what is written and what each client is told is printed whole.
//!
//! ```text
//! settings [delay=MS] [size=N] [retention=MS] [check=MS]   then as restart
//! join NAME [v=N] [id=ID] [instance=I] [protocols=NAME:METADATA,...] [session=MS] [rebalance=MS]
//! sync NAME id=ID gen=N [assign=ID:WORK,...] [instance=I]
//! heartbeat id=ID gen=N [instance=I]
//! leave [ID] [instance=I] ...
//! commit TOPIC-PARTITION=OFFSET ... [id=ID] [gen=N] [instance=I] [metadata=TEXT] [retention=MS]
//! fetch TOPIC-PARTITION ... [stable]   what the group has committed
//! delete-offsets TOPIC-PARTITION ... | delete
//! pass MS                       time passes, timers fire when they are due
//! fail | mend                   appends fail from now on | no more
//! restart                       a new shard replays all that was written
//! drop-topic TOPIC              a topic is deleted
//! state                         of the group
//! ```
//!
//! All are about the group `g`, unless `group=` says another. Ids that the shard makes are printed
//! as `client#1`, and may be written so. `v` is 9 unless it is said.

// All of this is a test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_broker::groups::classic::{Client, Joining};
use ottla_broker::groups::records::GroupRecord;
use ottla_broker::groups::settings::GroupSettings;
use ottla_broker::groups::shard::{
    Answer, Commit, FetchedOffset, Group, GroupShard, GroupTimer, OffsetToCommit,
};
use ottla_broker::internal_topics::timers::Timers;
use ottla_broker::internal_topics::{
    Ids, Now, Place, Record, StateMachine, Ticket, TopicChanges, Turn,
};
use ottla_broker::metadata::image::MetadataImage;
use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::messages::heartbeat::HeartbeatRequest;
use ottla_common::kafka::messages::join_group::JoinGroupRequest;
use ottla_common::kafka::messages::join_group::request::JoinGroupRequestProtocol;
use ottla_common::kafka::messages::leave_group::request::MemberIdentity;
use ottla_common::kafka::messages::sync_group::SyncGroupRequest;
use ottla_common::kafka::messages::sync_group::request::SyncGroupRequestAssignment;
use ottla_common::types::Uuid;
use ottla_tests::datadriven::{self, Step};

/// Wall time at the start, so that it differs from the monotonic clock.
const WALL_START_MS: i64 = 1_000_000;

struct World {
    settings: Arc<GroupSettings>,
    shard: GroupShard,
    timers: Timers<GroupTimer>,
    log: Vec<(Record, Place)>,
    now_ms: u64,
    ids: u64,
    tickets: BTreeMap<Ticket, String>,
    next_ticket: u64,
    appends_fail: bool,
    /// Who was answered what, for those who look at more than the trace.
    delivered: Vec<(String, Result<Answer, ErrorCode>)>,
    trace: String,
}

fn value<'a>(step: &'a Step, name: &str, default: &'a str) -> &'a str {
    step.value(name).unwrap_or(default)
}

fn number(step: &Step, name: &str, default: i64) -> i64 {
    step.value(name).map_or(default, |text| text.parse().unwrap())
}

/// `client#1` → the id that the shard makes first.
fn long_id(text: &str) -> String {
    match text.split_once('#') {
        Some((client, number)) => {
            let number = u64::from_str_radix(number, 16).unwrap();
            format!("{client}-00000000-0000-0000-0000-{number:012x}")
        }
        None => text.to_owned(),
    }
}

fn short_id(id: &str) -> String {
    match id.split_once("-00000000-0000-0000-0000-") {
        Some((client, number)) => format!("{client}#{}", number.trim_start_matches('0')),
        None => id.to_owned(),
    }
}

fn bytes_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn topic_partition(text: &str) -> (&str, i32) {
    let (topic, partition) = text.rsplit_once('-').unwrap();
    (topic, partition.parse().unwrap())
}

/// The plain words behind the command.
fn plain_words(step: &Step) -> impl Iterator<Item = &str> {
    step.words.iter().skip(1).map(String::as_str).filter(|word| !word.contains('='))
}

impl World {
    fn new() -> Self {
        let settings = Arc::new(GroupSettings::default());
        let mut world = Self {
            shard: GroupShard::new(settings.clone()),
            settings,
            timers: Timers::default(),
            log: Vec::new(),
            now_ms: 0,
            ids: 1,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            appends_fail: false,
            delivered: Vec::new(),
            trace: String::new(),
        };
        world.load();
        world
    }

    fn load(&mut self) {
        self.shard = GroupShard::new(self.settings.clone());
        self.timers = Timers::default();
        self.tickets.clear();
        for (record, place) in &self.log {
            self.shard.replay(record, *place);
        }
        let _ = self.turn(|shard, turn| shard.loaded(turn));
    }

    fn say(&mut self, text: &str) {
        let _ = writeln!(self.trace, "{:>6} {text}", self.now_ms);
    }

    /// As the runtime does it: decide, append, replay, answer.
    fn turn<T>(
        &mut self,
        decide: impl FnOnce(&mut GroupShard, &mut Turn<GroupShard>) -> T,
    ) -> Result<T, ErrorCode> {
        let wall_time_ms = WALL_START_MS + i64::try_from(self.now_ms).unwrap();
        let now = Now { monotonic_ms: self.now_ms, wall_time_ms };
        let mut turn = Turn::new(now, Arc::new(MetadataImage::default()), Ids::Counted(self.ids));
        let reply = decide(&mut self.shard, &mut turn);
        self.ids = turn.ids_used().unwrap();
        let (records, answers, timers) = turn.into_parts();
        timers.into_iter().for_each(|change| self.timers.change(change));
        let fails = self.appends_fail && !records.is_empty();
        for record in records {
            let text = record_text(&record);
            let verb = if fails { "cannot write" } else { "writes" };
            self.say(&format!("{verb} {text}"));
            if !fails {
                let offset = i64::try_from(self.log.len()).unwrap();
                let place = Place { offset, timestamp_ms: wall_time_ms, transaction: None };
                self.shard.replay(&record, place);
                self.log.push((record, place));
            }
        }
        for (ticket, answer) in answers {
            let Some(name) = self.tickets.remove(&ticket) else { continue };
            let (text, delivered) = match fails {
                true => {
                    let error = ErrorCode::CoordinatorNotAvailable;
                    (error.to_string(), Err(error))
                }
                false => (answer_text(&answer), Ok(answer)),
            };
            self.say(&format!("{name}: {text}"));
            self.delivered.push((name, delivered));
        }
        if fails { Err(ErrorCode::CoordinatorNotAvailable) } else { Ok(reply) }
    }

    fn ticket(&mut self, name: &str) -> Ticket {
        self.next_ticket += 1;
        self.tickets.insert(Ticket(self.next_ticket), name.to_owned());
        Ticket(self.next_ticket)
    }

    fn run(&mut self, step: &Step) -> String {
        let words: Vec<&str> = step.words.iter().map(String::as_str).collect();
        let group = value(step, "group", "g").to_owned();
        match words[..] {
            ["settings", ..] => self.set(step),
            ["join", name, ..] => self.join(name, &group, step),
            ["sync", name, ..] => self.sync(name, &group, step),
            ["heartbeat", ..] => self.heartbeat(&group, step),
            ["leave", ..] => self.leave(&group, step),
            ["commit", ..] => self.commit(&group, step),
            ["fetch", ..] => self.fetch(&group, step),
            ["delete-offsets", ..] => {
                let named: Vec<_> = plain_words(step).map(topic_partition).collect();
                let deleted = self.turn(|shard, turn| shard.delete_offsets(&group, &named, turn));
                self.say(&format!("{:?}", deleted.and_then(|deleted| deleted)));
            }
            ["delete", ..] => {
                let deleted = self.turn(|shard, turn| shard.delete_group(&group, turn));
                self.say(&format!("{:?}", deleted.and_then(|deleted| deleted)));
            }
            ["pass", ms] => self.pass(ms.parse().unwrap()),
            ["fail"] => self.appends_fail = true,
            ["mend"] => self.appends_fail = false,
            ["restart"] => self.load(),
            ["drop-topic", topic] => {
                let deleted = vec![(topic.into(), Uuid::ZERO)];
                let changes = TopicChanges { deleted, ..TopicChanges::default() };
                let _ = self.turn(|shard, turn| shard.topics_changed(&changes, turn));
            }
            ["state", ..] => self.state(&group),
            _ => panic!("unknown command: {words:?}"),
        }
        std::mem::take(&mut self.trace)
    }

    fn set(&mut self, step: &Step) {
        let defaults = GroupSettings::default();
        let or = |name: &str, default: i64| number(step, name, default);
        self.settings = Arc::new(GroupSettings {
            initial_rebalance_delay_ms: u64::try_from(or("delay", 3_000)).unwrap(),
            max_size: usize::try_from(or("size", 1_000)).unwrap(),
            offsets_retention_ms: or("retention", defaults.offsets_retention_ms),
            offsets_retention_check_interval_ms: u64::try_from(or("check", 600_000)).unwrap(),
            ..defaults
        });
        self.load();
    }

    fn join(&mut self, name: &str, group: &str, step: &Step) {
        let protocols = value(step, "protocols", "range:x").split(',').filter(|p| !p.is_empty());
        let protocols = protocols.map(|protocol| {
            let (name, metadata) = protocol.split_once(':').unwrap_or((protocol, ""));
            JoinGroupRequestProtocol {
                name: name.into(),
                metadata: Bytes::copy_from_slice(metadata.as_bytes()),
                ..JoinGroupRequestProtocol::default()
            }
        });
        let request = JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: i32::try_from(number(step, "session", 10_000)).unwrap(),
            rebalance_timeout_ms: i32::try_from(number(step, "rebalance", 60_000)).unwrap(),
            member_id: long_id(value(step, "id", "")).as_str().into(),
            group_instance_id: step.value("instance").map(Into::into),
            protocol_type: value(step, "type", "test").into(),
            protocols: protocols.collect(),
            ..JoinGroupRequest::default()
        };
        let version = i16::try_from(number(step, "v", 9)).unwrap();
        let client = Client { id: name.to_owned(), host: "/here".to_owned() };
        let ticket = self.ticket(name);
        let joining = Joining { request, version, client, ticket };
        let _ = self.turn(|shard, turn| shard.join(&joining, turn));
    }

    fn sync(&mut self, name: &str, group: &str, step: &Step) {
        let given = value(step, "assign", "").split(',').filter(|given| !given.is_empty());
        let assignments = given.map(|given| {
            let (id, work) = given.split_once(':').unwrap();
            SyncGroupRequestAssignment {
                member_id: long_id(id).as_str().into(),
                assignment: Bytes::copy_from_slice(work.as_bytes()),
                ..SyncGroupRequestAssignment::default()
            }
        });
        let request = SyncGroupRequest {
            group_id: group.into(),
            generation_id: i32::try_from(number(step, "gen", -1)).unwrap(),
            member_id: long_id(value(step, "id", "")).as_str().into(),
            group_instance_id: step.value("instance").map(Into::into),
            assignments: assignments.collect(),
            ..SyncGroupRequest::default()
        };
        let ticket = self.ticket(name);
        let _ = self.turn(|shard, turn| shard.sync(&request, ticket, turn));
    }

    fn heartbeat(&mut self, group: &str, step: &Step) {
        let request = HeartbeatRequest {
            group_id: group.into(),
            generation_id: i32::try_from(number(step, "gen", -1)).unwrap(),
            member_id: long_id(value(step, "id", "")).as_str().into(),
            group_instance_id: step.value("instance").map(Into::into),
            ..HeartbeatRequest::default()
        };
        let beaten = self.turn(|shard, turn| shard.heartbeat(&request, turn));
        match beaten.and_then(|beaten| beaten) {
            Ok(()) => self.say("all is well"),
            Err(error) => self.say(&error.to_string()),
        }
    }

    fn leave(&mut self, group: &str, step: &Step) {
        let instance_id = step.value("instance");
        let mut ids: Vec<&str> = plain_words(step).collect();
        if ids.is_empty() {
            ids.push("");
        }
        let members = ids.iter().map(|id| MemberIdentity {
            member_id: long_id(id).as_str().into(),
            group_instance_id: instance_id.map(Into::into),
            ..MemberIdentity::default()
        });
        let members: Vec<MemberIdentity> = members.collect();
        let left = self.turn(|shard, turn| shard.leave(group, &members, turn));
        match left.and_then(|left| left) {
            Ok(results) => {
                for result in results {
                    let error = ErrorCode::from_code(result.error_code);
                    self.say(&format!("{} leaves: {error}", short_id(&result.member_id)));
                }
            }
            Err(error) => self.say(&error.to_string()),
        }
    }

    fn commit(&mut self, group: &str, step: &Step) {
        let named = ["id", "gen", "instance", "metadata", "retention", "group"];
        let offsets = step.words.iter().skip(1).filter_map(|word| word.split_once('='));
        let offsets = offsets.filter(|(name, _)| !named.contains(name)).map(|(place, offset)| {
            let (topic, partition) = topic_partition(place);
            OffsetToCommit {
                topic,
                topic_id: Uuid::ZERO,
                partition,
                offset: offset.parse().unwrap(),
                leader_epoch: -1,
                metadata: value(step, "metadata", ""),
            }
        });
        let offsets: Vec<OffsetToCommit<'_>> = offsets.collect();
        let member_id = long_id(value(step, "id", ""));
        let commit = Commit {
            group_id: group,
            generation: i32::try_from(number(step, "gen", -1)).unwrap(),
            member_id: &member_id,
            instance_id: step.value("instance"),
            api_version: 9,
            retention_ms: number(step, "retention", -1),
            offsets: &offsets,
        };
        let committed = self.turn(|shard, turn| shard.commit(&commit, turn));
        self.say(&format!("{:?}", committed.and_then(|committed| committed)));
    }

    fn fetch(&mut self, group: &str, step: &Step) {
        let stable = step.words.iter().any(|word| word == "stable");
        for place in plain_words(step).filter(|word| *word != "stable") {
            let fetched = self.shard.fetch_offset(group, topic_partition(place), stable);
            let text = match fetched {
                FetchedOffset::Committed(offset) => {
                    format!("{} {:?}", offset.offset, offset.metadata)
                }
                other => format!("{other:?}"),
            };
            self.say(&format!("{place}: {text}"));
        }
    }

    fn pass(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while let Some(deadline_ms) = self.timers.next_deadline().filter(|at_ms| *at_ms <= end_ms) {
            self.now_ms = self.now_ms.max(deadline_ms);
            let Some(timer) = self.timers.take_due(self.now_ms) else { break };
            let again = timer.clone();
            if self.turn(|shard, turn| shard.due(timer, turn)).is_err() {
                use ottla_broker::internal_topics::machine::TimerChange;
                self.timers.change(TimerChange::Set(again, self.now_ms + 500));
            }
        }
        self.now_ms = end_ms;
    }

    fn state(&mut self, group: &str) {
        let Some(Group::Classic(found)) = self.shard.group(group) else {
            return self.say("there is no such group");
        };
        let mut text = format!("{} in generation {}", found.state().name(), found.generation());
        for member in found.members() {
            let work = bytes_text(&member.assignment);
            let _ = write!(text, ", {} has [{work}]", short_id(&member.id));
        }
        self.say(&text);
    }
}

#[path = "groups_random.rs"]
mod random;

fn answer_text(answer: &Answer) -> String {
    match answer {
        Answer::Join(join) if join.error_code != 0 => {
            let error = ErrorCode::from_code(join.error_code);
            format!("{error} for {:?}", short_id(&join.member_id))
        }
        Answer::Join(join) => {
            let mut text = format!(
                "joined generation {} as {}, by {}, {} leads",
                join.generation_id,
                short_id(&join.member_id),
                join.protocol_name.as_deref().unwrap_or("nothing"),
                short_id(&join.leader)
            );
            for member in &join.members {
                let metadata = bytes_text(&member.metadata);
                let _ = write!(text, ", {}[{metadata}]", short_id(&member.member_id));
            }
            if join.skip_assignment {
                text.push_str(", nothing to assign");
            }
            text
        }
        Answer::Sync(sync) if sync.error_code != 0 => {
            ErrorCode::from_code(sync.error_code).to_string()
        }
        Answer::Sync(sync) => format!("works on [{}]", bytes_text(&sync.assignment)),
    }
}

fn record_text(record: &Record) -> String {
    match GroupRecord::decode(record).unwrap() {
        GroupRecord::Offset(key, value) => {
            let place = format!("{} of {}-{}", key.group, key.topic, key.partition);
            match value {
                Some(value) => format!("offset {} for {place}", value.offset),
                None => format!("that the offset is gone for {place}"),
            }
        }
        GroupRecord::Classic(key, None) => format!("that group {} is gone", key.group),
        GroupRecord::Classic(key, Some(value)) => {
            let mut text = format!("group {} in generation {}", key.group, value.generation);
            for member in &value.members {
                let work = bytes_text(&member.assignment);
                let _ = write!(text, ", {} has [{work}]", short_id(&member.member_id));
            }
            text
        }
        other => format!("{other:?}"),
    }
}

#[test]
fn classic() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/groups");
    datadriven::tell_all(&folder, World::new, World::run);
}
