//! Stories of compaction: what stays of a log, whatever happens meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::record_batch::TimestampType;
use ottla_common::kafka::records::EndTransactionMarker;
use ottla_common::types::{BrokerId, TopicId};

use super::model::seed;
use super::*;
use crate::storage::cleaner::CleanerConfig;
use crate::storage::cleaner::pass::{CleanError, Cleaned};
use crate::storage::cleaner::selection::{Rules, cleanable};
use crate::storage::log_manager::{LogManager, LogManagerConfig};

const RULES: Rules = Rules { min_lag_ms: 0, max_lag_ms: i64::MAX, min_dirty_ratio: 0.0 };

fn compacted() -> LogConfig {
    LogConfig {
        segment_bytes: 1500,
        index_interval_bytes: 200,
        cleanup_compact: true,
        cleanup_delete: false,
        delete_retention_ms: 1000,
        file_delete_delay_ms: 0,
        ..LogConfig::default()
    }
}

fn settings(memory_bytes: usize) -> CleanerConfig {
    CleanerConfig { threads: 1, memory_bytes, ..CleanerConfig::default() }
}

/// A pass over all that may be compacted; `None` if nothing is dirty.
fn clean_at(log: &Log, now_ms: i64, memory_bytes: usize) -> Option<Result<Cleaned, CleanError>> {
    let part = cleanable(&log.cleaning_view().unwrap(), &RULES, now_ms)?;
    Some(log.clean(&part, &settings(memory_bytes), now_ms, &|_| true))
}

fn clean(log: &Log, now_ms: i64) -> Cleaned {
    clean_at(log, now_ms, 1 << 16).unwrap().unwrap()
}

/// Closes the active segment, so that all before can be compacted.
fn roll(log: &Log) {
    let mut appender = log.appender.lock();
    let (config, end) = (log.config(), log.log_end_offset());
    log.roll(&mut appender, &config, end, NOW_MS).unwrap();
    drop(appender);
    log.set_high_watermark(end);
}

fn put(log: &Log, options: BatchOptions, records: &[(&str, Option<&str>)]) -> i64 {
    let mut builder = BatchBuilder::new(options);
    for (number, (key, value)) in (0..).zip(records) {
        let value = value.map(str::as_bytes);
        builder.append(NOW_MS + number, Some(key.as_bytes()), value, &[]).unwrap();
    }
    append(log, builder.build().unwrap()).unwrap().first_offset
}

fn producer(producer_id: i64, base_sequence: i32) -> BatchOptions {
    BatchOptions { producer_id, producer_epoch: 0, base_sequence, ..BatchOptions::default() }
}

fn end_transaction(log: &Log, producer_id: i64, commit: bool) {
    let marker = EndTransactionMarker { commit, coordinator_epoch: 0 };
    let options = producer(producer_id, -1);
    let batch = marker.batch(options, NOW_MS).unwrap();
    let origin = AppendOrigin::Coordinator;
    let append = LeaderAppend { leader_epoch: 0, origin, now_ms: NOW_MS };
    log.append_as_leader(batch, append).unwrap();
}

/// What is in a log: offset, key, value.
type Found = (i64, String, Option<String>);

fn found(log: &Log) -> Vec<Found> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let batches = read_all(log, log.log_start_offset());
    let data = batches.iter().filter(|batch| !batch.header.is_control());
    let records = data.flat_map(|batch| batch.records(RecordLimits::default()));
    records
        .map(|record| record.unwrap())
        .map(|record| {
            let key = text(record.key.as_ref().unwrap());
            (record.offset, key, record.value.as_ref().map(text))
        })
        .collect()
}

