//! A member's side of a client's connection: what the front ends do, without sockets.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;

use ottla_common::coordination::protocol::SessionRequest;
use ottla_common::types::{SessionId, Zxid};
use ottla_coordinator::requests::{Ask, Granted, Opening, Service, Submission};
use ottla_coordinator::watches::{Closed, ConnectionKind, Outbox};
use tokio::sync::mpsc;

use crate::clients::ToClient;

/// What members want sent to clients, by the connections' numbers.
pub type Outgoing = Rc<RefCell<Vec<(u64, ToClient)>>>;

/// A connection as it arrives.
pub struct Arrival {
    /// Its number.
    pub connection: u64,
    /// Which session the client wants.
    pub session: SessionRequest,
    /// What the client relies on.
    pub kind: ConnectionKind,
    /// The highest zxid that it saw.
    pub last_zxid_seen: Zxid,
    /// Its requests; they end when the client closes the connection.
    pub requests: mpsc::UnboundedReceiver<(u64, Ask)>,
    /// Where answers go.
    pub outgoing: Outgoing,
}

/// Serves a connection from its hello to its end.
pub async fn serve(arrival: Arrival, service: Arc<Service>) {
    let Arrival { connection, session, kind, last_zxid_seen, requests, outgoing } = arrival;
    let send = |message| outgoing.borrow_mut().push((connection, message));
    let outbox = Outbox::new();
    let opening = Opening {
        session,
        last_zxid_seen,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
        proved: Vec::new(),
        must_authenticate: false,
        kind,
    };
    let Granted { grant, conversation } = match service.open_session(opening, outbox.clone()).await
    {
        Ok(granted) => granted,
        Err(error) => return send(ToClient::Welcome(Err(error))),
    };
    let (session_id, connection_id) = (conversation.session_id(), conversation.connection_id());
    send(ToClient::Welcome(Ok(grant)));
    let (submit, submitted) = mpsc::channel(1_000);
    let reading = async {
        tokio::select! {
            biased;
            () = outbox.until_closed() => false,
            has_spoken = hand_over(requests, submit, (&service, session_id)) => has_spoken,
        }
    };
    let answering = async {
        let was_closed = conversation.run(submitted).await;
        outbox.close(Closed::Quietly);
        was_closed
    };
    let sending = async {
        while let Some(batch) = outbox.take(usize::MAX).await {
            batch.into_iter().for_each(|item| send(ToClient::Out(item)));
        }
        send(ToClient::Closed(outbox.closed()));
    };
    let (client_left, was_closed, ()) = tokio::join!(biased; reading, answering, sending);
    service.connection_ended(session_id, connection_id, client_left && !was_closed);
}

/// Hands requests over until the client leaves; whether there were any.
async fn hand_over(
    mut requests: mpsc::UnboundedReceiver<(u64, Ask)>,
    submit: mpsc::Sender<Submission>,
    (service, session_id): (&Service, SessionId),
) -> bool {
    let mut has_spoken = false;
    while let Some((xid, ask)) = requests.recv().await {
        has_spoken = true;
        service.touch(session_id);
        let submission = Submission { xid, ask, size: 100, permit: None };
        if submit.send(submission).await.is_err() {
            break;
        }
    }
    has_spoken
}
