//! Looks at the world for one tick: the provider's list, each member's own word, and every pool's signals in one reading.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::{self, StreamExt};
use tidepool_autoscaler_core::memory::{Followed, ORDINAL_MAX, is_over_ordinals};
use tidepool_autoscaler_core::observe::{
    Member, MemberId, MemberName, Observation, PoolName, Power, Readiness, SignalReading, UnixMillis,
    hosts_of,
};
use tidepool_autoscaler_core::recipe::Image;
use tidepool_autoscaler_core::spec::PoolSpec;

use crate::config::SignalConfig;
use crate::metrics::{Host, MetricSource, SignalQuery};
use crate::probe::MemberProbe;
use crate::provider::{Found, Listing, Provider, ProviderError, UNIDENTIFIED};

/// Members asked at once: with 2 s a member and 64 at once, 1,000 members that don't answer take 32 s.
const PROBES_MAX: usize = 64;

/// Members that are asked for by their id in one tick: those that the list leaves out. 50 are a quarter of a minute's calls;
/// any more count as they were known.
const FOLLOWED_MAX: usize = 50;
/// Members that a list calls off are asked for by their id, so many in one tick: a list says so of machines that run, too.
const OFF_ASKED_MAX: usize = 50;
/// Members that don't exist all at once: so many are named.
const MISSING_NAMED_MAX: usize = 20;
/// Of either so many at once: with 46 s a call at worst, the tick's own bound ends it.
const FOLLOWED_AT_ONCE: usize = 8;

/// Who is asked about a pool's members.
#[derive(Clone, Copy)]
pub struct Sources<'a> {
    /// The provider.
    pub provider: &'a dyn Provider,
    /// The members themselves.
    pub probe: &'a dyn MemberProbe,
    /// The port of the members' operations listeners.
    pub ops_port: u16,
}

/// A pool's members, as the provider and they themselves say.
#[derive(Debug, Default)]
pub struct Observed {
    /// All of them.
    pub members: Vec<Member>,
    /// How many more the provider counts, beside those that were found by their ids.
    pub unseen: u32,
    /// The list may go on beyond what it shows.
    pub may_go_on: bool,
    /// By how many milliseconds the provider's clock is ahead of ours, if it gave the time.
    pub provider_ahead_millis: Option<i64>,
    /// Those of which the provider says that there are none, and that are kept all the same.
    pub missing: BTreeSet<MemberId>,
    /// Those that say that they are drained.
    pub drained: BTreeSet<MemberId>,
    /// What an operator should know about them, a sentence each.
    pub problems: Vec<String>,
}

/// A pool's members: those that are listed, and those that are known and that the provider still has.
pub async fn members(
    spec: &PoolSpec,
    followed: &BTreeMap<MemberId, Followed>,
    sources: Sources<'_>,
    now: UnixMillis,
) -> Result<Observed, ProviderError> {
    let Listing {
        members,
        unseen,
        may_go_on,
        ahead_millis,
        problems,
    } = sources.provider.members_list(&spec.name).await?;
    let mut observed = Observed {
        members,
        unseen,
        may_go_on,
        provider_ahead_millis: ahead_millis,
        problems,
        ..Observed::default()
    };
    ask_again(spec, sources.provider, &mut observed).await;
    follow(spec, followed, sources.provider, now, &mut observed).await;
    observed.problems.extend(shared_names(&observed.members));
    observed.problems.extend(odd_numbers(spec, &observed.members));
    probe(sources, &mut observed).await;
    observed
        .members
        .sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(observed)
}

/// Asks for the members that the list calls off by their ids, and believes the answer: lists are made from a copy that may
/// lag or flicker. Where there is no answer it isn't known whether they run.
async fn ask_again(spec: &PoolSpec, provider: &dyn Provider, observed: &mut Observed) {
    let off = observed
        .members
        .iter()
        .filter(|m| m.power == Power::Off && !is_unidentified(&m.id))
        .map(|m| m.id.clone())
        .take(OFF_ASKED_MAX);
    let asked = off.map(|id| async move {
        let answer = provider.member_get(&spec.name, &id).await;
        (id, answer)
    });
    let asked: Vec<_> = asked.collect();
    let answers: BTreeMap<MemberId, _> = stream::iter(asked)
        .buffer_unordered(FOLLOWED_AT_ONCE)
        .collect()
        .await;
    for member in &mut observed.members {
        match answers.get(&member.id) {
            Some(Ok(Some(found))) => member.power = found.member.power,
            Some(Err(error)) => {
                member.power = Power::Unknown;
                observed.problems.push(format!(
                    "{} ({}) is listed as off, and asking for it failed: {}",
                    member.name,
                    member.id,
                    crate::chain(error)
                ));
            }
            // One that is being destroyed is listed for a while.
            Some(Ok(None)) | None => {}
        }
    }
}