/// As `key=value@offset`, to be read.
fn told(log: &Log) -> String {
    let records = found(log);
    let tell = |(offset, key, value): &Found| match value {
        Some(value) => format!("{key}={value}@{offset}"),
        None => format!("{key}-@{offset}"),
    };
    records.iter().map(tell).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_newest_record_of_each_key_stays_where_it_is() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    let none = BatchOptions::default();
    put(&log, none, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    put(&log, none, &[("a", Some("2")), ("d", Some("1"))]);
    roll(&log);
    put(&log, none, &[("b", Some("2"))]);
    roll(&log);
    put(&log, none, &[("c", Some("2"))]);
    log.set_high_watermark(log.log_end_offset());
    let done = clean(&log, NOW_MS);
    assert_eq!((done.end_offset, done.keys), (6, 4));
    assert_eq!((done.segments_before, done.segments_after), (2, 1));
    assert_eq!(told(&log), "c=1@2 a=2@3 d=1@4 b=2@5 c=2@6", "the active segment is left alone");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (0, 7));
    let path = fixture.folder.path().join("cleaner-offset-checkpoint");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1\nt 0 6\n");
    assert!(clean_at(&log, NOW_MS, 1 << 16).is_none(), "nothing is dirty");
    let deleted = |name: &(String, (usize, u32))| name.0.ends_with(".deleted");
    assert!(files(log.folder()).iter().any(deleted));
    log.remove_deleted_files(NOW_MS);
    assert!(!files(log.folder()).iter().any(deleted));
    log.truncate_to(4).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "0\n1\nt 0 4\n", "a cut log is dirty");
}

#[test]
fn tombstones_stay_until_their_horizon_and_then_go() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    let none = BatchOptions::default();
    put(&log, none, &[("a", Some("1")), ("b", Some("1"))]);
    put(&log, none, &[("a", None), ("c", Some("1"))]);
    roll(&log);
    clean(&log, NOW_MS);
    assert_eq!(told(&log), "b=1@1 a-@2 c=1@3");
    let horizons: Vec<_> = read_all(&log, 0).iter().map(|b| b.header.delete_horizon_ms()).collect();
    assert_eq!(horizons, [None, Some(NOW_MS + 1000)], "of the batch with the tombstone");
    for (later_ms, expected) in [
        (500, "b=1@1 a-@2 c=1@3 d=1@4"),
        (999, "b=1@1 a-@2 c=1@3 d=1@5"),
        (1000, "b=1@1 c=1@3 d=1@6"),
    ] {
        put(&log, none, &[("d", Some("1"))]);
        roll(&log);
        clean(&log, NOW_MS + later_ms);
        assert_eq!(told(&log), expected, "{later_ms}");
    }
    let timestamps: Vec<_> = read_all(&log, 0)
        .iter()
        .flat_map(|batch| batch.records(RecordLimits::default()))
        .map(|record| record.unwrap().timestamp - NOW_MS)
        .collect();
    assert_eq!(timestamps, [1, 1, 0], "they count from the horizon and are what they were");
}

#[test]
fn aborted_records_go_and_markers_go_after_them() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    let transactional =
        |id, sequence| BatchOptions { transactional: true, ..producer(id, sequence) };
    put(&log, BatchOptions::default(), &[("a", Some("0")), ("b", Some("0"))]);
    put(&log, transactional(1, 0), &[("a", Some("aborted"))]);
    put(&log, transactional(2, 0), &[("b", Some("1"))]);
    end_transaction(&log, 1, false);
    end_transaction(&log, 2, true);
    put(&log, transactional(1, 1), &[("c", Some("1"))]);
    end_transaction(&log, 1, true);
    roll(&log);
    let controls = |log: &Log| -> Vec<_> {
        let all = read_all(log, 0);
        let controls = all.iter().filter(|batch| batch.header.is_control());
        controls.map(|b| (b.header.base_offset, b.header.delete_horizon_ms())).collect()
    };
    clean(&log, NOW_MS);
    assert_eq!(told(&log), "a=0@0 b=1@3 c=1@6");
    assert_eq!(controls(&log), [(4, None), (5, None), (7, None)]);
    assert_eq!(log.aborted_transactions(0, 8).unwrap().len(), 1, "the marker is still there");
    put(&log, BatchOptions::default(), &[("d", Some("1"))]);
    roll(&log);
    clean(&log, NOW_MS + 10);
    assert_eq!(controls(&log), [(4, Some(NOW_MS + 1010)), (5, None), (7, None)]);
    assert_eq!(log.aborted_transactions(0, 8).unwrap().len(), 0, "none has records");
    put(&log, BatchOptions::default(), &[("d", Some("2"))]);
    roll(&log);
    clean(&log, NOW_MS + 2000);
    assert_eq!(controls(&log), [(5, None), (7, None)]);
    assert_eq!(told(&log), "a=0@0 b=1@3 c=1@6 d=2@9");
}

