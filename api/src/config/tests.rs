//! Precedence, and every problem at once.

use super::*;
use crate::store::SqliteSynchronous;

const FILE: &str = "/etc/tidepool/api.toml";

struct Given<'a> {
    flags: &'a [(&'static str, &'a str)],
    env: &'a [(&'a str, &'a str)],
    file: Option<&'a str>,
}

fn load(given: &Given<'_>) -> Result<Config, Vec<String>> {
    let flags: Vec<_> = given
        .flags
        .iter()
        .map(|(path, text)| (*path, (*text).to_owned()))
        .collect();
    let sources = Sources {
        flags: &flags,
        config_flag: given.file.map(|_| Path::new(FILE)),
        env: &|name| {
            let found = given.env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        },
        env_names: &|| given.env.iter().map(|(name, _)| (*name).to_owned()).collect(),
        read: &|path, _| match given.file {
            Some(text) if path == Path::new(FILE) => Ok(text.to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        },
    };
    Config::load(&sources).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

const NOTHING: Given<'static> = Given {
    flags: &[],
    env: &[],
    file: None,
};

#[test]
fn defaults_are_loopback_and_a_file_here() {
    let config = load(&NOTHING).unwrap();
    assert_eq!(config.store.url.to_string(), "sqlite:tidepool.db");
    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.ops_listen.to_string(), "127.0.0.1:9090");
    assert_eq!(config.tls, None);
    assert_eq!(config.drain, Duration::from_secs(10));
    assert_eq!(config.store.options.sqlite_synchronous, SqliteSynchronous::Full);
    assert_eq!(config.log.format, Format::Human);
}

#[test]
fn a_flag_wins_over_the_environment_over_the_file() {
    let file = "listen = \"127.0.0.1:1\"\nops_listen = \"127.0.0.1:11\"\ndrain_secs = 3\n";
    let config = load(&Given {
        flags: &[("listen", "127.0.0.1:3")],
        env: &[
            ("TIDEPOOL_LISTEN", "127.0.0.1:2"),
            ("TIDEPOOL_OPS_LISTEN", "127.0.0.1:12"),
        ],
        file: Some(file),
    })
    .unwrap();
    assert_eq!(config.listen.port(), 3);
    assert_eq!(config.ops_listen.port(), 12);
    assert_eq!(config.drain, Duration::from_secs(3));
}

#[test]
fn the_file_may_also_be_named_by_the_environment() {
    let flags = [];
    let sources = Sources {
        flags: &flags,
        config_flag: None,
        env: &|name| (name == CONFIG_ENV).then(|| FILE.to_owned()),
        env_names: &|| vec![CONFIG_ENV.to_owned()],
        read: &|_, _| Ok("listen = \"127.0.0.1:7\"".to_owned()),
    };
    assert_eq!(Config::load(&sources).unwrap().listen.port(), 7);
}

#[test]
fn every_problem_is_reported_at_once_with_its_place() {
    let file = "lisen = \"127.0.0.1:1\"\nstore = \"postgres://x\"\n[limits]\nconnections_max = 0\nfoo = 1\n[log]\nformat = 1\n[tls]\ncert_file = \"c.pem\"\n";
    let problems = load(&Given {
        flags: &[("drain_secs", "soon")],
        env: &[("TIDEPOOL_OPS_LISTEN", "nowhere")],
        file: Some(file),
    })
    .unwrap_err();
    let starts = [
        "/etc/tidepool/api.toml: lisen: unknown field",
        "/etc/tidepool/api.toml: limits.foo: unknown field",
        "/etc/tidepool/api.toml: store: must be sqlite:FILE or cassandra://",
        "TIDEPOOL_OPS_LISTEN: must be IP:PORT",
        "/etc/tidepool/api.toml: tls.cert_file: needs tls.key_file (--tls-key-file) beside it",
        "/etc/tidepool/api.toml: limits.connections_max: must be a whole number from 1",
        "--drain-secs: must be a whole number from 0 to 3600",
        "/etc/tidepool/api.toml: log.format: must be human or json",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for start in starts {
        assert!(
            problems.iter().any(|problem| problem.starts_with(start)),
            "{start} in {problems:#?}"
        );
    }
}

#[test]
fn odd_files_are_problems_not_panics() {
    for (text, detail) in [
        ("listen =", "is not valid TOML at line 1"),
        (
            "listen = [1]",
            "listen: must be a text or a whole number, is array",
        ),
        ("limits = 3", "limits: must be a table"),
        (
            "[listen]\nx = 1",
            "listen: must be a text or a whole number, is table",
        ),
        ("[limits.deep]\nx = 1", "limits.deep: unknown field"),
        ("[cassandra]\ntls = 1", "cassandra.tls: must be a table"),
        ("[cassandra.tls.deep]\nx = 1", "cassandra.tls.deep: unknown field"),
        (
            "[log]\nlevel = \"tidepool=loud\"",
            "log.level: must be error, warn",
        ),
    ] {
        let problems = load(&Given {
            file: Some(text),
            ..NOTHING
        })
        .unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems.iter().all(|problem| problem.contains(detail)),
            "{problems:?}"
        );
    }
    let flags = [];
    let sources = Sources {
        flags: &flags,
        config_flag: Some(Path::new("/missing.toml")),
        env: &|_| None,
        env_names: &Vec::new,
        read: &|_, _| Err(std::io::ErrorKind::NotFound.into()),
    };
    let problems = Config::load(&sources).unwrap_err();
    assert!(
        problems
            .iter()
            .all(|p| p.to_string().starts_with("/missing.toml: can't be read"))
    );
}

