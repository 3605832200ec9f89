//! The fleet's answers to `GET /metrics`, with lies in them.

use std::collections::{BTreeMap, BTreeSet};

use tidepool_autoscaler_core::observe::{MemberName, SignalReading};

use super::fleet::{Fleet, Kind, LOST_MAX, Lie, NOW, ROUNDS, SPIKES, STEP_MS, What};
use crate::metrics::presets::SourceKind;
use crate::metrics::scrape::read_texts;

const QUEUE: &str = "queue_depth";

/// One member's lines in each round; `None` for no answer.
type Rounds = Vec<Option<Vec<String>>>;

/// What the adapter reads of the fleet's answers.
pub(super) fn read(fleet: &Fleet, lies: &[Lie]) -> SignalReading {
    let lines = |host, round| {
        (0..fleet.series).map(move |series| line(fleet, series, fleet.value(host, series, round)))
    };
    let mut rounds: Vec<Rounds> = (0..fleet.hosts)
        .map(|host| {
            (0..ROUNDS)
                .map(|round| Some(lines(host, round).collect()))
                .collect()
        })
        .collect();
    let mut lost = BTreeMap::new();
    let mut silent = BTreeSet::new();
    let loses = |what| matches!(what, What::Drop | What::Silence | What::Skew | What::OldTime);
    let anything_is_lost = lies.iter().any(|lie| loses(lie.what));
    for lie in lies {
        let series = lie.series % fleet.series;
        match lie.what {
            What::Silence if silent.insert(lie.host) => {
                // Two rounds in the middle, or the newest: then the member has no value.
                let first = if lie.amount.is_multiple_of(2) {
                    ROUNDS - 1
                } else {
                    1 + lie.round % 3
                };
                rounds[lie.host]
                    .iter_mut()
                    .skip(first)
                    .take(2)
                    .for_each(|round| *round = None);
            }
            What::Drop => {
                let lost: &mut usize = lost.entry((lie.host, series)).or_default();
                for lines in rounds[lie.host].iter_mut().skip(lie.round).take(lie.lost()) {
                    *lost += 1;
                    if *lost <= LOST_MAX
                        && let Some(lines) = lines
                    {
                        lines.retain(|line| !is_of(line, series));
                    }
                }
            }
            What::WrongHost if !anything_is_lost => {
                let (one, other) = (lie.host, (lie.host + 1) % fleet.hosts);
                let at_one = std::mem::take(&mut rounds[one][lie.round]);
                let at_other = std::mem::replace(&mut rounds[other][lie.round], at_one);
                rounds[one][lie.round] = at_other;
            }
            What::Ended => {
                for lines in rounds[lie.host].iter_mut().take(2).flatten() {
                    lines.push(format!("{QUEUE}{{q=\"ended\"}} {}", lie.amount));
                }
            }
            What::Workers => {
                for (round, lines) in rounds[lie.host].iter_mut().enumerate() {
                    let value = fleet.other_worker(lie.host, series, round);
                    if let (Some(lines), Some(value)) = (lines, value)
                        && lie.amount >> round & 1 == 1
                    {
                        replace(series, lines, |_| Some(format!("{value:?}")));
                    }
                }
            }
            What::Broken => {
                for lines in rounds[lie.host].iter_mut().skip(lie.round).flatten() {
                    corrupt(fleet.kind, lie, series, lines);
                }
            }
            _ => {
                if let Some(lines) = &mut rounds[lie.host][lie.round] {
                    corrupt(fleet.kind, lie, series, lines);
                }
            }
        }
    }
    let answers = rounds.into_iter().enumerate().map(|(host, rounds)| {
        let texts = rounds.into_iter().enumerate().map(|(round, lines)| {
            let ago_ms = STEP_MS * (ROUNDS - 1 - round) as i64;
            (ago_ms, lines.map(|lines| lines.concat()))
        });
        (MemberName(Fleet::name(host)), texts.collect())
    });
    SignalReading::Read(read_texts(
        &fleet.query(SourceKind::Scrape),
        &answers.collect(),
        NOW,
    ))
}

fn line(fleet: &Fleet, series: usize, value: f64) -> String {
    match fleet.kind {
        Kind::Cpu => format!("tidepool_host_cpu_ratio {value:?}\n"),
        Kind::Queue | Kind::Requests => format!("{QUEUE}{{q=\"{series}\"}} {value:?}\n"),
    }
}

fn is_of(line: &str, series: usize) -> bool {
    line.starts_with("tidepool_host_cpu_ratio ") || line.contains(&format!("q=\"{series}\""))
}

fn corrupt(kind: Kind, lie: &Lie, series: usize, lines: &mut Vec<String>) {
    let amount = usize::from(lie.amount);
    match lie.what {
        What::Duplicate => {
            let copies: Vec<String> = lines.iter().filter(|line| is_of(line, series)).cloned().collect();
            lines.extend(copies);
            return;
        }
        What::Reorder => {
            lines.reverse();
            return;
        }
        _ => {}
    }
    replace(series, lines, |number| {
        Some(match lie.what {
            What::NotANumber | What::Broken => "NaN".to_owned(),
            What::Infinite => ["+Inf", "-Inf"][amount % 2].to_owned(),
            What::Text => ["n/a", "\"7\"", "{count:1}", ""][amount % 4].to_owned(),
            What::Negative => format!("{:?}", -number - 0.1),
            What::Hundredfold => format!("{:?}", 100.0 * number),
            What::Spike => {
                let spikes = if kind == Kind::Requests { 4 } else { 2 };
                format!("{:?}", SPIKES[amount % spikes])
            }
            What::SlightlyOver if kind == Kind::Cpu => format!("{:?}", 1.0 + amount as f64 / 5_200.0),
            // A value is as old as it says, and one from before the window is none.
            What::Skew => format!("{number:?} {}", 1_000_000_000 * i64::from(lie.amount)),
            What::OldTime => {
                let ago_ms = [3_600_000, -3_600_000, 200_000, -60_000][amount % 4];
                format!("{:?} {}", number / 100.0, NOW.0 - ago_ms)
            }
            _ => return None,
        })
    });
}

/// Writes another value into the line of a series.
fn replace(series: usize, lines: &mut [String], value: impl Fn(f64) -> Option<String>) {
    let Some(line) = lines.iter_mut().find(|line| is_of(line, series)) else {
        return;
    };
    let Some((name, number)) = line.trim_end().rsplit_once(' ') else {
        return;
    };
    // What is not a number any more, or has a time already, is left alone.
    let Ok(number) = number.parse::<f64>() else {
        return;
    };
    if name.contains(' ') || !number.is_finite() {
        return;
    }
    if let Some(value) = value(number) {
        *line = format!("{name} {value}\n");
    }
}