#[test]
fn an_open_transaction_holds_compaction_up() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    put(&log, BatchOptions::default(), &[("a", Some("1"))]);
    roll(&log);
    put(&log, BatchOptions { transactional: true, ..producer(1, 0) }, &[("a", Some("2"))]);
    roll(&log);
    put(&log, BatchOptions::default(), &[("a", Some("3"))]);
    roll(&log);
    assert_eq!(clean(&log, NOW_MS).end_offset, 1);
    assert_eq!(told(&log), "a=1@0 a=2@1 a=3@2");
    end_transaction(&log, 1, false);
    roll(&log);
    clean(&log, NOW_MS);
    assert_eq!(told(&log), "a=3@2");
}

#[test]
fn a_producers_last_batch_stays_empty_for_its_sequence() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    put(&log, producer(1, 0), &[("a", Some("1"))]);
    put(&log, producer(1, 1), &[("a", Some("2")), ("b", Some("1"))]);
    put(&log, producer(2, 0), &[("a", Some("3")), ("b", Some("2"))]);
    roll(&log);
    let before = log.active_producers();
    clean(&log, NOW_MS);
    assert_eq!(told(&log), "a=3@3 b=2@4");
    let batches: Vec<_> = read_all(&log, 0).iter().map(|batch| batch.header).collect();
    let empty = batches.first().unwrap();
    assert_eq!((empty.base_offset, empty.last_offset(), empty.records_count), (1, 2, 0));
    assert_eq!((empty.producer_id, empty.base_sequence, empty.max_timestamp), (1, 1, NOW_MS + 1));
    for (name, _) in files(log.folder()).iter().filter(|file| file.0.ends_with(".snapshot")) {
        std::fs::remove_file(log.folder().join(name)).unwrap();
    }
    let options = OpenOptions::of(&log.dir().checkpoints(), log.topic_partition(), NOW_MS);
    drop(log);
    let log = fixture.try_open(options).unwrap();
    assert_eq!(log.active_producers(), before, "learnt from the batches alone");
    let again = append(&log, idempotent_of(1, 1, 2)).unwrap();
    assert!(again.duplicate, "a retry is recognised");
}

fn idempotent_of(producer_id: i64, base_sequence: i32, count: i64) -> Bytes {
    records(producer(producer_id, base_sequence), count, NOW_MS, 5)
}

#[test]
fn what_is_younger_than_the_lag_waits() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    for value in ["1", "2", "3"] {
        put(&log, BatchOptions::default(), &[("a", Some(value))]);
        roll(&log);
    }
    let rules = Rules { min_lag_ms: 50, ..RULES };
    assert_eq!(cleanable(&log.cleaning_view().unwrap(), &rules, NOW_MS + 49), None);
    assert!(cleanable(&log.cleaning_view().unwrap(), &rules, NOW_MS + 50).is_some());
}

#[test]
fn a_corrupt_batch_is_not_made_to_look_sound() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    put(&log, BatchOptions::default(), &[("a", Some("1")), ("a", Some("2"))]);
    roll(&log);
    let path = fixture.path("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let refused = clean_at(&log, NOW_MS, 1 << 16).unwrap();
    assert!(matches!(refused, Err(CleanError::Uncleanable(_))), "{refused:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert_eq!(log.dir().offline_reason(), None);
}

#[test]
fn a_log_that_changes_meanwhile_is_left_as_it_is() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    for value in ["1", "2", "3"] {
        put(&log, BatchOptions::default(), &[("a", Some(value))]);
        roll(&log);
    }
    let part = cleanable(&log.cleaning_view().unwrap(), &RULES, NOW_MS).unwrap();
    let calls = AtomicI64::new(0);
    let cut = |_| {
        if calls.fetch_add(1, Ordering::Relaxed) == 4 {
            log.truncate_to(2).unwrap();
        }
        true
    };
    let result = log.clean(&part, &settings(1 << 16), NOW_MS, &cut);
    assert!(matches!(result, Err(CleanError::Overtaken)), "{result:?}");
    assert_eq!(told(&log), "a=1@0 a=2@1");
    assert!(!files(log.folder()).iter().any(|file| file.0.ends_with(".cleaned")));
    let stopped = log.clean(&part, &settings(1 << 16), NOW_MS, &|_| false);
    assert!(matches!(stopped, Err(CleanError::Stopped | CleanError::Overtaken)), "{stopped:?}");
}

