//! `ottla coordinator status`, `members`, `verify`, `top`, and what changes the ensemble.

use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use ottla_common::coordination::protocol::admin::{
    AdminRequest, MemberInfo, MemberStatus, StateDigest,
};
use ottla_common::types::{MemberId, Zxid};
use serde_json::Value;
use tokio::time::Instant;

use super::panel::Panel;
use crate::context::Context;
use crate::output::{Output, count_text, size_text};

/// How often members are asked for states that they all have passed.
const VERIFY_ROUNDS: usize = 10;
const VERIFY_PAUSE: Duration = Duration::from_millis(500);

/// Proves who may change the ensemble.
#[derive(Args, Debug)]
pub struct Proof {
    /// Proves to be the one of `super.digest`.
    #[arg(
        long,
        value_name = "USER:PASSWORD",
        env = "OTTLA_COORDINATOR_AUTH",
        hide_env_values = true
    )]
    auth: Option<String>,
}

/// Flags of `ottla coordinator add`.
#[derive(Args, Debug)]
pub struct AddArguments {
    /// The member's number.
    #[arg(value_parser = clap::value_parser!(u64).range(1..=255))]
    id: u64,
    /// Where the other members reach it: HOST:PORT.
    #[arg(long, value_name = "ADDRESS")]
    peer: String,
    /// Where clients reach it: HOST:PORT.
    #[arg(long, value_name = "ADDRESS", default_value = "")]
    client: String,
    /// It only receives the log, and does not vote.
    #[arg(long)]
    learner: bool,
    #[command(flatten)]
    proof: Proof,
}

/// Flags of `ottla coordinator remove`.
#[derive(Args, Debug)]
pub struct RemoveArguments {
    /// The member's number.
    id: u64,
    #[command(flatten)]
    proof: Proof,
}

/// Flags of `ottla coordinator transfer-leader`.
#[derive(Args, Debug)]
pub struct TransferArguments {
    /// To this member; else the leader chooses one that has everything.
    #[arg(long, value_name = "ID")]
    to: Option<u64>,
    #[command(flatten)]
    proof: Proof,
}

/// Flags of `ottla coordinator snapshot`.
#[derive(Args, Debug)]
pub struct SnapshotArguments {
    /// Only this member.
    #[arg(long, value_name = "ID")]
    member: Option<u64>,
    #[command(flatten)]
    proof: Proof,
}

/// Flags of `ottla coordinator top`.
#[derive(Args, Debug)]
pub struct TopArguments {
    /// How often the figures are printed, in milliseconds.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(100..))]
    interval_ms: u64,
    /// Stop after so many times.
    #[arg(short = 'n', long, value_name = "COUNT")]
    rounds: Option<u64>,
}

impl Proof {
    async fn open(&self, context: &Context) -> anyhow::Result<Panel> {
        let mut panel = Panel::open(context).await?;
        if let Some(proof) = &self.auth {
            panel.prove(proof).await?;
        }
        Ok(panel)
    }
}

/// Prints how each member is doing.
pub async fn status(context: &Context) -> anyhow::Result<()> {
    let mut panel = Panel::open(context).await?;
    let statuses = panel.statuses().await;
    print_statuses(context.output, &statuses)?;
    tell_missing(&panel);
    for status in &statuses {
        if let Some(failure) = &status.figures.failure {
            eprintln!("member {} has stopped taking changes: {failure}", status.member_id);
        }
    }
    Ok(())
}

fn print_statuses(output: Output, statuses: &[MemberStatus]) -> anyhow::Result<()> {
    let newest = statuses.iter().map(|status| status.figures.committed).max().unwrap_or_default();
    let head = [
        "member",
        "role",
        "leader",
        "term",
        "zxid",
        "lag",
        "nodes",
        "sessions",
        "watches",
        "connections",
        "outstanding",
        "log size",
        "flush p50 ms",
        "flush p99 ms",
        "tree digest",
        "uptime s",
        "version",
    ];
    output.rows(
        head,
        statuses.iter().map(|status| {
            let figures = &status.figures;
            let millis = |micros: u64| -> Value { (micros as f64 / 1_000.0).into() };
            [
                status.member_id.to_string().into(),
                figures.role.as_str().into(),
                status.leader_id.map(|id| id.to_string()).into(),
                figures.term.into(),
                status.zxid.0.into(),
                (newest.0 - status.zxid.0).max(0).into(),
                status.node_count.into(),
                status.session_count.into(),
                status.watch_count.into(),
                figures.connections.into(),
                figures.outstanding.into(),
                if output.json {
                    figures.log_size.into()
                } else {
                    size_text(figures.log_size as f64).into()
                },
                millis(figures.flush_micros_p50),
                millis(figures.flush_micros_p99),
                format!("{:016x}", status.tree_digest).into(),
                (figures.uptime_ms / 1_000).into(),
                status.build_version.as_str().into(),
            ]
        }),
    )
}

fn tell_missing(panel: &Panel) {
    for (address, reason) in &panel.missing {
        eprintln!("no answer from {address}: {reason}");
    }
}

