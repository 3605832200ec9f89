//! What each member is.

use tidepool_autoscaler_core::members::MemberState;
use tidepool_autoscaler_core::memory::{MemberMemory, Memory};
use tidepool_autoscaler_core::observe::{Member, Power, Readiness};
use tidepool_autoscaler_core::roster::{RepairsRefused, Roster};

use crate::support::{NOW, at, booting, draining, member, of_member, seen, spec, watched};

fn state(member: Member, memory: &Memory) -> MemberState {
    let seen = seen(vec![member], &[]);
    let memory = memory.observe(&spec(), &seen);
    Roster::of(&spec(), &seen, &memory).entries[0].state
}

fn unready_for(secs: i64) -> Memory {
    of_member(
        1,
        MemberMemory {
            unready_since: Some(at(NOW - secs)),
            ..MemberMemory::default()
        },
    )
}

#[test]
fn a_table_of_states() {
    let new = |secs| Member {
        created_at: at(NOW - secs),
        ..booting(1)
    };
    let unready = |readiness| Member {
        readiness,
        ..member(1)
    };
    let off = Member {
        power: Power::Off,
        ..member(1)
    };
    let waiting = Member {
        readiness: Readiness::Ready,
        ..booting(1)
    };
    let creating = Member {
        power: Power::Creating,
        readiness: Readiness::Unknown,
        ..new(20)
    };
    let table = [
        (member(1), watched(), MemberState::Serving),
        (waiting, watched(), MemberState::Ready),
        (new(199), watched(), MemberState::Booting),
        (new(200), watched(), MemberState::Dead),
        (creating.clone(), watched(), MemberState::Booting),
        (
            Member {
                created_at: at(NOW - 200),
                ..creating
            },
            watched(),
            MemberState::Dead,
        ),
        (off.clone(), watched(), MemberState::Dead),
        (unready(Readiness::NotReady), watched(), MemberState::Unready),
        (
            unready(Readiness::NotReady),
            unready_for(44),
            MemberState::Unready,
        ),
        (unready(Readiness::NotReady), unready_for(45), MemberState::Dead),
        (unready(Readiness::Unknown), unready_for(45), MemberState::Dead),
        (member(1), unready_for(45), MemberState::Serving),
        (draining(1), watched(), MemberState::Draining),
        (
            Member {
                draining: true,
                ..off
            },
            watched(),
            MemberState::Draining,
        ),
    ];
    for (n, (member, memory, expected)) in table.into_iter().enumerate() {
        assert_eq!(state(member, &memory), expected, "row {n}");
    }
}

fn all_unready_for_long(unready: u32, ready: u32) -> (usize, Option<RepairsRefused>) {
    let mut memory = watched();
    let mut all = Vec::new();
    for n in 1..=unready + ready {
        let readiness = if n <= unready {
            Readiness::NotReady
        } else {
            Readiness::Ready
        };
        all.push(Member {
            readiness,
            ..member(n)
        });
        let since = MemberMemory {
            unready_since: Some(at(NOW - 500)),
            ..MemberMemory::default()
        };
        memory.members.insert(member(n).id, since);
    }
    let seen = seen(all, &[]);
    let memory = memory.observe(&spec(), &seen);
    let roster = Roster::of(&spec(), &seen, &memory);
    (
        roster.entries.iter().filter(|e| e.repair).count(),
        roster.repairs_refused,
    )
}

#[test]
fn members_that_fail_all_at_once_are_not_replaced() {
    assert_eq!(all_unready_for_long(1, 0), (1, None));
    assert_eq!(all_unready_for_long(1, 1), (1, None));
    assert_eq!(all_unready_for_long(2, 2), (2, None));
    assert_eq!(
        all_unready_for_long(2, 1),
        (0, Some(RepairsRefused::TooManyUnready))
    );
    assert_eq!(all_unready_for_long(3, 3), (3, None));
    assert_eq!(
        all_unready_for_long(3, 2),
        (0, Some(RepairsRefused::TooManyUnready))
    );
    assert_eq!(
        all_unready_for_long(5, 0),
        (0, Some(RepairsRefused::TooManyUnready))
    );
}

