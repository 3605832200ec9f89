//! The fleet's documents in Elasticsearch, with lies among them.

use std::collections::{BTreeMap, BTreeSet};

use tidepool_autoscaler_core::observe::SignalReading;

use super::fleet::{Fleet, Kind, LOST_MAX, Lie, NOW, ROUNDS, SPIKES, STEP_MS, What};
use crate::metrics::elasticsearch::test_server::{Stored, search};
use crate::metrics::presets::SourceKind;

/// A document before it is written.
#[derive(Debug, Clone)]
struct Draft {
    host: usize,
    /// The host that it says it is of.
    named: usize,
    series: String,
    at_ms: i64,
    value: String,
    is_ignored: bool,
    /// Another machine wrote it, in the host's name.
    is_impostors: bool,
}

/// Between the documents of one host and those of the next: two hosts don't write at the same millisecond.
const APART_MS: i64 = 700;

/// What the adapter reads of the fleet's documents.
pub(super) fn read(fleet: &Fleet, lies: &[Lie]) -> SignalReading {
    let mut drafts = Vec::new();
    for host in 0..fleet.hosts {
        for series in 0..fleet.series {
            for round in 0..ROUNDS {
                drafts.push(Draft {
                    host,
                    named: host,
                    series: series.to_string(),
                    at_ms: NOW.0 - STEP_MS * (ROUNDS - 1 - round) as i64 - APART_MS * host as i64,
                    value: format!("{:?}", fleet.value(host, series, round)),
                    is_ignored: false,
                    is_impostors: false,
                });
            }
        }
    }
    let mut so_far = SoFar::default();
    for lie in lies {
        so_far.tell(fleet, lie, &mut drafts);
    }
    let mut stored: Vec<Stored> = drafts.iter().map(|draft| stored(fleet, draft)).collect();
    let missing = lies.iter().find(|lie| lie.what == What::MissingShards);
    if let Some(lie) = missing {
        let mut nth = usize::from(lie.amount);
        stored.retain(|_| {
            nth += 1;
            nth.is_multiple_of(2)
        });
    }
    let missing = u32::from(missing.is_some());
    match search(&fleet.query(SourceKind::Elasticsearch), &stored, NOW, missing) {
        Ok(reading) => SignalReading::Read(reading),
        Err(error) => SignalReading::Failed {
            reason: error.to_string(),
        },
    }
}

/// The lies so far: some would add up to what nobody could see.
#[derive(Debug, Default)]
struct SoFar {
    lost: BTreeMap<(usize, usize), usize>,
    /// Hosts whose clock is wrong, or that fell silent.
    late: BTreeSet<usize>,
    /// Hosts that another's document was written for.
    impersonated: BTreeSet<usize>,
}

impl SoFar {
    fn tell(&mut self, fleet: &Fleet, lie: &Lie, drafts: &mut Vec<Draft>) {
        let series = lie.series % fleet.series;
        let name = series.to_string();
        let of_series = |draft: &Draft| draft.host == lie.host && draft.series == name && !draft.is_impostors;
        let places: Vec<usize> = (0..drafts.len()).filter(|at| of_series(&drafts[*at])).collect();
        let place = (!places.is_empty()).then(|| places[lie.round % places.len()]);
        match (lie.what, place) {
            (What::Drop, Some(place)) => {
                let from_ms = drafts[place].at_ms;
                for _ in 0..lie.lost() {
                    let rest = (0..drafts.len())
                        .filter(|at| of_series(&drafts[*at]) && drafts[*at].at_ms >= from_ms);
                    if let Some(oldest) = rest.min_by_key(|at| drafts[*at].at_ms)
                        && self.may_lose(lie.host, series)
                    {
                        drafts.remove(oldest);
                    }
                }
            }
            (What::OldTime, Some(place)) if self.may_lose(lie.host, series) => {
                // Further than any clock is wrong, so that none puts it right.
                drafts[place].at_ms += [-36_000_000, 36_000_000][usize::from(lie.amount) % 2];
            }
            (What::Impostor, _) if !self.impersonated.contains(&lie.host) && self.late.insert(lie.host) => {
                impersonate(lie, drafts);
            }
            (What::Workers, _) => {
                let of_series = drafts.iter_mut().filter(|draft| of_series(draft));
                of_series.for_each(|draft| answer_in_turn(fleet, lie, draft));
            }
            (What::WrongHost, Some(place)) => {
                let other = (lie.host + 1) % fleet.hosts;
                if !self.late.contains(&other) && self.may_lose(lie.host, series) {
                    self.impersonated.insert(other);
                    drafts[place].named = other;
                }
            }
            (What::Silence, _) if !self.impersonated.contains(&lie.host) && self.late.insert(lie.host) => {
                let rounds = if lie.amount.is_multiple_of(2) {
                    ROUNDS
                } else {
                    1 + lie.round % 3
                };
                let newest_ms = NOW.0 - STEP_MS * rounds as i64;
                drafts.retain(|draft| draft.host != lie.host || draft.at_ms <= newest_ms);
            }
            (What::Skew, _) if !self.impersonated.contains(&lie.host) && self.late.insert(lie.host) => {
                let skew_ms =
                    [-30_000, -3_600_000, 4_000, 30_000, 120_000, 3_600_000][usize::from(lie.amount) % 6];
                let of_host = drafts.iter_mut().filter(|draft| draft.host == lie.host);
                of_host.for_each(|draft| draft.at_ms += skew_ms);
            }
            (What::Duplicate, Some(place)) => {
                let copies = 1 + usize::from(lie.amount) % 3;
                let copy = drafts[place].clone();
                drafts.extend(std::iter::repeat_n(copy, copies));
            }
            (What::Reorder, _) => {
                let turn = usize::from(lie.amount) % drafts.len().max(1);
                drafts.rotate_left(turn);
                drafts.reverse();
            }
            // Documents of it alone, without the others of its time, would be a host that had nothing else. Without labels they
            // would be of the host's one series.
            (What::Ended, _) if fleet.kind != Kind::Cpu && self.late.insert(lie.host) => {
                for ago_ms in [60_000, 50_000] {
                    drafts.push(Draft {
                        host: lie.host,
                        named: lie.host,
                        series: "ended".to_owned(),
                        at_ms: NOW.0 - ago_ms,
                        value: f64::from(lie.amount).to_string(),
                        is_ignored: false,
                        is_impostors: false,
                    });
                }
            }
            (What::Broken, Some(place)) => {
                let from_ms = drafts[place].at_ms;
                let newer = drafts
                    .iter_mut()
                    .filter(|draft| of_series(draft) && draft.at_ms >= from_ms);
                newer.for_each(|draft| corrupt(fleet.kind, What::NotANumber, lie.amount, draft));
            }
            (what, Some(place)) => corrupt(fleet.kind, what, lie.amount, &mut drafts[place]),
            (_, None) => {}
        }
    }

