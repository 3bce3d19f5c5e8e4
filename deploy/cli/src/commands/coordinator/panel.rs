//! The members of the ensemble, all at once: each is asked by itself, without a session, so that it
//! answers whether or not it has a leader.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures_util::future::join_all;
use ottla_common::coordination::admin_client::{AdminClient, AdminError};
use ottla_common::coordination::protocol::CoordinationError;
use ottla_common::coordination::protocol::admin::{
    AdminRequest, MemberStatus, Members, StateDigest,
};
use ottla_common::types::MemberId;
use tokio::time::Instant;

use crate::context::Context;

/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a leader may take to be there and ready.
const LEADER_PATIENCE: Duration = Duration::from_secs(15);

/// How long until the leader is told once more what it could not do yet.
const PAUSE: Duration = Duration::from_millis(200);

/// The members that answer, and those that do not.
#[derive(Debug)]
pub struct Panel {
    /// Those that answer, by number.
    members: BTreeMap<MemberId, AdminClient>,
    /// Those that do not: where they were looked for, and why there is no answer.
    pub missing: Vec<(String, String)>,
    /// Who belongs to the ensemble, as one that answers has it.
    pub known: Members,
}

impl Panel {
    /// Connects to the members that are named, and to those that they name.
    pub async fn open(context: &Context) -> anyhow::Result<Self> {
        let (members, missing, known) = (BTreeMap::new(), Vec::new(), Members::default());
        let mut panel = Self { members, missing, known };
        panel.connect(&context.coordinators).await;
        let Some(first) = panel.members.values_mut().next() else {
            let reasons: Vec<String> =
                panel.missing.iter().map(|(at, why)| format!("{at}: {why}")).collect();
            bail!(
                "no member of the coordinator answers ({}); is it running? --coordinators names \
                 others, `ottla dev` starts one",
                reasons.join("; ")
            )
        };
        panel.known = first.members().await?;
        let others = panel.known.members.iter();
        let others = others.filter(|(id, member)| {
            !panel.members.contains_key(id) && !member.client_address.is_empty()
        });
        let others = others.map(|(_, member)| member.client_address.clone());
        let tried: Vec<&String> = panel.missing.iter().map(|(address, _)| address).collect();
        let others: Vec<String> = others.filter(|address| !tried.contains(&address)).collect();
        panel.connect(&others).await;
        Ok(panel)
    }

    async fn connect(&mut self, addresses: &[String]) {
        let connecting = addresses.iter().map(|address| AdminClient::connect(address, PATIENCE));
        for (address, connected) in addresses.iter().zip(join_all(connecting).await) {
            match connected {
                Ok(client) => {
                    self.members.insert(client.member_id, client);
                }
                Err(error) => self.missing.push((address.clone(), error.to_string())),
            }
        }
    }

