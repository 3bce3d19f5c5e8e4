//! Appending, rolling, producers, epochs, truncation, retention.

use ottla_common::kafka::compression::Compression;
use ottla_common::kafka::record_batch::TimestampType;
use ottla_common::kafka::records::EndTransactionMarker;

use super::*;
use crate::storage::error::ProducerError;
use crate::storage::log::AbortedTransaction;
use crate::storage::log_config::TargetCompression;

#[test]
fn offsets_are_given_in_order_and_survive_a_clean_stop() {
    let fixture = Fixture::new(LogConfig::default());
    let log = fixture.open();
    let info = append(&log, plain(3, NOW_MS)).unwrap();
    assert_eq!((info.first_offset, info.last_offset, info.max_timestamp), (0, 2, NOW_MS + 2));
    assert_eq!((info.log_append_time_ms, info.duplicate), (-1, false));
    let info = append_in(&log, plain(2, NOW_MS), 5).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (3, 4));
    assert_eq!(log.flushed_offset(), 0);
    assert_eq!(log.flush().unwrap(), 5);
    log.close().unwrap();
    assert!(matches!(append(&log, plain(1, 0)), Err(AppendError::Storage(_))));
    drop(log);

    let log = fixture.open_clean();
    assert_eq!(offsets_of(&log), [0, 1, 2, 3, 4]);
    let epochs: Vec<_> =
        read_all(&log, 0).iter().map(|batch| batch.header.partition_leader_epoch).collect();
    assert_eq!(epochs, [0, 5]);
    assert_eq!(log.end_offset_for_leader_epoch(0), (0, 3));
    assert_eq!(log.end_offset_for_leader_epoch(5), (5, 5));
    assert_eq!(append(&log, plain(1, NOW_MS)).unwrap().first_offset, 5);
}

#[test]
fn a_segment_is_closed_when_it_is_full_old_or_out_of_index() {
    let sizes = |config: LogConfig, timestamps: &[i64]| {
        let fixture = Fixture::new(config);
        let log = fixture.open();
        for &timestamp in timestamps {
            append(&log, plain(1, timestamp)).unwrap();
        }
        let bases = |(name, _): (String, (usize, u32))| {
            name.strip_suffix(".log").map(|base| base.parse::<i64>().unwrap())
        };
        files(log.folder()).into_iter().filter_map(bases).collect::<Vec<_>>()
    };
    let size = plain(1, 0).len() as u32;
    let full = LogConfig { segment_bytes: 2 * size, ..LogConfig::default() };
    assert_eq!(sizes(full, &[0; 5]), [0, 2, 4]);
    let old = LogConfig { segment_ms: 10, ..LogConfig::default() };
    assert_eq!(sizes(old, &[0, 10, 11, 5, 22]), [0, 2, 4]);
    let index =
        LogConfig { segment_index_bytes: 36, index_interval_bytes: 1, ..LogConfig::default() };
    assert_eq!(sizes(index, &[1, 2, 3, 4, 5]), [0, 3]);
}

#[test]
fn a_closed_segment_has_whole_indexes_and_a_snapshot_follows_it() {
    let size = plain(1, 0).len() as u32;
    let config =
        LogConfig { segment_bytes: 3 * size, index_interval_bytes: 1, ..LogConfig::default() };
    let fixture = Fixture::new(config);
    let log = fixture.open();
    for timestamp in [50, 40, 60, 70] {
        append(&log, plain(1, timestamp)).unwrap();
    }
    let index = std::fs::read(fixture.path("00000000000000000000.index")).unwrap();
    let entry =
        |relative: u32, position: u32| [relative.to_be_bytes(), position.to_be_bytes()].concat();
    assert_eq!(index, [entry(1, size), entry(2, 2 * size)].concat());
    let time = std::fs::read(fixture.path("00000000000000000000.timeindex")).unwrap();
    let entry = |timestamp: i64, relative: u32| {
        [&timestamp.to_be_bytes()[..], &relative.to_be_bytes()].concat()
    };
    assert_eq!(time, [entry(50, 0), entry(60, 2)].concat());
    assert!(fixture.path("00000000000000000003.snapshot").exists());
    assert!(!fixture.path("00000000000000000000.txnindex").exists());
}

