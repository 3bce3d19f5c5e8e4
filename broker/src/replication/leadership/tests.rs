//! Stories of one leadership: commits, joins, leaves.

use super::*;
use ottla_common::types::Zxid;

const DISK: Durability = Durability::Disk;
const LAG_MS: u64 = 1000;

fn ids(numbers: &[i32]) -> Vec<BrokerId> {
    numbers.iter().copied().map(BrokerId).collect()
}

fn state(isr: &[i32], version: i32) -> PartitionImage {
    PartitionImage {
        replicas: ids(&[1, 2, 3]),
        isr: ids(isr),
        leader: Some(BrokerId(1)),
        leader_epoch: 5,
        state_version: version,
        state_mzxid: Zxid(9),
        ..PartitionImage::default()
    }
}

/// Broker 1 leads in epoch 5, which begins at offset 10; 8 was the high watermark before.
fn led_by_one(isr: &[i32]) -> Leadership {
    let beginning = Beginning { broker_id: BrokerId(1), epoch_start_offset: 10, high_watermark: 8 };
    Leadership::begin(beginning, &state(isr, 0))
}

fn ends(flushed_offset: i64) -> Ends {
    Ends { log_end_offset: flushed_offset, flushed_offset }
}

fn settings(min_insync: usize) -> PartitionSettings {
    PartitionSettings { min_insync, durability: DISK }
}

fn fetch(leadership: &mut Leadership, broker: i32, end: i64, (leader_end, now_ms): (i64, u64)) {
    let (broker_id, broker_epoch) = (BrokerId(broker), 7);
    let fetch = FollowerFetch { broker_id, broker_epoch, ends: ends(end), now_ms };
    leadership.fetched(fetch, leader_end, DISK).unwrap();
}

fn propose(leadership: &mut Leadership, end: i64, now_ms: u64) -> Option<Proposal> {
    leadership.propose((now_ms, LAG_MS), (ends(end), settings(2)), |_, _| true)
}

#[test]
fn nothing_is_committed_before_every_in_sync_replica_was_heard_of() {
    let mut leadership = led_by_one(&[1, 2, 3]);
    assert_eq!(leadership.advance(ends(12), settings(2)), None);
    fetch(&mut leadership, 2, 12, (12, 0));
    assert_eq!(leadership.advance(ends(12), settings(2)), None, "3 may have less than 8");
    fetch(&mut leadership, 3, 11, (12, 0));
    assert_eq!(leadership.advance(ends(12), settings(2)), Some(11));
}

#[test]
fn what_is_written_and_not_on_disk_does_not_count() {
    let mut leadership = led_by_one(&[1, 2]);
    let written = Ends { log_end_offset: 12, flushed_offset: 9 };
    let fetch = FollowerFetch { broker_id: BrokerId(2), broker_epoch: 7, ends: written, now_ms: 0 };
    leadership.fetched(fetch, 12, DISK).unwrap();
    assert_eq!(leadership.advance(ends(12), settings(1)), Some(9));
    let lax = PartitionSettings { durability: Durability::PageCache, ..settings(1) };
    assert_eq!(leadership.advance(written, lax), Some(12));
}

#[test]
fn the_high_watermark_stands_still_below_min_insync() {
    let mut leadership = led_by_one(&[1]);
    assert_eq!(leadership.advance(ends(12), settings(2)), None);
    assert_eq!(leadership.advance(ends(12), settings(1)), Some(12));
}

#[test]
fn a_replica_that_lags_leaves_after_its_time_and_commits_wait_until_that_is_known() {
    let mut leadership = led_by_one(&[1, 2, 3]);
    fetch(&mut leadership, 2, 12, (12, 0));
    assert_eq!(propose(&mut leadership, 12, 0), None, "3 is given the whole time");
    assert_eq!(propose(&mut leadership, 12, LAG_MS), None);
    let proposal = propose(&mut leadership, 12, LAG_MS + 1).unwrap();
    assert_eq!((proposal.state.isr.clone(), proposal.version), (ids(&[1, 2]), 0));
    assert_eq!(proposal.leaving, ids(&[3]));
    assert_eq!(leadership.advance(ends(12), settings(2)), None, "the record may still hold 3");
    leadership.resolve(&proposal, Outcome::Written);
    assert_eq!(leadership.advance(ends(12), settings(2)), Some(12));
    assert_eq!(leadership.isr(), ids(&[1, 2]));
}

