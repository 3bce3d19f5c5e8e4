//! When the faults are over: all must become well within a bound, and what is there in the end must
//! be what clients were told.

use ottla_common::types::SessionId;

use crate::clients::Stage;
use crate::invariants::{Check, linearizability, session_life, violation};
use crate::tell;
use crate::world::World;

/// How often it is looked at whether all is well, in microseconds.
const LOOK_US: u64 = 50_000;

/// Waits until all is well, and judges what there is.
///
/// # Errors
/// If all does not become well, or something is not as it must be.
pub fn check(world: &mut World) -> Check {
    world.mend();
    let until_us = world.now_us + world.plan.patience_us;
    loop {
        for client in &mut world.clients {
            if client.stage == Stage::Working {
                client.stage = Stage::Finishing(0);
            }
        }
        let now_us = world.now_us;
        world.run_until(now_us + LOOK_US)?;
        let Some(missing) = what_is_missing(world) else { break };
        if world.now_us >= until_us {
            for member in &world.members {
                let status = member.process.as_ref().map(|process| process.node().status());
                tell!(world, "member {}: {status:#?}", member.id);
            }
            return Err(violation("liveness", missing));
        }
    }
    judge(world)
}

/// Why not all is well yet.
fn what_is_missing(world: &World) -> Option<String> {
    let Some(leader) = world.leader() else { return Some("nobody leads".to_owned()) };
    for client in &world.clients {
        if !matches!(client.stage, Stage::Finished | Stage::Gone) {
            return Some(client.situation());
        }
    }
    for (session, lives) in &world.oracle.fates {
        if !lives && !world.oracle.life.has_ended(SessionId(*session)) {
            return Some(format!("session {session} does not end"));
        }
    }
    let committed = world.oracle.committed.last();
    let membership = &world.oracle.membership;
    for member in &world.members {
        let is_member = membership.members.keys().any(|id| id.0 == member.id);
        let applied = member.process.as_ref().map(|process| process.live.zxid().0.unsigned_abs());
        if is_member && applied != Some(committed) {
            let id = member.id;
            return Some(format!(
                "member {id} has applied {applied:?} of {committed}, and member {leader} leads"
            ));
        }
        let is_rejoining =
            membership.members.iter().any(|(id, one)| id.0 == member.id && one.rejoining);
        if is_rejoining {
            return Some(format!("member {} does not vote again", member.id));
        }
    }
    None
}

fn judge(world: &mut World) -> Check {
    for member in &world.members {
        let Some(process) = &member.process else { continue };
        let machine = process.live.machine();
        let is_newest = machine.zxid() == world.oracle.reference.zxid();
        session_life::no_orphans(member.id, &machine)?;
        if is_newest {
            world.oracle.shown(member.id, &machine);
        }
    }
    world.oracle.tell_fates();
    linearizability::check(&world.oracle.history)
}
