//! Clients that come through TLS, with stores of every kind.

use std::path::PathBuf;

use ottla_common::config::Secret;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

fn store(name: &str, password: &str) -> Store {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/frontends/tls/fixtures");
    Store { path: folder.join(name), password: Secret::new(password.to_owned()), kind: None }
}

fn options(key: &str, trust: &str, client_auth: ClientAuth) -> TlsOptions {
    TlsOptions {
        listen: String::new(),
        key_store: store(key, "password"),
        trust_store: Some(store(trust, "password")),
        client_auth,
    }
}

/// A client with the certificate of a file, if one is named.
fn connector(certificate: Option<&str>) -> TlsConnector {
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(stores::read(&store("ca.pem", "")).unwrap().certificates);
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots);
    let config = match certificate {
        None => config.with_no_client_auth(),
        Some(name) => {
            let key = certified_key(&store(name, ""), &provider).unwrap();
            config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
        }
    };
    TlsConnector::from(Arc::new(config))
}

/// Connects; returns who the server takes the client for, if both understand each other.
async fn shake(options: &TlsOptions, certificate: Option<&str>) -> io::Result<Option<String>> {
    let acceptor = Acceptor::new(options).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = async {
        let (mut stream, subject) = acceptor.accept(listener.accept().await?.0).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        Ok(subject)
    };
    let asking = async {
        let stream = TcpStream::connect(address).await?;
        let name = "localhost".try_into().unwrap();
        let mut stream = connector(certificate).connect(name, stream).await?;
        stream.read_exact(&mut [0]).await
    };
    let (served, asked): (io::Result<_>, _) = tokio::join!(serving, asking);
    served.and_then(|subject| asked.map(|_| subject))
}

#[tokio::test]
async fn every_kind_of_store_is_read() {
    for (key, trust) in
        [("server.pem", "ca.pem"), ("server.p12", "ca.p12"), ("server.jks", "ca.jks")]
    {
        let subject = shake(&options(key, trust, ClientAuth::Need), Some("client.pem")).await;
        let expected = "CN=client,1.2.840.113549.1.9.1=#16056140622e63,O=Example\\, Inc.,C=DE";
        assert_eq!(subject.unwrap().as_deref(), Some(expected), "{key}");
    }
}

#[tokio::test]
async fn certificates_of_version_1_are_believed_as_java_believes_them() {
    let options = options("server.pem", "ca.pem", ClientAuth::Need);
    let subject = shake(&options, Some("client-v1.pem")).await.unwrap();
    assert_eq!(subject.as_deref(), Some("CN=old"));
}

#[tokio::test]
async fn a_certificate_that_stands_in_the_trust_store_is_believed() {
    let mut options = options("server.pem", "stranger.pem", ClientAuth::Need);
    assert!(Acceptor::new(&options).is_err(), "a key is no trust");
    let own = stores::read(&store("stranger.pem", "")).unwrap().keys.remove(0).1.remove(0);
    let verifier = Verifier::new(vec![own.clone()], true, &Arc::new(ring::default_provider()));
    let verifier = verifier.unwrap();
    use tokio_rustls::rustls::pki_types::UnixTime;
    use tokio_rustls::rustls::server::danger::ClientCertVerifier;
    assert!(verifier.verify_client_cert(&own, &[], UnixTime::now()).is_ok());
    let future = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1 << 40));
    assert!(verifier.verify_client_cert(&own, &[], future).is_err(), "but not for ever");
    options.trust_store = Some(store("ca.pem", ""));
    let refused = shake(&options, Some("stranger.pem")).await;
    assert!(refused.is_err(), "the name of an authority alone does not do");
}

#[tokio::test]
async fn who_must_show_a_certificate_and_who_need_not() {
    let shake = async |auth, certificate| {
        shake(&options("server.pem", "ca.pem", auth), certificate).await.ok()
    };
    assert_eq!(shake(ClientAuth::Need, None).await, None);
    assert_eq!(shake(ClientAuth::Want, None).await, Some(None));
    assert_eq!(shake(ClientAuth::Want, Some("stranger.pem")).await, None);
    assert_eq!(shake(ClientAuth::Want, Some("client-v1.pem")).await, Some(Some("CN=old".into())));
    assert_eq!(shake(ClientAuth::None, Some("stranger.pem")).await, Some(None));
}

#[test]
fn a_wrong_password_or_file_is_told_with_the_file() {
    let error = |key: Store| {
        let options = TlsOptions { key_store: key, ..options("", "ca.pem", ClientAuth::None) };
        Acceptor::new(&options).unwrap_err().to_string()
    };
    for name in ["server.p12", "server.jks"] {
        let told = error(store(name, "hush"));
        assert!(told.contains(name) && !told.contains("hush"), "{told}");
    }
    assert!(error(store("ca.pem", "")).contains("no key"));
    assert!(error(store("missing.pem", "")).contains("missing.pem"));
    assert!(error(store("make.sh", "")).contains("neither PEM"));
    let other = Store { kind: Some("BCFKS".to_owned()), ..store("server.p12", "password") };
    assert!(error(other).contains("BCFKS"));
}

#[test]
fn a_damaged_java_store_is_refused_wherever_it_is_damaged() {
    let good = std::fs::read(store("server.jks", "").path).unwrap();
    assert!(jks::read(&good, "password").is_ok());
    for place in 0..good.len() {
        let mut bad = good.clone();
        bad[place] ^= 1;
        assert!(jks::read(&bad, "password").is_err(), "byte {place}");
        assert!(jks::read(&good[..place], "password").is_err(), "cut at {place}");
    }
}
