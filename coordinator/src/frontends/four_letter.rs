//! ZooKeeper's four-letter words: a client sends a word, gets a text, and the connection ends. For
//! monitoring, and so for everyone who can connect: only those words are answered that the
//! configuration allows. The texts have ZooKeeper's form (`report`).

mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ottla_common::net::ListenerCounts;
use ottla_common::types::MemberId;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use self::report::Report;
use super::{Arrival, Connections};
use crate::config::Config;
use crate::limits::{CLOSE_DEADLINE_MS, FOUR_LETTER_ANSWER_SIZE_MAX};
use crate::requests::Service;

/// All words.
pub const WORDS: [&str; 18] = [
    "conf", "cons", "crst", "dirs", "dump", "envi", "gtmk", "hash", "isro", "mntr", "ruok", "srst",
    "srvr", "stat", "stmk", "wchc", "wchp", "wchs",
];

/// ZooKeeper's mask of what it traces: as it is if nobody has changed it.
const TRACE_MASK: u64 = 306;

/// Whether a connection begins with a word; none while too little was read to tell.
pub fn is_word(read: &[u8]) -> Option<bool> {
    let (word, is_whole) = match read.split_at_checked(4) {
        Some((word, _)) => (word, true),
        None => (read, false),
    };
    let may_be_one = WORDS.iter().any(|known| known.as_bytes().starts_with(word));
    if may_be_one && !is_whole { None } else { Some(may_be_one) }
}

/// What of the configuration the words tell.
#[derive(Clone, Debug)]
pub struct Told {
    member_id: MemberId,
    listen: String,
    tls_listen: Option<String>,
    data_dir: PathBuf,
    connections_per_ip_max: usize,
    session_timeout_min_ms: u32,
    session_timeout_max_ms: u32,
}

impl Told {
    /// Takes it out of the configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            member_id: config.member_id,
            listen: config.listen.clone(),
            tls_listen: config.tls.as_ref().map(|tls| tls.listen.clone()),
            data_dir: config.data_dir.clone(),
            connections_per_ip_max: config.connections_per_ip_max,
            session_timeout_min_ms: config.session_timeout_min_ms,
            session_timeout_max_ms: config.session_timeout_max_ms,
        }
    }
}

/// Answers the words.
#[derive(Debug)]
pub struct FourLetterWords {
    service: Arc<Service>,
    connections: Connections,
    told: Told,
    /// Those of the ports that are served.
    listeners: Mutex<Vec<ListenerCounts>>,
    trace_mask: Mutex<u64>,
    started_ms: u64,
}

impl FourLetterWords {
    /// Tells of `service` and of who is connected.
    pub fn new(service: Arc<Service>, connections: Connections, told: Told) -> Self {
        let started_ms = service.clock().monotonic_ms();
        let trace_mask = Mutex::new(TRACE_MASK);
        Self { service, connections, told, listeners: Mutex::default(), trace_mask, started_ms }
    }

    /// A port that is served, too.
    pub fn add_listener(&self, counts: ListenerCounts) {
        self.listeners.lock().push(counts);
    }

    /// Answers the word at the beginning of a connection, and ends the connection.
    pub async fn serve(&self, mut arrival: Arrival) {
        arrival.connection.word_received();
        let deadline = Duration::from_millis(CLOSE_DEADLINE_MS);
        let answering = async {
            let answer = self.answer(&mut arrival).await?;
            arrival.stream.write_all(answer.as_bytes()).await?;
            arrival.stream.shutdown().await
        };
        if let Ok(Err(error)) = tokio::time::timeout(deadline, answering).await {
            tracing::debug!(peer = %arrival.peer, %error, "four-letter word not answered");
        }
    }

    async fn answer(&self, arrival: &mut Arrival) -> std::io::Result<String> {
        let word = arrival.read.first_chunk::<4>().map(|word| String::from_utf8_lossy(word));
        let word = word.unwrap_or_default().into_owned();
        if !self.service.options().zookeeper.allows_word(&word) {
            return Ok(format!("{word} is not executed because it is not in the whitelist.\n"));
        }
        match word.as_str() {
            "dirs" | "conf" => {
                let folder = self.told.data_dir.clone();
                let size = tokio::task::spawn_blocking(move || folder_size(&folder)).await?;
                return Ok(self.report().of_folder(&word, size));
            }
            "stmk" => return self.set_trace_mask(arrival).await,
            _ => {}
        }
        let mut answer = self.report().of_word(&word);
        if answer.len() > FOUR_LETTER_ANSWER_SIZE_MAX {
            let mut ends = (0..=FOUR_LETTER_ANSWER_SIZE_MAX).rev();
            let end = ends.find(|end| answer.is_char_boundary(*end)).unwrap_or(0);
            answer.truncate(end);
            answer.push_str("\n(the rest is left out)\n");
        }
        Ok(answer)
    }

    fn report(&self) -> Report<'_> {
        let live = self.service.live();
        Report { words: self, live, status: self.service.status(&live.view()) }
    }

    /// Takes the mask that stands behind the word. Nothing depends on it here.
    async fn set_trace_mask(&self, arrival: &mut Arrival) -> std::io::Result<String> {
        while arrival.read.len() < 12 {
            if arrival.stream.read_buf(&mut arrival.read).await? == 0 {
                return Ok(String::new());
            }
        }
        let mask = arrival.read.get(4..).and_then(<[u8]>::first_chunk);
        let mask = mask.map_or(0, |bytes| u64::from_be_bytes(*bytes));
        *self.trace_mask.lock() = mask;
        Ok(mask.to_string())
    }
}

/// The bytes of the files in a folder and the folders in it.
fn folder_size(folder: &Path) -> u64 {
    let mut folders = vec![folder.to_owned()];
    let mut size = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                Ok(metadata) => size += metadata.len(),
                Err(_) => {}
            }
        }
    }
    size
}
