//! What each member is.

use tidepool_autoscaler_core::decide::Control;
use tidepool_autoscaler_core::members::MemberState;
use tidepool_autoscaler_core::memory::{MemberMemory, Memory, SentAgain};
use tidepool_autoscaler_core::observe::{Member, MemberId, Power, Readiness};
use tidepool_autoscaler_core::roster::{RepairsRefused, Roster};
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::support::{
    NOW, at, booting, booting_for, draining, knowing, member, name, of_member, off, powered, seen, spec,
    watched,
};

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
    let unready = |readiness| Member {
        readiness,
        ..member(1)
    };
    let waiting = Member {
        readiness: Readiness::Ready,
        ..booting(1)
    };
    let creating = Member {
        power: Power::Creating,
        readiness: Readiness::Unknown,
        ..booting(1)
    };
    // By the provider's clock it was made long ago, or will be made.
    let made = |secs: i64| Member {
        created_at: at(NOW - secs),
        ..booting(1)
    };
    let boots = |secs| of_member(1, booting_for(secs));
    let stopped = |secs| of_member(1, powered(Power::Off, secs));
    let out = Member {
        serving: false,
        ..off(1)
    };
    let leaves = Member {
        draining: true,
        ..off(1)
    };
    let not_ready = unready(Readiness::NotReady);
    // Out of the balancer, and ready until a moment ago.
    let was_ready = Member {
        created_at: at(5),
        ..booting(1)
    };
    let table = [
        (member(1), watched(), MemberState::Serving),
        (waiting, watched(), MemberState::Ready),
        (made(3600), watched(), MemberState::Booting),
        (made(3600), boots(199), MemberState::Booting),
        (made(0), boots(200), MemberState::Dead),
        (made(-3600), boots(200), MemberState::Dead),
        (creating.clone(), watched(), MemberState::Booting),
        (creating.clone(), boots(199), MemberState::Booting),
        (creating, boots(200), MemberState::Dead),
        (
            was_ready.clone(),
            of_member(1, powered(Power::Running, 500)),
            MemberState::Unready,
        ),
        (was_ready.clone(), unready_for(44), MemberState::Unready),
        (was_ready, unready_for(45), MemberState::Dead),
        (off(1), watched(), MemberState::Off),
        (
            off(1),
            of_member(1, powered(Power::Running, 500)),
            MemberState::Off,
        ),
        (off(1), stopped(44), MemberState::Off),
        (off(1), stopped(45), MemberState::Dead),
        (out.clone(), stopped(44), MemberState::Off),
        (out, stopped(45), MemberState::Dead),
        (not_ready.clone(), watched(), MemberState::Unready),
        (not_ready.clone(), unready_for(44), MemberState::Unready),
        (not_ready, unready_for(45), MemberState::Dead),
        (unready(Readiness::Unknown), unready_for(45), MemberState::Dead),
        (member(1), unready_for(45), MemberState::Serving),
        (draining(1), watched(), MemberState::Draining),
        (leaves, stopped(500), MemberState::Draining),
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

/// How many of these are repaired, and why no more: `off` are off for so long, the others serve.
fn off_for(off_count: u32, others: u32, secs: i64) -> (usize, Option<RepairsRefused>) {
    let stopped: Vec<u32> = (1..=off_count).collect();
    let memory = knowing(watched(), &stopped, powered(Power::Off, secs));
    let others = (off_count + 1..=off_count + others).map(member);
    let seen = seen((1..=off_count).map(off).chain(others).collect(), &[]);
    let memory = memory.observe(&spec(), &seen);
    let roster = Roster::of(&spec(), &seen, &memory);
    let repaired = roster.entries.iter().filter(|e| e.repair).count();
    (repaired, roster.repairs_refused)
}

#[test]
fn members_that_are_off_all_at_once_are_replaced_only_after_long() {
    let refused = Some(RepairsRefused::TooManyUnready);
    assert_eq!(off_for(1, 0, 45), (1, None));
    assert_eq!(off_for(2, 2, 45), (2, None));
    assert_eq!(off_for(2, 1, 45), (0, refused));
    assert_eq!(off_for(3, 0, 449), (0, refused));
    assert_eq!(off_for(3, 0, 450), (3, refused));
}

#[test]
fn those_that_leave_or_boot_are_not_counted_among_the_unready() {
    let unready = |n| Member {
        readiness: Readiness::NotReady,
        ..member(n)
    };
    let leaving = |n| Member {
        draining: true,
        ..unready(n)
    };
    let all = vec![
        unready(1),
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
    let seen = seen((1..=5).map(off).chain((6..=10).map(member)).collect(), &[]);
    let stopped = || knowing(watched(), &[1, 2, 3, 4, 5], powered(Power::Off, 45));
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
    assert_eq!(repaired(&stopped()), ("1 2 3".to_owned(), 7, refused));
    // A removal that was begun is gone on with, and counts once.
    let mut memory = stopped();
    memory.repairs.insert(member(4).id, at(NOW - 599));
    assert_eq!(repaired(&memory), ("1 2 4".to_owned(), 7, refused));
    memory.repairs.insert(member(4).id, at(NOW - 600));
    assert_eq!(repaired(&memory), ("1 2 3".to_owned(), 7, refused));
}

#[test]
fn nobody_is_removed_while_the_pool_is_held() {
    let seen = seen(vec![off(1), member(2), member(3)], &[]);
    let memory = knowing(watched(), &[1], powered(Power::Off, 45)).observe(&spec(), &seen);
    let under = |control| {
        let roster = Roster::of(&spec(), &seen, &memory).under(control);
        let repaired = roster.entries.iter().filter(|e| e.repair).count();
        (repaired, roster.actual(), roster.repairs_refused)
    };
    assert_eq!(under(Control::Auto), (1, 2, None));
    assert_eq!(under(Control::Manual { size: 3 }), (1, 2, None));
    assert_eq!(
        under(Control::Hold { size: 3 }),
        (0, 3, Some(RepairsRefused::Held))
    );
}

fn twin(id: &str, member: Member) -> Member {
    Member {
        id: MemberId(id.into()),
        ..member
    }
}

/// Who goes as a copy of these, with a minimum of 1; `again` times the create of `api-1` was sent again, 60 s ago at first.
fn copies(again: u32, known_since: i64, members: Vec<Member>) -> String {
    let spec = PoolSpec { min: 1, ..spec() };
    let mut memory = watched();
    if again > 0 {
        let since = at(NOW - 60);
        memory
            .sent_again
            .insert(name("api-1"), SentAgain { since, times: again });
    }
    let known = MemberMemory {
        known_since: Some(at(known_since)),
        ..MemberMemory::default()
    };
    for member in &members {
        memory.members.insert(member.id.clone(), known);
    }
    let seen = seen(members, &[]);
    let memory = memory.observe(&spec, &seen);
    let roster = Roster::of(&spec, &seen, &memory);
    assert!(roster.counted().all(|e| !e.copy));
    let copies = roster.entries.iter().filter(|e| e.copy);
    copies
        .map(|e| e.member.id.0.clone())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn of_two_members_that_one_lost_create_made_the_better_is_kept() {
    let copy = |first, second| copies(1, NOW - 30, vec![first, second]);
    let ready = Member {
        readiness: Readiness::Ready,
        ..booting(1)
    };
    assert_eq!(copy(twin("a", booting(1)), twin("b", member(1))), "a");
    assert_eq!(copy(twin("a", booting(1)), twin("b", ready)), "a");
    assert_eq!(copy(twin("a", off(1)), twin("b", booting(1))), "a");
    assert_eq!(copy(twin("b", booting(1)), twin("a", booting(1))), "b");
    let older = Member {
        created_at: at(NOW - 30),
        ..booting(1)
    };
    assert_eq!(copy(twin("a", booting(1)), twin("b", older)), "a");
    // One that leaves already is not a twin.
    assert_eq!(copy(twin("a", draining(1)), twin("b", booting(1))), "");
}

#[test]
fn a_shared_name_alone_makes_nobody_a_copy() {
    let three = || vec![twin("a", member(1)), twin("b", member(1)), twin("c", member(1))];
    // No create was sent again.
    assert_eq!(copies(0, NOW - 30, three()), "");
    // They were known before it was.
    assert_eq!(copies(1, NOW - 61, three()), "");
    // It was sent again once, so there is one too many.
    assert_eq!(copies(1, NOW - 60, three()), "c");
    assert_eq!(copies(5, NOW - 60, three()), "b c");
    // Another name was.
    let others = vec![twin("a", member(2)), twin("b", member(2))];
    assert_eq!(copies(1, NOW - 30, others), "");
}

#[test]
fn a_copy_stays_where_the_minimum_needs_it() {
    let spec = spec();
    let mut memory = watched();
    let since = at(NOW - 60);
    memory
        .sent_again
        .insert(name("api-1"), SentAgain { since, times: 1 });
    let seen = seen(vec![twin("a", member(1)), twin("b", member(1))], &[]);
    let memory = memory.observe(&spec, &seen);
    let roster = Roster::of(&spec, &seen, &memory);
    assert_eq!(roster.actual(), 2);
    let hosts: Vec<&str> = roster.entries.iter().map(|e| e.host.0.as_str()).collect();
    assert_eq!(hosts, ["api-1", "api-1 (b)"]);
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
