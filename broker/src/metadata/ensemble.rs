//! What the coordinators say of themselves: who they are, who leads, how far each is.

use std::time::Duration;

use ottla_common::coordination::admin_client::{AdminClient, AdminError};
use ottla_common::coordination::protocol::MemberStatus;
use ottla_common::coordination::protocol::admin::Members;

/// The ensemble, as its leader sees it, or a member if the leader cannot be reached.
#[derive(Clone, Debug)]
pub struct Ensemble {
    /// Its members.
    pub members: Members,
    /// The state of the member that told.
    pub status: MemberStatus,
}

/// Asks the ensemble at these addresses, and where its members say that the leader is, until the
/// leader answers: only it knows how far the others are. What another member says counts if the
/// leader does not. No step takes longer than `patience`.
///
/// # Errors
/// If no member answers.
pub async fn ask(addresses: &[String], patience: Duration) -> Result<Ensemble, AdminError> {
    let mut best = Err(AdminError::TimedOut);
    for address in addresses {
        let told = match ask_member(address, patience).await {
            Ok(told) => told,
            Err(error) => {
                best = best.map_err(|_| error);
                continue;
            }
        };
        if told.is_the_leaders() {
            return Ok(told);
        }
        // A member may not know where the leader's clients connect, and an address that stands for
        // a whole machine may lead to another member.
        if let Some(of_leader) = from_leader(&told, patience).await
            && of_leader.is_the_leaders()
        {
            return Ok(of_leader);
        }
        best = best.or(Ok(told));
    }
    best
}

impl Ensemble {
    fn is_the_leaders(&self) -> bool {
        self.members.leader_id == Some(self.status.member_id)
    }
}

async fn from_leader(told: &Ensemble, patience: Duration) -> Option<Ensemble> {
    let address = &told.members.members.get(&told.members.leader_id?)?.client_address;
    ask_member(address, patience).await.ok()
}

async fn ask_member(address: &str, patience: Duration) -> Result<Ensemble, AdminError> {
    let mut client = AdminClient::connect(address, patience).await?;
    Ok(Ensemble { members: client.members().await?, status: client.status().await? })
}
