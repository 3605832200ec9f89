//! Where reasons become text: the one place. Every number comes from [`crate::outcome`] and [`crate::signal`].

use std::cmp::Ordering;

use serde::{Serialize, Serializer};

use crate::control::Control;
use crate::observe::{MemberName, UnixMillis};
use crate::outcome::{DeadMember, DeathCause, Decision, Proposal, Reason, Verdict, Working};
use crate::rollout::Cause;
use crate::signal::{GapCause, Gaps, HOSTS_NAMED_MAX, MissingReason, Signal};
use crate::spec::Across;

impl Decision {
    /// Why, in one sentence.
    pub fn reason(&self) -> String {
        let reasons: Vec<String> = self.reasons.iter().map(|reason| self.text_of(reason)).collect();
        let headline = headline(self);
        if reasons.is_empty() {
            headline
        } else {
            format!("{headline}: {}", reasons.join("; "))
        }
    }

    /// What of the reasons an operator should know also when nobody asks why, a sentence each.
    pub fn alarms(&self) -> Vec<String> {
        let alarming = |reason: &&Reason| match reason {
            Reason::SlowBoots { .. }
            | Reason::TooManyUnready
            | Reason::TooManyRepairs { .. }
            | Reason::Repairs { .. }
            | Reason::Vanished { .. }
            | Reason::RolloutStopped { .. }
            | Reason::Copies { .. } => true,
            Reason::Policy { .. }
            | Reason::NoPolicy
            | Reason::Held { .. }
            | Reason::SetByHand { .. }
            | Reason::OutWindow { .. }
            | Reason::InWindow { .. }
            | Reason::NotWatched { .. }
            | Reason::OverMaximum { .. }
            | Reason::UnderMinimum { .. }
            | Reason::Gone { .. }
            | Reason::AccountFull
            | Reason::Unseen { .. }
            | Reason::ListMayGoOn
            | Reason::OutLimit { .. }
            | Reason::InLimit { .. }
            | Reason::RepairsHeld { .. }
            | Reason::RollingOut { .. }
            | Reason::RolloutPaused { .. }
            | Reason::RolloutHeld { .. }
            | Reason::Leaving { .. } => false,
        };
        let alarms = self.reasons.iter().filter(alarming);
        alarms.map(|reason| self.text_of(reason)).collect()
    }

    fn text_of(&self, reason: &Reason) -> String {
        let policy = |name: &str| self.proposals.iter().find(|p| p.policy == name);
        match reason {
            Reason::Policy { policy: name } => policy(name).map_or_else(|| name.clone(), Proposal::formula),
            Reason::NoPolicy => "no policy, so the bounds alone decide".to_owned(),
            Reason::Held { size } => format!("held at {size} by the operator"),
            Reason::SetByHand { size } => format!("set to {size} by hand"),
            Reason::OutWindow { secs, enough } => format!("within the last {secs} s {enough} were enough"),
            Reason::InWindow { secs, needed } => format!("within the last {secs} s {needed} were needed"),
            Reason::NotWatched { secs } => format!("not watched for {secs} s yet, so it doesn't shrink"),
            Reason::OverMaximum { wanted, max } => format!("{wanted} are over the maximum of {max}"),
            Reason::UnderMinimum { wanted, min } => format!("{wanted} are under the minimum of {min}"),
            Reason::Gone { gone, kept } => format!("{gone} of {kept} are gone and are replaced"),
            Reason::AccountFull => {
                "no growth now: the provider said that the account's limit is reached".to_owned()
            }
            Reason::Vanished { members, wait_secs } => format!(
                "{} gone before they were ready, though the provider had accepted to make them; growth waits {wait_secs} s after the last one",
                listed(members)
            ),
            Reason::Unseen { count } => {
                format!("the provider counts {count} more than it lists, and for these none are made")
            }
            Reason::ListMayGoOn => {
                "the provider's list may go on beyond what it shows, so none are made".to_owned()
            }
            Reason::OutLimit { max, period_secs } => format!("at most {max} more {}", period(*period_secs)),
            Reason::InLimit { max, period_secs } => format!("at most {max} fewer {}", period(*period_secs)),
            Reason::SlowBoots { times, secs } => format!(
                "new members were not ready in time, {times} times in a row; a member now gets {secs} s to boot"
            ),
            Reason::TooManyUnready => {
                "no repairs, for more than half of the members are off or not ready at once".to_owned()
            }
            Reason::RepairsHeld { members } => {
                format!("{}; left alone while the pool is held", dead(members))
            }
            Reason::Repairs { members } => format!("{}; replaced", dead(members)),
            Reason::Copies { members } => format!(
                "{} removed: a create that was lost and sent again made one too many",
                listed(members)
            ),
            Reason::Leaving { members } => format!("on the way out: {}", listed(members)),
            Reason::RollingOut { to, left, of } => {
                format!("rollout to {to}: {left} of {of} members are not of it yet")
            }
            Reason::RolloutPaused { to, left, of } => {
                format!("rollout to {to} paused: {left} of {of} members are not of it yet")
            }
            Reason::RolloutHeld { to, left, of } => format!(
                "rollout to {to} waits while the pool is held: {left} of {of} members are not of it yet"
            ),
            Reason::RolloutStopped { back: true, cause } => {
                format!("the rollout goes back: {}", cause.words())
            }
            Reason::RolloutStopped { back: false, cause } => format!(
                "the rollout is paused, for nothing is known to go back to: {}",
                cause.words()
            ),
            Reason::TooManyRepairs { max, window_secs } => {
                format!("no more repairs: at most {max} members are replaced within {window_secs} s")
            }
        }
    }
}

