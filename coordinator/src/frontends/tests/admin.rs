//! Administrators ask a member.

use std::time::Duration;

use ottla_common::coordination::admin_client::{AdminClient, AdminError};
use ottla_common::coordination::protocol::admin::AdminRequest;
use ottla_common::coordination::protocol::{CoordinationError, CreateMode};
use ottla_common::types::MemberId;

use super::raw::Member;

async fn administrator(member: &Member) -> AdminClient {
    let address = member.address.to_string();
    AdminClient::connect(&address, Duration::from_secs(20)).await.unwrap()
}

#[tokio::test]
async fn a_member_tells_its_figures_without_a_session() {
    let member = Member::start().await;
    let mut admin = administrator(&member).await;
    assert_eq!(admin.member_id, MemberId(1));
    let before = admin.status().await.unwrap();
    assert_eq!((before.session_count, before.leader_id), (0, Some(MemberId(1))));
    assert_eq!(before.figures.role, "leader");
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Ephemeral).await.unwrap();
    assert!(client.exists("/a").await);
    let after = admin.status().await.unwrap();
    assert_eq!(after.node_count, before.node_count + 1);
    assert_eq!((after.session_count, after.figures.connections), (1, 1));
    assert_eq!((after.figures.ephemerals, after.figures.requests), (1, 2));
    assert!(after.zxid > before.zxid && after.figures.flushes > before.figures.flushes);
    assert!(after.figures.flush_micros_p99 >= after.figures.flush_micros_p50);
    let members = admin.members().await.unwrap();
    assert_eq!(members.members.keys().collect::<Vec<_>>(), [&MemberId(1)]);
}

#[tokio::test]
async fn members_can_be_compared_at_states_that_they_have_passed() {
    let member = Member::start().await;
    let mut admin = administrator(&member).await;
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Persistent).await.unwrap();
    let then = admin.status().await.unwrap();
    client.create("/b", CreateMode::Persistent).await.unwrap();
    let digests = admin.digests().await.unwrap();
    let at_then = digests.iter().find(|state| state.zxid == then.zxid).unwrap();
    assert_eq!(at_then.digest, then.tree_digest);
    let last = digests.last().unwrap();
    assert!(last.zxid > then.zxid && last.digest != then.tree_digest);
}

#[tokio::test]
async fn who_may_do_everything_must_prove_it_where_it_is_configured() {
    let with_super = |config: &mut crate::config::Config| {
        // Of `root:secret`.
        let identity = crate::tree::acl::digest_identity(b"root:secret").unwrap();
        config.super_digest = Some(identity.id);
    };
    let member = Member::start_with(with_super).await;
    let mut admin = administrator(&member).await;
    let refused = admin.tell(AdminRequest::TakeSnapshot).await.unwrap_err();
    assert!(matches!(refused, AdminError::Refused(CoordinationError::NoAuth { .. })));
    let prove = |proof: &str| AdminRequest::Auth {
        scheme: "digest".to_owned(),
        credential: proof.as_bytes().to_vec(),
    };
    admin.tell(prove("root:guess")).await.unwrap();
    let refused = admin.tell(AdminRequest::TakeSnapshot).await.unwrap_err();
    assert!(matches!(refused, AdminError::Refused(CoordinationError::NoAuth { .. })));
    admin.tell(prove("root:secret")).await.unwrap();
    admin.tell(AdminRequest::TakeSnapshot).await.unwrap();
    // Looking needs no proof.
    administrator(&member).await.status().await.unwrap();
}

#[tokio::test]
async fn a_snapshot_is_taken_when_it_is_asked_for() {
    let member = Member::start().await;
    let mut admin = administrator(&member).await;
    let mut client = member.connect().await;
    client.create("/a", CreateMode::Persistent).await.unwrap();
    let before = admin.status().await.unwrap();
    assert!(before.figures.log_size > 0);
    admin.tell(AdminRequest::TakeSnapshot).await.unwrap();
    while admin.status().await.unwrap().figures.snapshot < before.zxid {
        tokio::task::yield_now().await;
    }
    // What a lone member cannot do is refused, and the member lives.
    let alone = admin.tell(AdminRequest::RemoveMember { id: MemberId(1) }).await;
    assert!(matches!(alone, Err(AdminError::Refused(_))), "{alone:?}");
    let alone = admin.tell(AdminRequest::TransferLeadership { to: Some(MemberId(2)) }).await;
    assert!(matches!(alone, Err(AdminError::Refused(_))), "{alone:?}");
    client.create("/b", CreateMode::Persistent).await.unwrap();
}