/// Names that several members share, a sentence each.
fn shared_names(members: &[Member]) -> Vec<String> {
    let mut ids: BTreeMap<&MemberName, Vec<&str>> = BTreeMap::new();
    for member in members.iter().filter(|m| !m.draining) {
        ids.entry(&member.name).or_default().push(&member.id.0);
    }
    let shared = ids.into_iter().filter(|(_, ids)| ids.len() > 1);
    shared
        .map(|(name, ids)| {
            let (count, ids) = (ids.len(), ids.join(", "));
            format!(
                "{count} members are named {name} ({ids}); each counts, and is told from the others by its id"
            )
        })
        .collect()
}

/// Names with numbers that new members can't go on from, a sentence each.
fn odd_numbers(spec: &PoolSpec, members: &[Member]) -> Vec<String> {
    let odd = members.iter().filter(|m| is_over_ordinals(spec, &m.name));
    odd.map(|m| {
        format!(
            "{} ({}) has a number over {ORDINAL_MAX}; it is a member like any other, and names of new ones go on from the others",
            m.name, m.id
        )
    })
    .collect()
}

/// Asks for known members that the list leaves out, by their ids: only the provider's word that there is none makes one gone.
async fn follow(
    spec: &PoolSpec,
    followed: &BTreeMap<MemberId, Followed>,
    provider: &dyn Provider,
    now: UnixMillis,
    observed: &mut Observed,
) {
    let listed: BTreeSet<&MemberId> = observed.members.iter().map(|m| &m.id).collect();
    let some_exist = followed.keys().any(|id| listed.contains(id));
    let unlisted: Vec<(MemberId, Followed)> = followed
        .iter()
        .filter(|(id, _)| !listed.contains(id) && !is_unidentified(id))
        .map(|(id, known)| (id.clone(), known.clone()))
        .collect();
    let names: BTreeSet<MemberName> = unlisted.iter().map(|(_, known)| known.name.clone()).collect();
    // One of these without a readable id is counted by its id already.
    observed
        .members
        .retain(|m| !(is_unidentified(&m.id) && names.contains(&m.name)));
    let asked = unlisted
        .into_iter()
        .enumerate()
        .map(|(n, (id, known))| async move {
            let answer = if n < FOLLOWED_MAX {
                Some(provider.member_get(&spec.name, &id).await)
            } else {
                None
            };
            (id, known, answer)
        });
    let answers: Vec<_> = stream::iter(asked)
        .buffer_unordered(FOLLOWED_AT_ONCE)
        .collect()
        .await;
    let mut unlisted = Vec::new();
    for (id, known, answer) in answers {
        let recent = known
            .acknowledged_at
            .is_some_and(|at| !now.is_past(at, spec.life.create_settle_secs));
        let one = Unlisted {
            spec,
            id,
            known,
            recent,
        };
        unlisted.push((one, answer));
    }
    let doubt = Doubt::of(&unlisted, some_exist, now);
    let doubt = doubt.settled(spec, provider, observed).await;
    observed.keep_missing(spec, &mut unlisted, doubt);
    for (one, answer) in unlisted {
        observed.take_in(&one, answer);
    }
}

/// What the provider's word about missing members is judged by.
#[derive(Clone, Copy)]
struct Doubt {
    now: UnixMillis,
    missing: Missing,
}

/// How many of the members that were ever seen don't exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// None, or not all of them.
    Some,
    /// All, and there was only one.
    TheOnlyOne,
    /// All of several; or the only one, and the account doesn't know the pool.
    All,
}

