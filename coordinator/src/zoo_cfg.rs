//! Reads ZooKeeper's configuration: a `zoo.cfg` and the Java system properties that its command
//! line has, as options of ours ([`crate::config`]).
//!
//! What means something here is taken over. What is ZooKeeper's and means nothing here is taken
//! with one warning. A name that is nobody's is an error, which tells the file and the line. Our
//! own options may stand there too, as `ottla.NAME`.
//!
//! Three things differ from ZooKeeper on purpose. Where no address is given, clients are served on
//! this machine alone, and not on every address. Both snapshots and log go to the folder `ottla` in
//! `dataLogDir`, or in `dataDir` if there is no such, so that data of a ZooKeeper stay as they are.
//! `minSessionTimeout` and `maxSessionTimeout` follow `tickTime` (2 and 20 of it), but a session's
//! end is not rounded to it.

mod keys;
mod server_line;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ottla_common::config::{ConfigError, Setting, Settings, Source};
use ottla_common::types::MemberId;

use self::keys::Meaning;
pub use self::server_line::ServerLine;

/// Connections from one address, as ZooKeeper limits them.
const CONNECTIONS_PER_IP_MAX: u32 = 60;

/// ZooKeeper's `tickTime`, in milliseconds.
const TICK_MS: u32 = 3_000;

/// The most of something that ZooKeeper calls unlimited.
const UNLIMITED: &str = "1000000";

/// What a `zoo.cfg` says.
#[derive(Debug)]
pub struct ZooCfg {
    /// The options of ours that it stands for.
    pub settings: Settings,
    /// What the operator should know.
    pub notes: Vec<String>,
}

/// Reads a file and the properties behind it on the command line (`-Dname=value`).
pub fn read(file: &Path, properties: &[String]) -> Result<ZooCfg, ConfigError> {
    let mut given = Settings::new();
    given.add_file(file)?;
    for property in properties {
        add_property(&mut given, property)?;
    }
    if let Some(dynamic) = given.get("dynamicConfigFile").cloned() {
        add_dynamic(&mut given, Path::new(&dynamic.value))?;
    }
    Translation::new(given)?.finish()
}

/// Takes a system property. Those that are only Java's are left out.
fn add_property(given: &mut Settings, property: &str) -> Result<(), ConfigError> {
    let malformed = |reason: &str| ConfigError::Malformed {
        place: property.split('=').next().unwrap_or_default().to_owned(),
        reason: reason.to_owned(),
    };
    let text = property.strip_prefix("-D").ok_or_else(|| malformed("expected -Dname=value"))?;
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let key = match name.strip_prefix("zookeeper.") {
        Some(key) => key,
        None if is_property_without_prefix(name) => name,
        None => return Ok(()),
    };
    given.set(key.to_owned(), value.trim().to_owned(), Source::Flag, format!("-D{name}"));
    Ok(())
}

/// Whether a property counts although its name does not begin with ZooKeeper's.
fn is_property_without_prefix(name: &str) -> bool {
    let names = ["jute.maxbuffer", "readonlymode.enabled", "java.security.auth.login.config"];
    names.contains(&name) || name.starts_with("ottla.")
}

/// Takes the members out of the file that reconfiguration keeps.
fn add_dynamic(given: &mut Settings, file: &Path) -> Result<(), ConfigError> {
    let mut dynamic = Settings::new();
    dynamic.add_file(file)?;
    for (key, Setting { value, place, .. }) in dynamic.iter() {
        given.set(key.to_owned(), value.clone(), Source::File, place.clone());
    }
    Ok(())
}

/// The way from ZooKeeper's options to ours.
struct Translation {
    given: Settings,
    ours: Settings,
    notes: Vec<String>,
}

impl Translation {
    /// Looks at the names.
    fn new(given: Settings) -> Result<Self, ConfigError> {
        let is_known = |key: &str| keys::meaning(key) != Meaning::Unknown;
        given.check_keys(is_known, keys::USED)?;
        let ignored = given.iter().filter(|(key, _)| keys::meaning(key) == Meaning::Ignored);
        let ignored: Vec<&str> = ignored.map(|(key, _)| key).collect();
        let notes = if ignored.is_empty() {
            Vec::new()
        } else {
            vec![format!("these mean nothing to this server: {}", ignored.join(", "))]
        };
        Ok(Self { given, ours: Settings::new(), notes })
    }