#[test]
fn a_retry_is_answered_with_its_first_offset_also_after_a_restart_and_a_roll() {
    let fixture = Fixture::new(LogConfig { segment_bytes: 600, ..LogConfig::default() });
    let log = fixture.open();
    for sequence in [0, 2, 4] {
        append(&log, idempotent(0, sequence, 2)).unwrap();
    }
    let again = append(&log, idempotent(0, 2, 2)).unwrap();
    assert_eq!((again.first_offset, again.last_offset, again.duplicate), (2, 3, true));
    assert_eq!(log.log_end_offset(), 6);
    let error = append(&log, idempotent(0, 7, 1)).unwrap_err();
    assert!(matches!(
        error,
        AppendError::Producer(ProducerError::OutOfOrderSequence { expected: 6, .. })
    ));
    drop(log);

    let log = fixture.open();
    assert!(append(&log, idempotent(0, 2, 2)).unwrap().duplicate, "after a crash all are known");
    log.close().unwrap();
    drop(log);

    let log = fixture.open_clean();
    assert!(append(&log, idempotent(0, 4, 2)).unwrap().duplicate);
    assert!(matches!(
        append(&log, idempotent(0, 2, 2)),
        Err(AppendError::Producer(ProducerError::DuplicateSequence { .. }))
    ));
    append(&log, idempotent(1, 0, 1)).unwrap();
    assert!(matches!(
        append(&log, idempotent(0, 6, 1)),
        Err(AppendError::Producer(ProducerError::InvalidProducerEpoch { .. }))
    ));
    let producers = log.active_producers();
    assert_eq!(
        (producers.len(), producers[0].producer_epoch, producers[0].last_sequence),
        (1, 1, 0)
    );
}

#[test]
fn the_broker_sets_time_and_codec_if_the_topic_says_so() {
    let fixture = Fixture::new(LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        compression_type: TargetCompression::Fixed(Compression::Zstd),
        ..LogConfig::default()
    });
    let log = fixture.open();
    let info = append(&log, plain(2, 5)).unwrap();
    assert_eq!((info.log_append_time_ms, info.max_timestamp), (NOW_MS, NOW_MS));
    let batch = read_all(&log, 0).remove(0);
    assert_eq!(batch.header.compression().unwrap(), Compression::Zstd);
    let times = batch.records(RecordLimits::default()).map(|record| record.unwrap().timestamp);
    assert_eq!(times.collect::<Vec<_>>(), [NOW_MS; 2]);
}

#[test]
fn what_is_too_large_is_refused_before_anything_is_written() {
    let fixture = Fixture::new(LogConfig { max_message_bytes: 300, ..LogConfig::default() });
    let log = fixture.open();
    assert!(matches!(append(&log, plain(3, 0)), Err(AppendError::MessageTooLarge { .. })));
    log.set_config(Arc::new(LogConfig { segment_bytes: 300, ..LogConfig::default() }));
    assert!(matches!(append(&log, plain(3, 0)), Err(AppendError::RecordListTooLarge { .. })));
    assert_eq!((log.log_end_offset(), log.size_bytes()), (0, 0));
}

#[test]
fn a_follower_takes_its_leaders_bytes_gaps_and_epochs_as_they_are() {
    let leader = Fixture::new(LogConfig::default());
    let follower = Fixture::new(LogConfig { segment_bytes: 700, ..LogConfig::default() });
    let (from, to) = (leader.open(), follower.open());
    append_in(&from, plain(3, NOW_MS), 1).unwrap();
    append_in(&from, idempotent(0, 0, 2), 2).unwrap();
    append_in(&from, plain(1, NOW_MS), 2).unwrap();
    let all = read_all(&from, 0);
    let bytes: Vec<u8> = all.iter().flat_map(|batch| batch.bytes.to_vec()).collect();
    let cut_off = Bytes::from([&bytes[..], &bytes[..70]].concat());
    let info = to.append_as_follower(cut_off, NOW_MS).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (0, 5));
    assert_eq!(read_all(&to, 0), all);
    assert_eq!(to.end_offset_for_leader_epoch(1), (1, 3));
    assert_eq!(to.active_producers(), from.active_producers());

    let again = to.append_as_follower(Bytes::from(bytes), NOW_MS);
    assert!(matches!(again, Err(AppendError::OffsetsOutOfOrder { first_offset: 0, .. })));
    let mut later = plain(1, NOW_MS).to_vec();
    ottla_common::kafka::record_batch::set_base_offset(&mut later, 100).unwrap();
    to.append_as_follower(Bytes::from(later.clone()), NOW_MS).unwrap();
    assert_eq!(offsets_of(&to), [0, 1, 2, 3, 4, 5, 100], "compaction leaves gaps");
    ottla_common::kafka::record_batch::set_base_offset(&mut later, 200).unwrap();
    *later.last_mut().unwrap() ^= 1;
    let corrupt = to.append_as_follower(Bytes::from(later), NOW_MS);
    assert!(matches!(corrupt, Err(AppendError::CorruptMessage(_))));
}

