//! What both assignors promise, and what each does, on small worlds and on random ones.

#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::indexing_slicing)]

use proptest::prelude::*;

use super::*;

fn topic(number: u8) -> TopicId {
    let mut id = TopicId::ZERO;
    id.0[15] = number;
    id
}

/// Members with the topics that they subscribe to, and the assignment they had.
#[derive(Clone, Debug)]
struct World {
    topics: Topics,
    members: BTreeMap<String, (BTreeSet<TopicId>, Assignment)>,
}

impl World {
    fn new(topics: &[(u8, i32)], members: &[(&str, &[u8])]) -> Self {
        let topics = topics.iter().map(|(t, count)| (topic(*t), *count)).collect();
        let mut world = Self { topics, members: BTreeMap::new() };
        for (id, topics) in members {
            world.join(id, topics);
        }
        world
    }

    fn join(&mut self, id: &str, topics: &[u8]) {
        let topics = topics.iter().map(|t| topic(*t)).collect();
        self.members.insert(id.to_owned(), (topics, Assignment::new()));
    }

    fn assign(&mut self, assignor: Assignor) {
        let members: Vec<Subscriber<'_>> = self
            .members
            .iter()
            .map(|(member_id, (topics, assigned))| Subscriber {
                member_id,
                instance_id: None,
                topics,
                assigned,
            })
            .collect();
        let result = assignor.assign(&members, &self.topics);
        for ((_, assigned), new) in self.members.values_mut().zip(result) {
            *assigned = new;
        }
    }

    fn show(&self) -> String {
        let member = |(id, (_, assigned)): (&String, &(_, Assignment))| {
            let topics = assigned.iter().map(|(t, all)| format!(" {}:{all:?}", t.0[15]));
            format!("{id}{}", topics.collect::<String>())
        };
        self.members.iter().map(member).collect::<Vec<_>>().join("; ").replace(", ", ",")
    }

    fn loads(&self) -> Vec<usize> {
        self.members.values().map(|(_, a)| a.values().map(BTreeSet::len).sum()).collect()
    }

    /// Each partition that someone wants has exactly one owner, who wants it.
    fn check(&self) {
        let mut owned: BTreeSet<(TopicId, i32)> = BTreeSet::new();
        for (id, (topics, assigned)) in &self.members {
            for (topic, partitions) in assigned {
                assert!(topics.contains(topic), "{id} does not subscribe to it: {self:?}");
                assert!(!partitions.is_empty(), "an empty entry: {self:?}");
                for partition in partitions {
                    assert!(owned.insert((*topic, *partition)), "two owners: {self:?}");
                }
            }
        }
        let wanted: BTreeSet<TopicId> =
            self.members.values().flat_map(|(topics, _)| topics).copied().collect();
        let all = wanted.iter().filter_map(|t| Some((*t, *self.topics.get(t)?)));
        let all: BTreeSet<_> = all.flat_map(|(t, count)| (0..count).map(move |p| (t, p))).collect();
        assert_eq!(owned, all, "not all, or too much: {self:?}");
    }
}

#[test]
fn range_gives_each_member_a_range_of_each_topic_in_the_order_of_ids() {
    let mut world = World::new(&[(1, 3), (2, 6)], &[("M", &[1, 2])]);
    world.assign(Assignor::Range);
    assert_eq!(world.show(), "M 1:{0,1,2} 2:{0,1,2,3,4,5}");
    world.join("Z", &[1, 2]);
    world.join("A", &[1, 2]);
    world.assign(Assignor::Range);
    assert_eq!(world.show(), "A 1:{0} 2:{0,1}; M 1:{1} 2:{2,3}; Z 1:{2} 2:{4,5}");
    world.join("P", &[1, 2]);
    world.assign(Assignor::Range);
    assert_eq!(world.show(), "A 1:{0} 2:{0,1}; M 1:{1} 2:{2,3}; P 1:{2} 2:{4}; Z 2:{5}");
}