fn headline(decision: &Decision) -> String {
    let Decision { desired, planned, .. } = decision;
    let actual = &decision.base();
    let to = if planned == desired {
        String::new()
    } else {
        format!(", by way of {planned}")
    };
    match desired.cmp(actual) {
        Ordering::Greater => format!("grow from {actual} to {desired}{to}"),
        Ordering::Less => format!("shrink from {actual} to {desired}{to}"),
        Ordering::Equal => format!("keep {actual}"),
    }
}

/// The first few of these names.
fn listed(names: &[MemberName]) -> String {
    let named: Vec<&str> = names
        .iter()
        .take(HOSTS_NAMED_MAX)
        .map(|name| name.0.as_str())
        .collect();
    and_more(named.join(", "), names.len())
}

/// The first few of these, and what is wrong with each.
fn dead(members: &[DeadMember]) -> String {
    let text = |member: &DeadMember| {
        let name = &member.name;
        match member.cause {
            DeathCause::Off { secs } => format!("{name} has been off for {secs} s"),
            DeathCause::NotReady { secs } => format!("{name} has not been ready for {secs} s"),
            DeathCause::NotInTime { secs } => format!("{name} did not get ready within {secs} s"),
        }
    };
    let named: Vec<String> = members.iter().take(HOSTS_NAMED_MAX).map(text).collect();
    and_more(named.join(", "), members.len())
}

