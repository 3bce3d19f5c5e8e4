//! Kafka's range assignor without racks: of each topic, members in the order of their ids get
//! partitions that follow each other, and the first of them one more if it does not come out even.

use std::collections::BTreeMap;

/// What each member is assigned: partitions by topic.
pub type Assignments = BTreeMap<String, BTreeMap<String, Vec<i32>>>;

/// Assigns. `subscriptions` has the topics of each member, `counts` how many partitions a topic
/// has; topics without a count do not exist.
pub fn assign(
    subscriptions: &BTreeMap<String, Vec<String>>,
    counts: &BTreeMap<String, i32>,
) -> Assignments {
    let mut readers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (member, topics) in subscriptions {
        for topic in topics {
            readers.entry(topic).or_default().push(member);
        }
    }
    let mut assigned: Assignments =
        subscriptions.keys().map(|member| (member.clone(), BTreeMap::new())).collect();
    for (topic, members) in readers {
        let count = counts.get(topic).copied().unwrap_or(0);
        let among = i32::try_from(members.len()).unwrap_or(i32::MAX).max(1);
        let mut next = 0;
        for (index, member) in (0_i32..).zip(members) {
            let share = count / among + i32::from(index < count % among);
            let end = next + share;
            if let Some(partitions) = assigned.get_mut(member).filter(|_| share > 0) {
                partitions.insert(topic.to_owned(), (next..end).collect());
            }
            next = end;
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_members_get_what_does_not_come_out_even() {
        let topics = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let subscriptions = BTreeMap::from([
            ("a".to_owned(), topics(&["t", "u"])),
            ("b".to_owned(), topics(&["t"])),
            ("c".to_owned(), topics(&["t", "gone"])),
        ]);
        let counts = BTreeMap::from([("t".to_owned(), 4), ("u".to_owned(), 2)]);
        let assigned = assign(&subscriptions, &counts);
        let of = |member: &str, topic: &str| assigned[member].get(topic).cloned();
        assert_eq!(of("a", "t"), Some(vec![0, 1]));
        assert_eq!(of("b", "t"), Some(vec![2]));
        assert_eq!(of("c", "t"), Some(vec![3]));
        assert_eq!(of("a", "u"), Some(vec![0, 1]));
        assert_eq!((of("b", "u"), of("c", "gone")), (None, None));
    }

    #[test]
    fn more_members_than_partitions_leave_some_without() {
        let member = |name: &str| (name.to_owned(), vec!["t".to_owned()]);
        let subscriptions = BTreeMap::from([member("a"), member("b"), member("c")]);
        let assigned = assign(&subscriptions, &BTreeMap::from([("t".to_owned(), 2)]));
        let counts: Vec<usize> = assigned.values().map(BTreeMap::len).collect();
        assert_eq!(counts, [1, 1, 0]);
    }
}
