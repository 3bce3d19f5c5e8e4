//! What is read out of zoo.cfg, and what is refused.

use super::*;
use crate::config::Config;

/// Reads a file in a folder of its own, with a `myid` if one is given. `DIR` in the text stands for
/// the folder.
fn read_text(text: &str, id: Option<&str>, properties: &[&str]) -> Result<ZooCfg, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("zoo.cfg");
    std::fs::write(&file, text.replace("DIR", &dir.path().display().to_string())).unwrap();
    if let Some(id) = id {
        std::fs::write(dir.path().join("myid"), id).unwrap();
    }
    let properties: Vec<String> = properties.iter().map(|text| (*text).to_owned()).collect();
    read(&file, &properties)
}

fn config(text: &str) -> Config {
    Config::from_settings(&read_text(text, None, &[]).unwrap().settings).unwrap()
}

fn error(text: &str) -> String {
    match read_text(text, Some("1"), &[]) {
        Ok(cfg) => Config::from_settings(&cfg.settings).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    }
}

const ALONE: &str = "dataDir=DIR\nclientPort=2181\n";

#[test]
fn the_shortest_file_has_zookeepers_defaults_but_serves_this_machine_only() {
    let cfg = read_text(ALONE, None, &[]).unwrap();
    assert!(cfg.notes.iter().any(|note| note.contains("port 2181")), "{:?}", cfg.notes);
    let config = config(ALONE);
    assert_eq!(config.listen, "127.0.0.1:2181");
    assert!(config.data_dir.ends_with("ottla"));
    assert_eq!((config.session_timeout_min_ms, config.session_timeout_max_ms), (6_000, 60_000));
    assert_eq!(config.connections_per_ip_max, 60);
    assert!(config.zookeeper.allows_word("srvr") && !config.zookeeper.allows_word("ruok"));
    assert!(config.ensemble.members.is_empty() && config.http_listen.is_none());
    assert!(!config.zookeeper.reconfig && config.tls.is_none());
}

#[test]
fn options_that_mean_something_are_taken_over() {
    let config = config(
        "dataDir=DIR\ndataLogDir=DIR/fast\nclientPort=2181\nclientPortAddress=::\ntickTime=100\n\
         maxSessionTimeout=9000\nmaxClientCnxns=0\n4lw.commands.whitelist=*\nskipACL=yes\n\
         reconfigEnabled=true\njute.maxbuffer=0x400000\nottla.disconnect.grace.ms=7\n\
         autopurge.purgeInterval=1\nadmin.serverPort=8080\nsnapCount=5\n\
         metricsProvider.className=a.PrometheusMetricsProvider",
    );
    assert_eq!(config.http_listen.as_deref(), Some("127.0.0.1:7000"));
    assert_eq!(config.listen, "[::]:2181");
    assert!(config.data_dir.ends_with("fast/ottla"), "{:?}", config.data_dir);
    assert_eq!((config.session_timeout_min_ms, config.session_timeout_max_ms), (200, 9_000));
    assert_eq!((config.connections_per_ip_max, config.disconnect_grace_ms), (1_000_000, 7));
    let options = &config.zookeeper;
    assert!(options.skip_acl && options.reconfig && options.allows_word("mntr"));
    assert_eq!(options.message_size_max, 4 * 1024 * 1024);
}

#[test]
fn what_means_nothing_is_told_once_and_what_nobody_knows_is_refused() {
    let text = format!("{ALONE}snapCount=3\nautopurge.purgeInterval=1\nnetty.x=1\n");
    let notes = read_text(&text, None, &[]).unwrap().notes;
    let told: Vec<_> = notes.iter().filter(|note| note.contains("mean nothing")).collect();
    assert_eq!(told.len(), 1, "{notes:?}");
    assert!(told[0].contains("autopurge.purgeInterval, netty.x, snapCount"), "{told:?}");
    let error = error(&format!("{ALONE}\nclientPotr=1\n"));
    assert!(error.contains("zoo.cfg line 4") && error.contains("\"clientPort\""), "{error}");
}

