//! How two members come to know each other.
//!
//! ```text
//! dialler   Hello     { magic, version, from, to, cluster_id, address, nonce }
//! acceptor  Challenge { cluster_id, nonce, proof }      or Refused { reason }
//! dialler   Proof     { proof }
//! acceptor  Welcome                                     or Refused { reason }
//! ```
//!
//! A proof is HMAC-SHA256 under the shared key over a word that tells the side, the bytes of the
//! hello and the acceptor's nonce. Both nonces are fresh, so that nothing overheard proves
//! anything, and the side's word keeps a proof from being sent back as the other side's. The
//! acceptor tells no reason before the dialler has proved to know the key, but that the versions
//! differ. The key proves who may speak, it does not hide what is said, nor keep a connection from
//! being taken over by someone in its path: where that can happen, members must meet over TLS or a
//! private network.

use bytes::BytesMut;
use hmac::{Hmac, KeyInit, Mac};
use ottla_common::coordination::codec::{
    CodecError, decode_message, encode_frame, encode_message, take_frame,
};
use ottla_common::types::{MemberId, Uuid};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAGIC: [u8; 8] = *b"OTTLAPR\x01";
const VERSION: u16 = 1;

/// The longest frame of a handshake, in bytes.
const FRAME_SIZE_MAX: usize = 1024;

const DIALLER: &[u8] = b"dialler";
const ACCEPTOR: &[u8] = b"acceptor";

type Nonce = [u8; 32];

/// The first frame.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Hello {
    magic: [u8; 8],
    version: u16,
    from: MemberId,
    to: MemberId,
    cluster_id: Option<Uuid>,
    /// Where the dialler accepts connections itself.
    address: String,
    nonce: Nonce,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    Challenge { cluster_id: Option<Uuid>, nonce: Nonce, proof: [u8; 32] },
    Welcome,
    Refused { reason: String },
}

#[derive(Debug, Serialize, Deserialize)]
struct Proof {
    proof: [u8; 32],
}

/// What a side is and knows.
#[derive(Clone, Debug)]
pub struct Side<'a> {
    pub member_id: MemberId,
    pub key: &'a [u8],
    pub cluster_id: Option<Uuid>,
    /// Where it accepts connections.
    pub address: &'a str,
}

/// Who has dialled.
#[derive(Debug)]
pub struct Dialler {
    pub member_id: MemberId,
    /// Where it accepts connections itself.
    pub address: String,
    /// What was read behind its proof.
    pub read: BytesMut,
}

/// Why two members do not speak with each other.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    #[error("this is not a member of an ensemble")]
    NotAPeer,
    #[error("it speaks version {0} of the members' protocol, and this one {VERSION}")]
    Version(u16),
    #[error("it does not know the ensemble's key")]
    WrongKey,
    #[error("it belongs to the ensemble {theirs} and not to {ours}")]
    OtherCluster { theirs: Uuid, ours: Uuid },
    #[error("it takes this member for member {0}")]
    NotMe(MemberId),
    #[error("member {0} does not belong to the ensemble")]
    NotAMember(MemberId),
    #[error("it refuses: {0}")]
    Refused(String),
}

impl From<std::io::Error> for HandshakeError {
    fn from(error: std::io::Error) -> Self {
        Self::Codec(CodecError::Io(error))
    }
}

/// The dialler's side. When this returns, the acceptor is `to` and knows the key.
pub async fn dial(
    stream: &mut TcpStream,
    side: &Side<'_>,
    to: MemberId,
) -> Result<(), HandshakeError> {
    let mut read = BytesMut::new();
    let hello = Hello {
        magic: MAGIC,
        version: VERSION,
        from: side.member_id,
        to,
        cluster_id: side.cluster_id,
        address: side.address.to_owned(),
        nonce: nonce()?,
    };
    let said = encode_message(&hello)?;
    send(stream, &hello).await?;
    let (cluster_id, nonce, proof) = match receive(stream, &mut read).await? {
        Answer::Challenge { cluster_id, nonce, proof } => (cluster_id, nonce, proof),
        Answer::Refused { reason } => return Err(HandshakeError::Refused(reason)),
        Answer::Welcome => return Err(HandshakeError::NotAPeer),
    };
    if mac(side.key, ACCEPTOR, &said, &nonce).verify_slice(&proof).is_err() {
        return Err(HandshakeError::WrongKey);
    }
    check_cluster(cluster_id, side.cluster_id)?;
    let proof = mac(side.key, DIALLER, &said, &nonce).finalize().into_bytes().into();
    send(stream, &Proof { proof }).await?;
    match receive(stream, &mut read).await? {
        Answer::Welcome if read.is_empty() => Ok(()),
        Answer::Refused { reason } => Err(HandshakeError::Refused(reason)),
        _ => Err(HandshakeError::NotAPeer),
    }
}

