//! Signals by name: `cpu` means the same to the operator, wherever it is read.
//!
//! The names and their meaning stand here; each source says how it reads them (`elasticsearch::preset`, `scrape::preset`).

use super::{SignalSpec, elasticsearch, scrape};

/// Every preset: its name and what it measures of a host.
pub const PRESETS: &[(&str, &str)] = &[
    ("cpu", "CPU in use, of all its cores, 0 to 1"),
    ("memory", "memory in use, 0 to 1"),
    ("load", "processes that run or wait, for each core, over a minute"),
    ("network", "bytes received a second, loopback left out"),
    (
        "requests",
        "requests answered a second, by tidepool-api's own count",
    ),
    (
        "process_cpu",
        "CPU seconds a second of the program that is asked, 1 for a whole core",
    ),
];

/// Where a signal is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourceKind {
    /// What Metricbeat wrote into Elasticsearch.
    Elasticsearch,
    /// The members' own operations listeners.
    Scrape,
}

impl SourceKind {
    /// The first kind; the others follow by [`SourceKind::next`].
    pub const FIRST: SourceKind = SourceKind::Scrape;

    /// The kind after this one. A chain instead of a list, because a new kind can't be left out of it: this match would
    /// not compile.
    pub const fn next(self) -> Option<SourceKind> {
        match self {
            SourceKind::Scrape => Some(SourceKind::Elasticsearch),
            SourceKind::Elasticsearch => None,
        }
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = SourceKind> {
        std::iter::successors(Some(SourceKind::FIRST), |kind| kind.next())
    }

    /// What `metrics` in the configuration calls it.
    pub const fn name(self) -> &'static str {
        match self {
            SourceKind::Elasticsearch => "elasticsearch",
            SourceKind::Scrape => "scrape",
        }
    }

    /// Whether it keeps no history of its own, so that a rate needs two reads of ours.
    pub const fn is_of_the_moment(self) -> bool {
        match self {
            SourceKind::Elasticsearch => false,
            SourceKind::Scrape => true,
        }
    }
}

/// Why a preset can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PresetError {
    /// No preset has this name.
    #[error("{name:?} is not a preset; there are: {}", names())]
    Unknown {
        /// The name.
        name: String,
    },
    /// The source doesn't measure it.
    #[error("preset {name:?} can't be read from {source}; set `field` instead", source = .source_kind.name())]
    NotFromHere {
        /// The name.
        name: String,
        /// The source.
        source_kind: SourceKind,
    },
}

fn names() -> String {
    PRESETS
        .iter()
        .map(|(name, _)| *name)
        .collect::<Vec<_>>()
        .join(", ")
}

/// What `name` means when it is read from `source`.
pub fn resolve(name: &str, source: SourceKind) -> Result<SignalSpec, PresetError> {
    if !PRESETS.iter().any(|(known, _)| *known == name) {
        return Err(PresetError::Unknown {
            name: name.to_owned(),
        });
    }
    let spec = match source {
        SourceKind::Elasticsearch => elasticsearch::preset(name),
        SourceKind::Scrape => scrape::preset(name),
    };
    spec.ok_or_else(|| PresetError::NotFromHere {
        name: name.to_owned(),
        source_kind: source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_preset_is_read_from_elasticsearch() {
        for (name, _) in PRESETS {
            resolve(name, SourceKind::Elasticsearch).unwrap();
        }
    }

    #[test]
    fn presets_that_members_do_not_report_are_refused() {
        let refused: Vec<&str> = PRESETS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| resolve(name, SourceKind::Scrape).is_err())
            .collect();
        assert_eq!(refused, ["load", "network"]);
        assert_eq!(
            resolve("load", SourceKind::Scrape).unwrap_err().to_string(),
            "preset \"load\" can't be read from scrape; set `field` instead"
        );
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = resolve("cpuu", SourceKind::Scrape).unwrap_err();
        assert_eq!(
            error.to_string(),
            "\"cpuu\" is not a preset; there are: cpu, memory, load, network, requests, process_cpu"
        );
    }
}
