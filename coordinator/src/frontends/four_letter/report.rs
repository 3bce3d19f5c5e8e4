//! The texts that answer the four-letter words, in ZooKeeper's form.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use ottla_common::coordination::protocol::admin::{MemberInfo, MemberStatus, StateDigest};
use ottla_common::types::SessionId;

use super::FourLetterWords;
use crate::frontends::connections::Figures;
use crate::limits::FOUR_LETTER_ENTRIES_MAX;
use crate::watches::LiveState;

/// What clients are told that ask for ZooKeeper's version: the one whose protocol is spoken, and
/// which server speaks it.
const VERSION: &str =
    concat!("3.9.5-ottla-", env!("CARGO_PKG_VERSION"), ", built on 2026-01-01 00:00 UTC");

/// What is answered by a member that is no part of a majority.
const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests\n";

/// The names of opcodes in the list of connections.
const OPERATIONS: [(i32, &str); 26] = [
    (-11, "CLOS"),
    (-10, "SESS"),
    (1, "CREA"),
    (2, "DELE"),
    (3, "EXIS"),
    (4, "GETD"),
    (5, "SETD"),
    (6, "GETA"),
    (7, "SETA"),
    (8, "GETC"),
    (9, "SYNC"),
    (11, "PING"),
    (12, "GETC"),
    (13, "CHEC"),
    (14, "MULT"),
    (15, "CREA"),
    (16, "RECO"),
    (18, "REMW"),
    (19, "CREA"),
    (21, "CREA"),
    (22, "MULT"),
    (100, "AUTH"),
    (101, "SETW"),
    (102, "SASL"),
    (105, "SETW"),
    (106, "ADDW"),
];

/// Writes the texts.
pub struct Report<'a> {
    pub words: &'a FourLetterWords,
    pub live: &'a LiveState,
    pub status: MemberStatus,
}

