//! Pure: which part of a log is to be compacted, and which log first.
//!
//! ```text
//! start          first dirty               first uncleanable        active segment
//!   |── clean ──────|── dirty, to be compacted ──|── too young, or not stable ──|
//! ```
//!
//! Segments are compacted whole. What begins at the first dirty offset was not compacted before; a
//! pass reads it, and then rewrites everything before the first uncleanable offset.

/// What is known of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentView {
    /// Its first offset.
    pub base_offset: i64,
    /// The offset after its last.
    pub end_offset: i64,
    /// Bytes.
    pub size: u64,
    /// The largest timestamp of its records, or when its file was written.
    pub newest_ms: i64,
    /// The largest timestamp of its first batch, if it is asked for and known.
    pub first_ms: Option<i64>,
}

/// What is known of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogView {
    /// The segments; the last one is active.
    pub segments: Vec<SegmentView>,
    /// The first offset that may be read.
    pub start_offset: i64,
    /// The first offset that is not decided on.
    pub last_stable_offset: i64,
    /// Up to where the log was compacted, if it is known.
    pub cleaned_offset: Option<i64>,
}

/// The topic's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// `min.compaction.lag.ms`.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`.
    pub max_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`.
    pub min_dirty_ratio: f64,
}

/// What is to be compacted of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanable {
    /// Before it all was compacted.
    pub first_dirty_offset: i64,
    /// From it on nothing is touched.
    pub first_uncleanable_offset: i64,
    /// Bytes before the dirty part.
    pub clean_bytes: u64,
    /// Bytes of the dirty part.
    pub dirty_bytes: u64,
    /// A record in it has waited longer than `max.compaction.lag.ms`.
    pub overdue: bool,
}

impl Cleanable {
    /// The dirty share of what would be compacted.
    pub fn dirty_ratio(&self) -> f64 {
        let all = self.clean_bytes.saturating_add(self.dirty_bytes);
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }
}

/// Where the dirty part begins: where the last pass ended, unless the log was cut or deleted since.
pub fn first_dirty_offset(view: &LogView) -> i64 {
    let end = view.segments.last().map_or(view.start_offset, |active| active.end_offset);
    match view.cleaned_offset {
        Some(offset) if (view.start_offset..=end).contains(&offset) => offset,
        _ => view.start_offset,
    }
}

/// The part of a log that may be compacted; `None` if there is none.
pub fn cleanable(view: &LogView, rules: &Rules, now_ms: i64) -> Option<Cleanable> {
    let (_active, closed) = view.segments.split_last()?;
    let first_dirty_offset = first_dirty_offset(view);
    let youngest_ms = now_ms.saturating_sub(rules.min_lag_ms);
    let is_too_young = |segment: &SegmentView| {
        rules.min_lag_ms > 0
            && segment.end_offset > first_dirty_offset
            && segment.newest_ms > youngest_ms
    };
    let count = closed
        .iter()
        .take_while(|s| s.end_offset <= view.last_stable_offset && !is_too_young(s))
        .count();
    let usable = closed.get(..count)?;
    let first_uncleanable_offset = usable.last()?.end_offset;
    let (clean, dirty) =
        usable.split_at(usable.partition_point(|s| s.end_offset <= first_dirty_offset));
    let bytes = |segments: &[SegmentView]| segments.iter().map(|s| s.size).sum();
    let earliest_ms = dirty.iter().filter_map(|s| s.first_ms).filter(|ms| *ms > 0).min();
    let max_lag_ms = rules.max_lag_ms.max(rules.min_lag_ms);
    let overdue = earliest_ms.is_some_and(|ms| now_ms.saturating_sub(ms) > max_lag_ms);
    (!dirty.is_empty()).then_some(Cleanable {
        first_dirty_offset,
        first_uncleanable_offset,
        clean_bytes: bytes(clean),
        dirty_bytes: bytes(dirty),
        overdue,
    })
}

/// Whether so much is dirty, or has been for so long, that it is worth a pass.
pub fn is_due(cleanable: &Cleanable, rules: &Rules) -> bool {
    cleanable.dirty_bytes > 0
        && (cleanable.overdue || cleanable.dirty_ratio() > rules.min_dirty_ratio)
}

/// Whether the one is to be compacted before the other: what is overdue first, then the dirtiest.
pub fn comes_before(one: &Cleanable, other: &Cleanable) -> bool {
    (one.overdue, one.dirty_ratio()) > (other.overdue, other.dirty_ratio())
}

/// Bounds of a segment that several are joined into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimits {
    /// `segment.bytes`.
    pub segment_bytes: u64,
    /// `segment.index.bytes`.
    pub index_bytes: u64,
}

/// What counts of a segment when several are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its first offset.
    pub base_offset: i64,
    /// The offset after its last.
    pub end_offset: i64,
    /// Bytes of batches.
    pub size: u64,
    /// Bytes of the larger one of its indexes.
    pub index_size: u64,
}

/// How many segments go into each new one, in order: as many as fit even if no record went, so that
/// many small ones become few.
pub fn groups(members: &[GroupMember], limits: GroupLimits) -> Vec<usize> {
    let mut groups = Vec::new();
    let mut rest = members;
    while let Some((first, others)) = rest.split_first() {
        let (mut size, mut index_size, mut count) = (first.size, first.index_size, 1);
        for member in others {
            size = size.saturating_add(member.size);
            index_size = index_size.saturating_add(member.index_size);
            let span = member.end_offset.saturating_sub(1).saturating_sub(first.base_offset);
            let is_too_much = size > limits.segment_bytes
                || index_size > limits.index_bytes
                || span > i64::from(i32::MAX);
            if is_too_much {
                break;
            }
            count += 1;
        }
        groups.push(count);
        rest = rest.get(count..).unwrap_or_default();
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { min_lag_ms: 0, max_lag_ms: i64::MAX, min_dirty_ratio: 0.5 };

    /// Segments of ten offsets and as many bytes as told; the last one is active.
    fn view(sizes: &[u64], cleaned_offset: Option<i64>) -> LogView {
        let segment = |(number, &size): (i64, &u64)| SegmentView {
            base_offset: number * 10,
            end_offset: number * 10 + 10,
            size,
            newest_ms: number * 1000,
            first_ms: Some(number * 1000),
        };
        let segments: Vec<_> = (0..).zip(sizes).map(segment).collect();
        let end = segments.last().unwrap().end_offset;
        LogView { segments, start_offset: 0, last_stable_offset: end, cleaned_offset }
    }

    #[test]
    fn the_active_segment_and_what_is_not_stable_are_left_alone() {
        let found = cleanable(&view(&[5, 5, 5], None), &RULES, 0).unwrap();
        assert_eq!((found.first_dirty_offset, found.first_uncleanable_offset), (0, 20));
        assert_eq!((found.clean_bytes, found.dirty_bytes), (0, 10));
        let mut unstable = view(&[5, 5, 5], None);
        unstable.last_stable_offset = 19;
        assert_eq!(cleanable(&unstable, &RULES, 0).unwrap().first_uncleanable_offset, 10);
        unstable.last_stable_offset = 9;
        assert_eq!(cleanable(&unstable, &RULES, 0), None);
        assert_eq!(cleanable(&view(&[5], None), &RULES, 0), None, "only an active segment");
    }

    #[test]
    fn a_log_is_due_when_enough_of_it_is_dirty() {
        for (cleaned, ratio, due) in
            [(None, 1.0, true), (Some(10), 0.75, true), (Some(30), 0.25, false)]
        {
            let found = cleanable(&view(&[5, 5, 5, 5, 5], cleaned), &RULES, 0).unwrap();
            assert_eq!((found.dirty_ratio(), is_due(&found, &RULES)), (ratio, due), "{cleaned:?}");
        }
        let exactly = cleanable(&view(&[5, 5, 5], Some(10)), &RULES, 0).unwrap();
        assert!(!is_due(&exactly, &RULES), "more than the ratio, as with Kafka");
        assert_eq!(cleanable(&view(&[5, 5, 5], Some(20)), &RULES, 0), None, "nothing is dirty");
    }

    #[test]
    fn a_checkpoint_that_the_log_does_not_hold_any_more_counts_for_nothing() {
        for cleaned in [-1, 31, i64::MAX] {
            assert_eq!(first_dirty_offset(&view(&[5, 5, 5], Some(cleaned))), 0, "{cleaned}");
        }
        let mut deleted = view(&[5, 5, 5], Some(5));
        deleted.start_offset = 7;
        assert_eq!(first_dirty_offset(&deleted), 7);
    }

    #[test]
    fn young_records_wait_and_old_ones_do_not() {
        let rules = Rules { min_lag_ms: 1500, ..RULES };
        let found = cleanable(&view(&[5, 5, 5, 5], None), &rules, 2500).unwrap();
        assert_eq!(found.first_uncleanable_offset, 20);
        let rules = Rules { max_lag_ms: 1500, min_dirty_ratio: 1.0, ..RULES };
        let found = cleanable(&view(&[5, 5, 5, 5], Some(10)), &rules, 2500).unwrap();
        assert!(!found.overdue && !is_due(&found, &rules));
        let found = cleanable(&view(&[5, 5, 5, 5], Some(10)), &rules, 2501).unwrap();
        assert!(found.overdue && is_due(&found, &rules));
        let dirtier = cleanable(&view(&[5, 5, 5, 5], None), &RULES, 0).unwrap();
        assert!(comes_before(&found, &dirtier) && !comes_before(&dirtier, &found));
    }

    #[test]
    fn small_segments_are_joined_as_far_as_the_limits_go() {
        let member = |base_offset: i64, size: u64| GroupMember {
            base_offset,
            end_offset: base_offset + 10,
            size,
            index_size: 8,
        };
        let members: Vec<_> = (0..6).map(|number| member(number * 10, 30)).collect();
        let limits = GroupLimits { segment_bytes: 100, index_bytes: 1000 };
        assert_eq!(groups(&members, limits), [3, 3]);
        assert_eq!(groups(&members, GroupLimits { index_bytes: 16, ..limits }), [2, 2, 2]);
        assert_eq!(groups(&members, GroupLimits { segment_bytes: 1, ..limits }), [1; 6]);
        let far = [member(0, 1), member(i64::from(i32::MAX) - 9, 1), member(1 << 40, 1)];
        assert_eq!(groups(&far, limits), [2, 1]);
        assert_eq!(groups(&[], limits), [0_usize; 0]);
    }
}
