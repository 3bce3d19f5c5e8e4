//! Administrators' connections: native ones without a session.

use std::time::Duration;

use bytes::BytesMut;
use ottla_common::coordination::codec::{CodecError, decode_message, encode_frame, take_frame};
use ottla_common::coordination::protocol::admin::{AdminReply, AdminRequestFrame};
use ottla_common::coordination::protocol::{CoordinationError, FRAME_SIZE_MAX};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::native::UnknownRequest;
use crate::limits::{ADMIN_DEADLINE_MS, ADMIN_REQUEST_SIZE_MAX};
use crate::requests::{Administrator, Service};

/// Answers one request after the other until the client ends, or says nothing for long.
pub async fn serve<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (mut stream, mut sink): (R, W),
    mut read: BytesMut,
    (service, mut administrator): (&Service, Administrator),
) -> Result<(), CodecError> {
    let deadline = Duration::from_millis(ADMIN_DEADLINE_MS);
    let mut bytes = BytesMut::new();
    loop {
        while let Some(frame) = take_frame(&mut read, ADMIN_REQUEST_SIZE_MAX)? {
            let (xid, result) = match decode_message(&frame) {
                Ok(AdminRequestFrame { xid, request }) => {
                    (xid, service.administer(&mut administrator, request).await)
                }
                Err(error) => match decode_message(&frame) {
                    Ok(UnknownRequest { xid, .. }) => (xid, Err(CoordinationError::Unimplemented)),
                    Err(_) => return Err(error),
                },
            };
            encode_frame(&AdminReply { xid, result }, FRAME_SIZE_MAX, &mut bytes)?;
            let sending = tokio::time::timeout(deadline, sink.write_all(&bytes)).await;
            sending.map_err(std::io::Error::from)??;
            bytes.clear();
        }
        let reading = tokio::time::timeout(deadline, stream.read_buf(&mut read)).await;
        if reading.map_err(std::io::Error::from)?? == 0 {
            return Ok(());
        }
    }
}
