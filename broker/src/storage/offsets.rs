//! The offsets of a log that only go together.
//!
//! ```text
//! start ≤ recovery_point ≤ flushed ≤ end
//! start ≤ high_watermark ≤ end
//! ```

/// A log's offsets at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOffsets {
    /// The first offset that may be read.
    pub start: i64,
    /// Everything before was on disk, with its indexes, when the last checkpoint was prepared.
    pub recovery_point: i64,
    /// Everything before is on disk.
    pub flushed: i64,
    /// Everything before is committed.
    pub high_watermark: i64,
    /// The offset of the next record.
    pub end: i64,
    /// How often the log was cut. A flush that began before a cut says nothing of what came after.
    pub cuts: u64,
}

impl LogOffsets {
    /// Those of a log that was just opened: all that is in it counts as flushed, since recovery saw
    /// to that.
    pub fn opened(start: i64, high_watermark: i64, end: i64) -> Self {
        let high_watermark = high_watermark.clamp(start, end);
        Self { start, recovery_point: end, flushed: end, high_watermark, end, cuts: 0 }
    }

    /// Asserts the order that must always hold.
    pub fn check(&self) {
        assert!(
            self.start <= self.recovery_point
                && self.recovery_point <= self.flushed
                && self.flushed <= self.end
                && self.start <= self.high_watermark
                && self.high_watermark <= self.end,
            "log offsets are out of order: {self:?}"
        );
    }

    /// The log ends at `offset` now, before where it ended.
    pub fn cut(&mut self, offset: i64) {
        self.end = self.end.min(offset);
        self.flushed = self.flushed.min(offset);
        self.recovery_point = self.recovery_point.min(offset);
        self.high_watermark = self.high_watermark.min(offset);
        self.cuts += 1;
    }

    /// The log starts at `offset` now, at the earliest.
    pub fn advance_start(&mut self, offset: i64) {
        self.start = self.start.max(offset);
        self.recovery_point = self.recovery_point.max(self.start);
        self.flushed = self.flushed.max(self.start);
        self.high_watermark = self.high_watermark.max(self.start);
    }
}