#[test]
fn a_follower_may_start_in_the_midst_of_a_batch() {
    let (leader, follower) =
        (Fixture::new(LogConfig::default()), Fixture::new(LogConfig::default()));
    let (from, to) = (leader.open(), follower.open());
    append(&from, plain(5, NOW_MS)).unwrap();
    append(&from, plain(5, NOW_MS)).unwrap();
    to.truncate_fully_and_start_at(7).unwrap();
    let bytes = read_all(&from, 7).remove(0).bytes;
    let info = to.append_as_follower(bytes, NOW_MS).unwrap();
    assert_eq!((info.first_offset, info.last_offset, info.log_start_offset), (5, 9, 7));
    assert_eq!((to.log_start_offset(), to.log_end_offset()), (7, 10));
    assert_eq!(read_all(&to, 7).len(), 1);
}

#[test]
fn a_transaction_holds_back_the_last_stable_offset_and_its_abort_is_remembered() {
    let fixture = Fixture::new(LogConfig::default());
    let log = fixture.open();
    append(&log, plain(2, NOW_MS)).unwrap();
    let options = BatchOptions {
        producer_id: 4,
        producer_epoch: 0,
        base_sequence: 0,
        transactional: true,
        ..BatchOptions::default()
    };
    append(&log, records(options, 3, NOW_MS, 10)).unwrap();
    append(&log, plain(1, NOW_MS)).unwrap();
    log.set_high_watermark(6);
    assert_eq!(log.last_stable_offset(), 2);
    let marker = EndTransactionMarker { commit: false, coordinator_epoch: 3 };
    let append_marker =
        LeaderAppend { leader_epoch: 0, origin: AppendOrigin::Coordinator, now_ms: NOW_MS };
    log.append_as_leader(marker.batch(options, NOW_MS).unwrap(), append_marker).unwrap();
    assert_eq!(log.last_stable_offset(), 2, "the marker is not committed");
    log.set_high_watermark(7);
    assert_eq!(log.last_stable_offset(), 7);
    let expected = [AbortedTransaction { producer_id: 4, first_offset: 2 }];
    assert_eq!(log.aborted_transactions(0, 7).unwrap(), expected);
    assert_eq!(log.aborted_transactions(6, 7).unwrap(), expected, "its marker is there");
    assert_eq!(log.aborted_transactions(0, 2).unwrap(), []);
    drop(log);

    let log = fixture.open();
    assert_eq!(log.aborted_transactions(0, 7).unwrap(), expected, "rebuilt by recovery");
    assert_eq!(log.active_producers()[0].coordinator_epoch, 3);
    log.set_high_watermark(7);
    log.truncate_to(6).unwrap();
    assert_eq!(log.aborted_transactions(0, 7).unwrap(), []);
    assert_eq!(log.last_stable_offset(), 2, "the transaction is open again");
}