/// The acceptor's side. Returns who dialled: a member that is known, or one that certainly is of
/// the same ensemble; it may have been added while this one was away.
pub async fn accept(
    stream: &mut TcpStream,
    side: &Side<'_>,
    is_member: impl Fn(MemberId) -> bool,
) -> Result<Dialler, HandshakeError> {
    let mut read = BytesMut::new();
    let hello: Hello = receive(stream, &mut read).await?;
    if hello.magic != MAGIC {
        return Err(HandshakeError::NotAPeer);
    }
    if hello.version != VERSION {
        let error = HandshakeError::Version(hello.version);
        return refuse(stream, error).await;
    }
    let nonce = nonce()?;
    let said = encode_message(&hello)?;
    let proof = mac(side.key, ACCEPTOR, &said, &nonce).finalize().into_bytes().into();
    send(stream, &Answer::Challenge { cluster_id: side.cluster_id, nonce, proof }).await?;
    let Proof { proof } = receive(stream, &mut read).await?;
    if mac(side.key, DIALLER, &said, &nonce).verify_slice(&proof).is_err() {
        return Err(HandshakeError::WrongKey);
    }
    let found = check_cluster(hello.cluster_id, side.cluster_id).and_then(|()| {
        if hello.to != side.member_id {
            return Err(HandshakeError::NotMe(hello.to));
        }
        let is_of_ours = side.cluster_id.is_some() && hello.cluster_id == side.cluster_id;
        if hello.from == side.member_id || !(is_of_ours || is_member(hello.from)) {
            return Err(HandshakeError::NotAMember(hello.from));
        }
        Ok(())
    });
    if let Err(error) = found {
        return refuse(stream, error).await;
    }
    send(stream, &Answer::Welcome).await?;
    Ok(Dialler { member_id: hello.from, address: hello.address, read })
}

async fn refuse<T>(stream: &mut TcpStream, error: HandshakeError) -> Result<T, HandshakeError> {
    send(stream, &Answer::Refused { reason: error.to_string() }).await?;
    Err(error)
}

fn check_cluster(theirs: Option<Uuid>, ours: Option<Uuid>) -> Result<(), HandshakeError> {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs != ours => {
            Err(HandshakeError::OtherCluster { theirs, ours })
        }
        _ => Ok(()),
    }
}

fn nonce() -> Result<Nonce, HandshakeError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce)?;
    Ok(nonce)
}

fn mac(key: &[u8], side: &[u8], hello: &[u8], nonce: &Nonce) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(key);
    let mut mac =
        mac.unwrap_or_else(|error| unreachable!("HMAC takes keys of any length: {error}"));
    for part in [side, hello, nonce] {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

async fn send<T: Serialize>(stream: &mut TcpStream, message: &T) -> Result<(), HandshakeError> {
    let mut bytes = BytesMut::new();
    encode_frame(message, FRAME_SIZE_MAX, &mut bytes)?;
    Ok(stream.write_all(&bytes).await?)
}

async fn receive<T: DeserializeOwned>(
    stream: &mut TcpStream,
    read: &mut BytesMut,
) -> Result<T, HandshakeError> {
    loop {
        if let Some(frame) = take_frame(read, FRAME_SIZE_MAX)? {
            return Ok(decode_message(&frame)?);
        }
        if stream.read_buf(read).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
}