#[test]
fn who_reads_an_old_segment_goes_on() {
    let fixture = Fixture::new(compacted());
    let log = fixture.open();
    for value in ["1", "2", "3"] {
        put(&log, BatchOptions::default(), &[("a", Some(value))]);
    }
    roll(&log);
    let request =
        LogReadRequest { offset: 0, max_bytes: 4000, min_one_batch: true, upper_bound: 3 };
    let read = log.read(request).unwrap();
    clean(&log, NOW_MS);
    log.remove_deleted_files(i64::MAX);
    let bytes = read_region(&read.region.unwrap()).unwrap();
    assert_eq!(batches(bytes).count(), 3, "as it was when it was found");
    let read = log.read(LogReadRequest { offset: 1, ..request }).unwrap();
    assert_eq!((read.first_offset, read.next_offset), (2, 3), "offsets that are gone are skipped");
}

#[test]
fn a_small_memory_takes_more_passes() {
    let fixture = Fixture::new(LogConfig { segment_bytes: 400, ..compacted() });
    let log = fixture.open();
    for number in 0..60 {
        put(&log, BatchOptions::default(), &[(&format!("k{}", number % 30), Some("v"))]);
    }
    roll(&log);
    let mut passes = 0;
    while let Some(done) = clean_at(&log, NOW_MS, 0) {
        done.unwrap();
        passes += 1;
    }
    assert!(passes > 3, "{passes}");
    assert_eq!(
        found(&log).iter().map(|record| record.0).collect::<Vec<_>>(),
        Vec::from_iter(30..60)
    );
}

#[test]
fn threads_compact_what_is_dirty_and_stop() {
    let folder = folder();
    let manager = LogManagerConfig {
        cleaner: CleanerConfig { backoff_ms: 1, threads: 2, ..settings(1 << 20) },
        ..LogManagerConfig::new(vec![folder.path().to_owned()], BrokerId(1))
    };
    let manager = LogManager::open(manager, NOW_MS).unwrap();
    let config = Arc::new(compacted());
    let open = |topic: &str| {
        let key = TopicPartition::new(topic, 0);
        manager.get_or_create(&key, TopicId::random().unwrap(), config.clone(), NOW_MS).unwrap()
    };
    let (good, bad) = (open("good"), open("bad"));
    put(&bad, BatchOptions::default(), &[("a", Some("1")), ("a", Some("2"))]);
    let path = bad.folder().join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    roll(&bad);
    put(&good, BatchOptions::default(), &[("a", Some("1")), ("a", Some("2"))]);
    roll(&good);
    let started = std::time::Instant::now();
    while good.dir().cleaner_offset(good.topic_partition()).is_none()
        || bad.cleaning.lock().uncleanable.is_none()
    {
        assert!(started.elapsed().as_secs() < 60, "nothing was compacted");
        std::thread::yield_now();
    }
    assert_eq!(told(&good), "a=2@1");
    manager.close(1);
}

