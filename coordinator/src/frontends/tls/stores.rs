//! Reads keys and certificates out of the files that the options name: PEM, PKCS #12, JKS. Which of
//! these a file is, its first bytes tell: what Java calls JKS may be either of the last two.

use std::path::Path;

use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::jks;
use crate::config::zookeeper::Store;

/// The largest file that is read, in bytes.
const FILE_SIZE_MAX: u64 = 16 * 1024 * 1024;

/// What a file holds.
#[derive(Debug, Default)]
pub struct Contents {
    /// Keys with the certificates of each, its own first.
    pub keys: Vec<(PrivateKeyDer<'static>, Vec<CertificateDer<'static>>)>,
    /// Certificates that stand by themselves.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Reads a store. An error says what is wrong, without the password.
pub fn read(store: &Store) -> Result<Contents, String> {
    if let Some(kind) = &store.kind
        && !["PEM", "PKCS12", "P12", "PFX", "JKS"].contains(&kind.as_str())
    {
        return Err(format!("stores of type {kind} are not read, only PEM, PKCS12 and JKS"));
    }
    let bytes = read_file(&store.path)?;
    let password = store.password.expose();
    match bytes.as_slice() {
        [0xfe, 0xed, 0xfe, 0xed, ..] => of_jks(jks::read(&bytes, password)?),
        // JCEKS
        [0xce, 0xce, 0xce, 0xce, ..] => {
            Err("stores of type JCEKS are not read, only PEM, PKCS12 and JKS".to_owned())
        }
        [0x30, ..] => of_pkcs12(&bytes, password),
        _ => of_pem(&bytes),
    }
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|error| error.to_string())?.len();
    if size > FILE_SIZE_MAX {
        return Err(format!("it has {size} bytes, more than {FILE_SIZE_MAX}"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

fn of_jks(contents: jks::Contents) -> Result<Contents, String> {
    let certificates = |all: Vec<Vec<u8>>| all.into_iter().map(CertificateDer::from).collect();
    let keys = contents
        .keys
        .into_iter()
        .map(|(key, chain)| Ok((PrivateKeyDer::Pkcs8(key.into()), certificates(chain))));
    let keys = keys.collect::<Result<_, String>>()?;
    Ok(Contents { keys, certificates: certificates(contents.trusted) })
}

fn of_pkcs12(bytes: &[u8], password: &str) -> Result<Contents, String> {
    let store = KeyStore::from_pkcs12(bytes, password, Pkcs12ImportPolicy::Relaxed);
    let store = store.map_err(|error| format!("not opened: {error}"))?;
    let certificate = |certificate: &p12_keystore::Certificate| {
        CertificateDer::from(certificate.as_der().to_vec())
    };
    let mut contents = Contents::default();
    for (_, entry) in store.entries() {
        match entry {
            KeyStoreEntry::PrivateKeyChain(chain) => {
                let key = PrivateKeyDer::Pkcs8(chain.key().as_der().to_vec().into());
                contents.keys.push((key, chain.certs().iter().map(certificate).collect()));
            }
            KeyStoreEntry::Certificate(trusted) => contents.certificates.push(certificate(trusted)),
            KeyStoreEntry::Secret(_) => {}
        }
    }
    Ok(contents)
}

fn of_pem(bytes: &[u8]) -> Result<Contents, String> {
    if bytes.windows(26).any(|window| window == b"BEGIN ENCRYPTED PRIVATE KE") {
        return Err("keys with a password are not read out of PEM, only out of PKCS12".to_owned());
    }
    let certificates = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let certificates = certificates.map_err(|error| error.to_string())?;
    match PrivateKeyDer::from_pem_slice(bytes) {
        Ok(key) => Ok(Contents { keys: vec![(key, certificates)], certificates: Vec::new() }),
        Err(_) if certificates.is_empty() => {
            Err("neither PEM, nor PKCS12, nor JKS, or nothing is in it".to_owned())
        }
        Err(_) => Ok(Contents { keys: Vec::new(), certificates }),
    }
}
