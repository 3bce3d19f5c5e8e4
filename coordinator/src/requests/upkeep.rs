//! What the leader does unasked: it ends the sessions that were not heard from and removes idle
//! nodes. Both are commands like any other.

use std::time::Duration;

use ottla_common::shutdown::Shutdown;

use super::Service;
use crate::limits::{EXPIRIES_PER_COMMAND_MAX, IDLE_REMOVALS_MAX};
use crate::tree::{Action, Command, Effect, Expiry};

/// After how many milliseconds an expiry that could not be proposed is tried again.
const RETRY_MS: u64 = 1_000;

impl Service {
    /// Ends sessions at their deadlines until the member stops.
    pub async fn expire_sessions(&self, shutdown: &Shutdown) {
        let tick = Duration::from_millis(self.options.expiry_tick_ms);
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_tick_ms = self.ensemble.clock().monotonic_ms();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.stopped() => return,
            }
            last_tick_ms = self.expire_due(last_tick_ms).await;
        }
    }

    /// Ends the sessions whose time is over, if this member leads, and heeds whether any does. To
    /// be called every tick, with what the last call returned: the time.
    pub async fn expire_due(&self, last_tick_ms: u64) -> u64 {
        let now_ms = self.ensemble.clock().monotonic_ms();
        self.forgive_a_pause(now_ms.saturating_sub(last_tick_ms), now_ms);
        self.heed_leadership(now_ms);
        let keeper = self.ensemble.keeper();
        while let Some((term, due)) = keeper.take_due(now_ms, EXPIRIES_PER_COMMAND_MAX) {
            self.expire(term, due).await;
        }
        now_ms
    }

    /// After this member itself stood still (a suspended machine), sessions could not be heard
    /// from: all of them begin again.
    fn forgive_a_pause(&self, paused_ms: u64, now_ms: u64) {
        const PAUSE_TICKS: u64 = 20;
        let keeper = self.ensemble.keeper();
        if paused_ms < self.options.expiry_tick_ms * PAUSE_TICKS || !keeper.is_in_force() {
            return;
        }
        tracing::warn!(paused_ms, "this member stood still, so sessions get their timeout again");
        keeper.forgive(&self.live.machine(), now_ms);
    }

    async fn expire(&self, term: u64, due: Vec<Expiry>) {
        let command = Command::by_ensemble(Action::ExpireSessions(due.clone()));
        match self.ensemble.propose_in_term(command, term).await {
            Ok(applied) => {
                if let Ok(Effect::SessionsEnded(ended)) = applied.outcome {
                    for session_id in ended {
                        tracing::info!(session_id = %session_id, "session expired");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, count = due.len(), "cannot expire sessions, will try again");
                let now_ms = self.ensemble.clock().monotonic_ms();
                self.ensemble.keeper().put_back(&due, &self.live.machine(), (now_ms, RETRY_MS));
            }
        }
    }

    /// Removes idle containers and nodes whose time to live is over, until the member stops.
    pub async fn remove_idle_nodes(&self, shutdown: &Shutdown) {
        let interval = Duration::from_millis(self.options.idle_check_interval_ms);
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                () = shutdown.stopped() => return,
            }
            self.remove_idle().await;
        }
    }

    /// Removes what is idle now, if this member leads.
    pub async fn remove_idle(&self) {
        if !self.ensemble.is_leader() {
            return;
        }
        let machine = self.live.machine();
        let idle = machine.tree().idle_nodes(self.ensemble.clock().wall_time_ms());
        let idle: Vec<String> = idle.map(|path| path.to_string()).collect();
        for paths in idle.chunks(IDLE_REMOVALS_MAX) {
            let command = Command::by_ensemble(Action::RemoveIdle(paths.to_vec()));
            if let Err(error) = self.ensemble.propose(command).await {
                tracing::warn!(%error, "cannot remove idle nodes, will try again");
                return;
            }
        }
    }
}
