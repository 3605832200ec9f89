//! Members of unknown state: they count where members are made, not where they are removed, and nothing is done with them.

use tidepool_autoscaler_core::memory::{Followed, Memory};
use tidepool_autoscaler_core::observe::{Member, MemberId, Power, Readiness};
use tidepool_autoscaler_core::outcome::Reason;
use tidepool_autoscaler_core::roster::Roster;

use crate::support::{
    NOW, at, cpu, decided, draining, knowing, member, members, name, off, planned, powered, seen, spec,
    steps_of, watched,
};

fn unknown(n: u32) -> Member {
    Member {
        power: Power::Unknown,
        readiness: Readiness::Unknown,
        ..member(n)
    }
}

#[test]
fn one_counts_and_is_neither_replaced_nor_removed() {
    // Half of the pool, and longer than any bound.
    let there = vec![member(1), unknown(2)];
    let plan = planned(&spec(), &seen(there.clone(), &[]), &watched());
    assert_eq!(steps_of(&plan), [""; 0]);
    assert_eq!(decided(&spec(), &seen(there, &[]), &watched()).actual, 2);
}

#[test]
fn a_spare_copy_of_a_name_is_not_guessed_from_one() {
    let twin = Member {
        id: MemberId("9".to_owned()),
        ..unknown(1)
    };
    let seen = seen(vec![member(1), member(2), twin], &[]);
    assert_eq!(steps_of(&planned(&spec(), &seen, &watched())), [""; 0]);
}

#[test]
fn nobody_is_removed_in_its_place() {
    let mut idle = cpu(4, 0.01);
    let plan = planned(&spec(), &idle, &watched());
    assert_eq!(plan.removed, 2);
    // Of four one isn't known: of the two that were too many, one may be that one.
    idle.members = members(3);
    idle.members.push(unknown(4));
    let plan = planned(&spec(), &idle, &watched());
    assert!(plan.removed <= 1, "{plan:?}");
    assert!(steps_of(&plan).iter().all(|step| !step.ends_with("api-4")));
}

#[test]
fn those_that_are_counted_and_not_shown_count_where_members_are_made_alone() {
    // One of the minimum of two is there, and the provider counts another.
    let mut few = cpu(1, 0.9);
    few.unseen = 1;
    assert_eq!(steps_of(&planned(&spec(), &few, &watched())), [""; 0]);
    let decision = decided(&spec(), &few, &watched());
    assert_eq!((decision.actual, decision.desired, decision.planned), (1, 2, 1));
    assert!(decision.reasons.contains(&Reason::Unseen { count: 1 }));
    // What the load asks for beyond it is made.
    let mut busy = cpu(3, 1.0);
    busy.unseen = 1;
    let plan = planned(&spec(), &busy, &watched());
    assert_eq!(steps_of(&plan), ["create api-4", "create api-5"]);
    // Of those that are shown nobody goes more or less for it.
    let idle = cpu(4, 0.01);
    let mut short = idle.clone();
    short.unseen = 5;
    assert_eq!(
        planned(&spec(), &short, &watched()),
        planned(&spec(), &idle, &watched())
    );
    // One that is dead stays until another one is made for it.
    let memory = knowing(watched(), &[2], powered(Power::Off, 100));
    let mut dead = seen(vec![member(1), off(2)], &[]);
    assert_eq!(
        steps_of(&planned(&spec(), &dead, &memory)),
        ["create api-3", "withdraw api-2", "destroy api-2"]
    );
    dead.unseen = 1;
    assert_eq!(steps_of(&planned(&spec(), &dead, &memory)), [""; 0]);
}

#[test]
fn one_on_its_way_out_waits_until_it_is_known_again() {
    let leaving = Member {
        power: Power::Unknown,
        ..draining(3)
    };
    let mut there = members(2);
    there.push(leaving);
    assert_eq!(
        steps_of(&planned(&spec(), &seen(there, &[]), &watched())),
        [""; 0]
    );
}

#[test]
fn what_was_made_is_followed_until_it_is_gone() {
    let mut memory = watched();
    memory.pending_creates.insert(name("api-7"), at(NOW - 5));
    memory.unsettled.insert(name("api-7"), at(NOW - 500));
    let id = MemberId("7".to_owned());
    memory.create_acknowledged(&name("api-7"), &id, at(NOW));
    assert!(memory.pending_creates.is_empty() && memory.unsettled.is_empty());
    let followed = |memory: &Memory| memory.followed.get(&id).cloned();
    let known = Followed {
        name: name("api-7"),
        created_at: at(NOW),
        acknowledged_at: Some(at(NOW)),
        missing_since: None,
    };
    assert_eq!(followed(&memory), Some(known));
    // As long as it is not known how it is, it stays one that was made a moment ago.
    let unseen = memory.observe(&spec(), &seen(vec![unknown(7)], &[]));
    assert_eq!(followed(&unseen).unwrap().acknowledged_at, Some(at(NOW)));
    let met = memory.observe(&spec(), &seen(vec![member(7)], &[]));
    assert_eq!(followed(&met).unwrap().acknowledged_at, None);
    let gone = met.observe(&spec(), &seen(vec![], &[]));
    assert_eq!(followed(&gone), None);
    let mut destroyed = met;
    destroyed.destroyed(&id);
    assert_eq!(followed(&destroyed), None);
}

#[test]
fn one_in_the_balancer_still_shares_the_load() {
    let seen = seen(vec![member(1), unknown(2)], &[]);
    let memory = watched().observe(&spec(), &seen);
    let roster = Roster::of(&spec(), &seen, &memory);
    assert_eq!((roster.serving_hosts().len(), roster.serving_ready()), (2, 1));
}