impl Report<'_> {
    /// The answer to a word that needs nothing but the state in memory.
    pub fn of_word(&self, word: &str) -> String {
        let needs_majority = ["cons", "dump", "srvr", "stat", "mntr", "wchc", "wchp", "wchs"];
        if self.status.leader_id.is_none() && needs_majority.contains(&word) {
            return NOT_SERVING.to_owned();
        }
        match word {
            "ruok" => "imok".to_owned(),
            "isro" if self.status.leader_id.is_some() => "rw".to_owned(),
            "isro" => "ro".to_owned(),
            "srvr" => self.server(false),
            "stat" => self.server(true),
            "mntr" => self.monitor(),
            "cons" => self.connections(true) + "\n",
            "envi" => environment(),
            "dump" => self.dump(),
            "wchs" => self.watch_summary(),
            "wchc" => self.watches_by_session(),
            "wchp" => self.watches_by_path(),
            "hash" => self.digests(),
            "gtmk" => self.words.trace_mask.lock().to_string(),
            "crst" => {
                self.words.connections.list().iter().for_each(|figures| figures.reset());
                "Connection stats reset.\n".to_owned()
            }
            "srst" => {
                self.words.connections.reset_totals();
                "Server stats reset.\n".to_owned()
            }
            _ => String::new(),
        }
    }

    /// The answers to `conf` and `dirs`. `size`: that of the member's files, in bytes.
    pub fn of_folder(&self, word: &str, size: u64) -> String {
        if word == "dirs" {
            return format!("datadir_size: {size}\nlogdir_size: {size}\n");
        }
        let told = &self.words.told;
        let port = |listen: Option<&str>| {
            let port = listen.and_then(|listen| listen.rsplit_once(':'));
            port.map_or("-1", |(_, port)| port).to_owned()
        };
        let folder = told.data_dir.display();
        let (min_ms, max_ms) = (told.session_timeout_min_ms, told.session_timeout_max_ms);
        format!(
            "clientPort={}\nsecureClientPort={}\ndataDir={folder}\ndataDirSize={size}\n\
             dataLogDir={folder}\ndataLogSize={size}\ntickTime={}\nmaxClientCnxns={}\n\
             minSessionTimeout={min_ms}\nmaxSessionTimeout={max_ms}\n\
             clientPortListenBacklog=-1\nserverId={}\n",
            port(Some(&told.listen)),
            port(told.tls_listen.as_deref()),
            min_ms / 2,
            told.connections_per_ip_max,
            told.member_id,
        )
    }

    fn mode(&self) -> &'static str {
        let members = self.words.service.members().members;
        let own = members.get(&self.status.member_id);
        if members.len() <= 1 {
            "standalone"
        } else if own.is_some_and(|own| own.is_learner && !own.rejoining) {
            "observer"
        } else if self.status.leader_id == Some(self.status.member_id) {
            "leader"
        } else {
            "follower"
        }
    }

    fn server(&self, with_clients: bool) -> String {
        let mut text = format!("Zookeeper version: {VERSION}\n");
        if with_clients {
            text += "Clients:\n";
            text += &self.connections(false);
            text += "\n";
        }
        let totals = self.words.connections.totals();
        let _ = write!(
            text,
            "Latency min/avg/max: {}/{}/{}\nReceived: {}\nSent: {}\nConnections: {}\n\
             Outstanding: {}\nZxid: 0x{:x}\nMode: {}\nNode count: {}\n",
            totals.latency_min_ms,
            decimal(totals.latency_average_ms),
            totals.latency_max_ms,
            totals.received,
            totals.sent,
            self.words.connections.count(),
            self.words.connections.outstanding(),
            self.live.zxid().0,
            self.mode(),
            self.status.node_count,
        );
        if self.mode() == "leader" {
            text += "Proposal sizes last/min/max: -1/-1/-1\n";
        }
        text
    }

    fn monitor(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, value: &dyn std::fmt::Display| {
            let _ = writeln!(text, "zk_{name}\t{value}");
        };
        let connections = &self.words.connections;
        let (totals, status) = (connections.totals(), &self.status);
        let machine = self.live.machine();
        let refused: u64 = self.words.listeners.lock().iter().map(|one| one.get().refused).sum();
        let now_ms = self.words.service.clock().monotonic_ms();
        let (files_open, files_max) = open_files();
        put("version", &VERSION);
        put("server_state", &self.mode());
        put("ephemerals_count", &machine.tree().ephemeral_count());
        put("num_alive_connections", &connections.count());
        put("avg_latency", &decimal(totals.latency_average_ms));
        put("outstanding_requests", &connections.outstanding());
        put("znode_count", &machine.tree().node_count());
        put("global_sessions", &machine.sessions().len());
        put("local_sessions", &0);
        put("packets_sent", &totals.sent);
        put("packets_received", &totals.received);
        put("watch_count", &self.live.watch_count());
        put("min_latency", &totals.latency_min_ms);
        put("max_latency", &totals.latency_max_ms);
        put("max_file_descriptor_count", &files_max);
        put("open_file_descriptor_count", &files_open);
        put("uptime", &now_ms.saturating_sub(self.words.started_ms));
        put("connection_rejected", &refused);
        let figures = &status.figures;
        put("cnt_fsynctime", &figures.flushes);
        put("p50_fsynctime", &(figures.flush_micros_p50 / 1_000));
        put("p99_fsynctime", &(figures.flush_micros_p99 / 1_000));
        put("last_proposal_zxid", &format_args!("0x{:x}", figures.committed.0));
        if self.mode() == "leader" {
            let members = self.words.service.members().members;
            let others = members.iter().filter(|(id, _)| **id != status.member_id);
            let others: Vec<_> = others.map(|(_, one)| one).collect();
            let count =
                |is_learner: bool| others.iter().filter(|one| one.is_learner == is_learner).count();
            let synced = |is_learner: bool| {
                let is_synced = |one: &&&MemberInfo| {
                    one.is_learner == is_learner && one.acknowledged >= Some(figures.first)
                };
                others.iter().filter(is_synced).count()
            };
            put("learners", &(count(false) + count(true)));
            put("synced_followers", &synced(false));
            put("synced_observers", &synced(true));
            put("synced_non_voting_followers", &0);
            put("quorum_size", &(count(false) + 1));
        }
        text
    }

    /// A line for each connection.
    fn connections(&self, is_long: bool) -> String {
        let list = self.words.connections.list();
        list.iter().take(FOUR_LETTER_ENTRIES_MAX).map(|one| connection(one, is_long)).collect()
    }

    fn dump(&self) -> String {
        let machine = self.live.machine();
        let (sessions, tree) = (machine.sessions(), machine.tree());
        let mut text = format!("SessionTracker dump:\nGlobal Sessions({}):\n", sessions.len());
        let mut owners = String::new();
        let (mut owner_count, mut told) = (0, 0);
        for (id, session) in sessions.iter() {
            let mut paths = tree.ephemerals_of(id).peekable();
            let is_owner = paths.peek().is_some();
            owner_count += u64::from(is_owner);
            told += 1;
            if told > FOUR_LETTER_ENTRIES_MAX {
                continue;
            }
            let _ = writeln!(text, "0x{:x}\t{}ms", id.0, session.session_timeout_ms);
            if is_owner {
                let _ = writeln!(owners, "0x{:x}:", id.0);
                for path in paths.take(FOUR_LETTER_ENTRIES_MAX - told + 1) {
                    told += 1;
                    let _ = writeln!(owners, "\t{path}");
                }
            }
        }
        let _ = write!(
            text,
            "ephemeral nodes dump:\nSessions with Ephemerals ({owner_count}):\n{owners}"
        );
        let list = self.words.connections.list();
        let _ = writeln!(text, "Connections dump:\nConnections Sets (1)/({}):", list.len());
        for one in list.iter().take(FOUR_LETTER_ENTRIES_MAX) {
            let id = one.last().session_id;
            let _ = writeln!(text, "\tip: /{} sessionId: 0x{id:x}", one.peer);
        }
        text
    }

    fn watches(&self) -> Vec<(SessionId, Arc<str>)> {
        self.live.watched(FOUR_LETTER_ENTRIES_MAX)
    }

    fn watch_summary(&self) -> String {
        let counts = self.live.watch_counts();
        format!(
            "{} connections watching {} paths\nTotal watches:{}\n",
            counts.connections, counts.paths, counts.watches
        )
    }

    fn watches_by_session(&self) -> String {
        let mut sessions: BTreeMap<SessionId, BTreeSet<Arc<str>>> = BTreeMap::new();
        for (session, path) in self.watches() {
            sessions.entry(session).or_default().insert(path);
        }
        let mut text = String::new();
        for (session, paths) in sessions {
            let _ = writeln!(text, "0x{:x}", session.0);
            paths.iter().for_each(|path| text += &format!("\t{path}\n"));
        }
        text + "\n"
    }

    fn watches_by_path(&self) -> String {
        let mut by_path: BTreeMap<Arc<str>, BTreeSet<SessionId>> = BTreeMap::new();
        for (session, path) in self.watches() {
            by_path.entry(path).or_default().insert(session);
        }
        let mut text = String::new();
        for (path, sessions) in by_path {
            let _ = writeln!(text, "{path}");
            sessions.iter().for_each(|session| text += &format!("\t0x{:x}\n", session.0));
        }
        text + "\n"
    }

    /// The digests of the states that the member went through.
    fn digests(&self) -> String {
        let line = |digest: &StateDigest| {
            format!("zxid: 0x{:x} digest: {:x}\n", digest.zxid.0, digest.digest)
        };
        self.live.digests().iter().map(line).collect()
    }
}