    fn finish(mut self) -> Result<ZooCfg, ConfigError> {
        self.check_what_cannot_be()?;
        let data_dir = self.data_dirs()?;
        let lines = self.server_lines()?;
        let member_id = self.member_id(&data_dir, &lines)?;
        let own = lines.get(&member_id).and_then(|line| line.client.clone());
        self.client_ports(own.clone())?;
        self.limits()?;
        for (key, ours) in [
            ("4lw.commands.whitelist", "zookeeper.four.letter.words"),
            ("readonlymode.enabled", "zookeeper.read.only"),
            ("reconfigEnabled", "zookeeper.reconfig"),
            ("enforceQuota", "zookeeper.enforce.quota"),
            ("DigestAuthenticationProvider.superDigest", "super.digest"),
            ("X509AuthenticationProvider.superUser", "zookeeper.x509.super.user"),
            ("superUser", "zookeeper.super.user"),
            ("sessionRequireClientSASLAuth", "zookeeper.require.sasl"),
            ("java.security.auth.login.config", "zookeeper.jaas.file"),
        ] {
            self.take(key, ours, str::to_owned);
        }
        self.take("skipACL", "zookeeper.skip.acl", |text| (text == "yes").to_string());
        for (key, setting) in self.given.iter() {
            if let Some(key) = key.strip_prefix("ottla.") {
                let Setting { value, source, place } = setting.clone();
                self.ours.set(key.to_owned(), value, source, place);
            }
        }
        self.members(lines);
        self.monitoring()?;
        Ok(ZooCfg { settings: self.ours, notes: self.notes })
    }

    /// Options whose meaning cannot be kept, and which must not be passed over.
    fn check_what_cannot_be(&self) -> Result<(), ConfigError> {
        let only = |key: &str, allowed: &[&str], reason: &str| {
            self.given.read(key, (), |text| {
                let is_allowed = allowed.iter().any(|value| value.eq_ignore_ascii_case(text));
                if is_allowed { Ok(()) } else { Err(reason.to_owned()) }
            })
        };
        only("ssl.crl", &["false"], "expected false: revocation lists are not read")?;
        only("ssl.ocsp", &["false"], "expected false: OCSP is not asked")?;
        only("ssl.authProvider", &["x509"], "expected x509")?;
        only("DigestAuthenticationProvider.digestAlg", &["SHA1"], "expected SHA1")?;
        let peers = "expected false: members prove themselves by ottla.peer.key";
        only("sslQuorum", &["false"], peers)?;
        only("quorum.auth.enableSasl", &["false"], peers)?;
        for (key, _) in self.given.iter() {
            if key.starts_with("weight.") {
                only(key, &["1"], "expected 1: every vote counts the same")?;
            }
            let is_provider = key.strip_prefix("authProvider.").is_some_and(|n| !n.contains('.'));
            if is_provider {
                self.given.read(key, (), known_provider)?;
            }
        }
        for key in ["tickTime", "initLimit", "syncLimit"] {
            self.given.number::<u32>(key, 1, 1..=1_000_000)?;
        }
        Ok(())
    }

    fn take(&mut self, key: &str, ours: &str, value: impl FnOnce(&str) -> String) {
        if let Some(setting) = self.given.get(key) {
            let (source, place) = (setting.source, setting.place.clone());
            self.ours.set(ours.to_owned(), value(&setting.value), source, place);
        }
    }

    fn set(&mut self, ours: &str, value: String) {
        self.ours.set(ours.to_owned(), value, Source::File, "zoo.cfg".to_owned());
    }

