//! What a policy wants of a signal.

use std::collections::{BTreeMap, BTreeSet};

use tidepool_autoscaler_core::observe::MemberName;
use tidepool_autoscaler_core::outcome::{Proposal, Verdict};
use tidepool_autoscaler_core::policy::{Context, Measured};
use tidepool_autoscaler_core::roster::Spread;
use tidepool_autoscaler_core::signal::{Gaps, MissingReason, Signal, Values};
use tidepool_autoscaler_core::spec::{Across, Policy, PolicyKind, TargetPolicy};

use crate::support::{kinds_of, name, target};

fn hosts(prefix: &str, values: &[f64]) -> BTreeMap<MemberName, f64> {
    values
        .iter()
        .enumerate()
        .map(|(n, value)| (name(&format!("{prefix}-{n}")), *value))
        .collect()
}

fn values(warm: &[f64], warming: &[f64]) -> Values {
    Values {
        warm: hosts("warm", warm),
        at_least: BTreeSet::new(),
        warming: hosts("warming", warming),
        age_secs: 3.0,
    }
}

fn fresh(warm: &[f64], warming: &[f64]) -> Signal {
    Signal::Fresh {
        values: values(warm, warming),
    }
}

/// Asks a policy about a signal that was measured on `serving` hosts.
fn propose(policy: &TargetPolicy, across: Across, signal: Signal, (size, serving): (u32, u32)) -> Proposal {
    let known: Vec<MemberName> = match &signal {
        Signal::Fresh { values } | Signal::Partial { values, .. } => {
            values.warm.keys().chain(values.warming.keys()).cloned().collect()
        }
        Signal::Stale { .. } | Signal::Missing { .. } => Vec::new(),
    };
    let silent: Vec<MemberName> = (0..)
        .map(|n| name(&format!("silent-{n}")))
        .take(serving as usize)
        .collect();
    let hosts: BTreeMap<&MemberName, f64> = known
        .iter()
        .chain(&silent)
        .take(serving as usize)
        .map(|host| (host, 1.0))
        .collect();
    let measured = Measured {
        signal,
        across,
        spread: Spread { hosts, gone: 0.0 },
    };
    let context = Context {
        signals: &BTreeMap::from([("cpu", measured)]),
        size,
    };
    tidepool_autoscaler_core::policy::propose(&Policy::Target(policy.clone()), context)
}

#[test]
fn every_kind_is_called_as_in_json() {
    let names: BTreeSet<String> = PolicyKind::all().map(|kind| kind.name().to_owned()).collect();
    assert_eq!(names, kinds_of::<Policy>());
}

#[test]
fn a_table_of_loads() {
    use Across::{Avg, Max, Sum};
    use Verdict::{Grow, Keep, Shrink};
    // (across, warm, warming, size, serving) -> verdict
    type Row<'a> = (Across, &'a [f64], &'a [f64], u32, u32, Verdict);
    let table: &[Row<'_>] = &[
        (Avg, &[0.8, 0.8], &[], 2, 2, Grow { to: 4 }),
        (Avg, &[1.0, 0.6], &[], 2, 2, Grow { to: 4 }),
        (Avg, &[0.5, 0.5], &[], 2, 2, Keep),
        // Within ten per cent nothing is changed, beyond it is.
        (Avg, &[0.55, 0.55], &[], 2, 2, Keep),
        (Avg, &[0.56, 0.56], &[], 2, 2, Grow { to: 3 }),
        // Rounding of floating point makes no member: 3 × 0.6 / 0.6 is more than 3 in binary.
        (Avg, &[0.1; 4], &[], 4, 4, Shrink { to: 1 }),
        (Avg, &[0.2; 4], &[], 4, 4, Shrink { to: 2 }),
        // What is rounded up to the size is not a reason to shrink, nor is what is within the tolerance.
        (Avg, &[0.45; 10], &[], 10, 10, Keep),
        (Avg, &[0.44; 10], &[], 10, 10, Shrink { to: 9 }),
        // Members that boot are in the size: the same growth is not asked for twice.
        (Avg, &[0.8, 0.8], &[], 4, 2, Keep),
        // Hosts that warm up count as idle on the way out, and as loaded on the way in.
        (Avg, &[0.9, 0.9], &[], 4, 4, Keep),
        (Avg, &[0.2, 0.2], &[], 4, 4, Shrink { to: 2 }),
        (Avg, &[0.45, 0.45], &[], 4, 4, Keep),
        (Avg, &[0.2, 0.2], &[1.0, 1.0], 4, 4, Shrink { to: 2 }),
        (Max, &[0.2, 0.8], &[], 2, 2, Grow { to: 4 }),
        (Max, &[0.1, 0.2], &[], 4, 4, Shrink { to: 2 }),
        (Max, &[0.1, 0.2], &[], 1, 2, Keep),
        (Sum, &[0.8, 0.8], &[], 2, 2, Grow { to: 4 }),
        // What warming hosts answer is load like any other.
        (Sum, &[0.8, 0.8], &[0.9], 3, 3, Grow { to: 5 }),
        (Sum, &[0.2, 0.2], &[0.1], 4, 3, Shrink { to: 1 }),
        // A warming host that says nothing is taken to be like the others when it comes to shrinking.
        (Sum, &[0.25, 0.25], &[], 3, 3, Shrink { to: 2 }),
        (Sum, &[0.25, 0.25], &[0.25], 3, 4, Shrink { to: 2 }),
        (Sum, &[0.4, 0.4], &[0.4], 4, 4, Keep),
        // More values than hosts don't make a load below zero.
        (Sum, &[0.2, 0.2], &[], 4, 1, Shrink { to: 1 }),
        (Avg, &[0.0, 0.0], &[], 2, 2, Shrink { to: 0 }),
        (Avg, &[-1.0, -1.0], &[], 2, 2, Shrink { to: 0 }),
    ];
    for (n, (kind, warm, warming, size, serving, verdict)) in table.iter().enumerate() {
        let proposal = propose(
            &target("cpu", 0.5),
            *kind,
            fresh(warm, warming),
            (*size, *serving),
        );
        assert_eq!(proposal.verdict, *verdict, "row {n}: {}", proposal.formula());
    }
}