fn connection(figures: &Figures, is_long: bool) -> String {
    let (counts, last) = (figures.counts(), figures.last());
    let has_session = last.session_id != 0;
    let mut text = format!(
        " /{}[{}](queued={},recved={},sent={}",
        figures.peer,
        u8::from(has_session),
        last.outstanding,
        counts.received,
        counts.sent
    );
    if is_long && has_session {
        let operation = OPERATIONS.iter().find(|(code, _)| *code == last.operation);
        let _ = write!(
            text,
            ",sid=0x{:x},lop={},est={},to={},lcxid=0x{:x},lzxid=0x{:x},lresp={},llat={},\
             minlat={},avglat={:.0},maxlat={}",
            last.session_id,
            operation.map_or("NA", |(_, name)| name),
            figures.since_ms,
            last.session_timeout_ms,
            last.xid,
            last.zxid,
            last.response_ms,
            last.latency_ms,
            counts.latency_min_ms,
            counts.latency_average_ms,
            counts.latency_max_ms,
        );
    }
    text + ")\n"
}

/// A number with at most four digits behind its point, and at least one.
fn decimal(number: f64) -> String {
    let text = format!("{number:.4}");
    let text = text.trim_end_matches('0');
    if text.ends_with('.') { format!("{text}0") } else { text.to_owned() }
}

fn environment() -> String {
    let system = rustix::system::uname();
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let folder = std::env::current_dir().unwrap_or_default();
    format!(
        "Environment:\nzookeeper.version={VERSION}\nhost.name={}\nottla.version={}\nos.name={}\n\
         os.arch={}\nos.version={}\nuser.name={}\nuser.home={}\nuser.dir={}\n",
        system.nodename().to_string_lossy(),
        env!("CARGO_PKG_VERSION"),
        system.sysname().to_string_lossy(),
        system.machine().to_string_lossy(),
        system.release().to_string_lossy(),
        variable("USER"),
        variable("HOME"),
        folder.display(),
    )
}

/// How many files this process has open, and how many it may have.
fn open_files() -> (usize, u64) {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    (open, limit.current.unwrap_or(u64::MAX))
}
