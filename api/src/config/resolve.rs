//! Builds the [`Config`] from the settings' values.

use std::path::Path;

use tidepool_logging::Format;

use super::cassandra_tls;
use super::values::{Values, gather, place_of};
use super::variables;
use super::{Config, Limits, LogConfig, MemoryLimits, Problem, Sources, StoreConfig, TlsFiles};
use tidepool_listener::TrustedHosts;

use crate::store::{Credentials, OpenOptions, SqliteSynchronous};

/// A file with a password at most, bytes.
const PASSWORD_BYTES_MAX: u64 = 64 << 10;

pub(super) fn resolve(sources: &Sources<'_>) -> Result<Config, Vec<Problem>> {
    let mut values = gather(sources);
    let unknown_variables = variables::unknown(&(sources.env_names)(), &mut values.problems);
    let config = build(&mut values, sources);
    match config {
        Some(config) if values.problems.is_empty() => Ok(Config {
            unknown_variables,
            ..config
        }),
        _ => Err(values.problems),
    }
}

fn build(values: &mut Values, sources: &Sources<'_>) -> Option<Config> {
    // Each is read before any `?`, so that all problems are found.
    let store = store(values, sources);
    let listen = values.address("listen");
    let ops_listen = values.address("ops_listen");
    let trusted = trusted(values);
    let tls = tls(values);
    let limits = limits(values);
    let memory = memory(values);
    let key_files = ["tls.key_file", "cassandra.tls.key_file"];
    let key_files = key_files.iter().filter_map(|path| values.path(path)).collect();
    let drain = values.secs("drain_secs", 0);
    let log = log(values);
    if let (Some(listen), Some(ops)) = (listen, ops_listen)
        && listen == ops
        && listen.port() != 0
    {
        values.problems.push(Problem {
            place: place_of(values, "ops_listen"),
            detail: format!("must differ from the public listener's address, {listen}"),
        });
    }
    Some(Config {
        store: store?,
        listen: listen?,
        ops_listen: ops_listen?,
        trusted: trusted?,
        tls: tls?,
        limits: limits?,
        memory: memory?,
        drain: drain?,
        log: log?,
        unknown_variables: Vec::new(),
        key_files,
    })
}

/// The hosts that are served without a credential; without the setting those that always are.
fn trusted(values: &mut Values) -> Option<TrustedHosts> {
    const SETTING: &str = "allowed_hosts (--allowed-hosts)";
    if !values.is_given("allowed_hosts") {
        return Some(TrustedHosts::new(SETTING, []).unwrap_or_default());
    }
    values.take("allowed_hosts", |text| {
        TrustedHosts::new(SETTING, text.split(',').map(str::trim)).map_err(|error| error.to_string())
    })
}

fn store(values: &mut Values, sources: &Sources<'_>) -> Option<StoreConfig> {
    let url = values.parsed("store");
    let startup_wait = values.secs("startup_wait_secs", 0);
    let synchronous = values.choice(
        "sqlite.synchronous",
        &[
            ("full", SqliteSynchronous::Full),
            ("normal", SqliteSynchronous::Normal),
        ],
    );
    let replication_factor = values.number("cassandra.replication_factor", 1, 9);
    let datacenter = values.text("cassandra.datacenter");
    let credentials = credentials(values, sources);
    let cluster_tls = cassandra_tls::read(values, sources);
    Some(StoreConfig {
        url: url?,
        options: OpenOptions {
            sqlite_synchronous: synchronous?,
            replication_factor: replication_factor.and_then(|factor| u32::try_from(factor).ok()),
            datacenter,
            credentials,
            cluster_tls,
            startup_wait: startup_wait?,
            ..OpenOptions::default()
        },
    })
}