#[test]
fn a_replica_that_is_a_little_behind_all_the_time_does_not_lag() {
    let mut leadership = led_by_one(&[1, 2]);
    for round in 0..20 {
        let (leader_end, now_ms) = (20 + round * 10, u64::try_from(round).unwrap() * 400);
        // It has what there was when it asked before.
        fetch(&mut leadership, 2, leader_end - 10, (leader_end, now_ms));
        assert_eq!(propose(&mut leadership, leader_end, now_ms), None);
    }
}

#[test]
fn a_replica_that_is_quiet_at_the_end_does_not_lag() {
    let mut leadership = led_by_one(&[1, 2]);
    fetch(&mut leadership, 2, 12, (12, 0));
    assert_eq!(propose(&mut leadership, 12, 60_000), None);
    assert_eq!(propose(&mut leadership, 13, 60_000), None, "its lag has just begun");
}

#[test]
fn who_left_does_not_come_back_by_what_it_said_before() {
    let mut leadership = led_by_one(&[1, 2]);
    fetch(&mut leadership, 2, 12, (12, 0));
    assert_eq!(leadership.advance(ends(12), settings(2)), Some(12));
    assert_eq!(propose(&mut leadership, 13, 10), None);
    let proposal = propose(&mut leadership, 13, 11 + LAG_MS).unwrap();
    assert_eq!(proposal.leaving, ids(&[2]));
    leadership.resolve(&proposal, Outcome::Written);
    // Nothing is committed without it, so it still has all that is.
    assert_eq!(propose(&mut leadership, 13, 12 + LAG_MS), None);
    fetch(&mut leadership, 2, 12, (13, 13 + LAG_MS));
    let proposal = propose(&mut leadership, 13, 13 + LAG_MS).unwrap();
    assert_eq!(proposal.joining, [(BrokerId(2), 7)]);
}

#[test]
fn who_gave_its_place_up_does_not_come_back_by_what_it_said_before() {
    let mut leadership = led_by_one(&[1, 2]);
    fetch(&mut leadership, 2, 12, (12, 0));
    leadership.update(&state(&[1], 1));
    assert_eq!(propose(&mut leadership, 12, 1), None);
    fetch(&mut leadership, 2, 12, (12, 2));
    assert_eq!(propose(&mut leadership, 12, 2).unwrap().joining, [(BrokerId(2), 7)]);
}

#[test]
fn who_has_caught_up_joins_and_counts_before_that_is_known() {
    let mut leadership = led_by_one(&[1, 2]);
    fetch(&mut leadership, 2, 12, (12, 0));
    assert_eq!(leadership.advance(ends(12), settings(2)), Some(12));
    fetch(&mut leadership, 3, 11, (12, 0));
    assert_eq!(propose(&mut leadership, 12, 0), None, "11 is below the high watermark");
    fetch(&mut leadership, 3, 12, (12, 0));
    let proposal = propose(&mut leadership, 12, 0).unwrap();
    assert_eq!(proposal.joining, [(BrokerId(3), 7)]);
    assert_eq!(propose(&mut leadership, 12, 0), None, "one change at a time");
    fetch(&mut leadership, 2, 15, (15, 0));
    assert_eq!(leadership.advance(ends(15), settings(2)), None, "3 may be in the ISR already");
    leadership.resolve(&proposal, Outcome::Refused);
    assert_eq!(leadership.advance(ends(15), settings(2)), Some(15));
}

#[test]
fn a_replica_below_the_start_of_the_epoch_does_not_join() {
    let mut leadership = led_by_one(&[1]);
    fetch(&mut leadership, 2, 9, (12, 0));
    assert!(!leadership.should_join(BrokerId(2), DISK), "9 is past 8, but epoch 5 begins at 10");
    fetch(&mut leadership, 2, 10, (12, 0));
    assert!(leadership.should_join(BrokerId(2), DISK));
}

#[test]
fn who_is_about_to_leave_does_not_join() {
    let mut leadership = led_by_one(&[1]);
    fetch(&mut leadership, 2, 12, (12, 0));
    let proposal = leadership.propose((0, LAG_MS), (ends(12), settings(1)), |_, _| false);
    assert_eq!(proposal, None);
}

#[test]
fn after_an_unknown_outcome_the_image_tells() {
    let mut leadership = led_by_one(&[1, 2]);
    fetch(&mut leadership, 3, 12, (12, 0));
    let proposal = propose(&mut leadership, 12, 0).unwrap();
    leadership.update(&state(&[1, 2, 3], 1));
    assert_eq!(leadership.isr(), ids(&[1, 2, 3]));
    leadership.resolve(&proposal, Outcome::Refused);
    assert_eq!(leadership.isr(), ids(&[1, 2, 3]), "what is heard later changes nothing");
    leadership.update(&state(&[1, 2], 0));
    assert_eq!(leadership.isr(), ids(&[1, 2, 3]), "nor does an older image");
}

