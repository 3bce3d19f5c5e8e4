//! What the leader does unasked: it ends the sessions that were not heard from and removes idle
//! nodes. Both are commands like any other.

use std::time::Duration;

use ottla_common::clock;
use ottla_common::shutdown::Shutdown;
use ottla_common::types::SessionId;

use super::Service;
use crate::limits::{EXPIRIES_PER_COMMAND_MAX, IDLE_REMOVALS_MAX};
use crate::tree::{Action, Command, Effect};

/// After how many milliseconds an expiry that could not be proposed is tried again.
const RETRY_MS: u64 = 1_000;

impl Service {
    /// Ends sessions at their deadlines until the member stops.
    pub async fn expire_sessions(&self, shutdown: &Shutdown) {
        let tick = Duration::from_millis(self.options.expiry_tick_ms);
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_tick_ms = clock::monotonic_ms();
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shutdown.stopped() => return,
            }
            let now_ms = clock::monotonic_ms();
            self.forgive_a_pause(now_ms.saturating_sub(last_tick_ms), now_ms);
            last_tick_ms = now_ms;
            if !self.ensemble.is_leader() {
                continue;
            }
            loop {
                let due = self.deadlines.lock().take_due(now_ms, EXPIRIES_PER_COMMAND_MAX);
                if due.is_empty() {
                    break;
                }
                self.expire(due).await;
            }
        }
    }

    /// After this member itself stood still (a suspended machine), sessions could not be heard
    /// from: all of them begin again.
    fn forgive_a_pause(&self, paused_ms: u64, now_ms: u64) {
        const PAUSE_TICKS: u64 = 20;
        if paused_ms < self.options.expiry_tick_ms * PAUSE_TICKS {
            return;
        }
        tracing::warn!(paused_ms, "this member stood still, so sessions get their timeout again");
        let view = self.live.view();
        let mut deadlines = self.deadlines.lock();
        for (session_id, session) in view.machine().sessions().iter() {
            deadlines.begin(session_id, session.session_timeout_ms, now_ms);
        }
    }

    async fn expire(&self, due: Vec<SessionId>) {
        let command = Command::by_ensemble(Action::ExpireSessions(due.clone()));
        match self.ensemble.propose(command).await {
            Ok(applied) => {
                if let Ok(Effect::SessionsEnded(ended)) = applied.outcome {
                    for session_id in ended {
                        tracing::info!(session_id = %session_id, "session expired");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, count = due.len(), "cannot expire sessions, will try again");
                let view = self.live.view();
                let mut deadlines = self.deadlines.lock();
                let now_ms = clock::monotonic_ms();
                for session_id in due {
                    if let Some(session) = view.machine().sessions().get(session_id) {
                        deadlines.begin(session_id, session.session_timeout_ms, now_ms);
                        deadlines.disconnected(session_id, RETRY_MS, now_ms);
                    }
                }
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
            if !self.ensemble.is_leader() {
                continue;
            }
            let machine = self.live.machine();
            let idle = machine.tree().idle_nodes(clock::wall_time_ms());
            let idle: Vec<String> = idle.map(|path| path.to_string()).collect();
            for paths in idle.chunks(IDLE_REMOVALS_MAX) {
                let command = Command::by_ensemble(Action::RemoveIdle(paths.to_vec()));
                if let Err(error) = self.ensemble.propose(command).await {
                    tracing::warn!(%error, "cannot remove idle nodes, will try again");
                    break;
                }
            }
        }
    }
}
