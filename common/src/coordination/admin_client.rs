//! An administrator's connection to one member: no session, no other member in its place, and no
//! waiting for a leader.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::codec::{CodecError, decode_message, encode_frame, take_frame};
use super::protocol::admin::{
    AdminReply, AdminRequest, AdminRequestFrame, AdminResponse, MemberStatus, Members, StateDigest,
};
use super::protocol::{
    ClientHello, CoordinationError, FRAME_SIZE_MAX, PREAMBLE, PROTOCOL_VERSION, ServerHello,
    SessionRequest,
};
use crate::types::{MemberId, Zxid};

/// Why a member did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It said so.
    #[error(transparent)]
    Refused(#[from] CoordinationError),
    /// The network, or what came over it.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// It said nothing in time.
    #[error("no answer in time")]
    TimedOut,
    /// It closed the connection.
    #[error("the member closed the connection; it may be of an older version")]
    HungUp,
    /// It answered something else than was asked.
    #[error("an answer of the wrong kind")]
    WrongAnswer,
}

/// A connection to one member.
#[derive(Debug)]
pub struct AdminClient {
    /// The member.
    pub member_id: MemberId,
    stream: TcpStream,
    read: BytesMut,
    next_xid: u64,
    patience: Duration,
}

impl AdminClient {
    /// Connects to the member at an address. Nothing may take longer than `patience`.
    pub async fn connect(address: &str, patience: Duration) -> Result<Self, AdminError> {
        let opening = async {
            let stream = TcpStream::connect(address).await.map_err(CodecError::from)?;
            stream.set_nodelay(true).map_err(CodecError::from)?;
            let (read, member_id) = (BytesMut::new(), MemberId(0));
            let mut client = Self { member_id, stream, read, next_xid: 0, patience };
            client.hello().await?;
            Ok(client)
        };
        tokio::time::timeout(patience, opening).await.map_err(|_| AdminError::TimedOut)?
    }

    async fn hello(&mut self) -> Result<(), AdminError> {
        let mut bytes = BytesMut::from(&PREAMBLE[..]);
        let hello = ClientHello {
            version_min: 1,
            version_max: PROTOCOL_VERSION,
            client_name: "administrator".to_owned(),
            session: SessionRequest::None,
            last_zxid_seen: Zxid(0),
        };
        encode_frame(&hello, FRAME_SIZE_MAX, &mut bytes)?;
        self.stream.write_all(&bytes).await.map_err(CodecError::from)?;
        let answer: ServerHello = self.receive().await?;
        answer.session?;
        self.member_id = answer.member_id;
        Ok(())
    }

    async fn receive<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, AdminError> {
        loop {
            if let Some(frame) = take_frame(&mut self.read, FRAME_SIZE_MAX)? {
                return Ok(decode_message(&frame)?);
            }
            if self.stream.read_buf(&mut self.read).await.map_err(CodecError::from)? == 0 {
                return Err(AdminError::HungUp);
            }
        }
    }

    /// Asks, and waits for the answer. After an error other than a refusal the connection is of no
    /// use any more.
    pub async fn ask(&mut self, request: AdminRequest) -> Result<AdminResponse, AdminError> {
        self.next_xid += 1;
        let xid = self.next_xid;
        let patience = self.patience;
        let asking = async {
            let mut bytes = BytesMut::new();
            encode_frame(&AdminRequestFrame { xid, request }, FRAME_SIZE_MAX, &mut bytes)?;
            self.stream.write_all(&bytes).await.map_err(CodecError::from)?;
            let reply: AdminReply = self.receive().await?;
            if reply.xid == xid { Ok(reply.result?) } else { Err(AdminError::WrongAnswer) }
        };
        tokio::time::timeout(patience, asking).await.map_err(|_| AdminError::TimedOut)?
    }

    /// The member's state and figures.
    pub async fn status(&mut self) -> Result<MemberStatus, AdminError> {
        match self.ask(AdminRequest::Status).await? {
            AdminResponse::Status(status) => Ok(*status),
            _ => Err(AdminError::WrongAnswer),
        }
    }

    /// Who belongs to the ensemble.
    pub async fn members(&mut self) -> Result<Members, AdminError> {
        match self.ask(AdminRequest::Members).await? {
            AdminResponse::Members(members) => Ok(members),
            _ => Err(AdminError::WrongAnswer),
        }
    }

    /// The digests of states that the member had not long ago.
    pub async fn digests(&mut self) -> Result<Vec<StateDigest>, AdminError> {
        match self.ask(AdminRequest::Digests).await? {
            AdminResponse::Digests(digests) => Ok(digests),
            _ => Err(AdminError::WrongAnswer),
        }
    }

    /// Has something done.
    pub async fn tell(&mut self, request: AdminRequest) -> Result<(), AdminError> {
        match self.ask(request).await? {
            AdminResponse::Done => Ok(()),
            _ => Err(AdminError::WrongAnswer),
        }
    }
}