#[test]
fn a_cleaner_takes_another_config_while_it_runs() {
    let folder = folder();
    let sleepy = CleanerConfig { backoff_ms: u64::MAX >> 1, ..settings(1 << 20) };
    let manager = LogManagerConfig {
        cleaner: sleepy,
        ..LogManagerConfig::new(vec![folder.path().to_owned()], BrokerId(1))
    };
    let manager = LogManager::open(manager, NOW_MS).unwrap();
    let key = TopicPartition::new("t", 0);
    let id = TopicId::random().unwrap();
    let log = manager.get_or_create(&key, id, Arc::new(compacted()), NOW_MS).unwrap();
    put(&log, BatchOptions::default(), &[("a", Some("1")), ("a", Some("2"))]);
    roll(&log);
    manager.set_cleaner_config(CleanerConfig { threads: 2, ..sleepy }).unwrap();
    assert_eq!(manager.cleaner_threads(), 2);
    let started = std::time::Instant::now();
    while log.dir().cleaner_offset(&key).is_none() {
        assert!(started.elapsed().as_secs() < 60, "nothing was compacted");
        std::thread::yield_now();
    }
    assert_eq!(told(&log), "a=2@1");
    manager.close(1);
    manager.set_cleaner_config(CleanerConfig { threads: 3, ..sleepy }).unwrap();
    assert_eq!(manager.cleaner_threads(), 0, "closed logs are not compacted");
}

/// A compacted log for Apache Kafka's own tools: `OTTLA_COMPACTED_DIR` names a folder to write it
/// to. Without it, that is done in a folder of its own.
#[test]
fn a_compacted_log_is_closed_and_opened_again() {
    let own = folder();
    let given = std::env::var("OTTLA_COMPACTED_DIR").map(PathBuf::from);
    let path = given.unwrap_or_else(|_| own.path().to_owned());
    let dir = Arc::new(LogDir::open(&FileSystem::real(), &path).unwrap());
    let config = Arc::new(LogConfig { segment_bytes: 4000, ..compacted() });
    let key = TopicPartition::new("t", 0);
    let log = Log::open(&dir, key.clone(), config.clone(), crashed(0)).unwrap();
    for round in 0..3_i32 {
        eventful(&log, round * 4);
        clean(&log, NOW_MS + i64::from(round) * 600);
        log.remove_deleted_files(i64::MAX);
    }
    let before = told(&log);
    log.close().unwrap();
    let options = OpenOptions { was_clean: true, ..crashed(log.log_end_offset()) };
    drop(log);
    let log = Log::open(&dir, key, config, options).unwrap();
    assert_eq!(told(&log), before);
    println!("{before}");
}

/// The n-th call that changes something, and all after it, fail: as if the process were gone.
#[derive(Debug)]
struct Killed {
    calls_left: AtomicI64,
}

impl FaultHook for Killed {
    fn before(&self, operation: Operation, _path: &Path, _length: usize) -> Verdict {
        let is_reading = matches!(operation, Operation::Read | Operation::List);
        if is_reading || self.calls_left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Verdict::Proceed;
        }
        Verdict::Fail(io::Error::other("killed"))
    }
}

/// The newest record of each key, tombstones left out.
fn newest(records: &[Found]) -> BTreeMap<&str, (i64, &str)> {
    let mut newest = BTreeMap::new();
    for (offset, key, value) in records {
        match value {
            Some(value) => newest.insert(key.as_str(), (*offset, value.as_str())),
            None => newest.remove(key.as_str()),
        };
    }
    newest
}

/// A log of several segments with all that compaction cares about.
fn eventful(log: &Log, first_round: i32) {
    let transactional =
        |id, sequence| BatchOptions { transactional: true, ..producer(id, sequence) };
    for round in first_round..first_round + 4 {
        let value = round.to_string();
        let compression = Compression::ALL[round as usize % 5];
        let plain = BatchOptions { compression, ..BatchOptions::default() };
        for key in ["a", "b", "c", "d"] {
            put(log, plain, &[(key, Some(&value)), ("e", Some(&value))]);
        }
        put(log, plain, &[("d", None)]);
        put(log, transactional(1, round), &[("a", Some("aborted"))]);
        end_transaction(log, 1, false);
        put(log, transactional(2, round), &[("b", Some(&value))]);
        end_transaction(log, 2, true);
        roll(log);
    }
}