#[test]
fn range_puts_static_members_first() {
    let (topics, assigned) = (BTreeSet::from([topic(1)]), Assignment::new());
    let member = |member_id, instance_id| Subscriber {
        member_id,
        instance_id,
        topics: &topics,
        assigned: &assigned,
    };
    let members = [member("a", None), member("b", Some("y")), member("c", Some("x"))];
    let result = Assignor::Range.assign(&members, &Topics::from([(topic(1), 3)]));
    let owned: Vec<i32> = result.iter().flat_map(|a| a.values().flatten().copied()).collect();
    assert_eq!(owned, [2, 1, 0]);
}

#[test]
fn uniform_moves_only_what_makes_it_even() {
    let mut world = World::new(&[(1, 3), (2, 6)], &[("M", &[1, 2])]);
    world.assign(Assignor::Uniform);
    world.join("Z", &[1, 2]);
    world.assign(Assignor::Uniform);
    assert_eq!(world.show(), "M 1:{0,1,2} 2:{0,1}; Z 2:{2,3,4,5}");
    world.join("A", &[1, 2]);
    world.assign(Assignor::Uniform);
    assert_eq!(world.show(), "A 2:{0,1,5}; M 1:{0,1,2}; Z 2:{2,3,4}");
    world.members.remove("M");
    world.assign(Assignor::Uniform);
    assert_eq!(world.show(), "A 1:{0,1} 2:{0,1,5}; Z 1:{2} 2:{2,3,4}");
}

#[test]
fn uniform_evens_out_members_with_different_topics() {
    let mut world = World::new(&[(1, 4), (2, 2)], &[("A", &[1, 2])]);
    world.assign(Assignor::Uniform);
    world.join("B", &[1]);
    world.assign(Assignor::Uniform);
    assert_eq!(world.show(), "A 1:{0} 2:{0,1}; B 1:{1,2,3}");
    world.join("C", &[2]);
    world.assign(Assignor::Uniform);
    assert_eq!(world.show(), "A 1:{0} 2:{0}; B 1:{1,2,3}; C 2:{1}");
}

#[test]
fn nobody_and_nothing_are_fine() {
    for assignor in [Assignor::Uniform, Assignor::Range] {
        assert_eq!(assignor.assign(&[], &Topics::from([(topic(1), 3)])), []);
        let mut world = World::new(&[(1, 0)], &[("A", &[1, 7]), ("B", &[])]);
        world.assign(assignor);
        assert_eq!(world.show(), "A; B");
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let topics = prop::collection::vec(0..7_i32, 1..5);
    let members = prop::collection::vec(prop::collection::vec(any::<bool>(), 5), 1..8);
    (topics, members, any::<bool>()).prop_map(|(counts, members, alike)| {
        let topics: Vec<(u8, i32)> = (0..).zip(counts).collect();
        let mut world = World::new(&topics, &[]);
        for (number, wants) in members.iter().enumerate() {
            let wants = (0..).zip(wants).filter(|(_, wants)| alike || **wants).map(|(t, _)| t);
            world.join(&format!("m{number}"), &wants.collect::<Vec<u8>>());
        }
        world
    })
}

proptest! {
    #[test]
    fn each_partition_has_one_owner(mut world in worlds()) {
        for assignor in [Assignor::Uniform, Assignor::Range, Assignor::Uniform] {
            world.assign(assignor);
            world.check();
        }
    }

    #[test]
    fn uniform_is_even_and_stays_as_it_is(mut world in worlds(), leaver in 0..8_usize) {
        world.assign(Assignor::Uniform);
        let before = world.show();
        world.assign(Assignor::Uniform);
        prop_assert_eq!(&before, &world.show());
        let first = world.members.values().next().map(|(topics, _)| topics);
        let alike = world.members.values().all(|(topics, _)| Some(topics) == first);
        if alike {
            let loads = world.loads();
            prop_assert!(loads.iter().max().unwrap() - loads.iter().min().unwrap() <= 1);
        }
        // Who stays keeps what it has when another leaves.
        let old = world.clone();
        let id = format!("m{leaver}");
        if world.members.remove(&id).is_some() {
            world.assign(Assignor::Uniform);
            world.check();
            for (id, (_, assigned)) in world.members.iter().filter(|_| alike) {
                for (topic, had) in &old.members[id].1 {
                    prop_assert!(assigned.get(topic).is_some_and(|has| has.is_superset(had)));
                }
            }
        }
    }
}