impl Doubt {
    fn of(unlisted: &[(Unlisted<'_>, Answer)], some_listed: bool, now: UnixMillis) -> Doubt {
        let some_exist = some_listed || unlisted.iter().any(|(_, a)| matches!(a, Some(Ok(Some(_)))));
        let gone = unlisted.iter().filter(|one| is_gone(one)).count();
        let missing = match gone {
            0 => Missing::Some,
            _ if some_exist => Missing::Some,
            1 => Missing::TheOnlyOne,
            _ => Missing::All,
        };
        Doubt { now, missing }
    }

    /// One alone is gone sooner than an account is another's; but then the account has never heard of the pool.
    async fn settled(self, spec: &PoolSpec, provider: &dyn Provider, observed: &mut Observed) -> Doubt {
        if self.missing != Missing::TheOnlyOne {
            return self;
        }
        let known = provider.pool_is_known(&spec.name).await;
        let missing = match known {
            Ok(true) => Missing::TheOnlyOne,
            Ok(false) => Missing::All,
            Err(error) => {
                observed.problems.push(format!(
                    "whether the account knows the pool could not be asked: {}",
                    crate::chain(&error)
                ));
                Missing::All
            }
        };
        Doubt { missing, ..self }
    }
}

/// Whether the provider says that there is none, of one that was seen. Of one that never was it is a create that came to
/// nothing.
fn is_gone((one, answer): &(Unlisted<'_>, Answer)) -> bool {
    matches!(answer, Some(Ok(None))) && one.known.acknowledged_at.is_none()
}

/// What the provider answers when it is asked for a member by its id; `None` if it was not asked.
type Answer = Option<Result<Option<Found>, ProviderError>>;

/// A known member that the list leaves out.
struct Unlisted<'a> {
    spec: &'a PoolSpec,
    id: MemberId,
    known: Followed,
    /// It was made a moment ago; lists and even its own address may not show it yet.
    recent: bool,
}

impl Unlisted<'_> {
    /// As what it was known: it counts, and nothing is done with it.
    fn as_known(&self) -> Member {
        Member {
            id: self.id.clone(),
            name: self.known.name.clone(),
            created_at: self.known.created_at,
            power: Power::Unknown,
            serving: false,
            draining: false,
            readiness: Readiness::Unknown,
            address: None,
            image: Image::default(),
            size: None,
            generation: None,
        }
    }

    fn problem(&self, what: &str) -> Option<String> {
        let Unlisted { id, known, .. } = self;
        (!self.recent).then(|| format!("{} ({id}) {what}", known.name))
    }
}

impl Observed {
    /// Keeps the members of which the provider says that there are none, where it says so of every member that was ever
    /// seen: a token of another team is likelier than that all went at once. (Of the only one: where the account doesn't know
    /// the pool.) What is still gone after the time of an outage is believed, of one member a tick.
    fn keep_missing(&mut self, spec: &PoolSpec, unlisted: &mut Vec<(Unlisted<'_>, Answer)>, doubt: Doubt) {
        let is_doubted = |known: &Followed| match doubt.missing {
            Missing::All => true,
            Missing::Some => known.missing_since.is_some(),
            Missing::TheOnlyOne => false,
        };
        let (mut missing, others): (Vec<_>, Vec<_>) = std::mem::take(unlisted)
            .into_iter()
            .partition(|one| is_gone(one) && is_doubted(&one.0.known));
        *unlisted = others;
        let secs = spec.life.outage_secs();
        missing.sort_by(|(one, _), (other, _)| one.id.cmp(&other.id));
        let believed = missing.iter().position(|(one, _)| {
            let since = one.known.missing_since;
            since.is_some_and(|since| doubt.now.is_past(since, secs))
        });
        if let Some(believed) = believed {
            unlisted.push(missing.remove(believed));
        }
        if missing.is_empty() {
            return;
        }
        let names: Vec<String> = missing
            .iter()
            .map(|(one, _)| format!("{} ({})", one.known.name, one.id))
            .take(MISSING_NAMED_MAX)
            .collect();
        self.problems.push(format!(
            "the provider said of all of the pool's members at once that they don't exist, and still says so of {}: the \
             token may be another team's. They count as members; those of which it says so for {secs} s are replaced, \
             one in a tick",
            names.join(", ")
        ));
        for (one, _) in missing {
            self.members.push(one.as_known());
            self.missing.insert(one.id);
        }
    }

    fn take_in(&mut self, unlisted: &Unlisted<'_>, answer: Answer) {
        let pool = &unlisted.spec.name;
        let member = match answer {
            Some(Ok(None)) if unlisted.recent => unlisted.as_known(),
            Some(Ok(None)) => return,
            Some(Ok(Some(found))) => {
                let Found {
                    mut member,
                    tagged,
                    problem,
                } = found;
                self.problems.extend(problem);
                if !tagged && member.name != unlisted.known.name {
                    tracing::info!(%pool, id = %unlisted.id, "a droplet without the pool's tag and name is let go");
                    return;
                }
                let what = if tagged {
                    self.one_less_unseen();
                    format!("exists, and the list of the pool {pool} leaves it out; it is followed by its id")
                } else {
                    member.power = Power::Unknown;
                    format!(
                        "exists without the tag pool:{pool}; it counts as a member, and nothing is done with it: \
                         tag it again, destroy it, or rename it to let it go"
                    )
                };
                self.problems.extend(unlisted.problem(&what));
                member
            }
            Some(Err(error)) => {
                let what = format!(
                    "is not listed, and asking for it failed: {}",
                    crate::chain(&error)
                );
                self.problems.extend(unlisted.problem(&what));
                self.one_less_unseen();
                unlisted.as_known()
            }
            None => {
                self.one_less_unseen();
                self.problems
                    .extend(unlisted.problem("is not listed, nor asked for: too many are not"));
                unlisted.as_known()
            }
        };
        self.members.push(member);
    }

    /// One that the list leaves out is known by its id, and may be among those that the provider counts.
    fn one_less_unseen(&mut self) {
        self.unseen = self.unseen.saturating_sub(1);
    }
}

/// Whether an id stands for a droplet without one.
fn is_unidentified(id: &MemberId) -> bool {
    id.0.starts_with(UNIDENTIFIED)
}

/// Asks the members that run.
async fn probe(sources: Sources<'_>, observed: &mut Observed) {
    let Sources { probe, ops_port, .. } = sources;
    let asked = std::mem::take(&mut observed.members)
        .into_iter()
        .map(|mut member| async move {
            let mut drained = false;
            match (member.power, member.address) {
                (Power::Running, Some(address)) if member.draining => {
                    // Its readiness says nothing more: a member that drains is not ready by its own will.
                    drained = probe.drained(address, ops_port).await;
                    member.readiness = Readiness::NotReady;
                }
                (Power::Running, Some(address)) => {
                    member.readiness = probe.readiness(address, ops_port).await
                }
                (Power::Running | Power::Creating | Power::Unknown, _) => {
                    member.readiness = Readiness::Unknown
                }
                (Power::Off, _) => member.readiness = Readiness::NotReady,
            }
            (member, drained)
        });
    let asked: Vec<(Member, bool)> = stream::iter(asked).buffer_unordered(PROBES_MAX).collect().await;
    for (member, drained) in asked {
        if drained {
            observed.drained.insert(member.id.clone());
        }
        observed.members.push(member);
    }
}

/// What is to be read for a pool with these members: only of those that serve.
pub fn queries(pool: &PoolName, signals: &[SignalConfig], members: &[Member]) -> Vec<SignalQuery> {
    let serving = members.iter().filter(|m| m.serving && !m.draining);
    let host = |member: &Member| Host {
        id: member.id.clone(),
        address: member.address,
    };
    let names = hosts_of(members);
    let hosts: BTreeMap<_, _> = serving
        .filter_map(|m| Some((names.get(&m.id)?.clone(), host(m))))
        .collect();
    let query = |signal: &SignalConfig| SignalQuery {
        pool: pool.clone(),
        signal: signal.name.clone(),
        hosts: hosts.clone(),
        what: signal.what.clone(),
        window_secs: signal.window_secs,
        fresh_secs: signal.fresh_secs,
    };
    signals.iter().map(query).collect()
}

/// Reads all signals of all pools at once, and gives them back pool by pool, signal by signal.
pub async fn readings(
    source: &dyn MetricSource,
    queries: Vec<SignalQuery>,
    now: UnixMillis,
) -> BTreeMap<PoolName, BTreeMap<String, SignalReading>> {
    let mut by_pool: BTreeMap<PoolName, BTreeMap<String, SignalReading>> = BTreeMap::new();
    if queries.is_empty() {
        return by_pool;
    }
    let mut answers = source.read(&queries, now).await.into_iter();
    for query in queries {
        let reading = match answers.next() {
            Some(Ok(reading)) => SignalReading::Read(reading),
            Some(Err(error)) => SignalReading::Failed {
                reason: crate::chain(&error),
            },
            None => SignalReading::Failed {
                reason: "the source gave no answer to it".to_owned(),
            },
        };
        by_pool
            .entry(query.pool)
            .or_default()
            .insert(query.signal, reading);
    }
    by_pool
}

/// One pool's observation.
pub fn observation(
    at: UnixMillis,
    observed: Observed,
    signals: BTreeMap<String, SignalReading>,
) -> Observation {
    Observation {
        at,
        members: observed.members,
        unseen: observed.unseen,
        may_go_on: observed.may_go_on,
        provider_ahead_millis: observed.provider_ahead_millis,
        missing: observed.missing,
        drained: observed.drained,
        signals,
    }
}
