//! Connections through TLS 1.2 or 1.3, by rustls with the cryptography of ring, which builds with a
//! C compiler and nothing more.

mod jks;
mod stores;
mod subject;
mod verifier;

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::server::TlsStream;
use x509_parser::prelude::{FromDer, X509Certificate};

use self::verifier::Verifier;
use crate::config::zookeeper::{ClientAuth, Store, TlsOptions};

/// Why connections through TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with keys or certificates cannot be used.
    #[error("{path}: {reason}")]
    Store {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The keys cannot be used for TLS.
    #[error("set up TLS: {0}")]
    Tls(#[from] tokio_rustls::rustls::Error),
}

impl TlsError {
    fn store(store: &Store, reason: impl ToString) -> Self {
        Self::Store { path: store.path.display().to_string(), reason: reason.to_string() }
    }
}

/// Makes TLS streams of connections.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Acceptor {
    /// Reads the stores that the options name.
    pub fn new(options: &TlsOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let key = certified_key(&options.key_store, &provider)?;
        let config = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions()?;
        let config = match (&options.trust_store, options.client_auth) {
            (Some(store), ClientAuth::Need | ClientAuth::Want) => {
                let read = stores::read(store).map_err(|reason| TlsError::store(store, reason))?;
                let is_mandatory = options.client_auth == ClientAuth::Need;
                let verifier = Verifier::new(read.certificates, is_mandatory, &provider);
                let verifier = verifier.map_err(|reason| TlsError::store(store, reason))?;
                config.with_client_cert_verifier(Arc::new(verifier))
            }
            _ => config.with_no_client_auth(),
        };
        let config = config.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands. Returns the stream and who the client is by its certificate, if it has shown
    /// one.
    pub async fn accept(
        &self,
        stream: TcpStream,
    ) -> io::Result<(TlsStream<TcpStream>, Option<String>)> {
        let stream = self.0.accept(stream).await?;
        let (_, connection) = stream.get_ref();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let subject = certificate.and_then(|certificate| subject::of(certificate));
        Ok((stream, subject))
    }
}

/// The first key of a store. Whether it belongs to its certificate is looked at here, since what
/// rustls does for that refuses certificates of version 1.
fn certified_key(store: &Store, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let refused = |reason: &str| TlsError::store(store, reason);
    let read = stores::read(store).map_err(|reason| TlsError::store(store, reason))?;
    let (key, chain) = read.keys.into_iter().next().ok_or_else(|| refused("no key is in it"))?;
    let key = provider.key_provider.load_private_key(key)?;
    let own = chain.first().ok_or_else(|| refused("the key has no certificate"))?;
    let (_, certificate) =
        X509Certificate::from_der(own).map_err(|_| refused("the certificate cannot be read"))?;
    if key.public_key().is_some_and(|public| public.as_ref() != certificate.public_key().raw) {
        return Err(refused("the key is not that of its certificate"));
    }
    Ok(CertifiedKey::new(chain, key))
}

#[cfg(test)]
mod tests;