#[test]
fn a_crash_at_any_point_leaves_the_old_or_the_new() {
    let mut expected = None;
    let mut points = 0;
    loop {
        let killed = Arc::new(Killed { calls_left: AtomicI64::new(i64::MAX) });
        let mut fixture = Fixture::new(LogConfig { segment_bytes: 4000, ..compacted() });
        fixture.file_system = FileSystem::with_hook(killed.clone());
        let log = fixture.open();
        eventful(&log, 0);
        let high_watermark = log.high_watermark();
        let before = found(&log);
        killed.calls_left.store(points, Ordering::Relaxed);
        let result = clean_at(&log, NOW_MS, 1 << 16).unwrap();
        log.dir().unlock();
        drop(log);
        fixture.file_system = FileSystem::real();
        let dir = LogDir::open(&fixture.file_system, fixture.folder.path()).unwrap();
        let checkpoints = dir.load_checkpoints().unwrap();
        drop(dir);
        let options = OpenOptions::of(&checkpoints, &fixture.topic_partition(), NOW_MS);
        let log = fixture.try_open(OpenOptions { high_watermark, ..options }).unwrap();
        log.dir().load_checkpoints().unwrap();
        let after = found(&log);
        let committed: Vec<Found> =
            before.iter().filter(|r| r.2.as_deref() != Some("aborted")).cloned().collect();
        let aborted = log.aborted_transactions(0, i64::MAX).unwrap();
        for record in after.iter().filter(|record| record.2.as_deref() == Some("aborted")) {
            let is_known = aborted.iter().any(|known| known.first_offset == record.0);
            assert!(is_known, "point {points}: {record:?} is shown as committed");
        }
        let shown: Vec<Found> =
            after.iter().filter(|r| r.2.as_deref() != Some("aborted")).cloned().collect();
        assert_eq!(newest(&shown), newest(&committed), "point {points}");
        assert!(after.iter().all(|record| before.contains(record)), "point {points}");
        let odd =
            |name: &str| [".cleaned", ".swap", ".deleted"].iter().any(|end| name.ends_with(end));
        assert!(!files(log.folder()).iter().any(|file| odd(&file.0)), "point {points}");
        assert_eq!(log.log_end_offset(), high_watermark, "point {points}");
        // The next pass does all of it.
        if let Some(again) = clean_at(&log, NOW_MS, 1 << 16) {
            again.unwrap();
        }
        let text = told(&log);
        assert_eq!(expected.get_or_insert_with(|| text.clone()), &text, "point {points}");
        if result.is_ok() {
            break;
        }
        points += 1;
    }
    println!("{points} points");
    assert!(points > 40, "{points}");
}

/// Offset, key, value, timestamp.
type Appended = (i64, Option<Bytes>, Option<Bytes>, i64);

/// What was appended, to compare with.
#[derive(Default)]
struct Model {
    /// Offset, key, value, timestamp; and whether it was aborted.
    /// Each, and whether it was aborted.
    records: Vec<(Appended, bool)>,
}

fn random_value(random: &mut fastrand::Rng) -> Option<Vec<u8>> {
    (random.u8(..) > 50).then(|| vec![random.u8(..); random.usize(0..60)])
}

/// Appends random batches; returns all that is in the log then.
fn random_log(log: &Log, model: &mut Model, sequences: &mut BTreeMap<i64, i32>, seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    for _ in 0..random.usize(10..60) {
        let transactional = random.u8(..) < 80;
        let producer_id = if random.bool() || transactional { random.i64(0..4) } else { -1 };
        // A producer has one kind of batches.
        let producer_id = if transactional { producer_id + 10 } else { producer_id };
        let aborted = transactional && random.bool();
        for _ in 0..if transactional { random.usize(1..3) } else { 1 } {
            let count = random.i32(1..5);
            let sequence = sequences.entry(producer_id).or_default();
            let options = BatchOptions {
                compression: Compression::ALL[random.usize(0..5)],
                transactional,
                ..producer(producer_id, *sequence)
            };
            *sequence += count;
            let options = match producer_id {
                -1 => BatchOptions { compression: options.compression, ..BatchOptions::default() },
                _ => options,
            };
            let mut builder = BatchBuilder::new(options);
            let first = log.log_end_offset();
            for number in 0..i64::from(count) {
                let key = Bytes::from(format!("key {}", random.u8(0..25)));
                let value = random_value(&mut random).map(Bytes::from);
                let timestamp = NOW_MS + random.i64(-1000..1000);
                builder.append(timestamp, Some(&key), value.as_deref(), &[]).unwrap();
                model.records.push(((first + number, Some(key), value, timestamp), aborted));
            }
            append(log, builder.build().unwrap()).unwrap();
        }
        if transactional {
            end_transaction(log, producer_id, !aborted);
        }
    }
    log.set_high_watermark(log.log_end_offset());
}

