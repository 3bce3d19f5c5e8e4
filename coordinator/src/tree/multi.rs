//! Several operations, all or none.

use ottla_common::coordination::protocol::{CoordinationError, Op, OpResult};

use super::{Tree, Turn};
use crate::limits::MULTI_OPS_MAX;

impl Tree {
    /// Does all operations in their order, each seeing what those before it did; or fails at the
    /// first that cannot be done, and then nothing has changed. All work is done on a copy, which
    /// costs nothing to make and replaces the tree at the end.
    pub(super) fn apply_multi(
        &mut self,
        turn: &mut Turn<'_>,
        ops: &[Op],
    ) -> Result<Vec<OpResult>, CoordinationError> {
        if ops.len() > MULTI_OPS_MAX {
            let limit = format!("{MULTI_OPS_MAX} operations in a multi");
            return Err(CoordinationError::LimitReached { limit });
        }
        let mut draft = self.clone();
        let mut results = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match draft.apply(turn, op) {
                Ok(result) => results.push(result),
                Err(error) => {
                    turn.changes.clear();
                    return Err(CoordinationError::MultiFailed { index, error: Box::new(error) });
                }
            }
        }
        *self = draft;
        Ok(results)
    }
}
