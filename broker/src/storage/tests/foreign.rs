//! Logs for, and of, Apache Kafka's own tools and broker. `OTTLA_FOREIGN_DIR` names a folder to
//! write one to, or a data directory of Kafka to read; without it, both are done in a folder of
//! their own.

use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::records::EndTransactionMarker;
use ottla_common::types::BrokerId;

use super::*;
use crate::storage::log_manager::{LogManager, LogManagerConfig};

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A log of all that a log can hold.
fn write(path: &Path) -> i64 {
    let dir = Arc::new(LogDir::open(&FileSystem::real(), path).unwrap());
    let config = LogConfig { segment_bytes: 40_000, ..LogConfig::default() };
    let key = TopicPartition::new("t", 0);
    let log = Log::open(&dir, key, Arc::new(config), crashed(0)).unwrap();
    for number in 0..60_i32 {
        let options = BatchOptions {
            compression: Compression::ALL[number as usize % 5],
            producer_id: 9,
            producer_epoch: 0,
            base_sequence: number * 20,
            ..BatchOptions::default()
        };
        let timestamp = NOW_MS + i64::from(number) * 1000;
        append_in(&log, records(options, 20, timestamp, 100), number / 20).unwrap();
        let transaction = BatchOptions {
            producer_id: 4,
            producer_epoch: 0,
            base_sequence: number * 2,
            transactional: true,
            ..BatchOptions::default()
        };
        append_in(&log, records(transaction, 2, timestamp, 300), number / 20).unwrap();
        let marker = EndTransactionMarker { commit: number % 3 != 0, coordinator_epoch: 1 };
        let origin = AppendOrigin::Coordinator;
        let append = LeaderAppend { leader_epoch: number / 20, origin, now_ms: NOW_MS };
        let batch = marker.batch(BatchOptions { base_sequence: -1, ..transaction }, timestamp);
        log.append_as_leader(batch.unwrap(), append).unwrap();
        log.set_high_watermark(log.log_end_offset());
    }
    log.close().unwrap();
    log.log_end_offset()
}

/// Opens all logs of a data directory, reads them whole, and says what is in them.
fn read(path: &Path) -> i64 {
    let broker_id = variable("OTTLA_FOREIGN_BROKER").map_or(1, |id| id.parse().unwrap());
    let config = LogManagerConfig::new(vec![path.to_owned()], BrokerId(broker_id));
    let manager = LogManager::open(config, NOW_MS).unwrap();
    println!("clean: {}, damaged: {:?}", manager.was_clean_start(), manager.damaged());
    let mut all = 0;
    for log in manager.logs() {
        let batches = read_all(&log, log.log_start_offset());
        let records = batches.iter().flat_map(|b| b.records(RecordLimits::default()));
        let records: i64 = records.map(|record| record.map(|_| 1).unwrap()).sum();
        all += records;
        let (key, id) = (log.topic_partition(), log.topic_id());
        let producers = log.active_producers().len();
        println!(
            "{key} {id:?}: {} batches, {records} records, {producers} producers",
            batches.len()
        );
        println!("{:?} {:?}", log.offsets(), log.offset_of_max_timestamp().unwrap());
        if variable("OTTLA_FOREIGN_APPEND").as_deref() == Some(&key.topic) {
            let epoch = log.latest_leader_epoch().unwrap_or(0);
            for number in 0..100 {
                append_in(&log, plain(5, NOW_MS + number), epoch).unwrap();
            }
        }
    }
    manager.close(1);
    all
}

#[test]
fn a_log_holds_all_that_there_is() {
    match variable("OTTLA_FOREIGN_DIR") {
        Some(path) => assert!(write(Path::new(&path)) > 0),
        None => {
            let folder = folder();
            assert_eq!(write(folder.path()), 60 * 23);
        }
    }
}

#[test]
fn a_whole_directory_is_read() {
    match variable("OTTLA_FOREIGN_DIR") {
        Some(path) => assert!(read(Path::new(&path)) > 0),
        None => {
            let folder = folder();
            let written = write(folder.path());
            assert_eq!(read(folder.path()), written);
            assert_eq!(read(folder.path()), written, "after a clean stop");
        }
    }
}
