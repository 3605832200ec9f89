//! How reasons read, and what JSON keeps of them.

use std::collections::BTreeSet;

use serde::Serialize;
use tidepool_autoscaler_core::outcome::{
    DeadMember, DeathCause, Decision, Proposal, Reason, Verdict, Working,
};
use tidepool_autoscaler_core::recipe::Recipe;
use tidepool_autoscaler_core::rollout::Cause;
use tidepool_autoscaler_core::signal::{Gaps, MissingReason, Signal};

use crate::support::{cpu, decided, kinds_of, name, seen, spec, watched};

/// The name of a value's kind in JSON.
fn kind_of(value: &impl Serialize) -> String {
    let json = serde_json::to_value(value).unwrap();
    json["kind"].as_str().unwrap().to_owned()
}

fn dead(n: u32, cause: DeathCause) -> DeadMember {
    let name = name(&format!("api-{n}"));
    DeadMember { name, cause }
}

/// Reasons about the pool as a whole.
fn of_the_pool() -> Vec<(Reason, &'static str)> {
    vec![
        (Reason::NoPolicy, "no policy, so the bounds alone decide"),
        (Reason::Held { size: 4 }, "held at 4 by the operator"),
        (Reason::SetByHand { size: 4 }, "set to 4 by hand"),
        (
            Reason::OutWindow { secs: 60, enough: 3 },
            "within the last 60 s 3 were enough",
        ),
        (
            Reason::InWindow { secs: 300, needed: 5 },
            "within the last 300 s 5 were needed",
        ),
        (
            Reason::NotWatched { secs: 300 },
            "not watched for 300 s yet, so it doesn't shrink",
        ),
        (
            Reason::OverMaximum { wanted: 12, max: 10 },
            "12 are over the maximum of 10",
        ),
        (
            Reason::UnderMinimum { wanted: 1, min: 2 },
            "1 are under the minimum of 2",
        ),
        (
            Reason::Gone { gone: 1, kept: 4 },
            "1 of 4 are gone and are replaced",
        ),
        (
            Reason::AccountFull,
            "no growth now: the provider said that the account's limit is reached",
        ),
        (
            Reason::Unseen { count: 2 },
            "the provider counts 2 more than it lists, and for these none are made",
        ),
        (
            Reason::ListMayGoOn,
            "the provider's list may go on beyond what it shows, so none are made",
        ),
        (
            Reason::OutLimit {
                max: 4,
                period_secs: 60,
            },
            "at most 4 more within 60 s",
        ),
        (
            Reason::InLimit {
                max: 1,
                period_secs: 0,
            },
            "at most 1 fewer in a tick",
        ),
        (
            Reason::SlowBoots { times: 2, secs: 800 },
            "new members were not ready in time, 2 times in a row; a member now gets 800 s to boot",
        ),
        (
            Reason::TooManyUnready,
            "no repairs, for more than half of the members are off or not ready at once",
        ),
    ]
}

/// Reasons about a rollout.
fn of_rollouts() -> Vec<(Reason, &'static str)> {
    let (left, of) = (2, 3);
    let recipe = |name: Option<&str>| Recipe {
        name: name.map(str::to_owned),
        image: "api (9002)".into(),
        size: Some("s-1".to_owned()),
        ..Recipe::default()
    };
    let to = || recipe(None).to_string();
    assert_eq!(
        recipe(Some("api 0.3.2")).to_string(),
        "api 0.3.2 (image api (9002), s-1)"
    );
    vec![
        (
            Reason::RollingOut { to: to(), left, of },
            "rollout to image api (9002), s-1: 2 of 3 members are not of it yet",
        ),
        (
            Reason::RolloutPaused { to: to(), left, of },
            "rollout to image api (9002), s-1 paused: 2 of 3 members are not of it yet",
        ),
        (
            Reason::RolloutHeld { to: to(), left, of },
            "rollout to image api (9002), s-1 waits while the pool is held: 2 of 3 members are not of it yet",
        ),
        (
            Reason::RolloutStopped {
                back: true,
                cause: Cause::NewOnesFail {
                    failed: 2,
                    of: 2,
                    others_failed: 0,
                    others: 3,
                    members: vec![name("api-4"), name("api-5")],
                },
            },
            "the rollout goes back: 2 of 2 new members failed (api-4, api-5), and 0 of 3 others",
        ),
        (
            Reason::RolloutStopped {
                back: true,
                cause: Cause::ByHand,
            },
            "the rollout goes back: by hand",
        ),
        (
            Reason::RolloutStopped {
                back: false,
                cause: Cause::Vanished { times: 2 },
            },
            "the rollout is paused, for nothing is known to go back to: new members were gone before they were ready, 2 times",
        ),
        (
            Reason::RolloutStopped {
                back: true,
                cause: Cause::Refused { times: 3 },
            },
            "the rollout goes back: the provider refused to make new members, 3 times",
        ),
    ]
}