#[test]
fn a_load_at_the_very_edge_of_the_tolerance_is_within_it() {
    let policy = TargetPolicy {
        tolerance: 0.5,
        ..target("cpu", 0.5)
    };
    let verdict = |warm: &[f64], size| propose(&policy, Across::Avg, fresh(warm, &[]), (size, size)).verdict;
    assert_eq!(verdict(&[0.25; 4], 4), Verdict::Keep);
    assert_eq!(verdict(&[0.24; 4], 4), Verdict::Shrink { to: 2 });
    assert_eq!(verdict(&[0.75; 2], 2), Verdict::Keep);
    assert_eq!(verdict(&[0.76; 2], 2), Verdict::Grow { to: 4 });
}

#[test]
fn rounding_of_floating_point_makes_no_member() {
    let policy = TargetPolicy {
        tolerance: 0.0,
        ..target("cpu", 0.1)
    };
    // 0.1 + 0.1 + 0.1 is 0.30000000000000004.
    let proposal = propose(&policy, Across::Avg, fresh(&[0.1, 0.1, 0.1], &[]), (2, 3));
    assert_eq!(proposal.verdict, Verdict::Grow { to: 3 });
    let proposal = propose(&policy, Across::Avg, fresh(&[0.1, 0.1, 0.1], &[]), (3, 3));
    assert_eq!(proposal.verdict, Verdict::Keep);
    // Three times the mean of three times 0.7 is 2.0999999999999996.
    let policy = TargetPolicy {
        target: 0.7,
        ..policy
    };
    let proposal = propose(&policy, Across::Avg, fresh(&[0.7, 0.7, 0.7], &[]), (3, 3));
    assert_eq!(proposal.verdict, Verdict::Keep);
}

#[test]
fn a_partial_signal_may_grow_a_pool_but_not_shrink_or_keep_it_small() {
    let partial = |warm: &[f64]| Signal::Partial {
        values: values(warm, &[]),
        expected: 4,
        gaps: Gaps::default(),
    };
    let proposal = propose(&target("cpu", 0.5), Across::Avg, partial(&[1.5, 1.5]), (4, 4));
    assert_eq!(proposal.verdict, Verdict::Grow { to: 6 });
    assert_eq!(
        proposal.formula(),
        "cpu: ceil(4 hosts × mean 1.5000 / target 0.5) = 6 to 12; only 2 of 4 hosts have a fresh value"
    );
    // Silent hosts count as idle on the way out.
    assert_eq!(
        propose(&target("cpu", 0.5), Across::Avg, partial(&[0.9, 0.9]), (4, 4)).verdict,
        Verdict::Blind
    );
    assert_eq!(
        propose(&target("cpu", 0.5), Across::Avg, partial(&[0.0, 0.0]), (4, 4)).verdict,
        Verdict::Blind
    );
}

#[test]
fn a_stale_or_missing_signal_is_blind_and_says_why() {
    let stale = propose(
        &target("cpu", 0.5),
        Across::Avg,
        Signal::Stale {
            age_secs: 400.4,
            fresh_secs: 120,
            expected: 2,
            gaps: Gaps::default(),
        },
        (4, 4),
    );
    assert_eq!(
        (stale.verdict, stale.basis.as_ref().unwrap().value),
        (Verdict::Blind, None)
    );
    assert_eq!(
        stale.formula(),
        "cpu is stale: its newest value is 400 s old, 120 s are allowed"
    );
    let gone = Signal::Missing {
        reason: MissingReason::Failed("503".to_owned()),
        expected: 2,
        gaps: Gaps::default(),
    };
    let missing = propose(&target("cpu", 0.5), Across::Avg, gone.clone(), (4, 4));
    let basis = missing.basis.as_ref().unwrap();
    assert_eq!(
        (missing.verdict, basis.value, basis.target),
        (Verdict::Blind, None, Some(0.5))
    );
    assert_eq!(missing.formula(), "cpu is missing: 503");
    assert_eq!(basis.signal, gone);
}

#[test]
fn formulas_show_their_numbers() {
    let shown = |kind, warm: &[f64], warming: &[f64], serving| {
        let proposal = propose(&target("cpu", 0.5), kind, fresh(warm, warming), (2, serving));
        (
            proposal.basis.as_ref().unwrap().value.unwrap(),
            proposal.formula(),
        )
    };
    let formula = "cpu: ceil(2 hosts × mean 0.7500 / target 0.5) = 3";
    assert_eq!(
        shown(Across::Avg, &[0.5, 1.0], &[], 2),
        (0.75, formula.to_owned())
    );
    let formula = "cpu: ceil(3 hosts × largest 1.0000 / target 0.5) = 4 to 6";
    assert_eq!(shown(Across::Max, &[0.5, 1.0], &[], 3), (1.0, formula.to_owned()));
    let formula = "cpu: ceil(total 3.0000 / target 0.5 a host) = 6";
    assert_eq!(
        shown(Across::Sum, &[0.5, 1.0], &[1.5], 3),
        (1.0, formula.to_owned())
    );
}