/// User and password, where both are given; one alone, or two passwords, are noted as problems.
fn credentials(values: &mut Values, sources: &Sources<'_>) -> Option<Credentials> {
    let username = values.text("cassandra.username");
    let from_file = values.take("cassandra.password_file", |path| {
        // Without the path: it may be the password itself, given in the wrong place.
        let text = (sources.read)(Path::new(path), PASSWORD_BYTES_MAX)
            .map_err(|error| format!("names a file that can't be read: {error}"))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err("names a file that is empty".to_owned()),
            password => Ok(password.to_owned()),
        }
    });
    let direct = values.text("cassandra.password");
    let file_is_bad = from_file.is_none() && values.is_given("cassandra.password_file");
    let mut problem = |path: &str, detail: &str| values.problem(path, detail);
    match (username, from_file, direct) {
        (_, Some(_), Some(_)) => {
            problem(
                "cassandra.password_file",
                "is one password too many beside TIDEPOOL_CASSANDRA_PASSWORD",
            );
            None
        }
        (Some(username), Some(password), None) | (Some(username), None, Some(password)) => {
            Some(Credentials { username, password })
        }
        (Some(_), None, None) if !file_is_bad => {
            let detail = "needs a password beside it: cassandra.password_file or TIDEPOOL_CASSANDRA_PASSWORD";
            problem("cassandra.username", detail);
            None
        }
        (None, Some(_), None) => {
            problem("cassandra.password_file", "needs cassandra.username beside it");
            None
        }
        (None, None, Some(_)) => {
            problem("cassandra.password", "needs cassandra.username beside it");
            None
        }
        _ => None,
    }
}

/// The outer `None`: something is wrong. The inner: no TLS.
fn tls(values: &mut Values) -> Option<Option<TlsFiles>> {
    let cert_file = values.text("tls.cert_file");
    let key_file = values.text("tls.key_file");
    for (one, other, other_flag) in [
        ("tls.cert_file", "tls.key_file", "--tls-key-file"),
        ("tls.key_file", "tls.cert_file", "--tls-cert-file"),
    ] {
        if values.is_given(one) && !values.is_given(other) {
            values.problems.push(Problem {
                place: place_of(values, one),
                detail: format!("needs {other} ({other_flag}) beside it"),
            });
        }
    }
    match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Some(Some(TlsFiles {
            cert_file: cert_file.into(),
            key_file: key_file.into(),
        })),
        _ => Some(None),
    }
}

fn limits(values: &mut Values) -> Option<Limits> {
    let connections_max = values.count("limits.connections_max", 1, 1_000_000);
    let reads_in_flight_max = values.count("limits.reads_in_flight_max", 1, 1_000_000);
    let writes_in_flight_max = values.count("limits.writes_in_flight_max", 1, 1_000_000);
    let header_timeout = values.secs("limits.header_timeout_secs", 1);
    let body_timeout = values.secs("limits.body_timeout_secs", 1);
    let idle_timeout = values.secs("limits.idle_timeout_secs", 1);
    // hyper's buffer is never smaller than 8 KiB; a megabyte of headers is an attack.
    let header_bytes_max = values.count("limits.header_bytes_max", 8_192, 1_048_576);
    Some(Limits {
        connections: tidepool_listener::Limits {
            connections_max: connections_max?,
            header_timeout: header_timeout?,
            body_timeout: body_timeout?,
            idle_timeout: idle_timeout?,
            header_bytes_max: header_bytes_max?,
        },
        reads_in_flight_max: reads_in_flight_max?,
        writes_in_flight_max: writes_in_flight_max?,
    })
}

fn memory(values: &mut Values) -> Option<MemoryLimits> {
    // Room for two pages of the largest; a terabyte is a typing error in the unit.
    const MIN: u64 = 16 * 1_048_576;
    const MAX: u64 = 1_024 * 1_024 * 1_048_576;
    let body_bytes_held_max = values.count("limits.body_bytes_held_max", MIN, MAX);
    let answer_bytes_held_max = values.count("limits.answer_bytes_held_max", MIN, MAX);
    Some(MemoryLimits {
        body_bytes_held_max: body_bytes_held_max?,
        answer_bytes_held_max: answer_bytes_held_max?,
    })
}

fn log(values: &mut Values) -> Option<LogConfig> {
    let format = values.choice("log.format", &[("human", Format::Human), ("json", Format::Json)]);
    let level = values.take("log.level", |text| {
        tidepool_logging::check_filter(text)
            .map(|()| text.to_owned())
            .map_err(|_| {
                "must be error, warn, info, debug, trace or directives, such as info,tidepool_api=debug"
                    .to_owned()
            })
    });
    Some(LogConfig {
        format: format?,
        level: level?,
    })
}