/// Reasons about single members, or about what is done with them.
fn of_members() -> Vec<(Reason, &'static str)> {
    vec![
        (
            Reason::Repairs {
                members: vec![dead(2, DeathCause::Off { secs: 60 })],
            },
            "api-2 has been off for 60 s; replaced",
        ),
        (
            Reason::RepairsHeld {
                members: vec![
                    dead(2, DeathCause::NotReady { secs: 60 }),
                    dead(3, DeathCause::NotInTime { secs: 600 }),
                ],
            },
            "api-2 has not been ready for 60 s, api-3 did not get ready within 600 s; left alone while the pool is held",
        ),
        (
            Reason::Vanished {
                members: vec![name("api-2 (17)"), name("api-3 (18)")],
                wait_secs: 240,
            },
            "api-2 (17), api-3 (18) gone before they were ready, though the provider had accepted to make them; growth waits 240 s after the last one",
        ),
        (
            Reason::Copies {
                members: vec![name("api-2 (17)")],
            },
            "api-2 (17) removed: a create that was lost and sent again made one too many",
        ),
        (
            Reason::Leaving {
                members: (1..=7).map(|n| name(&format!("api-{n}"))).collect(),
            },
            "on the way out: api-1, api-2, api-3, api-4, api-5 and 2 more",
        ),
        (
            Reason::TooManyRepairs {
                max: 5,
                window_secs: 600,
            },
            "no more repairs: at most 5 members are replaced within 600 s",
        ),
    ]
}

#[test]
fn every_reason_reads_as_part_of_a_sentence() {
    let table: Vec<_> = of_the_pool()
        .into_iter()
        .chain(of_members())
        .chain(of_rollouts())
        .collect();
    let known: BTreeSet<String> = table.iter().map(|(reason, _)| kind_of(reason)).collect();
    let mut every = kinds_of::<Reason>();
    // Its words are the policy's formula.
    assert!(every.remove("policy"));
    assert_eq!(known, every, "each reason has a row in the table");
    for (reason, text) in table {
        let decision = Decision {
            reasons: vec![reason],
            ..decided(&spec(), &cpu(4, 0.5), &watched())
        };
        assert_eq!(decision.reason(), format!("keep 4: {text}"));
    }
}

#[test]
fn json_has_the_words_and_the_values_and_comes_back_as_it_was() {
    let decision = decided(&spec(), &cpu(8, 1.0), &watched());
    assert_eq!(
        decision.reasons,
        [
            Reason::Policy {
                policy: "cpu".to_owned()
            },
            Reason::OverMaximum { wanted: 16, max: 10 },
        ]
    );
    let json = serde_json::to_value(&decision).unwrap();
    assert_eq!(json.pointer("/reason").unwrap(), &decision.reason());
    assert_eq!(json.pointer("/reasons/1/kind").unwrap(), "over_maximum");
    assert_eq!(
        json.pointer("/proposals/0/formula").unwrap(),
        "cpu: ceil(8 hosts × mean 1.0000 / target 0.5) = 16"
    );
    assert_eq!(json.pointer("/proposals/0/working/low").unwrap(), 16);
    assert_eq!(serde_json::from_value::<Decision>(json).unwrap(), decision);
    let blind = decided(&spec(), &seen(Vec::new(), &[]), &watched());
    let json = serde_json::to_string(&blind).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), blind);
}

#[test]
fn a_proposal_that_goes_by_no_signal_comes_back_as_it_was() {
    let proposal = Proposal {
        policy: "night".to_owned(),
        verdict: Verdict::Keep,
        working: Working::Unread,
        basis: None,
    };
    assert_eq!(proposal.formula(), "night");
    let json = serde_json::to_value(&proposal).unwrap();
    assert_eq!(json.get("signal"), None);
    assert_eq!(serde_json::from_value::<Proposal>(json).unwrap(), proposal);
}

/// As version 0.1.0 wrote it, before reasons were values.
const OLD_DECISION: &str = r#"{"at":100000000,"actual":4,"kept":4,"recommended":4,"desired":4,"planned":4,
    "reason":"keep 4: cpu is missing: 503",
    "proposals":[
        {"policy":"cpu","verdict":{"kind":"blind"},"formula":"cpu is missing: 503",
         "signal":{"state":"missing","reason":"503","expected":4},"value":null,"target":0.5},
        {"policy":"memory","verdict":{"kind":"blind"},"formula":"memory is stale: its newest value is 400 s old, 120 s are allowed",
         "signal":{"state":"stale","age_secs":400.0,"expected":4},"value":null,"target":0.5}]}"#;

#[test]
fn a_decision_of_an_older_version_can_be_read() {
    let old: Decision = serde_json::from_str(OLD_DECISION).unwrap();
    assert_eq!((old.desired, old.reasons.len()), (4, 0));
    let signals: Vec<&Signal> = old
        .proposals
        .iter()
        .flat_map(|p| &p.basis)
        .map(|b| &b.signal)
        .collect();
    assert_eq!(
        signals,
        [
            &Signal::Missing {
                reason: MissingReason::Failed("503".to_owned()),
                expected: 4,
                gaps: Gaps::default(),
            },
            &Signal::Stale {
                age_secs: 400.0,
                fresh_secs: 0,
                expected: 4,
                gaps: Gaps::default(),
            },
        ]
    );
}