#[test]
fn those_that_are_off_or_leave_are_not_counted_among_the_unready() {
    let unready = |n| Member {
        readiness: Readiness::NotReady,
        ..member(n)
    };
    let off = |n| Member {
        power: Power::Off,
        ..unready(n)
    };
    let leaving = |n| Member {
        draining: true,
        ..unready(n)
    };
    let all = vec![
        unready(1),
        off(2),
        off(3),
        leaving(4),
        leaving(5),
        member(6),
        booting(7),
        booting(8),
    ];
    let seen = seen(all, &[]);
    let memory = watched().observe(&spec(), &seen);
    assert_eq!(Roster::of(&spec(), &seen, &memory).repairs_refused, None);
}

#[test]
fn the_breaker_stops_repairs_and_their_replacement() {
    let off = |n| Member {
        power: Power::Off,
        ..member(n)
    };
    let seen = seen((1..=5).map(off).chain([member(6)]).collect(), &[]);
    let repaired = |memory: &Memory| {
        let memory = memory.observe(&spec(), &seen);
        let roster = Roster::of(&spec(), &seen, &memory);
        let ids: Vec<&str> = roster
            .entries
            .iter()
            .filter(|e| e.repair)
            .map(|e| e.member.id.0.as_str())
            .collect();
        (ids.join(" "), roster.actual(), roster.repairs_refused)
    };
    let refused = Some(RepairsRefused::TooManyRepairs);
    assert_eq!(repaired(&watched()), ("1 2 3".to_owned(), 3, refused));
    // A removal that was begun is gone on with, and counts once.
    let mut memory = watched();
    memory.repairs.insert(member(4).id, at(NOW - 599));
    assert_eq!(repaired(&memory), ("1 2 4".to_owned(), 3, refused));
    memory.repairs.insert(member(4).id, at(NOW - 600));
    assert_eq!(repaired(&memory), ("1 2 3".to_owned(), 3, refused));
}

#[test]
fn of_two_members_with_one_name_the_better_is_kept() {
    let twin = |id: &str, member: Member| Member {
        id: tidepool_autoscaler_core::observe::MemberId(id.into()),
        ..member
    };
    let kept = |first: Member, second: Member| {
        let seen = seen(vec![first, second], &[]);
        let memory = watched().observe(&spec(), &seen);
        let roster = Roster::of(&spec(), &seen, &memory);
        let ids: Vec<String> = roster
            .entries
            .iter()
            .filter(|e| !e.duplicate)
            .map(|e| e.member.id.0.clone())
            .collect();
        assert!(roster.counted().all(|e| !e.duplicate));
        ids.join(" ")
    };
    let ready = Member {
        readiness: Readiness::Ready,
        ..booting(1)
    };
    let off = Member {
        power: Power::Off,
        ..member(1)
    };
    assert_eq!(kept(twin("a", booting(1)), twin("b", member(1))), "b");
    assert_eq!(kept(twin("a", booting(1)), twin("b", ready.clone())), "b");
    assert_eq!(kept(twin("a", off.clone()), twin("b", booting(1))), "b");
    assert_eq!(kept(twin("b", booting(1)), twin("a", booting(1))), "a");
    let older = Member {
        created_at: at(NOW - 30),
        ..booting(1)
    };
    assert_eq!(kept(twin("a", booting(1)), twin("b", older)), "b");
    // One that leaves already is not a twin.
    assert_eq!(kept(twin("a", draining(1)), twin("b", booting(1))), "a b");
}

#[test]
fn who_shares_the_load_and_who_is_measured() {
    let unready = Member {
        readiness: Readiness::NotReady,
        ..member(2)
    };
    let seen = seen(vec![member(1), unready, member(3), booting(4), draining(5)], &[]);
    let mut memory = watched();
    let since = |secs| MemberMemory {
        serving_since: Some(at(NOW - secs)),
        ..MemberMemory::default()
    };
    memory.members.insert(member(1).id, since(60));
    memory.members.insert(member(3).id, since(59));
    let memory = memory.observe(&spec(), &seen);
    let roster = Roster::of(&spec(), &seen, &memory);
    let names = |hosts: std::collections::BTreeSet<&tidepool_autoscaler_core::observe::MemberName>| {
        hosts
            .into_iter()
            .map(|host| host.0.clone())
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(names(roster.serving_hosts()), "api-1 api-2 api-3");
    assert_eq!(names(roster.warm_hosts(&spec(), &memory, at(NOW))), "api-1 api-2");
    assert_eq!((roster.serving_ready(), roster.actual()), (2, 4));
}
