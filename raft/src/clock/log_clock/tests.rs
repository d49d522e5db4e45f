use super::*;
use proptest::prelude::*;

const WALL: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn walls(walls: &[Option<u64>]) -> BTreeMap<ReplicaId, Option<u64>> {
    (2..).zip(walls.iter().copied()).collect()
}

#[test]
fn a_leader_clock_five_hours_ahead_for_a_second_moves_no_timer() {
    for jump in [5 * HOUR_MS as i64, -5 * (HOUR_MS as i64)] {
        let mut clock = LogClock::new(WALL, s(0));
        clock.judge(s(1), WALL + 1_000, &walls(&[Some(WALL + 1_000), Some(WALL + 1_000)]));
        let wrong = (WALL + 2_000).saturating_add_signed(jump);
        let verdict = clock.judge(s(2), wrong, &walls(&[Some(WALL + 2_000), Some(WALL + 2_000)]));
        assert_eq!(verdict.agreement, Agreement::Outvoted);
        assert_eq!(verdict.stepped_ms, None);
        assert_eq!(verdict.differ, vec![2, 3]);
        let stamped = clock.stamp(s(3), wrong + 1_000).unwrap();
        assert!(stamped.abs_diff(WALL + 3_000) < 10, "{}", stamped - WALL);
        // And with the others silent.
        let verdict = clock.judge(s(3), wrong + 1_000, &walls(&[None, None]));
        assert_eq!(verdict.agreement, Agreement::Unknown);
        assert!(clock.stamp(s(4), wrong + 2_000).unwrap().abs_diff(WALL + 4_000) < 10);
    }
}

#[test]
fn after_a_gap_time_steps_forward_only_when_a_majority_agrees() {
    let now = WALL + HOUR_MS;
    let mut clock = LogClock::new(WALL, s(0));
    assert_eq!(clock.stamp(s(0), now), None, "not before the others are heard");
    assert_eq!(clock.judge(s(0), now, &walls(&[None, None])).stepped_ms, None);
    assert_eq!(clock.stamp(s(0), now), Some(WALL), "goes on from the last log time");
    let verdict = clock.judge(s(0), now, &walls(&[Some(now + 500), None]));
    assert_eq!(
        verdict,
        Judgement { agreement: Agreement::Majority, stepped_ms: Some(HOUR_MS), differ: vec![] }
    );
    assert_eq!(clock.stamp(s(0), now), Some(now));
}

#[test]
fn a_new_log_waits_for_a_majority_of_clocks() {
    let mut clock = LogClock::new(0, s(0));
    clock.judge(s(0), WALL, &walls(&[None, Some(WALL + HOUR_MS)]));
    assert_eq!(clock.stamp(s(0), WALL), None);
    clock.judge(s(1), WALL + 1_000, &walls(&[Some(WALL), Some(WALL + HOUR_MS)]));
    assert_eq!(clock.stamp(s(1), WALL + 1_000), Some(WALL + 1_000));
    let mut alone = LogClock::new(0, s(0));
    alone.judge(s(0), WALL, &walls(&[]));
    assert_eq!(alone.stamp(s(0), WALL), Some(WALL), "a single replica is its own majority");
}

#[test]
fn a_small_difference_is_slewed_not_stepped() {
    let mut clock = LogClock::new(WALL, s(0));
    let ahead = 20_000;
    let mut before = WALL;
    for second in 0..600 {
        let wall = WALL + ahead + second * 1_000;
        clock.judge(s(second), wall, &walls(&[Some(wall), Some(wall)]));
        let stamp = clock.stamp(s(second), wall).unwrap();
        assert!(stamp - before <= 1_051, "faster than 5 % in second {second}");
        before = stamp;
    }
    assert!(before.abs_diff(WALL + ahead + 599_000) < 100, "it arrives");
}

#[test]
fn far_ahead_of_agreeing_clocks_time_runs_slower_but_runs() {
    let mut clock = LogClock::new(WALL + HOUR_MS, s(0));
    clock.judge(s(0), WALL, &walls(&[Some(WALL), Some(WALL)]));
    assert_eq!(clock.stamp(s(10), WALL + 10_000), Some(WALL + HOUR_MS + 5_000));
}

#[test]
fn time_goes_on_from_what_was_applied() {
    let mut clock = LogClock::new(WALL, s(0));
    clock.observe(WALL + 5_000, s(1));
    assert_eq!(clock.stamp(s(2), WALL + 2_000), Some(WALL + 6_000));
    clock.observe(WALL, s(2));
    assert_eq!(clock.stamp(s(2), WALL + 2_000), Some(WALL + 6_000), "an older time changes nothing");
}

proptest! {
    #[test]
    fn stamps_never_run_back(
        steps in proptest::collection::vec(
            (0u64..5_000, -2 * HOUR_MS as i64..2 * HOUR_MS as i64, any::<bool>(), any::<bool>()), 1..60),
    ) {
        let mut clock = LogClock::new(WALL, s(0));
        let (mut now, mut before) = (Duration::ZERO, 0);
        for (elapsed, error, agrees, judged) in steps {
            now += Duration::from_millis(elapsed);
            let wall = (WALL + u64::try_from(now.as_millis()).unwrap()).saturating_add_signed(error);
            if judged {
                let other = if agrees { wall } else { wall + HOUR_MS };
                clock.judge(now, wall, &walls(&[Some(other), Some(other)]));
            }
            if let Some(stamp) = clock.stamp(now, wall) {
                prop_assert!(stamp >= before);
                before = stamp;
            }
        }
    }
}
