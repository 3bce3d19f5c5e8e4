//! Everybody at once: an appender, readers, a flusher, retention.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Reads from the start until all is appended and read; returns where that is.
fn read_along(log: &Log, appended: &AtomicBool) -> i64 {
    let mut offset = 0;
    loop {
        let is_last_look = appended.load(Ordering::Acquire);
        let upper_bound = log.log_end_offset();
        let request = LogReadRequest { offset, max_bytes: 3000, min_one_batch: true, upper_bound };
        let read = log.read(request).unwrap();
        match read.region {
            Some(region) => {
                for batch in batches(read_region(&region).unwrap()) {
                    let batch = batch.unwrap();
                    batch.validate().unwrap();
                    assert_eq!(batch.header.base_offset, offset);
                    offset = batch.header.next_offset();
                }
                assert_eq!(offset, read.next_offset);
            }
            None if is_last_look => return offset,
            None => std::thread::yield_now(),
        }
    }
}

#[test]
fn readers_see_each_record_once_while_everything_else_goes_on() {
    let config = LogConfig {
        segment_bytes: 5000,
        index_interval_bytes: 500,
        retention_bytes: 200_000,
        retention_ms: -1,
        ..LogConfig::default()
    };
    let fixture = Fixture::new(config);
    let log = fixture.open();
    let (appended, count) = (AtomicBool::new(false), 3000_i64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for number in 0..count {
                append(&log, plain(1 + number % 3, NOW_MS)).unwrap();
            }
            appended.store(true, Ordering::Release);
        });
        scope.spawn(|| {
            while !appended.load(Ordering::Acquire) {
                let flushed = log.flush().unwrap();
                assert!(log.set_high_watermark(flushed) >= flushed);
                log.prepare_checkpoint().unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| assert_eq!(read_along(&log, &appended), 2 * count));
        }
    });
    log.flush().unwrap();
    log.set_high_watermark(log.log_end_offset());
    assert!(log.delete_old_segments(NOW_MS).unwrap() > 10);
    assert!(log.size_bytes() < 210_000);
    drop(log);
    assert_eq!(offsets_of(&fixture.open()).last(), Some(&(2 * count - 1)));
}

#[test]
fn a_log_is_closed_while_a_flush_is_told_to_somebody_who_appends() {
    let fixture = Fixture::new(LogConfig::default());
    let log = Arc::new(fixture.open());
    let (told, is_told) = std::sync::mpsc::channel();
    let told = Mutex::new(told);
    let listener = Arc::downgrade(&log);
    log.on_flush(Arc::new(move |_| {
        let _ = told.lock().send(());
        std::thread::sleep(std::time::Duration::from_millis(100));
        // Takes the appenders' lock.
        let _ = listener.upgrade().map(|log| log.active_producers());
    }));
    append(&log, plain(1, NOW_MS)).unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    for work in [|log: &Log| drop(log.flush()), |log: &Log| log.set_closed()] {
        let (log, done) = (log.clone(), done.clone());
        std::thread::spawn(move || {
            work(&log);
            let _ = done.send(());
        });
        let _ = is_told.recv_timeout(std::time::Duration::from_millis(50));
    }
    for _ in 0..2 {
        is_done.recv_timeout(std::time::Duration::from_secs(10)).expect("they wait for each other");
    }
}
