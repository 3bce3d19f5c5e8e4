//! Whether a client's certificate is to be believed, by the rules of Java where they allow more
//! than webpki's do: a certificate that stands in the trust store itself is believed, and so is one
//! of X.509 version 1 that an authority in the trust store has signed itself.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};
use webpki::RawPublicKeyEntity;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// Judges certificates by a trust store.
#[derive(Debug)]
pub struct Verifier {
    strict: Arc<dyn ClientCertVerifier>,
    trusted: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    is_mandatory: bool,
}

impl Verifier {
    /// Believes what `trusted` stand for. `is_mandatory`: whether a client must have a certificate.
    pub fn new(
        trusted: Vec<CertificateDer<'static>>,
        is_mandatory: bool,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        let (added, refused) = roots.add_parsable_certificates(trusted.iter().cloned());
        if added == 0 {
            return Err(format!("no certificate to trust, and {refused} that cannot be read"));
        }
        let strict = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
        let strict = strict.build().map_err(|error| error.to_string())?;
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { strict, trusted, algorithms, is_mandatory })
    }

    /// Whether an authority in the trust store has signed the certificate.
    fn is_signed_by_trusted(&self, certificate: &X509Certificate<'_>) -> bool {
        let issuers = self.trusted.iter().filter_map(|trusted| {
            let (_, issuer) = X509Certificate::from_der(trusted).ok()?;
            (issuer.subject().as_raw() == certificate.issuer().as_raw()).then_some(issuer)
        });
        let oid = certificate.signature_algorithm.algorithm.as_bytes();
        let identified = |id: &[u8]| id.get(2..).is_some_and(|id| id.starts_with(oid));
        let algorithms = self.algorithms.all.iter();
        let algorithms: Vec<_> =
            algorithms.filter(|known| identified(known.signature_alg_id().as_ref())).collect();
        let mut issuers = issuers;
        issuers.any(|issuer| {
            let key = SubjectPublicKeyInfoDer::from(issuer.public_key().raw);
            let Ok(key) = RawPublicKeyEntity::try_from(&key) else { return false };
            let signed = certificate.tbs_certificate.as_ref();
            let signature = &certificate.signature_value.data;
            algorithms.iter().any(|known| key.verify_signature(**known, signed, signature).is_ok())
        })
    }
}

fn read<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let read = X509Certificate::from_der(certificate);
    read.map(|(_, read)| read).map_err(|_| CertificateError::BadEncoding.into())
}

fn check_validity(certificate: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        Err(CertificateError::NotValidYet.into())
    } else if now > validity.not_after.timestamp() {
        Err(CertificateError::Expired.into())
    } else {
        Ok(())
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.strict.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let certificate = read(end_entity)?;
        if self.trusted.iter().any(|trusted| trusted == end_entity) {
            check_validity(&certificate, now)?;
            return Ok(ClientCertVerified::assertion());
        }
        if certificate.version() != X509Version::V1 {
            return self.strict.verify_client_cert(end_entity, intermediates, now);
        }
        check_validity(&certificate, now)?;
        if self.is_signed_by_trusted(&certificate) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::UnknownIssuer.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let read = read(certificate)?;
        if read.version() != X509Version::V1 {
            return self.strict.verify_tls12_signature(message, certificate, signed);
        }
        let key = SubjectPublicKeyInfoDer::from(read.public_key().raw);
        let key = RawPublicKeyEntity::try_from(&key).map_err(|_| CertificateError::BadEncoding)?;
        let mut schemes = self.algorithms.mapping.iter();
        let known = schemes.find(|(scheme, _)| *scheme == signed.scheme);
        let is_valid = known.is_some_and(|(_, known)| {
            known.iter().any(|one| key.verify_signature(*one, message, signed.signature()).is_ok())
        });
        if is_valid {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(CertificateError::BadSignature.into())
        }
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let read = read(certificate)?;
        if read.version() != X509Version::V1 {
            return self.strict.verify_tls13_signature(message, certificate, signed);
        }
        let key = SubjectPublicKeyInfoDer::from(read.public_key().raw);
        verify_tls13_signature_with_raw_key(message, &key, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.strict.supported_verify_schemes()
    }
}
