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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceKind {
    /// What Metricbeat wrote into Elasticsearch.
    Elasticsearch,
    /// The members' own operations listeners.
    Scrape,
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
    #[error("preset {name:?} can't be read from {source:?}; set `field` instead", source = .source_kind)]
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
