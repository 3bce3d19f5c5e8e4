//! Counting majorities.

use ottla_common::types::MemberId;

use crate::storage::membership::Membership;

/// The greatest value that a majority of the voters has reached; `value` tells how far one is. The
/// lowest there is if nobody votes.
pub fn reached<T: Ord + Copy + Default>(
    membership: &Membership,
    value: impl Fn(MemberId) -> T,
) -> T {
    let mut values: Vec<T> = membership.voters().map(value).collect();
    values.sort_unstable_by(|one, other| other.cmp(one));
    values.get(membership.majority() - 1).copied().unwrap_or_default()
}

/// Whether a majority of the voters is so.
pub fn has_majority(membership: &Membership, is_so: impl Fn(MemberId) -> bool) -> bool {
    membership.voters().filter(|id| is_so(*id)).count() >= membership.majority()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::membership::MemberRole;

    #[test]
    fn more_than_half_is_a_majority() {
        let values = [0, 5, 9, 7, 3];
        let value = |id: MemberId| values[usize::try_from(id.0).unwrap()];
        let of = |count| Membership::of_voters((1..=count).map(MemberId));
        assert_eq!(reached(&of(1), value), 5);
        assert_eq!(reached(&of(2), value), 5);
        assert_eq!(reached(&of(3), value), 7);
        assert_eq!(reached(&of(4), value), 5);
        assert_eq!(reached(&of(0), value), 0);
        assert!(!has_majority(&of(0), |_| true));
        assert!(has_majority(&of(3), |id| id.0 < 3) && !has_majority(&of(4), |id| id.0 < 3));
        let mut membership = of(3);
        membership.members.entry(MemberId(2)).or_default().role = MemberRole::Learner;
        assert_eq!(reached(&membership, value), 5);
    }
}