#[test]
fn truncation_takes_records_epochs_and_producers_back() {
    let fixture = Fixture::new(LogConfig { segment_bytes: 700, ..LogConfig::default() });
    let log = fixture.open();
    append_in(&log, idempotent(0, 0, 2), 1).unwrap();
    append_in(&log, idempotent(0, 2, 2), 1).unwrap();
    append_in(&log, idempotent(0, 4, 2), 2).unwrap();
    append_in(&log, idempotent(0, 6, 2), 3).unwrap();
    log.flush().unwrap();
    log.truncate_to(5).unwrap();
    assert_eq!(log.log_end_offset(), 4, "batch 4..5 went as a whole");
    assert_eq!(offsets_of(&log), [0, 1, 2, 3]);
    assert_eq!(log.flushed_offset(), 4);
    assert_eq!(log.latest_leader_epoch(), Some(1));
    assert_eq!(log.active_producers()[0].last_sequence, 3);
    log.truncate_to(2).unwrap();
    assert_eq!(log.latest_leader_epoch(), Some(1));
    assert_eq!(append_in(&log, idempotent(0, 2, 2), 4).unwrap().first_offset, 2);
    drop(log);
    let log = fixture.open();
    assert_eq!(offsets_of(&log), [0, 1, 2, 3]);
    assert_eq!(log.end_offset_for_leader_epoch(3), (1, 2));
    log.truncate_fully_and_start_at(1000).unwrap();
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (1000, 1000));
    assert_eq!(log.latest_leader_epoch(), None);
    assert_eq!(append(&log, idempotent(0, 77, 1)).unwrap().first_offset, 1000);
    log.remove_deleted_files(NOW_MS);
    assert!(!files(log.folder()).iter().any(|(name, _)| name.ends_with(".deleted")));
}

#[test]
fn retention_deletes_whole_segments_below_the_high_watermark() {
    let size = plain(1, 0).len();
    let config = LogConfig {
        segment_bytes: size as u32,
        retention_ms: 100,
        retention_bytes: -1,
        file_delete_delay_ms: 10,
        ..LogConfig::default()
    };
    let fixture = Fixture::new(config.clone());
    let log = fixture.open();
    for timestamp in [NOW_MS, NOW_MS + 50, NOW_MS + 60, NOW_MS + 500] {
        append(&log, plain(1, timestamp)).unwrap();
    }
    assert_eq!(log.delete_old_segments(NOW_MS + 155).unwrap(), 0, "nothing is committed");
    log.set_high_watermark(1);
    assert_eq!(log.delete_old_segments(NOW_MS + 155).unwrap(), 1);
    log.set_high_watermark(4);
    assert_eq!(log.delete_old_segments(NOW_MS + 155).unwrap(), 1);
    assert_eq!(offsets_of(&log), [2, 3]);
    assert!(fixture.path("00000000000000000000.log.deleted").exists());
    log.remove_deleted_files(NOW_MS + 164);
    assert!(fixture.path("00000000000000000000.log.deleted").exists());
    log.remove_deleted_files(NOW_MS + 165);
    assert!(!fixture.path("00000000000000000000.log.deleted").exists());

    log.set_config(Arc::new(LogConfig {
        retention_ms: -1,
        retention_bytes: size as i64,
        ..config.clone()
    }));
    assert_eq!(log.delete_old_segments(NOW_MS).unwrap(), 1);
    assert_eq!(offsets_of(&log), [3]);
    log.set_config(Arc::new(LogConfig { retention_ms: 100, ..config }));
    assert_eq!(log.delete_old_segments(NOW_MS + 700).unwrap(), 1, "the active one is old too");
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (4, 4));
    assert_eq!(append(&log, plain(1, NOW_MS)).unwrap().first_offset, 4);
}

#[test]
fn the_start_never_moves_past_what_is_on_disk() {
    let fixture = Fixture::new(LogConfig::default());
    let log = fixture.open();
    append_in(&log, plain(5, NOW_MS), 3).unwrap();
    // Committed with page-cache durability, and nobody has asked for the disk.
    log.set_high_watermark(5);
    assert_eq!(log.flushed_offset(), 0);
    assert_eq!(log.advance_log_start_offset(4).unwrap(), Some(4));
    assert!(log.flushed_offset() >= 4);
}

#[test]
fn deleted_records_stay_deleted() {
    let fixture = Fixture::new(LogConfig::default());
    let log = fixture.open();
    append_in(&log, plain(5, NOW_MS), 3).unwrap();
    log.set_high_watermark(4);
    assert_eq!(log.advance_log_start_offset(5).unwrap(), None);
    assert_eq!(log.advance_log_start_offset(3).unwrap(), Some(3));
    assert_eq!(log.advance_log_start_offset(1).unwrap(), Some(3));
    assert_eq!(log.end_offset_for_leader_epoch(2), (2, 3));
    assert_eq!(read_all(&log, 3).len(), 1, "the batch is returned whole");
    drop(log);
    let text =
        std::fs::read_to_string(fixture.folder.path().join("log-start-offset-checkpoint")).unwrap();
    assert_eq!(text, "0\n1\nt 0 3\n");
}
