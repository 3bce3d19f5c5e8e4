//! What the handlers of groups share: how a request finds its shard, and how its reply waits.

use ottla_common::kafka::ErrorCode;
use ottla_common::kafka::response::Response;

use super::context::Context;
use crate::groups::classic::Client;
use crate::groups::partition_of;
use crate::groups::shard::{Answer, GroupShard};
use crate::internal_topics::{Committing, Ticket, Turn, Waiting};
use crate::network::{Close, Reply};

/// A reply that waits for records to be committed, or an error that came at once.
pub type Pending<T> = Result<Committing<T>, ErrorCode>;

impl Context {
    /// Lets the shard of a group decide.
    pub fn write_group<T>(
        &self,
        group_id: &str,
        decide: impl FnOnce(&mut GroupShard, &mut Turn<GroupShard>) -> T,
    ) -> Pending<T> {
        let groups = &self.parts.groups;
        groups.write(partition_of(groups, group_id)?, decide)
    }

    /// Looks at the shard of a group.
    pub fn read_group<T>(&self, group_id: &str, look: impl FnOnce(&GroupShard) -> T) -> Pending<T> {
        let groups = &self.parts.groups;
        groups.read(partition_of(groups, group_id)?, look)
    }

    /// Lets the shard of a group decide about a request that may wait for others.
    pub fn ask_group(
        &self,
        group_id: &str,
        decide: impl FnOnce(&mut GroupShard, Ticket, &mut Turn<GroupShard>),
    ) -> Result<Waiting<Answer>, ErrorCode> {
        let groups = &self.parts.groups;
        groups.ask(partition_of(groups, group_id)?, decide)
    }

    /// The client, as groups remember it.
    pub fn group_client(&self) -> Client {
        let id = self.header.client_id.as_deref().unwrap_or_default().to_owned();
        Client { id, host: java_address(self.connection.peer.ip()) }
    }
}

/// Replies when everything is committed that the reply follows from; at once if it is.
pub fn reply_when<T, R>(
    context: &Context,
    pending: Pending<T>,
    respond: impl FnOnce(Result<T, ErrorCode>) -> R + Send + 'static,
) -> Result<Reply, Close>
where
    T: Send + 'static,
    R: Response,
{
    let committing = match pending.map(Committing::ready) {
        Err(error) => return context.reply(respond(Err(error))),
        Ok(Ok(reply)) => return context.reply(respond(Ok(reply))),
        Ok(Err(committing)) => committing,
    };
    let answer = context.answer();
    Ok(Reply::Later(Box::pin(async move { answer.encode(respond(committing.wait().await)) })))
}

/// Replies when all of several are done.
pub fn reply_when_all<K, T, R>(
    context: &Context,
    pending: Vec<(K, Pending<T>)>,
    respond: impl FnOnce(Vec<(K, Result<T, ErrorCode>)>) -> R + Send + 'static,
) -> Result<Reply, Close>
where
    K: Send + 'static,
    T: Send + 'static,
    R: Response,
{
    let answer = context.answer();
    Ok(Reply::Later(Box::pin(async move {
        let mut done = Vec::with_capacity(pending.len());
        for (key, pending) in pending {
            let result = match pending {
                Ok(committing) => committing.wait().await,
                Err(error) => Err(error),
            };
            done.push((key, result));
        }
        answer.encode(respond(done))
    })))
}

/// Replies when the group has answered; at once if it has.
pub fn reply_when_answered<R: Response>(
    context: &Context,
    waiting: Result<Waiting<Answer>, ErrorCode>,
    respond: impl FnOnce(Result<Answer, ErrorCode>) -> R + Send + 'static,
) -> Result<Reply, Close> {
    let waiting = match waiting.map(Waiting::ready) {
        Err(error) => return context.reply(respond(Err(error))),
        Ok(Ok(answer)) => return context.reply(respond(answer)),
        Ok(Err(waiting)) => waiting,
    };
    let answer = context.answer();
    Ok(Reply::Later(Box::pin(async move { answer.encode(respond(waiting.wait().await)) })))
}

/// An address as `java.net.InetAddress` prints it, which tools show.
fn java_address(address: std::net::IpAddr) -> String {
    match address.to_canonical() {
        std::net::IpAddr::V4(address) => format!("/{address}"),
        std::net::IpAddr::V6(address) => {
            let parts = address.segments().map(|segment| format!("{segment:x}"));
            format!("/{}", parts.join(":"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::java_address;

    #[test]
    fn addresses_look_as_java_prints_them() {
        assert_eq!(java_address("127.0.0.1".parse().unwrap()), "/127.0.0.1");
        assert_eq!(java_address("::1".parse().unwrap()), "/0:0:0:0:0:0:0:1");
        assert_eq!(java_address("::ffff:10.0.0.1".parse().unwrap()), "/10.0.0.1");
    }
}