fn check(log: &Log, model: &Model, cleaned: i64) {
    let batches = read_all(log, log.log_start_offset());
    let data = batches.iter().filter(|batch| !batch.header.is_control());
    let records: Vec<_> = data
        .flat_map(|batch| batch.records(RecordLimits::default()))
        .map(|record| record.unwrap())
        .map(|record| (record.offset, record.key, record.value, record.timestamp))
        .collect();
    assert!(records.is_sorted_by_key(|record| record.0));
    let all: BTreeMap<i64, _> = model.records.iter().map(|r| (r.0.0, r)).collect();
    let mut seen = std::collections::BTreeSet::new();
    for record in &records {
        let (original, aborted) = all[&record.0];
        assert_eq!(record, original);
        if record.0 < cleaned {
            assert!(!aborted, "{record:?} was aborted");
            assert!(seen.insert(&record.1), "{record:?} is twice in the clean part");
        }
    }
    let mut newest = BTreeMap::new();
    for (record, _) in model.records.iter().filter(|record| !record.1) {
        newest.insert(&record.1, record);
    }
    let mut last = BTreeMap::new();
    let uncommitted = |record: &&(i64, _, _, _)| !all[&record.0].1;
    for record in records.iter().filter(uncommitted) {
        last.insert(&record.1, record);
    }
    for (key, record) in newest {
        match last.get(key) {
            Some(found) => assert_eq!(*found, record),
            None => assert!(record.2.is_none(), "{record:?} is gone"),
        }
    }
    for offset in (0..log.log_end_offset()).step_by(7) {
        let expected = batches.iter().filter(|b| b.header.last_offset() >= offset).count();
        assert_eq!(read_all(log, offset).len(), expected, "from {offset}");
    }
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let config = LogConfig {
        segment_bytes: random.u32(600..5000),
        message_timestamp_type: TimestampType::CreateTime,
        index_interval_bytes: random.u32(0..600),
        ..compacted()
    };
    let fixture = Fixture::new(config);
    let mut log = fixture.open();
    let (mut model, mut sequences) = (Model::default(), BTreeMap::new());
    let mut now_ms = NOW_MS;
    for _ in 0..8 {
        random_log(&log, &mut model, &mut sequences, random.u64(..));
        if random.bool() {
            roll(&log);
        }
        now_ms += random.i64(0..900);
        let memory_bytes = if random.bool() { 1 << 16 } else { 0 };
        let cleaned = match clean_at(&log, now_ms, memory_bytes) {
            Some(done) => done.unwrap().end_offset,
            None => 0,
        };
        check(&log, &model, cleaned);
        log.remove_deleted_files(i64::MAX);
        if random.bool() {
            let producers = log.active_producers();
            log.flush().unwrap();
            let (high_watermark, end) = (log.high_watermark(), log.log_end_offset());
            let options = OpenOptions::of(&log.dir().checkpoints(), log.topic_partition(), NOW_MS);
            let options = OpenOptions { high_watermark, ..options };
            let checkpoints = log.dir().checkpoints();
            drop(log);
            log = fixture.try_open(options).unwrap();
            log.dir().update_checkpoints(|current| *current = checkpoints).unwrap();
            assert_eq!(log.log_end_offset(), end);
            assert_eq!(log.active_producers(), producers);
            check(&log, &model, cleaned);
        }
    }
}

#[test]
fn a_compacted_log_says_the_same_of_each_key() {
    let first = seed();
    let rounds = if std::env::var("OTTLA_SEED").is_ok() { 1 } else { 40 };
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        println!("OTTLA_SEED={seed}");
        run(seed);
    }
}