    /// Whether a member answers.
    pub fn reaches(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// Proves an identity (`user:password`) to all members.
    pub async fn prove(&mut self, proof: &str) -> anyhow::Result<()> {
        let request = AdminRequest::Auth {
            scheme: "digest".to_owned(),
            credential: proof.as_bytes().to_vec(),
        };
        for client in self.members.values_mut() {
            client.tell(request.clone()).await?;
        }
        Ok(())
    }

    /// The figures of all members that answer. Who does not any more is missing from then on.
    pub async fn statuses(&mut self) -> Vec<MemberStatus> {
        let asking = self.members.iter_mut().map(|(id, client)| async {
            let status = client.status().await;
            (*id, status)
        });
        let answers = join_all(asking).await;
        self.sort(answers).into_values().collect()
    }

    /// Who belongs to the ensemble, as one member has it, if it answers.
    pub async fn members_at(&mut self, id: Option<MemberId>) -> Option<Members> {
        self.members.get_mut(&id?)?.members().await.ok()
    }

    /// The digests of the states that members have passed.
    pub async fn digests(&mut self) -> BTreeMap<MemberId, Vec<StateDigest>> {
        let asking = self.members.iter_mut().map(|(id, client)| async {
            let digests = client.digests().await;
            (*id, digests)
        });
        let answers = join_all(asking).await;
        self.sort(answers)
    }

    fn sort<T>(
        &mut self,
        answers: Vec<(MemberId, Result<T, AdminError>)>,
    ) -> BTreeMap<MemberId, T> {
        let mut good = BTreeMap::new();
        for (id, answer) in answers {
            match answer {
                Ok(answer) => {
                    good.insert(id, answer);
                }
                Err(error) => {
                    self.members.remove(&id);
                    self.missing.push((format!("member {id}"), error.to_string()));
                }
            }
        }
        good
    }

    /// Has the leader do something, once there is one and it is ready: where members start or
    /// leaders change, that is a matter of moments.
    pub async fn tell_leader(&mut self, request: AdminRequest) -> anyhow::Result<MemberId> {
        let began = Instant::now();
        let mut may_be_done = false;
        loop {
            let refused = match self.leader().await {
                None => anyhow!("no member knows a leader; `ottla coordinator status` shows them"),
                Some(leader_id) => {
                    let Err(error) = self.tell(leader_id, request.clone()).await else {
                        return Ok(leader_id);
                    };
                    if is_unknown(&error) {
                        may_be_done = true;
                    } else if !is_for_now(&error) {
                        // It may be refused for it was done at the first attempt.
                        if may_be_done && self.shows(leader_id, &request).await {
                            return Ok(leader_id);
                        }
                        return Err(error);
                    }
                    error
                }
            };
            if began.elapsed() > LEADER_PATIENCE {
                return Err(refused);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the members are as a request wants them, as this one has it.
    async fn shows(&mut self, id: MemberId, request: &AdminRequest) -> bool {
        let Some(known) = self.members_at(Some(id)).await else { return false };
        match request {
            AdminRequest::RemoveMember { id } => !known.members.contains_key(id),
            AdminRequest::AddMember { id, member } => known.members.get(id).is_some_and(|known| {
                (&known.peer_address, &known.client_address)
                    == (&member.peer_address, &member.client_address)
            }),
            _ => false,
        }
    }

    async fn leader(&mut self) -> Option<MemberId> {
        let statuses = self.statuses().await;
        let newest = statuses.iter().filter(|status| status.leader_id.is_some());
        newest.max_by_key(|status| status.figures.term).and_then(|status| status.leader_id)
    }

    /// Has a member do something.
    pub async fn tell(&mut self, id: MemberId, request: AdminRequest) -> anyhow::Result<()> {
        let Some(client) = self.members.get_mut(&id) else {
            bail!("member {id} does not answer; --coordinators takes the addresses of all")
        };
        match client.tell(request).await {
            Err(AdminError::Refused(CoordinationError::NoAuth { .. })) => bail!(
                "member {id} does not allow it: --auth proves who may (`super.digest`); without \
                 such an identity only the member's own machine may"
            ),
            told => Ok(told?),
        }
    }

    /// The members that answer.
    pub fn ids(&self) -> Vec<MemberId> {
        self.members.keys().copied().collect()
    }
}

/// Whether a refusal passes by itself, and nothing was done.
fn is_for_now(error: &anyhow::Error) -> bool {
    use CoordinationError::{NewConfigNoQuorum, ReconfigInProgress};
    let refusal = error.downcast_ref::<AdminError>();
    matches!(refusal, Some(AdminError::Refused(ReconfigInProgress | NewConfigNoQuorum)))
}

/// Whether it is not known what came of it: the leader lost its place meanwhile.
fn is_unknown(error: &anyhow::Error) -> bool {
    let refusal = error.downcast_ref::<AdminError>();
    matches!(refusal, Some(AdminError::Refused(CoordinationError::Unavailable)))
}