/// Prints who belongs to the ensemble.
pub async fn members(context: &Context) -> anyhow::Result<()> {
    let mut panel = Panel::open(context).await?;
    // The leader knows how far the others are.
    let leader_id = panel.known.leader_id;
    let mut known = panel.known.clone();
    if let Some(at_leader) = panel.members_at(leader_id).await {
        known = at_leader;
    }
    context.output.rows(
        ["member", "role", "leads", "answers", "acknowledged", "peer address", "client address"],
        known.members.iter().map(|(id, member)| {
            [
                id.to_string().into(),
                role_of(member).into(),
                (known.leader_id == Some(*id)).into(),
                panel.reaches(*id).into(),
                member.acknowledged.map(|zxid| zxid.0).into(),
                some(&member.peer_address),
                some(&member.client_address),
            ]
        }),
    )?;
    tell_missing(&panel);
    Ok(())
}

fn role_of(member: &MemberInfo) -> &'static str {
    match (member.is_learner, member.rejoining) {
        (false, _) => "voter",
        (true, false) => "learner",
        (true, true) => "rejoining",
    }
}

fn some(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

/// Takes a member in.
pub async fn add(context: &Context, arguments: AddArguments) -> anyhow::Result<()> {
    let id = MemberId(arguments.id);
    let member = MemberInfo {
        is_learner: arguments.learner,
        peer_address: arguments.peer,
        client_address: arguments.client,
        ..MemberInfo::default()
    };
    let mut panel = arguments.proof.open(context).await?;
    panel.tell_leader(AdminRequest::AddMember { id, member }).await?;
    context.output.done(format_args!("member {id} belongs to the ensemble"))
}

/// Takes a member out.
pub async fn remove(context: &Context, arguments: RemoveArguments) -> anyhow::Result<()> {
    let id = MemberId(arguments.id);
    let mut panel = arguments.proof.open(context).await?;
    panel.tell_leader(AdminRequest::RemoveMember { id }).await?;
    context.output.done(format_args!("member {id} belongs to the ensemble no more"))
}

/// Has the leader give leadership away.
pub async fn transfer_leader(
    context: &Context,
    arguments: TransferArguments,
) -> anyhow::Result<()> {
    let to = arguments.to.map(MemberId);
    let mut panel = arguments.proof.open(context).await?;
    let from = panel.tell_leader(AdminRequest::TransferLeadership { to }).await?;
    match to {
        Some(to) => context.output.done(format_args!("member {from} gives leadership to {to}")),
        None => context.output.done(format_args!("member {from} gives leadership away")),
    }
}

/// Has members write a snapshot.
pub async fn snapshot(context: &Context, arguments: SnapshotArguments) -> anyhow::Result<()> {
    let mut panel = arguments.proof.open(context).await?;
    let ids = match arguments.member {
        Some(id) => vec![MemberId(id)],
        None => panel.ids(),
    };
    for id in ids {
        panel.tell(id, AdminRequest::TakeSnapshot).await?;
        context.output.done(format_args!("member {id} writes a snapshot"))?;
    }
    tell_missing(&panel);
    Ok(())
}

/// Compares the members at a state that all of them have passed.
pub async fn verify(context: &Context) -> anyhow::Result<()> {
    let mut panel = Panel::open(context).await?;
    for round in 0..VERIFY_ROUNDS {
        if round > 0 {
            tokio::time::sleep(VERIFY_PAUSE).await;
        }
        let trails = panel.digests().await;
        let Some(zxid) = newest_in_common(&trails) else { continue };
        let digests: BTreeMap<MemberId, u64> = trails
            .iter()
            .filter_map(|(id, trail)| {
                let state = trail.iter().find(|state| state.zxid == zxid)?;
                Some((*id, state.digest))
            })
            .collect();
        context.output.rows(
            ["member", "zxid", "digest"],
            digests.iter().map(|(id, digest)| {
                [id.to_string().into(), zxid.0.into(), format!("{digest:016x}").into()]
            }),
        )?;
        tell_missing(&panel);
        if let Some((first, second, at)) = disagreement(&trails) {
            bail!("members {first} and {second} differ at zxid {at}: one of them is damaged");
        }
        let unheard = panel.known.members.keys().filter(|id| !digests.contains_key(id)).count();
        if unheard > 0 || !panel.missing.is_empty() {
            bail!("{} of the members agree; not all were asked", digests.len());
        }
        return context.output.done(format_args!("all {} members agree", digests.len()));
    }
    tell_missing(&panel);
    bail!("the members have no state in common: one of them is far behind")
}

/// The newest zxid that all have passed and know the digest at.
fn newest_in_common(trails: &BTreeMap<MemberId, Vec<StateDigest>>) -> Option<Zxid> {
    let sets = trails.values().map(|trail| trail.iter().map(|state| state.zxid));
    let mut sets = sets.map(Iterator::collect::<BTreeSet<Zxid>>);
    let first = sets.next()?;
    sets.fold(first, |common, set| &common & &set).last().copied()
}

/// Two members whose digests differ at a state that both have passed, and the first such state.
fn disagreement(
    trails: &BTreeMap<MemberId, Vec<StateDigest>>,
) -> Option<(MemberId, MemberId, Zxid)> {
    let mut seen: BTreeMap<Zxid, (MemberId, u64)> = BTreeMap::new();
    let states = trails.iter().flat_map(|(id, trail)| trail.iter().map(move |state| (id, state)));
    let differing = states.filter_map(|(id, state)| {
        let (first, digest) = *seen.entry(state.zxid).or_insert((*id, state.digest));
        (digest != state.digest).then_some((first, *id, state.zxid))
    });
    differing.min_by_key(|(_, _, zxid)| *zxid)
}

/// Prints what the members do, again and again.
pub async fn top(context: &Context, arguments: &TopArguments) -> anyhow::Result<()> {
    let output = context.output;
    let clears = !output.json && std::io::stdout().is_terminal();
    let mut ticks = tokio::time::interval(Duration::from_millis(arguments.interval_ms));
    let mut panel = Panel::open(context).await?;
    let mut before: BTreeMap<MemberId, (MemberStatus, Instant)> = BTreeMap::new();
    let mut rounds = arguments.rounds.unwrap_or(u64::MAX);
    while rounds > 0 {
        rounds -= 1;
        ticks.tick().await;
        if !panel.missing.is_empty() {
            match Panel::open(context).await {
                Ok(again) => panel = again,
                Err(error) => eprintln!("{error}"),
            }
        }
        let statuses = panel.statuses().await;
        if clears {
            // To the top left corner, and nothing below it.
            output.line(format_args!("\x1b[H\x1b[J{}", headline(&statuses)))?;
        }
        print_top(output, &statuses, &before)?;
        if clears {
            for (address, reason) in &panel.missing {
                output.line(format_args!("no answer from {address}: {reason}"))?;
            }
        }
        let now = Instant::now();
        before = statuses.into_iter().map(|status| (status.member_id, (status, now))).collect();
    }
    Ok(())
}

fn headline(statuses: &[MemberStatus]) -> String {
    let leader = statuses.iter().find_map(|status| status.leader_id);
    let leader = leader.map_or("no leader".to_owned(), |id| format!("member {id} leads"));
    let first = statuses.first();
    let nodes = first.map_or(0, |status| status.node_count);
    let sessions = first.map_or(0, |status| status.session_count);
    format!("{leader}, {} nodes, {} sessions", count_text(nodes), count_text(sessions))
}

fn print_top(
    output: Output,
    statuses: &[MemberStatus],
    before: &BTreeMap<MemberId, (MemberStatus, Instant)>,
) -> anyhow::Result<()> {
    let newest = statuses.iter().map(|status| status.figures.committed).max().unwrap_or_default();
    output.rows(
        [
            "member",
            "role",
            "term",
            "zxid",
            "lag",
            "changes/s",
            "requests/s",
            "flushes/s",
            "last flush ms",
            "connections",
            "outstanding",
        ],
        statuses.iter().map(|status| {
            let figures = &status.figures;
            let earlier = before.get(&status.member_id);
            let rate = |now: u64, then: fn(&MemberStatus) -> u64| -> Value {
                let Some((earlier, at)) = earlier else { return Value::Null };
                let count = now.saturating_sub(then(earlier));
                (count as f64 / at.elapsed().as_secs_f64().max(0.001)).round().into()
            };
            [
                status.member_id.to_string().into(),
                figures.role.as_str().into(),
                figures.term.into(),
                status.zxid.0.into(),
                (newest.0 - status.zxid.0).max(0).into(),
                rate(status.zxid.0.unsigned_abs(), |status| status.zxid.0.unsigned_abs()),
                rate(figures.requests, |status| status.figures.requests),
                rate(figures.flushes, |status| status.figures.flushes),
                (figures.flush_micros_last as f64 / 1_000.0).into(),
                figures.connections.into(),
                figures.outstanding.into(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trail(states: &[(i64, u64)]) -> Vec<StateDigest> {
        states
            .iter()
            .map(|(zxid, digest)| StateDigest { zxid: Zxid(*zxid), digest: *digest })
            .collect()
    }

    #[test]
    fn members_are_compared_where_all_of_them_were() {
        let mut trails = BTreeMap::from([
            (MemberId(1), trail(&[(1, 10), (2, 20), (3, 30)])),
            (MemberId(2), trail(&[(1, 10), (2, 20)])),
            (MemberId(3), trail(&[(2, 20), (4, 40)])),
        ]);
        assert_eq!(newest_in_common(&trails), Some(Zxid(2)));
        assert_eq!(disagreement(&trails), None);
        trails.insert(MemberId(3), trail(&[(1, 11), (2, 21)]));
        assert_eq!(disagreement(&trails), Some((MemberId(1), MemberId(3), Zxid(1))));
        trails.insert(MemberId(4), trail(&[(9, 1)]));
        assert_eq!(newest_in_common(&trails), None);
    }
}
