//! What happened, for people. Nothing is kept while nobody wants to read it: a run that failed is
//! run again with the same seed, and is then the same run.

use std::collections::VecDeque;
use std::fmt::Arguments;

/// How many lines are kept.
const LINES_MAX: usize = 200_000;

/// The story of a run.
#[derive(Debug, Default)]
pub struct Trace {
    is_kept: bool,
    /// Whether what members say to each other is told as well.
    pub has_messages: bool,
    lines: VecDeque<String>,
}

impl Trace {
    /// A story that is kept or not.
    pub fn new(is_kept: bool) -> Self {
        Self { is_kept, has_messages: false, lines: VecDeque::new() }
    }

    /// Whether it is kept.
    pub fn is_kept(&self) -> bool {
        self.is_kept
    }

    /// Adds a line.
    pub fn line(&mut self, now_us: u64, line: Arguments<'_>) {
        if !self.is_kept {
            return;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>6}.{:03} {line}", now_us / 1000, now_us % 1000));
    }

    /// The last lines.
    pub fn tail(&self, count: usize) -> impl Iterator<Item = &String> {
        self.lines.iter().skip(self.lines.len().saturating_sub(count))
    }
}

/// Adds a line to a world's story; costs nothing while the story is not kept.
#[macro_export]
macro_rules! tell {
    ($world:expr, $($argument:tt)*) => {
        if $world.trace.is_kept() {
            $world.trace.line($world.now_us, format_args!($($argument)*));
        }
    };
}