#[test]
fn both_listeners_can_not_share_an_address() {
    let problems = load(&Given {
        flags: &[("listen", "127.0.0.1:5"), ("ops_listen", "127.0.0.1:5")],
        ..NOTHING
    })
    .unwrap_err();
    assert_eq!(
        problems,
        ["--ops-listen: must differ from the public listener's address, 127.0.0.1:5"]
    );
}

#[test]
fn every_setting_has_a_path_a_flag_and_a_variable_that_agree() {
    for setting in SETTINGS {
        assert_eq!(setting.flag, setting.path.replace(['.', '_'], "-"));
        let env = setting.path.replace('.', "_").to_uppercase();
        assert_eq!(setting.env, format!("TIDEPOOL_{env}"));
    }
}

#[test]
fn a_password_comes_from_a_file_or_the_environment_and_is_never_shown() {
    let load = |env: &[(&str, &str)], toml: &str| {
        let sources = Sources {
            flags: &[],
            config_flag: Some(Path::new(FILE)),
            env: &|name| {
                let found = env.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            },
            env_names: &Vec::new,
            read: &|path, _| match path.to_str() {
                Some(FILE) => Ok(toml.to_owned()),
                Some("/run/password") => Ok("sesame\n".to_owned()),
                _ => Err(std::io::ErrorKind::NotFound.into()),
            },
        };
        Config::load(&sources)
    };
    let user = "[cassandra]\nusername = \"tide\"\n";
    let with_file = format!("{user}password_file = \"/run/password\"\n");
    let secret = [("TIDEPOOL_CASSANDRA_PASSWORD", "sesame")];
    for (env, toml) in [(&[][..], with_file.as_str()), (&secret[..], user)] {
        let config = load(env, toml).unwrap();
        let credentials = config.store.options.credentials.clone().unwrap();
        assert_eq!(
            (credentials.username.as_str(), credentials.password.as_str()),
            ("tide", "sesame")
        );
        assert!(!format!("{config:?}").contains("sesame"));
    }
    for (env, toml, word) in [
        (&secret[..], with_file.as_str(), "one password too many"),
        (&[][..], user, "needs a password"),
        (&secret[..], "", "needs cassandra.username"),
        (
            &[][..],
            "[cassandra]\npassword = \"sesame\"\n",
            "TIDEPOOL_CASSANDRA_PASSWORD",
        ),
        (
            &[][..],
            "[cassandra]\nusername = \"t\"\npassword_file = \"/none\"\n",
            "names a file that can't be read",
        ),
    ] {
        let problems = load(env, toml).unwrap_err();
        let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert!(text.iter().any(|line| line.contains(word)), "{word} in {text:?}");
        assert!(!text.concat().contains("sesame"));
    }
}