#[test]
fn who_was_overtaken_waits_for_the_image() {
    let mut leadership = led_by_one(&[1, 2]);
    fetch(&mut leadership, 3, 12, (12, 0));
    let proposal = propose(&mut leadership, 12, 0).unwrap();
    leadership.resolve(&proposal, Outcome::Overtaken);
    fetch(&mut leadership, 3, 12, (12, 0));
    assert_eq!(propose(&mut leadership, 12, 0), None);
    leadership.update(&state(&[1], 1));
    assert!(propose(&mut leadership, 12, 0).is_some());
}

/// The change was written before the record was: 3 was in sync, and may lead by now.
#[test]
fn nothing_is_committed_while_the_record_is_one_that_the_leader_has_not_seen() {
    let mut leadership = led_by_one(&[1, 2]);
    for follower in [2, 3] {
        fetch(&mut leadership, follower, 12, (12, 0));
    }
    leadership.advance(ends(12), settings(2)).unwrap();
    let proposal = propose(&mut leadership, 12, 0).unwrap();
    fetch(&mut leadership, 2, 13, (13, 0));
    assert_eq!(leadership.advance(ends(13), settings(2)), None, "3 may be in sync, and lacks it");
    leadership.resolve(&proposal, Outcome::Overtaken);
    assert_eq!(leadership.advance(ends(13), settings(2)), None);
    leadership.update(&state(&[1, 2], 2));
    assert_eq!(leadership.advance(ends(13), settings(2)), Some(13));
}

#[test]
fn a_leader_that_is_not_in_the_isr_commits_nothing() {
    let mut leadership = led_by_one(&[1, 2]);
    fetch(&mut leadership, 2, 12, (12, 0));
    leadership.update(&state(&[2], 1));
    assert_eq!(leadership.advance(ends(12), settings(1)), None);
    assert_eq!(propose(&mut leadership, 12, 60_000), None);
}

#[test]
fn fetches_of_strangers_and_of_earlier_lives_do_not_count() {
    let mut leadership = led_by_one(&[1, 2]);
    let fetch = |broker: i32, broker_epoch| FollowerFetch {
        broker_id: BrokerId(broker),
        broker_epoch,
        ends: ends(12),
        now_ms: 0,
    };
    assert_eq!(leadership.fetched(fetch(4, 1), 12, DISK), Err(FetchRefused::NotAReplica));
    assert_eq!(leadership.fetched(fetch(1, 1), 12, DISK), Err(FetchRefused::NotAReplica));
    assert_eq!(leadership.fetched(fetch(2, 8), 12, DISK), Ok(()));
    assert_eq!(leadership.fetched(fetch(2, 7), 12, DISK), Err(FetchRefused::StaleBrokerEpoch));
}

#[test]
fn an_isr_that_falls_below_min_insync_leaves_eligible_replicas() {
    let mut leadership = led_by_one(&[1, 2]);
    assert_eq!(propose(&mut leadership, 12, 0), None);
    let proposal = propose(&mut leadership, 12, LAG_MS + 1).unwrap();
    assert_eq!((proposal.state.isr, proposal.state.elr), (ids(&[1]), ids(&[2])));
}

#[test]
fn nothing_is_committed_while_somebody_is_eligible_who_may_not_have_it() {
    // The ISR was below min.insync.replicas, which has been lowered since.
    let mut before = state(&[1], 3);
    before.elr = ids(&[2]);
    let mut leadership = led_by_one(&[1]);
    leadership.update(&before);
    assert_eq!(leadership.advance(ends(12), settings(1)), None);
    let lowered = (ends(12), settings(1));
    let proposal = leadership.propose((0, LAG_MS), lowered, |_, _| true).unwrap();
    assert_eq!((proposal.state.isr.clone(), proposal.state.elr.clone()), (ids(&[1]), ids(&[])));
    leadership.resolve(&proposal, Outcome::Written);
    assert_eq!(leadership.advance(ends(12), settings(1)), Some(12));
}

#[test]
fn who_joins_far_behind_the_end_is_given_the_whole_time_to_catch_up() {
    let mut leadership = led_by_one(&[1]);
    fetch(&mut leadership, 2, 10, (500, 0));
    let proposal = propose(&mut leadership, 500, 60_000).unwrap();
    assert_eq!(proposal.state.isr, ids(&[1, 2]));
    leadership.resolve(&proposal, Outcome::Written);
    assert_eq!(propose(&mut leadership, 500, 60_001), None, "it has just joined");
    assert!(propose(&mut leadership, 500, 60_002 + LAG_MS).is_some());
}