    fn may_lose(&mut self, host: usize, series: usize) -> bool {
        let lost = self.lost.entry((host, series)).or_default();
        *lost += 1;
        *lost <= LOST_MAX
    }
}

/// Another machine writes in the host's name.
fn impersonate(lie: &Lie, drafts: &mut Vec<Draft>) {
    let own = drafts
        .iter()
        .filter(|draft| draft.host == lie.host && draft.named == draft.host);
    let theirs = own.cloned().map(|draft| Draft {
        value: "0.0078125".to_owned(),
        is_impostors: true,
        ..draft
    });
    let theirs: Vec<Draft> = theirs.collect();
    // The host itself is silent, or goes on.
    if !lie.amount.is_multiple_of(3) {
        drafts.retain(|draft| draft.host != lie.host);
    }
    drafts.extend(theirs);
}

/// The host's second worker answers, in some of the rounds.
fn answer_in_turn(fleet: &Fleet, lie: &Lie, draft: &mut Draft) {
    let rounds_ago = usize::try_from((NOW.0 - draft.at_ms) / STEP_MS).unwrap_or(ROUNDS);
    let round = (ROUNDS - 1).checked_sub(rounds_ago);
    let value = round.and_then(|round| fleet.other_worker(lie.host, lie.series % fleet.series, round));
    if let Some(value) = value
        && lie.amount >> rounds_ago & 1 == 1
        && draft.value.parse::<f64>().is_ok()
    {
        draft.value = format!("{value:?}");
    }
}

fn corrupt(kind: Kind, what: What, amount: u8, draft: &mut Draft) {
    // What is not a number any more is not made one again.
    let Ok(number) = draft.value.parse::<f64>() else {
        return;
    };
    let malformed = amount.is_multiple_of(2);
    let (value, is_ignored) = match what {
        What::NotANumber => ("\"NaN\"".to_owned(), malformed),
        What::Infinite => ("\"-Infinity\"".to_owned(), malformed),
        What::Text => match amount % 4 {
            0 => ("\"n/a\"".to_owned(), true),
            1 => ("\"n/a\"".to_owned(), false),
            2 => (format!("\"{number:?}\""), false),
            _ => (format!("[0,{number:?}]"), false),
        },
        What::Negative => (format!("{:?}", -number - 0.1), false),
        What::Hundredfold => (format!("{:?}", 100.0 * number), false),
        What::Spike => {
            let spikes = if kind == Kind::Requests { 4 } else { 2 };
            (format!("{:?}", SPIKES[usize::from(amount) % spikes]), false)
        }
        What::SlightlyOver if kind == Kind::Cpu => {
            (format!("{:?}", 1.0 + f64::from(amount) / 5_200.0), false)
        }
        _ => return,
    };
    (draft.value, draft.is_ignored) = (value, is_ignored);
}

fn stored(fleet: &Fleet, draft: &Draft) -> Stored {
    let Draft {
        host,
        named,
        series,
        at_ms,
        value,
        is_ignored,
        is_impostors,
    } = draft;
    let source = match fleet.kind {
        Kind::Cpu => format!("\"system\":{{\"cpu\":{{\"total\":{{\"norm\":{{\"pct\":{value}}}}}}}}}"),
        Kind::Queue | Kind::Requests => format!(
            "\"prometheus\":{{\"metrics\":{{\"queue_depth\":{value}}},\"labels\":{{\"q\":\"{series}\"}}}}"
        ),
    };
    let (id, agent) = if *is_impostors {
        (Some((900 + host).to_string()), "impostor")
    } else {
        (fleet.has_ids.then(|| (100 + host).to_string()), "agent")
    };
    Stored {
        host: Fleet::name(*named),
        instance: id.clone(),
        at_ms: *at_ms,
        label: series.clone(),
        source: format!("{{\"agent\":{{\"id\":\"{agent}-{host}\"}},{source}}}"),
        is_ignored: *is_ignored,
    }
}