fn and_more(text: String, count: usize) -> String {
    match count.saturating_sub(HOSTS_NAMED_MAX) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

fn period(secs: u32) -> String {
    if secs == 0 {
        "in a tick".to_owned()
    } else {
        format!("within {secs} s")
    }
}

impl Proposal {
    /// How the policy came to its verdict, with the numbers.
    pub fn formula(&self) -> String {
        let name = &self.policy;
        let Some(basis) = &self.basis else {
            return self.working_text();
        };
        match &basis.signal {
            Signal::Fresh { .. } => self.working_text(),
            Signal::Partial {
                values,
                expected,
                gaps,
            } => {
                let known = values.whole();
                format!(
                    "{}; only {known} of {expected} hosts have a fresh value{}",
                    self.working_text(),
                    in_brackets(gaps)
                )
            }
            Signal::Stale {
                age_secs, fresh_secs, ..
            } => {
                format!(
                    "{name} is stale: its newest value is {age_secs:.0} s old, {fresh_secs} s are allowed"
                )
            }
            Signal::Missing { reason, gaps, .. } => {
                format!("{name} is missing: {}{}", missing(reason), in_brackets(gaps))
            }
        }
    }

    fn working_text(&self) -> String {
        let name = &self.policy;
        let (across, measured, hosts, target, low, high) = match &self.working {
            Working::Unread => return name.clone(),
            Working::Load {
                across,
                measured,
                hosts,
                target,
                low,
                high,
            } => (across, measured, hosts, target, low, high),
        };
        let members = if low == high {
            format!("{low}")
        } else {
            format!("{low} to {high}")
        };
        // One decimal where some hosts served for a part of the time.
        let hosts = (hosts * 10.0).round() / 10.0;
        match across {
            Across::Avg => {
                format!("{name}: ceil({hosts} hosts × mean {measured:.4} / target {target}) = {members}")
            }
            Across::Max => {
                format!("{name}: ceil({hosts} hosts × largest {measured:.4} / target {target}) = {members}")
            }
            Across::Sum => format!("{name}: ceil(total {measured:.4} / target {target} a host) = {members}"),
        }
    }
}

fn missing(reason: &MissingReason) -> String {
    match reason {
        MissingReason::NotRead => "it was not read".to_owned(),
        MissingReason::Failed(reason) => reason.clone(),
        MissingReason::NobodyWarm => "no member has served for long enough to be measured".to_owned(),
        MissingReason::NoValues => "no expected host has a value".to_owned(),
    }
}

impl Cause {
    /// Why a rollout was stopped.
    pub fn words(&self) -> String {
        match self {
            Cause::ByHand => "by hand".to_owned(),
            Cause::NewOnesFail {
                failed,
                of,
                others_failed,
                others,
                members,
            } => format!(
                "{failed} of {of} new members failed ({}), and {others_failed} of {others} others",
                listed(members)
            ),
            Cause::Vanished { times } => {
                format!("new members were gone before they were ready, {times} times")
            }
            Cause::Refused { times } => format!("the provider refused to make new members, {times} times"),
        }
    }
}

impl Gaps {
    /// The hosts and their causes, those of one cause together; empty where nothing is known.
    pub fn words(&self) -> String {
        let mut by_cause: Vec<(&GapCause, Vec<&str>)> = Vec::new();
        for (host, cause) in &self.named {
            match by_cause.iter_mut().find(|(known, _)| *known == cause) {
                Some((_, hosts)) => hosts.push(&host.0),
                None => by_cause.push((cause, vec![&host.0])),
            }
        }
        let parts = by_cause
            .iter()
            .map(|(cause, hosts)| format!("{}: {}", hosts.join(", "), cause.words()));
        let more = (self.more > 0).then(|| format!("{} more hosts", self.more));
        parts.chain(more).collect::<Vec<_>>().join("; ")
    }
}

impl GapCause {
    /// Why a host has no whole, fresh value.
    pub fn words(&self) -> &str {
        match self {
            GapCause::Silent => "it has no value",
            GapCause::Stale => "its newest value is too old",
            GapCause::Future => "its values claim to be from the future",
            GapCause::NotANumber => "its value is not a number",
            GapCause::Reported(words) => words,
        }
    }
}

fn in_brackets(gaps: &Gaps) -> String {
    let words = gaps.words();
    if words.is_empty() {
        words
    } else {
        format!(" ({words})")
    }
}

#[derive(Serialize)]
struct DecisionText<'a> {
    at: UnixMillis,
    control: Control,
    actual: u32,
    kept: u32,
    recommended: u32,
    desired: u32,
    planned: u32,
    surplus: u32,
    surge: u32,
    reason: String,
    reasons: &'a [Reason],
    proposals: &'a [Proposal],
}

impl Serialize for Decision {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = DecisionText {
            at: self.at,
            control: self.control,
            actual: self.actual,
            kept: self.kept,
            recommended: self.recommended,
            desired: self.desired,
            planned: self.planned,
            surplus: self.surplus,
            surge: self.surge,
            reason: self.reason(),
            reasons: &self.reasons,
            proposals: &self.proposals,
        };
        text.serialize(serializer)
    }
}

#[derive(Serialize)]
struct ProposalText<'a> {
    policy: &'a str,
    verdict: Verdict,
    formula: String,
    working: &'a Working,
    #[serde(flatten)]
    basis: Option<BasisText<'a>>,
}

#[derive(Serialize)]
struct BasisText<'a> {
    signal_name: &'a str,
    signal: &'a Signal,
    value: Option<f64>,
    target: Option<f64>,
}

impl Serialize for Proposal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = ProposalText {
            policy: &self.policy,
            verdict: self.verdict,
            formula: self.formula(),
            working: &self.working,
            basis: self.basis.as_ref().map(|basis| BasisText {
                signal_name: &basis.signal_name,
                signal: &basis.signal,
                value: basis.value,
                target: basis.target,
            }),
        };
        text.serialize(serializer)
    }
}
