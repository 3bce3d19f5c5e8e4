//! A proven connection to another broker.

use ottla_common::cluster_tree::Endpoint;
use ottla_common::kafka::client::{ClientError, ClientOptions, Connection};
use ottla_common::kafka::error_code::ErrorCode;
use ottla_common::kafka::messages::sasl_authenticate::{
    SaslAuthenticateRequest, SaslAuthenticateResponse,
};
use ottla_common::kafka::messages::sasl_handshake::SaslHandshakeRequest;
use ottla_common::types::BrokerId;

use crate::metadata::image::MetadataImage;
use crate::security::inter_broker::{HandshakeError, MECHANISM, Nonce, Secret, hello};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is not registered, or not under the listener that brokers use.
    #[error("broker {0} is not there")]
    NotThere(BrokerId),
    /// The connection, or what it carries.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The proofs.
    #[error("handshake with another broker: {0}")]
    Handshake(#[from] HandshakeError),
    /// It refuses.
    #[error("another broker refuses the handshake: {code:?} {message}")]
    Refused {
        /// Why.
        code: ErrorCode,
        /// Why, in words.
        message: String,
    },
    /// No nonce.
    #[error("the system gives no random bytes: {0}")]
    Randomness(#[from] getrandom::Error),
}

/// Who dials, and how.
#[derive(Clone, Debug)]
pub struct Dialler {
    /// This broker.
    pub broker_id: BrokerId,
    /// What brokers prove to know.
    pub secret: Secret,
    /// The listener through which brokers reach each other.
    pub listener: String,
    /// How the connection behaves.
    pub options: ClientOptions,
}

impl Dialler {
    /// Connects to a broker; both have proved who they are when this returns.
    ///
    /// # Errors
    /// If it is not there, or is not what it should be.
    pub async fn connect(
        &self,
        image: &MetadataImage,
        peer: BrokerId,
    ) -> Result<Connection, PeerError> {
        let registered = image.brokers.get(&peer);
        let endpoint = registered.and_then(|broker| broker.endpoint(&self.listener));
        let endpoint = endpoint.ok_or(PeerError::NotThere(peer))?;
        let connection = Connection::connect(&address(endpoint), &self.options).await?;
        self.prove(&connection, peer).await?;
        Ok(connection)
    }

    async fn prove(&self, connection: &Connection, peer: BrokerId) -> Result<(), PeerError> {
        let mechanism = SaslHandshakeRequest { mechanism: MECHANISM.into() };
        let response = connection.send(&mechanism).await?;
        accepted(response.error_code, None)?;
        let mut nonce = Nonce::default();
        getrandom::fill(&mut nonce)?;
        let hello = hello(self.broker_id, peer, nonce);
        let challenge = authenticate(connection, hello.clone()).await?;
        let answer = self.secret.answer(&hello, &challenge.auth_bytes)?;
        authenticate(connection, answer).await.map(drop)
    }
}

async fn authenticate(
    connection: &Connection,
    auth_bytes: Vec<u8>,
) -> Result<SaslAuthenticateResponse, PeerError> {
    let request = SaslAuthenticateRequest {
        auth_bytes: auth_bytes.into(),
        ..SaslAuthenticateRequest::default()
    };
    let response = connection.send(&request).await?;
    let message = response.error_message.as_ref().map(ToString::to_string);
    accepted(response.error_code, message)?;
    Ok(response)
}

fn accepted(error_code: i16, message: Option<String>) -> Result<(), PeerError> {
    match ErrorCode::from_code(error_code) {
        ErrorCode::None => Ok(()),
        code => Err(PeerError::Refused { code, message: message.unwrap_or_default() }),
    }
}

fn address(endpoint: &Endpoint) -> String {
    let Endpoint { host, port, .. } = endpoint;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}
