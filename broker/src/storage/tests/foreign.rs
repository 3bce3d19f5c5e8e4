//! Logs for, and of, Apache Kafka's own tools and broker. Run by hand, since they need those:
//! `OTTLA_FOREIGN_DIR=… cargo test -p ottla-broker --lib foreign -- --ignored`.

use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::records::EndTransactionMarker;
use ottla_common::types::BrokerId;

use super::*;
use crate::storage::log_manager::{LogManager, LogManagerConfig};

fn foreign_dir() -> PathBuf {
    PathBuf::from(std::env::var("OTTLA_FOREIGN_DIR").expect("OTTLA_FOREIGN_DIR"))
}

/// Writes all that a log can hold, for `kafka-dump-log` to read.
#[test]
#[ignore = "writes a log for other tools"]
fn write_a_log() {
    let path = foreign_dir();
    let dir = Arc::new(LogDir::open(&FileSystem::real(), &path).unwrap());
    let config = LogConfig { segment_bytes: 40_000, ..LogConfig::default() };
    let key = TopicPartition::new("t", 0);
    let log = Log::open(&dir, key, Arc::new(config), crashed(0)).unwrap();
    for number in 0..60_i32 {
        let compression = Compression::ALL[number as usize % 5];
        let base_sequence = number * 20;
        let options = BatchOptions {
            compression,
            producer_id: 9,
            producer_epoch: 0,
            base_sequence,
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
}

/// Opens a data directory that Kafka left and says what is in it.
#[test]
#[ignore = "reads a data directory of Kafka"]
fn read_a_directory() {
    let broker_id = std::env::var("OTTLA_FOREIGN_BROKER").map_or(1, |id| id.parse().unwrap());
    let config = LogManagerConfig::new(vec![foreign_dir()], BrokerId(broker_id));
    let manager = LogManager::open(config, NOW_MS).unwrap();
    println!("clean: {}, damaged: {:?}", manager.was_clean_start(), manager.damaged());
    for log in manager.logs() {
        let batches = read_all(&log, log.log_start_offset());
        let records: i64 = batches
            .iter()
            .flat_map(|batch| batch.records(RecordLimits::default()))
            .map(|r| r.map(|_| 1).unwrap())
            .sum();
        let offsets = log.offsets();
        let epochs = log.epochs.read().entries().len();
        let newest = log.offset_of_max_timestamp().unwrap();
        println!(
            "{} id {:?} batches {} records {records} epochs {epochs} producers {} newest {newest:?} {offsets:?}",
            log.topic_partition(),
            log.topic_id(),
            batches.len(),
            log.active_producers().len(),
        );
        let append_to = std::env::var("OTTLA_FOREIGN_APPEND").ok();
        if append_to.as_deref() == Some(&log.topic_partition().topic) {
            let epoch = log.latest_leader_epoch().unwrap_or(0);
            for number in 0..100 {
                append_in(&log, plain(5, NOW_MS + number), epoch).unwrap();
            }
            log.flush().unwrap();
            println!("appended 500 records to {}", log.topic_partition());
        }
    }
    if std::env::var("OTTLA_FOREIGN_CRASH").is_err() {
        manager.close(1);
    }
}
