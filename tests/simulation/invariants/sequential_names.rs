//! The names of sequential nodes rise, also where children were deleted meanwhile (Z10).

use std::collections::BTreeMap;

use super::{Check, violation};

/// The highest number under each parent.
#[derive(Debug, Default)]
pub struct SequentialNames {
    newest: BTreeMap<String, u64>,
}

impl SequentialNames {
    /// A sequential node was made; in the order of zxids.
    pub fn made(&mut self, path: &str) -> Check {
        let Some((parent, name)) = path.rsplit_once('/') else { return Ok(()) };
        let digits = name.len().checked_sub(10).and_then(|start| name.get(start..));
        let Some(number) = digits.and_then(|digits| digits.parse::<u64>().ok()) else {
            return Err(violation("sequential_names", format!("{path} has no number")));
        };
        match self.newest.insert(parent.to_owned(), number) {
            Some(before) if number <= before => {
                let what = format!("{path} was made after the number {before}");
                Err(violation("sequential_names", what))
            }
            _ => Ok(()),
        }
    }
}