    /// Chooses the folder of our files, and returns `dataDir`.
    fn data_dirs(&mut self) -> Result<PathBuf, ConfigError> {
        let data_dir = PathBuf::from(self.given.required("dataDir")?);
        let folder = self.given.get("dataLogDir").map(|setting| PathBuf::from(&setting.value));
        let folder = folder.unwrap_or_else(|| data_dir.clone()).join("ottla");
        self.set("data.dir", folder.display().to_string());
        Ok(data_dir)
    }

    fn server_lines(&self) -> Result<BTreeMap<MemberId, ServerLine>, ConfigError> {
        let mut lines = BTreeMap::new();
        for (key, setting) in self.given.iter() {
            let Some(number) = key.strip_prefix("server.") else { continue };
            let id = number.parse().ok().filter(|id| (1..=255).contains(id));
            let id = id.ok_or_else(|| ConfigError::Malformed {
                place: setting.place.clone(),
                reason: format!("{key}: expected a number from 1 to 255 behind the dot"),
            })?;
            let line = self.given.read(key, None, |text| ServerLine::parse(text).map(Some))?;
            lines.extend(line.map(|line| (MemberId(id), line)));
        }
        Ok(lines)
    }

    /// Who this is: by `myid`, which a member that stands alone need not have.
    fn member_id(
        &mut self,
        data_dir: &Path,
        lines: &BTreeMap<MemberId, ServerLine>,
    ) -> Result<MemberId, ConfigError> {
        let path = data_dir.join("myid");
        let place = path.display().to_string();
        let id = match std::fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map(MemberId).map_err(|_| ConfigError::Malformed {
                place: place.clone(),
                reason: format!("expected this member's number, not {:?}", text.trim()),
            })?,
            Err(_) if lines.len() <= 1 => lines.keys().next().copied().unwrap_or(MemberId(1)),
            Err(error) => return Err(ConfigError::Unreadable { path: place, error }),
        };
        if !lines.is_empty() && !lines.contains_key(&id) {
            let reason = format!("there is no server.{id} in the configuration");
            return Err(ConfigError::Malformed { place, reason });
        }
        self.set("id", id.to_string());
        Ok(id)
    }

    /// Where clients are served. `own` is what this member's own line says.
    fn client_ports(&mut self, own: Option<(Option<String>, u16)>) -> Result<(), ConfigError> {
        let (own_host, own_port) = own.map_or((None, None), |(host, port)| (host, Some(port)));
        let plain = self.given.number("clientPort", own_port.unwrap_or(0), 0..=65_535)?;
        if let Some(setting) = self.given.get("clientPort")
            && own_port.is_some_and(|port| port != plain)
        {
            return Err(ConfigError::Malformed {
                place: setting.place.clone(),
                reason: "clientPort differs from the client port in this member's own line".into(),
            });
        }
        let secure = self.given.number::<u16>("secureClientPort", 0, 0..=65_535)?;
        if plain == 0 && secure == 0 {
            return Err(ConfigError::Missing { key: "clientPort".to_owned() });
        }
        let mut ports: Vec<String> = Vec::new();
        for (port, address, ours, host) in [
            (plain, "clientPortAddress", "listen", own_host),
            (secure, "secureClientPortAddress", "tls.listen", None),
        ] {
            let given = self.given.get(address).map(|setting| setting.value.clone());
            let host = given.filter(|host| !host.is_empty()).or(host);
            if port == 0 {
                continue;
            }
            if host.is_none() {
                ports.push(format!("port {port}"));
            }
            let host = bracketed(host.as_deref().unwrap_or("127.0.0.1"));
            self.set(ours, format!("{host}:{port}"));
        }
        if plain == 0 {
            self.set("listen", String::new());
        }
        if !ports.is_empty() {
            let ports = ports.join(" and ");
            self.notes.push(format!(
                "only clients of this machine are served on {ports}: no address is given, and \
                 0.0.0.0 would be all"
            ));
        }
        if secure != 0 { self.tls() } else { Ok(()) }
    }

    fn tls(&mut self) -> Result<(), ConfigError> {
        self.take("ssl.clientAuth", "tls.client.auth", str::to_owned);
        for (store, ours) in
            [("ssl.keyStore", "tls.key.store"), ("ssl.trustStore", "tls.trust.store")]
        {
            self.take(&format!("{store}.location"), ours, str::to_owned);
            self.take(&format!("{store}.type"), &format!("{ours}.type"), str::to_owned);
            let key = format!("{ours}.password");
            self.take(&format!("{store}.password"), &key, str::to_owned);
            if let Some(setting) = self.given.get(&format!("{store}.passwordPath")) {
                let path = setting.value.clone();
                let password = std::fs::read_to_string(&path)
                    .map_err(|error| ConfigError::Unreadable { path, error })?;
                self.set(&key, password.trim_end_matches(['\r', '\n']).to_owned());
            }
        }
        Ok(())
    }

    fn limits(&mut self) -> Result<(), ConfigError> {
        let tick_ms = self.given.number("tickTime", TICK_MS, 1..=1_000_000)?;
        for (key, ticks, ours) in [
            ("minSessionTimeout", 2, "session.timeout.min.ms"),
            ("maxSessionTimeout", 20, "session.timeout.max.ms"),
        ] {
            let timeout_ms = self.given.number::<i64>(key, -1, -1..=86_400_000)?;
            let by_ticks = i64::from(tick_ms) * ticks;
            let timeout_ms = if timeout_ms < 0 { by_ticks } else { timeout_ms };
            self.set(ours, timeout_ms.to_string());
        }
        self.set("connections.per.ip.max", CONNECTIONS_PER_IP_MAX.to_string());
        let connections = |text: &str| if text == "0" { UNLIMITED } else { text }.to_owned();
        self.take("maxClientCnxns", "connections.per.ip.max", connections);
        self.take("maxCnxns", "connections.max", connections);
        let size_max = self.given.read("jute.maxbuffer", None, |text| {
            let digits = text.strip_prefix("0x").map(|digits| u32::from_str_radix(digits, 16));
            digits.unwrap_or_else(|| text.parse()).map(Some).map_err(|_| "expected a number".into())
        })?;
        if let Some(size_max) = size_max {
            self.take("jute.maxbuffer", "zookeeper.message.size.max", |_| size_max.to_string());
        }
        if self.given.get("forceSync").is_some_and(|setting| setting.value == "no") {
            self.notes.push("forceSync=no has no effect: every write is synced to disk".to_owned());
        }
        Ok(())
    }

    fn members(&mut self, lines: BTreeMap<MemberId, ServerLine>) {
        if self.given.iter().any(|(key, _)| key.starts_with("group.")) {
            self.notes.push("groups have no effect: a majority of all voters decides".to_owned());
        }
        let members: Vec<String> = lines.iter().map(|(id, line)| format!("{id}={line}")).collect();
        // One server alone is no ensemble, in ZooKeeper as here.
        if members.len() > 1 {
            self.set("members", members.join(","));
        }
    }

    /// Where monitoring asks, if ZooKeeper's provider for Prometheus is wanted.
    fn monitoring(&mut self) -> Result<(), ConfigError> {
        let class = self.given.text("metricsProvider.className", "");
        if class.ends_with(".PrometheusMetricsProvider") {
            let host = self.given.text("metricsProvider.httpHost", "127.0.0.1");
            let port = self.given.number("metricsProvider.httpPort", 7_000_u16, 1..=65_535)?;
            self.set("http.listen", format!("{}:{port}", bracketed(&host)));
        }
        Ok(())
    }
}

/// Accepts ZooKeeper's own providers of authentication, whose schemes are offered anyway.
fn known_provider(class: &str) -> Result<(), String> {
    let known = ["SASL", "X509", "Digest", "IP", "Ensemble"];
    let name = class.strip_prefix("org.apache.zookeeper.server.auth.").unwrap_or_default();
    let name = name.strip_suffix("AuthenticationProvider").unwrap_or_default();
    if known.contains(&name) {
        return Ok(());
    }
    Err("expected one of ZooKeeper's own providers: this server runs no Java".to_owned())
}

/// An IPv6 address in brackets, as it stands before a port.
fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests;
