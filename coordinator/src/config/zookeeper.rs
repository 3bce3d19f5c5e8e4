//! The options that only clients of ZooKeeper's protocol notice, and those of the port that they
//! reach through TLS.
//!
//! | name | default | meaning |
//! |---|---|---|
//! | `zookeeper.four.letter.words` | `srvr` | the four-letter words that are answered; `*` is all |
//! | `zookeeper.message.size.max` | 1048575 | the longest message of a client, in bytes |
//! | `zookeeper.read.only` | false | whether a member without a leader serves reads |
//! | `zookeeper.reconfig` | false | whether clients may change the ensemble's members |
//! | `zookeeper.skip.acl` | false | whether everyone may do everything |
//! | `zookeeper.enforce.quota` | false | whether a quota forbids what is over it |
//! | `zookeeper.jaas.file` | | a JAAS file: the users for SASL's DIGEST-MD5 |
//! | `zookeeper.require.sasl` | false | whether a client must authenticate by SASL |
//! | `zookeeper.super.user` | | the SASL user who may do everything |
//! | `zookeeper.x509.super.user` | | the subject of the certificate whose owner may do everything |
//! | `tls.listen` | | where clients connect through TLS |
//! | `tls.key.store`, `.password`, `.type` | | the member's key and certificates |
//! | `tls.trust.store`, `.password`, `.type` | | whom clients' certificates may come from |
//! | `tls.client.auth` | `need` | whether clients must show a certificate: `need`, `want`, `none` |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use ottla_common::config::{ConfigError, Secret, Settings};

use super::jaas;
use crate::limits::ZOOKEEPER_MESSAGE_SIZE_MAX;

/// The names of these options.
pub const KEYS: [&str; 18] = [
    "zookeeper.four.letter.words",
    "zookeeper.message.size.max",
    "zookeeper.read.only",
    "zookeeper.reconfig",
    "zookeeper.skip.acl",
    "zookeeper.enforce.quota",
    "zookeeper.jaas.file",
    "zookeeper.require.sasl",
    "zookeeper.super.user",
    "zookeeper.x509.super.user",
    "tls.listen",
    "tls.key.store",
    "tls.key.store.password",
    "tls.key.store.type",
    "tls.trust.store",
    "tls.trust.store.password",
    "tls.trust.store.type",
    "tls.client.auth",
];

/// What only clients of ZooKeeper's protocol notice. See the module's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooKeeperOptions {
    /// `zookeeper.four.letter.words`
    pub four_letter_words: BTreeSet<String>,
    /// `zookeeper.message.size.max`
    pub message_size_max: usize,
    /// `zookeeper.read.only`
    pub read_only_mode: bool,
    /// `zookeeper.reconfig`
    pub reconfig: bool,
    /// `zookeeper.skip.acl`
    pub skip_acl: bool,
    /// `zookeeper.enforce.quota`
    pub enforce_quota: bool,
    /// The users of `zookeeper.jaas.file`; none if there is no such file.
    pub sasl_users: Option<BTreeMap<String, Secret>>,
    /// `zookeeper.require.sasl`
    pub requires_sasl: bool,
    /// `zookeeper.super.user`
    pub super_user: Option<String>,
    /// `zookeeper.x509.super.user`
    pub x509_super_user: Option<String>,
}

impl Default for ZooKeeperOptions {
    fn default() -> Self {
        Self {
            four_letter_words: BTreeSet::from(["srvr".to_owned()]),
            message_size_max: ZOOKEEPER_MESSAGE_SIZE_MAX,
            read_only_mode: false,
            reconfig: false,
            skip_acl: false,
            enforce_quota: false,
            sasl_users: None,
            requires_sasl: false,
            super_user: None,
            x509_super_user: None,
        }
    }
}