#[test]
fn what_cannot_be_kept_is_refused_and_names_its_line() {
    for (line, part) in [
        ("ssl.crl=true", "revocation"),
        ("sslQuorum=true", "peer.key"),
        ("weight.1=0", "weight.1"),
        ("authProvider.1=com.example.Mine", "no Java"),
        ("maxClientCnxns=many", "number"),
        ("tickTime=0", "tickTime"),
        ("server.0=a:1:2", "1 to 255"),
        ("server.1=a:1", "host:port:port"),
        ("4lw.commands.whitelist=*\nreadonlymode.enabled=perhaps", "true or false"),
        ("secureClientPort=2182", "tls.key.store"),
    ] {
        let error = error(&format!("{ALONE}{line}\n"));
        assert!(error.contains(part), "{line}: {error}");
    }
    assert!(error("clientPort=1").contains("dataDir must be set"));
    assert!(error("dataDir=DIR").contains("clientPort must be set"));
}

#[test]
fn members_are_listed_and_myid_tells_which_one_this_is() {
    let text = "dataDir=DIR\nserver.1=127.0.0.1:2888:3888;127.0.0.1:2181\n\
        server.2=127.0.0.2:2888:3888\nserver.3=127.0.0.3:2888:3888:observer\n";
    let cfg = read_text(text, Some("1\n"), &[]).unwrap();
    let config = Config::from_settings(&cfg.settings).unwrap();
    assert_eq!((config.member_id, config.listen.as_str()), (MemberId(1), "127.0.0.1:2181"));
    let members = &config.ensemble.members;
    assert_eq!(members.len(), 3);
    assert_eq!(members[&MemberId(1)].client_address, "127.0.0.1:2181");
    assert_eq!(members[&MemberId(2)].peer_address, "127.0.0.2:2888");
    assert_eq!(members[&MemberId(2)].election_address, "127.0.0.2:3888");
    assert!(members[&MemberId(3)].is_observer);
    let far = text.replace("127.0.0.2", "192.0.2.1");
    let far = read_text(&far, Some("1"), &[]).unwrap().settings;
    assert!(Config::from_settings(&far).unwrap_err().to_string().contains("peer.key"));
    let error = |id| read_text(text, id, &[]).unwrap_err().to_string();
    assert!(error(None).contains("myid"));
    assert!(error(Some("x")).contains("myid"));
    assert!(error(Some("9")).contains("server.9"));
}

#[test]
fn members_may_stand_in_a_file_of_their_own() {
    let text = "dataDir=DIR\ndynamicConfigFile=DIR/dynamic\n";
    let dir = tempfile::tempdir().unwrap();
    let path = |text: &str| text.replace("DIR", &dir.path().display().to_string());
    std::fs::write(dir.path().join("zoo.cfg"), path(text)).unwrap();
    std::fs::write(dir.path().join("myid"), "1").unwrap();
    std::fs::write(
        dir.path().join("dynamic"),
        "server.1=127.0.0.1:1:2;2181\nserver.2=127.0.0.1:3:4\nversion=100\n",
    )
    .unwrap();
    let cfg = read(&dir.path().join("zoo.cfg"), &[]).unwrap();
    assert_eq!(
        cfg.settings.text("members", ""),
        "1=127.0.0.1:1:2:participant;0.0.0.0:2181,2=127.0.0.1:3:4:participant"
    );
}

#[test]
fn javas_properties_are_taken_and_java_s_own_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let jaas = dir.path().join("jaas.conf");
    std::fs::write(&jaas, "Server { a.DigestLoginModule required user_bob=\"hush\"; };").unwrap();
    let jaas = format!("-Djava.security.auth.login.config={}", jaas.display());
    let properties = [
        "-Dfile.encoding=UTF-8",
        "-Dreadonlymode.enabled=true",
        "-Dzookeeper.log.dir=/tmp",
        "-Dzookeeper.DigestAuthenticationProvider.superDigest=super:abc",
        &jaas,
    ];
    let cfg = read_text(ALONE, None, &properties).unwrap();
    let config = Config::from_settings(&cfg.settings).unwrap();
    assert!(config.zookeeper.read_only_mode);
    assert_eq!(config.super_digest.as_deref(), Some("super:abc"));
    assert_eq!(config.zookeeper.sasl_users.as_ref().unwrap()["bob"].expose(), "hush");
    assert!(!format!("{config:?}").contains("hush"));
    let unknown = read_text(ALONE, None, &["-Dzookeeper.foo=1"]).unwrap_err().to_string();
    assert!(unknown.contains("-Dzookeeper.foo"), "{unknown}");
    assert!(read_text(ALONE, None, &["foo=1"]).is_err());
}
