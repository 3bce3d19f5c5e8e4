//! Power cuts: what was not brought to disk is gone, wholly or in part; what was flushed is there.

use std::collections::HashMap;

use super::*;

/// Remembers what is surely on disk: how long each file was when it was last synced, and the names
/// in each folder when that was.
#[derive(Debug, Default)]
struct Disk {
    synced: Mutex<HashMap<PathBuf, u64>>,
}

impl FaultHook for Disk {
    fn before(&self, operation: Operation, path: &Path, _length: usize) -> Verdict {
        if operation == Operation::Rename {
            // The file goes by another name now; the hook of the new name is not told.
            self.synced.lock().remove(path);
        }
        Verdict::Proceed
    }

    fn synced(&self, path: &Path, length: u64) {
        self.synced.lock().insert(path.to_owned(), length);
    }
}

impl Disk {
    /// Cuts the power: each file keeps what was synced and any part of what came after it, of which
    /// some may be zeros. Small files are written aside and renamed, so they are whole.
    fn cut_power(&self, folder: &Path, random: &mut fastrand::Rng) {
        let synced = self.synced.lock();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.to_string_lossy().into_owned();
            let is_log_file = [".log", "index", ".snapshot"].iter().any(|end| name.ends_with(end));
            if !is_log_file {
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            let safe = synced.get(&path).map_or(0, |&length| length as usize).min(bytes.len());
            let kept = random.usize(safe..=bytes.len());
            bytes.truncate(kept);
            if random.bool() && safe < kept {
                let zeroed = random.usize(safe..kept);
                bytes[zeroed..].fill(0);
            }
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

fn run(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let disk = Arc::new(Disk::default());
    let config =
        LogConfig { segment_bytes: 3000, index_interval_bytes: 300, ..LogConfig::default() };
    let file_system = FileSystem::with_hook(disk.clone());
    let fixture = Fixture { file_system, ..Fixture::new(config) };
    let (mut recovery_point, mut expected) = (0, Vec::new());
    for _ in 0..6 {
        let log = fixture.try_open(crashed(recovery_point)).unwrap();
        let found: Vec<_> = read_all(&log, 0).into_iter().map(|batch| batch.bytes).collect();
        assert!(found.len() >= expected.len(), "flushed batches are gone");
        assert_eq!(found[..expected.len()], expected[..]);
        let last = log.active_producers().first().map_or(-1, |p| i64::from(p.last_sequence));
        assert_eq!(last + 1, log.log_end_offset());
        for _ in 0..random.u32(1..30) {
            let (count, next) = (random.i64(1..5), log.log_end_offset());
            append_in(&log, idempotent(0, next as i32, count), 3).unwrap();
            match random.u32(0..10) {
                0..4 => drop(log.flush().unwrap()),
                4 => recovery_point = log.prepare_checkpoint().unwrap().recovery_point,
                _ => {}
            }
        }
        let flushed = log.flushed_offset();
        let batches = read_all(&log, 0).into_iter();
        expected = batches.filter(|b| b.header.next_offset() <= flushed).map(|b| b.bytes).collect();
        drop(log);
        disk.cut_power(&fixture.path(""), &mut random);
    }
}

#[test]
fn what_was_flushed_survives_power_cuts() {
    let first = model::seed();
    let rounds = if std::env::var("OTTLA_SEED").is_ok() { 1 } else { 60 };
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        println!("OTTLA_SEED={seed}");
        run(seed);
    }
}