impl ZooKeeperOptions {
    /// Reads the options out of settings, and the JAAS file that they name.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let text = |key: &str| settings.get(key).map(|setting| setting.value.clone());
        let words = settings.list("zookeeper.four.letter.words", "srvr");
        Ok(Self {
            four_letter_words: words.into_iter().collect(),
            message_size_max: settings.number(
                "zookeeper.message.size.max",
                ZOOKEEPER_MESSAGE_SIZE_MAX,
                4_096..=64 * 1024 * 1024,
            )?,
            read_only_mode: settings.boolean("zookeeper.read.only", false)?,
            reconfig: settings.boolean("zookeeper.reconfig", false)?,
            skip_acl: settings.boolean("zookeeper.skip.acl", false)?,
            enforce_quota: settings.boolean("zookeeper.enforce.quota", false)?,
            sasl_users: settings.read("zookeeper.jaas.file", None, |path| {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("expected a readable file ({error})"))?;
                jaas::server_users(&text)
            })?,
            requires_sasl: settings.boolean("zookeeper.require.sasl", false)?,
            super_user: text("zookeeper.super.user"),
            x509_super_user: text("zookeeper.x509.super.user"),
        })
    }

    /// Whether a four-letter word is answered.
    pub fn allows_word(&self, word: &str) -> bool {
        self.four_letter_words.contains("*") || self.four_letter_words.contains(word)
    }
}

/// The port that clients reach through TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsOptions {
    /// `tls.listen`
    pub listen: String,
    /// `tls.key.store`
    pub key_store: Store,
    /// `tls.trust.store`; whom nothing is trusted from if there is none.
    pub trust_store: Option<Store>,
    /// `tls.client.auth`
    pub client_auth: ClientAuth,
}

/// A file with keys or certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The file.
    pub path: PathBuf,
    /// What opens it.
    pub password: Secret,
    /// `PEM`, `PKCS12` or `JKS`; if none, its name or its first bytes tell.
    pub kind: Option<String>,
}

/// Whether clients must show a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// They must.
    Need,
    /// They may, and if they do it must be a good one.
    Want,
    /// They are not asked.
    None,
}

impl TlsOptions {
    /// Reads the options out of settings; none if no such port is wanted.
    pub fn from_settings(settings: &Settings) -> Result<Option<Self>, ConfigError> {
        let Some(listen) = settings.get("tls.listen") else { return Ok(None) };
        let store = |key: &str| {
            let text = |name: &str| settings.get(&format!("{key}{name}")).map(|s| s.value.clone());
            text("").map(|path| Store {
                path: PathBuf::from(path),
                password: Secret::new(text(".password").unwrap_or_default()),
                kind: text(".type").map(|kind| kind.to_ascii_uppercase()),
            })
        };
        let key_store = store("tls.key.store");
        let key_store =
            key_store.ok_or_else(|| ConfigError::Missing { key: "tls.key.store".to_owned() })?;
        let trust_store = store("tls.trust.store");
        let client_auth = settings.read("tls.client.auth", ClientAuth::Need, |text| match text
            .to_ascii_lowercase()
            .as_str()
        {
            "need" => Ok(ClientAuth::Need),
            "want" => Ok(ClientAuth::Want),
            "none" => Ok(ClientAuth::None),
            _ => Err("expected need, want or none".to_owned()),
        })?;
        if client_auth != ClientAuth::None && trust_store.is_none() {
            return Err(ConfigError::Missing { key: "tls.trust.store".to_owned() });
        }
        Ok(Some(Self { listen: listen.value.clone(), key_store, trust_store, client_auth }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        let mut settings = Settings::new();
        settings.add_properties("c", text).unwrap();
        settings
    }

    #[test]
    fn words_are_listed_and_a_star_is_all() {
        let read = |text| ZooKeeperOptions::from_settings(&settings(text)).unwrap();
        assert_eq!(read(""), ZooKeeperOptions::default());
        let some = read("zookeeper.four.letter.words=ruok, stat");
        assert!(some.allows_word("stat") && !some.allows_word("srvr"));
        assert!(read("zookeeper.four.letter.words=*").allows_word("mntr"));
    }

    #[test]
    fn a_port_through_tls_needs_its_stores() {
        let read = |text| TlsOptions::from_settings(&settings(text));
        assert_eq!(read("").unwrap(), None);
        assert!(read("tls.listen=:1").is_err());
        assert!(read("tls.listen=:1\ntls.key.store=k").is_err(), "whom to trust is not said");
        let text = "tls.listen=:1\ntls.key.store=k\ntls.key.store.password=hush\n\
            tls.client.auth=none";
        let options = read(text).unwrap().unwrap();
        assert!(!format!("{options:?}").contains("hush"));
    }
}