/// Loads a file whose settings name PEM files: `ca`, `cert` and `key` hold what they say, `other` another key, `locked` an
/// encrypted one, `text` nothing of the kind.
fn load_tls(toml: &str) -> Result<Config, Vec<String>> {
    let made = rcgen::generate_simple_self_signed(vec!["tide".to_owned()]).unwrap();
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let locked = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let sources = Sources {
        flags: &[],
        config_flag: Some(Path::new(FILE)),
        env: &|_| None,
        env_names: &Vec::new,
        read: &|path, _| match path.to_str() {
            Some(FILE) => Ok(toml.to_owned()),
            Some("/ca" | "/cert") => Ok(pem.clone()),
            Some("/key") => Ok(key.clone()),
            Some("/other") => Ok(other.clone()),
            Some("/locked") => Ok(locked.clone()),
            Some("/text") => Ok("sesame".to_owned()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        },
    };
    Config::load(&sources).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn tls_to_the_cluster_is_read_from_its_files() {
    assert_eq!(load_tls("").unwrap().store.options.cluster_tls, None);
    for toml in [
        "[cassandra.tls]\nca_file = \"/ca\"\n",
        "[cassandra.tls]\nca_file = \"/ca\"\nverify_host = false\n",
        "[cassandra]\ntls.ca_file = \"/ca\"\n",
    ] {
        let config = load_tls(toml).unwrap();
        assert!(config.store.options.cluster_tls.is_some(), "{toml}");
        assert!(config.key_files.is_empty());
    }
    let all = "[cassandra.tls]\nca_file = \"/ca\"\ncert_file = \"/cert\"\nkey_file = \"/key\"\n";
    let config = load_tls(all).unwrap();
    assert!(config.store.options.cluster_tls.is_some());
    assert_eq!(config.key_files, [PathBuf::from("/key")]);
    assert!(!format!("{config:?}").contains("PRIVATE"));
}

#[test]
fn every_problem_of_tls_to_the_cluster_is_reported_at_once() {
    let place = |setting: &str, detail: &str| format!("{FILE}: cassandra.tls.{setting}: {detail}");
    for (settings, problems) in [
        (
            "ca_file = \"/none\"\ncert_file = \"/text\"\nkey_file = \"/locked\"\nverify_host = 1\nca = 1",
            &[
                ("ca", "unknown field"),
                ("ca_file", "names a file that can't be read: entity not found"),
                ("cert_file", "names a file that holds no certificate"),
                (
                    "key_file",
                    "names a file that holds a private key that is encrypted",
                ),
                ("verify_host", "must be true or false"),
            ][..],
        ),
        (
            "cert_file = \"/cert\"",
            &[
                (
                    "cert_file",
                    "needs cassandra.tls.key_file (--cassandra-tls-key-file) beside it",
                ),
                (
                    "cert_file",
                    "needs cassandra.tls.ca_file (--cassandra-tls-ca-file) beside it",
                ),
            ],
        ),
        (
            "ca_file = \"/ca\"\nkey_file = \"/key\"",
            &[(
                "key_file",
                "needs cassandra.tls.cert_file (--cassandra-tls-cert-file) beside it",
            )],
        ),
        (
            "ca_file = \"/ca\"\ncert_file = \"/cert\"\nkey_file = \"/other\"",
            &[(
                "cert_file",
                "names a certificate that can't be used with the key in",
            )],
        ),
        ("ca_file = \"\"", &[("ca_file", "must not be empty")]),
        (
            "ca_file = \"/key\"",
            &[("ca_file", "names a file that holds no certificate")],
        ),
    ] {
        let found = load_tls(&format!("[cassandra.tls]\n{settings}\n")).unwrap_err();
        assert_eq!(found.len(), problems.len(), "{found:#?}");
        for (setting, detail) in problems {
            let start = place(setting, detail);
            assert!(
                found.iter().any(|problem| problem.starts_with(&start)),
                "{start} in {found:#?}"
            );
        }
        assert!(!found.concat().contains("sesame"));
    }
}

#[test]
fn a_variable_that_is_nearly_a_setting_is_refused_and_another_is_reported() {
    for (wrong, right) in [
        ("TIDEPOOL_LISTN", "TIDEPOOL_LISTEN"),
        ("TIDEPOOL_ALLOWED_HOST", "TIDEPOOL_ALLOWED_HOSTS"),
        ("TIDEPOOL_TLS_CERTFILE", "TIDEPOOL_TLS_CERT_FILE"),
        ("TIDEPOOL_CONFG", "TIDEPOOL_CONFIG"),
        ("tidepool_listen", "TIDEPOOL_LISTEN"),
    ] {
        let problems = load(&Given {
            env: &[(wrong, "x")],
            ..NOTHING
        })
        .unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with(wrong) && problems[0].ends_with(right),
            "{problems:?}"
        );
    }
    let env = [
        ("TIDEPOOL_PORT_FORWARDING", "x"),
        ("TIDEPOOL_LISTEN", "127.0.0.1:1"),
        ("TIDEPOOL_PORT", "tcp://10.0.0.1:8080"),
        ("TIDEPOOL_API_SERVICE_HOST", "10.0.0.1"),
        ("TIDEPOOL_API_PORT_8080_TCP_ADDR", "10.0.0.1"),
        ("TIDEPOOL_LOCAL_CLOUD_TOKEN", "x"),
        ("TIDEPOOL_TLS_CERT", "x"),
        ("PATH", "x"),
    ];
    let config = load(&Given { env: &env, ..NOTHING }).unwrap();
    assert_eq!(
        config.unknown_variables,
        ["TIDEPOOL_PORT_FORWARDING", "TIDEPOOL_TLS_CERT"]
    );
}
