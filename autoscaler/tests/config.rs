//! The configuration: what is taken, and how everything that is wrong is reported at once.

#![expect(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::path::Path;

use tidepool_autoscaler::config::{Config, MetricsConfig, Problem, Purpose, Surroundings, parse};
use tidepool_autoscaler::metrics::PerHost;
use tidepool_autoscaler::metrics::presets::{PRESETS, SourceKind};
use tidepool_autoscaler::metrics::range::Range;
use tidepool_autoscaler_core::spec::{Across, PolicyKind};

const EXAMPLE: &str = include_str!("../example.toml");

fn env(name: &str) -> Option<String> {
    match name {
        "DIGITALOCEAN_TOKEN" => Some("dop_v1_secret".to_owned()),
        "STATUS_TOKEN" => Some(" status-secret\n".to_owned()),
        "ES_PASSWORD" => Some("es-secret".to_owned()),
        "EMPTY" => Some("  ".to_owned()),
        _ => None,
    }
}

fn file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/etc/tidepool/token") => Ok("dop_v1_from_file\n".to_owned()),
        Some("/etc/tidepool/cloud-init.yaml") => Ok("#cloud-config\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn read_for(text: &str, purpose: Purpose) -> Result<Config, Vec<Problem>> {
    parse(
        text,
        &Surroundings {
            env: &env,
            read_file: &file,
            base: Path::new("/etc/tidepool"),
        },
        purpose,
    )
}

fn read(text: &str) -> Result<Config, Vec<Problem>> {
    read_for(text, Purpose::Act)
}

fn problems_of(text: &str) -> Vec<String> {
    let problems = read(text).map(|_| Vec::new()).unwrap_or_else(|problems| problems);
    problems.iter().map(ToString::to_string).collect()
}

/// The least that is in order, with `change` put in the place of `line`.
fn least(line: &str, change: &str) -> String {
    let text = r#"
state_dir = "state"
metrics = "scrape"
status = {}
digitalocean = { token_env = "DIGITALOCEAN_TOKEN" }
scrape = {}
audit = {}
[[pool]]
name = "api"
min = 2
max = 4
digitalocean = { region = "fra1", size = "s-1vcpu-1gb", image = "api" }
windows = {}
policy = [{ preset = "cpu", target = 0.6 }]
"#;
    assert!(text.contains(line), "{line} is not in the text");
    text.replacen(line, change, 1)
}

#[test]
fn the_example_is_in_order() {
    let config = read(EXAMPLE).unwrap();
    assert!(matches!(config.metrics, MetricsConfig::Elasticsearch(_)));
    assert_eq!(config.pools.len(), 1);
    let pool = &config.pools[0];
    assert_eq!(
        (pool.spec.min, pool.spec.max, pool.spec.policies.len()),
        (2, 10, 2)
    );
    assert_eq!(pool.spec.signals[1].across, Across::Sum);
    assert_eq!(pool.signals[1].what.per_host, PerHost::Rate);
    assert_eq!(config.audit.index.unwrap().name, "tidepool-decisions");
}

#[test]
fn the_example_and_the_readme_name_every_kind_of_source_and_policy_and_every_preset() {
    let readme = include_str!("../README.md");
    for kind in PolicyKind::all() {
        let name = kind.name();
        assert!(EXAMPLE.contains(&format!("\"{name}\": ")), "example.toml: {name}");
        assert!(
            readme.contains(&format!("`kind = \"{name}\"`")),
            "README.md: {name}"
        );
    }
    for kind in SourceKind::all() {
        let name = kind.name();
        assert!(EXAMPLE.contains(&format!("\"{name}\" (")), "example.toml: {name}");
        assert!(
            readme.contains(&format!("`metrics = \"{name}\"`")),
            "README.md: {name}"
        );
    }
    for (preset, _) in PRESETS {
        assert!(EXAMPLE.contains(preset), "example.toml: {preset}");
        assert!(readme.contains(&format!("`{preset}`")), "README.md: {preset}");
    }
}

#[test]
fn every_default_that_the_example_shows_is_the_default() {
    // Every line of the example that is only commented out stands for what is so anyway, except for examples of secrets,
    // keys and places.
    let examples = [
        "token_file",
        "allowed_hosts",
        "username",
        "password_file",
        "api_key_env",
        "ssh_keys",
        "vpc_uuid",
        "tags",
        "user_data_file",
        "filter",
        "file",
        "base_url",
    ];
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        let key = bare.split_once(" = ").map(|(key, _)| key).unwrap_or_default();
        let plain = key.chars().all(|c| c.is_ascii_lowercase() || c == '_') && !key.is_empty();
        let is_default = line.starts_with("# ") && plain && !examples.contains(&key);
        text.push_str(if is_default { bare } else { line });
        text.push('\n');
    }
    assert!(text.contains("\nboot_timeout_secs = 300"));
    let (plain, spelled) = (read(EXAMPLE).unwrap(), read(&text).unwrap());
    assert_eq!(format!("{plain:?}"), format!("{spelled:?}"));
}

#[test]
fn five_mistakes_make_five_messages() {
    let text = r#"
state_dir = "state"
metrics = "scrape"
tick_secs = 0
digitalocean = { token_env = "NOT_SET" }
[[pool]]
name = "API"
min = 5
max = 4
colour = "red"
digitalocean = { region = "fra1", size = "s-1vcpu-1gb", image = "api" }
policy = [{ preset = "cpu", target = 0.6 }]
"#;
    assert_eq!(
        problems_of(text),
        [
            "tick_secs: must be within 1 and 3600, not 0",
            "digitalocean.token_env: environment variable NOT_SET is not set",
            "pool[0].name: \"API\" is not a valid name; a name is 1 to 42 of a-z, 0-9 and -, beginning with a letter",
            "pool[0].min: is 5, over max = 4",
            "pool[0].colour: is unknown; known here: name, min, max, ops_port, digitalocean, signal, policy, windows, limits, \
             life, repair",
        ]
    );
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of mistakes, one a line")]
fn one_mistake_makes_one_message_at_its_place() {
    let pool = "digitalocean = { region = \"fra1\", size = \"s-1vcpu-1gb\", image = \"api\" }";
    let policy = "policy = [{ preset = \"cpu\", target = 0.6 }]";
    let table: &[(&str, &str, &str)] = &[
        (
            "state_dir = \"state\"",
            "",
            "state_dir: is missing; it must be text",
        ),
        (
            "state_dir = \"state\"",
            "state_dir = 7",
            "state_dir: must be text, not integer",
        ),
        ("metrics = \"scrape\"", "", "metrics: is missing; it must be text"),
        (
            "\"scrape\"",
            "\"guess\"",
            "metrics: must be one of scrape, elasticsearch, not \"guess\"",
        ),
        (
            "\"scrape\"",
            "\"elasticsearch\"",
            "elasticsearch: is missing; metrics = \"elasticsearch\" needs it",
        ),
        (
            "min = 2",
            "",
            "pool[0].min: is missing; it must be a whole number",
        ),
        (
            "max = 4",
            "",
            "pool[0].max: is missing; it must be a whole number",
        ),
        (
            "min = 2",
            "min = 0",
            "pool[0].min: must be within 1 and 1000, not 0",
        ),
        (
            "min = 2",
            "min = 2.5",
            "pool[0].min: must be a whole number, not float",
        ),
        (
            "status = {}",
            "status = { listen = \"nowhere\" }",
            "status.listen: must be an address and a port such as 127.0.0.1:7071, not \"nowhere\"",
        ),
        (
            "status = {}",
            "status = { listen = \"0.0.0.0:7071\" }",
            "status.token_env: or token_file is missing; off loopback the status port needs a token",
        ),
        (
            "status = {}",
            "status = { token_env = \"EMPTY\" }",
            "status.token_env: names an empty secret",
        ),
        (
            "digitalocean = { token_env = \"DIGITALOCEAN_TOKEN\" }",
            "",
            "digitalocean: is missing; the pools' provider needs it",
        ),
        (
            "{ token_env = \"DIGITALOCEAN_TOKEN\" }",
            "{}",
            "digitalocean.token_env: or token_file is missing; there is no default for credentials",
        ),
        (
            "{ token_env = \"DIGITALOCEAN_TOKEN\" }",
            "{ token_file = \"gone\" }",
            "digitalocean.token_file: gone can't be read: entity not found",
        ),
        (
            "{ token_env = \"DIGITALOCEAN_TOKEN\" }",
            "{ token_env = \"A\", token_file = \"b\" }",
            "digitalocean.token_file: stands beside token_env; one of them must go",
        ),
        (
            "audit = {}",
            "audit = { elasticsearch_index = \"x\" }",
            "audit.elasticsearch_index: needs an [elasticsearch] table",
        ),
        (
            "scrape = {}",
            "scrape = { port = 0 }",
            "scrape.port: must be within 1 and 65535, not 0",
        ),
        (
            pool,
            "",
            "pool[0].digitalocean: is missing; it says what the pool's droplets are made of",
        ),
        (
            "region = \"fra1\"",
            "region = \"\"",
            "pool[0].digitalocean.region: is empty",
        ),
        (
            "image = \"api\"",
            "image = true",
            "pool[0].digitalocean.image: must be a slug or an image's number",
        ),
        (
            "image = \"api\"",
            "image = \"api\", tags = [\"a b\"]",
            "pool[0].digitalocean.tags[0]: \"a b\" is not a tag: 1-255 letters, digits, ':', '-' and '_'",
        ),
        (
            "image = \"api\"",
            "image = \"api\", user_data_file = \"gone\"",
            "pool[0].digitalocean.user_data_file: gone can't be read: entity not found",
        ),
        (
            "image = \"api\"",
            "image = \"api\", address = \"both\"",
            "pool[0].digitalocean.address: must be one of private, public, not \"both\"",
        ),
        (
            policy,
            "",
            "pool[0].policy: is missing; without one a pool can't follow anything (min = max needs none)",
        ),
        (
            "target = 0.6",
            "target = 0",
            "pool[0].policy[0].target: must be above 0",
        ),
        (
            "target = 0.6",
            "target = nan",
            "pool[0].policy[0].target: must be above 0",
        ),
        (
            ", target = 0.6",
            "",
            "pool[0].policy[0].target: is missing; it must be a number",
        ),
        (
            "target = 0.6",
            "kind = \"guess\", target = 0.6",
            "pool[0].policy[0].kind: must be one of target, not \"guess\"",
        ),
        (
            "target = 0.6",
            "target = 0.6, tolerance = 1.0",
            "pool[0].policy[0].tolerance: must be within 0 and 0.9",
        ),
        (
            "target = 0.6",
            "target = 0.6, range = [0.0]",
            "pool[0].policy[0].range: must be two numbers, such as [0.0, 1.0] or [0.0, inf]",
        ),
        (
            "target = 0.6",
            "target = 0.6, range = [1, 0]",
            "pool[0].policy[0].range: the first must be below the second",
        ),
        (
            "target = 0.6",
            "target = 0.6, range = [-inf, inf]",
            "pool[0].policy[0].range: one of the two must be finite",
        ),
        (
            "target = 0.6",
            "target = 0.6, across = \"median\"",
            "pool[0].policy[0].across: must be one of avg, sum, max, not \"median\"",
        ),
        (
            "preset = \"cpu\", ",
            "",
            "pool[0].policy[0].preset: or field is missing",
        ),
        (
            "preset = \"cpu\"",
            "preset = \"cpu\", field = \"x\"",
            "pool[0].policy[0].preset: stands beside field; one of them must go",
        ),
        (
            "target = 0.6 }",
            "target = 0.6 }, { preset = \"cpu\", target = 0.7 }",
            "pool[0].policy[1].name: cpu is policy[0]'s name already",
        ),
        (
            "windows = {}",
            "windows = { in_secs = 3601 }",
            "pool[0].windows.in_secs: must be within 0 and 3600, not 3601",
        ),
        (
            "windows = {}",
            "windows = { inn = 1 }",
            "pool[0].windows.inn: is unknown; known here: out_secs, in_secs",
        ),
    ];
    for (line, change, message) in table {
        assert_eq!(problems_of(&least(line, change)), [*message], "{change}");
    }
    assert!(problems_of(&least("min = 2", "min = 2")).is_empty());
}

#[test]
fn two_pools_of_one_name_are_refused_and_so_is_none() {
    let text = least("min = 2", "min = 2");
    let pool = &text[text.find("[[pool]]").unwrap()..];
    assert_eq!(
        problems_of(&format!("{text}{pool}")),
        ["pool[1].name: api is another pool's name already"]
    );
    let none = &text[..text.find("[[pool]]").unwrap()];
    assert_eq!(
        problems_of(none),
        ["pool: is missing; at least one [[pool]] is needed"]
    );
}

#[test]
fn what_is_not_toml_is_reported_with_its_line() {
    let problems = problems_of("state_dir = \n");
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("this is not TOML: ") && problems[0].contains("line 1"),
        "{}",
        problems[0]
    );
}

#[test]
fn secrets_are_never_printed() {
    let text = least("status = {}", "status = { token_env = \"STATUS_TOKEN\" }").replacen(
        "scrape = {}",
        "elasticsearch = { url = \"http://es:9200\", username = \"u\", password_env = \"ES_PASSWORD\" }",
        1,
    );
    let config = read(&text).unwrap();
    let printed = format!("{config:?}");
    assert!(!printed.contains("secret"), "{printed}");
    assert!(printed.contains("[redacted]"));
    assert_eq!(config.status.token.unwrap().reveal(), "status-secret");
}

#[test]
fn secrets_and_user_data_come_from_files_beside_the_configuration() {
    let text = least(
        "{ token_env = \"DIGITALOCEAN_TOKEN\" }",
        "{ token_file = \"token\" }",
    )
    .replacen(
        "image = \"api\"",
        "image = 7, ssh_keys = [1, \"a:b\"], user_data_file = \"cloud-init.yaml\"",
        1,
    );
    let config = read(&text).unwrap();
    assert_eq!(
        config.pools[0].droplets.user_data.as_deref(),
        Some("#cloud-config\n")
    );
    assert_eq!(config.pools[0].spec.image, "7");
    assert_eq!(config.pools[0].droplets.ssh_keys.len(), 2);
    assert_eq!(config.state_dir, Path::new("/etc/tidepool/state"));
    assert_eq!(config.audit.file, Path::new("/etc/tidepool/state/audit.jsonl"));
}

#[test]
fn asking_a_daemon_needs_no_provider_secret() {
    let text = least("DIGITALOCEAN_TOKEN", "NOT_SET");
    assert!(read_for(&text, Purpose::Ask).unwrap().digitalocean.is_none());
    assert!(read_for(&text, Purpose::Act).is_err());
}

#[test]
fn a_fixed_pool_needs_no_policy() {
    let text = least("max = 4", "max = 2").replacen("policy = [{ preset = \"cpu\", target = 0.6 }]", "", 1);
    assert!(read(&text).unwrap().pools[0].spec.policies.is_empty());
}

fn warnings(text: &str) -> Vec<String> {
    let config = read(text).unwrap();
    config.warnings.iter().map(ToString::to_string).collect()
}

const POLICY: &str = "policy = [{ preset = \"cpu\", target = 0.6 }]";

#[test]
fn policies_go_by_named_signals() {
    let signals = "signal = [{ name = \"busy\", preset = \"cpu\", window_secs = 90, fresh_secs = 100 }]\n";
    let policies = "policy = [{ signal = \"busy\", target = 0.6 }, { name = \"calm\", signal = \"busy\", target = 0.5 }]";
    let config = read(&least(POLICY, &format!("{signals}{policies}"))).unwrap();
    let pool = &config.pools[0];
    // Read once, whoever goes by it.
    assert_eq!((pool.signals.len(), pool.spec.signals.len()), (1, 1));
    assert_eq!(pool.signals[0].name, "busy");
    assert_eq!(
        (pool.spec.signals[0].window_secs, pool.spec.signals[0].fresh_secs),
        (90, 100)
    );
    let names: Vec<&str> = pool.spec.policies.iter().map(|policy| policy.name()).collect();
    assert_eq!(names, ["busy", "calm"]);
    let mistakes = [
        (
            "signal = [{ preset = \"cpu\" }]\npolicy = [{ signal = \"cpuu\", target = 0.6 }]",
            "pool[0].policy[0].signal: \"cpuu\" is not a [[pool.signal]]; there are: cpu",
        ),
        (
            "policy = [{ signal = \"cpu\", target = 0.6 }]",
            "pool[0].policy[0].signal: \"cpu\" is not a [[pool.signal]]; there are: none",
        ),
        (
            "signal = [{ preset = \"cpu\" }]\npolicy = [{ signal = \"cpu\", target = 0.6, window_secs = 9 }]",
            "pool[0].policy[0].window_secs: is unknown; known here: kind, target, tolerance, signal, name",
        ),
        (
            "signal = [{ preset = \"cpu\" }, { preset = \"cpu\" }]\npolicy = [{ signal = \"cpu\", target = 0.6 }]",
            "pool[0].signal[1].name: cpu is signal[0]'s name already",
        ),
        (
            "signal = [{ preset = \"cpu\" }]\npolicy = [{ signal = \"cpu\", name = \"a\", target = 0.6 }, { preset = \"cpu\", target = 0.6 }]",
            "pool[0].policy[1].name: cpu is signal[0]'s name already",
        ),
    ];
    for (change, message) in mistakes {
        assert_eq!(problems_of(&least(POLICY, change)), [message], "{change}");
    }
    let unused = "signal = [{ preset = \"memory\" }]\npolicy = [{ preset = \"cpu\", target = 0.6 }]";
    assert_eq!(
        warnings(&least(POLICY, unused)),
        ["pool[0].signal[0]: no policy goes by memory"]
    );
}

#[test]
fn a_target_that_full_hosts_do_not_exceed_is_refused() {
    let with = |policy: &str| problems_of(&least("{ preset = \"cpu\", target = 0.6 }", policy));
    for policy in [
        "{ preset = \"cpu\", target = 0.95 }",
        "{ preset = \"cpu\", target = 0.8, tolerance = 0.25 }",
        "{ preset = \"memory\", target = 0.6, tolerance = 0.9 }",
        "{ preset = \"cpu\", target = 60 }",
        "{ preset = \"cpu\", target = 95.0, scale = 100.0 }",
        "{ preset = \"cpu\", across = \"max\", target = 1.0, tolerance = 0.0 }",
    ] {
        let problems = with(policy);
        assert_eq!(problems.len(), 1, "{policy}: {problems:?}");
        assert!(problems[0].contains("would never grow the pool"), "{problems:?}");
    }
    for policy in [
        "{ preset = \"cpu\", target = 0.9 }",
        "{ preset = \"cpu\", target = 0.99, tolerance = 0.0 }",
        "{ preset = \"requests\", target = 200, tolerance = 0.9 }",
        "{ preset = \"process_cpu\", target = 1.5 }",
        "{ preset = \"cpu\", target = 60, scale = 100.0 }",
    ] {
        assert!(with(policy).is_empty(), "{policy}: {:?}", with(policy));
    }
}

#[test]
fn a_target_outside_what_the_range_allows_is_refused() {
    let with = |policy: &str| problems_of(&least("{ preset = \"cpu\", target = 0.6 }", policy));
    let grow = "would never grow the pool";
    let shrink = "would never shrink the pool";
    for (policy, what) in [
        ("field = \"busy\", range = [0, 100], target = 95", grow),
        (
            "field = \"busy\", range = [0, 1], scale = 100.0, target = 99",
            grow,
        ),
        ("field = \"idle\", range = [-1, 0], target = 0.5", grow),
        (
            "field = \"idle\", range = [-1, 0], scale = -1.0, target = 0.95",
            grow,
        ),
        (
            "field = \"busy\", range = [0, 1], per_host = \"max\", across = \"sum\", target = 2",
            grow,
        ),
        ("preset = \"cpu\", range = [0, 0.5], target = 0.6", grow),
        (
            "field = \"a / b\", range = [0, 1], per_host = \"rate\", target = 1",
            grow,
        ),
        ("field = \"celsius\", range = [20, 120], target = 20", shrink),
        (
            "field = \"celsius\", range = [20, inf], target = 22, tolerance = 0.2",
            shrink,
        ),
        // Four hosts at 20 need three of 26.7.
        ("field = \"celsius\", range = [20, 120], target = 26", shrink),
    ] {
        let problems = with(&format!("{{ {policy} }}"));
        assert_eq!(problems.len(), 1, "{policy}: {problems:?}");
        assert!(
            problems[0].starts_with("pool[0].policy[0].target: ") && problems[0].contains(what),
            "{problems:?}"
        );
    }
    for policy in [
        "field = \"busy\", range = [0, 100], target = 90",
        "field = \"busy\", range = [0, inf], target = 9000",
        "field = \"busy\", target = 9000",
        "field = \"celsius\", range = [20, 120], target = 27",
        "field = \"idle\", range = [-1, 0], scale = -1.0, target = 0.9",
        "preset = \"cpu\", range = [0, inf], target = 1.5",
        // How fast a counter grows is not bounded by its values.
        "field = \"c_total\", range = [0, 10], per_host = \"rate\", target = 20",
    ] {
        let problems = with(&format!("{{ {policy} }}"));
        assert!(problems.is_empty(), "{policy}: {problems:?}");
    }
}

#[test]
fn lists_that_do_not_fit_the_hour_are_warned_of() {
    let pools = |count: usize, tick_secs: u32, max: u32| {
        let text = least("metrics =", &format!("tick_secs = {tick_secs}\nmetrics ="));
        let (root, pool) = text.split_once("[[pool]]").unwrap();
        let pool = pool.replacen("max = 4", &format!("max = {max}"), 1);
        let named = |n| format!("[[pool]]{}", pool.replacen("\"api\"", &format!("\"api-{n}\""), 1));
        format!("{root}{}", (0..count).map(named).collect::<String>())
    };
    assert!(warnings(&pools(20, 15, 4)).is_empty());
    assert_eq!(
        warnings(&pools(21, 15, 4)),
        [
            "tick_secs: is 15, too short for these pools: their lists take up to 21 calls a tick, 21 × 3600 / 15 = 5040 an \
             hour, and DigitalOcean allows 5000 for each token; 16 s or more would fit"
        ]
    );
    assert!(warnings(&pools(50, 36, 4)).is_empty());
    assert_eq!(warnings(&pools(50, 35, 4)).len(), 1);
    // Each page of 200 is a call.
    assert!(warnings(&pools(4, 15, 1000)).is_empty());
    assert_eq!(warnings(&pools(5, 15, 1000)).len(), 1);
    let gpus = pools(11, 15, 4).replace("s-1vcpu-1gb", "gpu-h100x1-80gb");
    assert_eq!(warnings(&gpus).len(), 1);
}

#[test]
fn a_source_slower_than_a_tick_is_warned_of() {
    let with = |scrape: &str| {
        let text = least("scrape = {}", &format!("scrape = {{ {scrape} }}"));
        text.replacen("metrics =", "tick_secs = 5\nmetrics =", 1)
    };
    assert!(warnings(&with("timeout_ms = 5000")).is_empty());
    assert_eq!(
        warnings(&with("timeout_ms = 5500")),
        [
            "scrape.timeout_ms: is 5.5 s, more than a tick of 5 s, so ticks are left out while the source doesn't answer"
        ]
    );
    let slow = EXAMPLE.replacen("# timeout_secs = 5", "timeout_secs = 20", 1);
    assert_eq!(
        warnings(&slow),
        [
            "elasticsearch.timeout_secs: is 20 s, more than a tick of 15 s, so ticks are left out while the source doesn't \
             answer"
        ]
    );
}

#[test]
fn settings_that_never_give_a_value_are_refused() {
    let slow = |policy: &str| {
        let text = least("{ preset = \"cpu\", target = 0.6 }", policy);
        text.replacen("metrics =", "tick_secs = 30\nmetrics =", 1)
    };
    let requests = |window| format!("{{ preset = \"requests\", target = 200, window_secs = {window} }}");
    assert_eq!(
        problems_of(&slow(&requests(30))),
        [
            "pool[0].policy[0]: requests would never have a value: a rate needs two readings within window_secs = 30, and \
             members are read every tick_secs = 30"
        ]
    );
    assert_eq!(
        warnings(&slow(&requests(45))),
        [
            "pool[0].policy[0]: requests has no value when a tick is late: window_secs = 45 is less than two ticks of 30 s"
        ]
    );
    assert!(warnings(&slow(&requests(60))).is_empty());
    // A signal of its own table is named by that.
    let own = "signal = [{ preset = \"cpu\" }, { preset = \"requests\", window_secs = 30 }]\n\
               policy = [{ signal = \"cpu\", target = 0.6 }, { signal = \"requests\", target = 200 }]";
    let slow_own = least(POLICY, own).replacen("metrics =", "tick_secs = 30\nmetrics =", 1);
    assert!(
        problems_of(&slow_own)[0].starts_with("pool[0].signal[1]: requests would never have a value"),
        "{:?}",
        problems_of(&slow_own)
    );
    // The default follows the tick.
    let slower =
        slow("{ preset = \"requests\", target = 200 }").replacen("tick_secs = 30", "tick_secs = 300", 1);
    assert_eq!(read(&slower).unwrap().pools[0].signals[0].window_secs, 600);
}

#[test]
fn windows_shorter_than_metricbeat_reports_are_warned_of() {
    let with = |policy: &str| {
        let text = least("{ preset = \"cpu\", target = 0.6 }", policy);
        let server = "metrics = \"elasticsearch\"\nelasticsearch = { url = \"http://127.0.0.1:9200\" }";
        warnings(&text.replacen("metrics = \"scrape\"", server, 1))
    };
    assert_eq!(
        with("{ preset = \"requests\", target = 200, window_secs = 19 }"),
        [
            "pool[0].policy[0]: requests needs two documents within window_secs = 19, and Metricbeat writes one every 10 s \
             unless its period is shorter"
        ]
    );
    assert!(with("{ preset = \"requests\", target = 200, window_secs = 20 }").is_empty());
    for (keys, said) in [
        ("window_secs = 9", "window_secs = 9 and fresh_secs = 120"),
        ("fresh_secs = 9", "window_secs = 60 and fresh_secs = 9"),
    ] {
        let warned = with(&format!("{{ preset = \"cpu\", target = 0.6, {keys} }}"));
        assert_eq!(warned.len(), 1, "{keys}: {warned:?}");
        assert!(
            warned[0].starts_with("pool[0].policy[0]: cpu often has no fresh value: ")
                && warned[0].contains(said),
            "{warned:?}"
        );
    }
    assert!(with("{ preset = \"cpu\", target = 0.6, window_secs = 10, fresh_secs = 10 }").is_empty());
}

#[test]
fn odd_pairs_of_settings_are_warned_of() {
    let table = [
        (
            "windows = {}",
            "windows = { in_secs = 5 }",
            "pool[0].windows.in_secs: is 5, less than a tick of 15 s, so it has no effect",
        ),
        (
            "windows = {}",
            "windows = { out_secs = 5 }",
            "pool[0].windows.out_secs: is 5, less than a tick of 15 s, so it has no effect",
        ),
        (
            "windows = {}",
            "windows = { out_secs = 301 }",
            "pool[0].windows.out_secs: is 301, more than in_secs = 300, so the pool shrinks faster than it grows",
        ),
        (
            "min = 2",
            "min = 4",
            "pool[0].policy: has no effect, because min = max",
        ),
        (
            "windows = {}",
            "life = { unready_secs = 15 }",
            "pool[0].life.unready_secs: is 15, at most a tick of 15 s, so two failed readiness checks replace a member",
        ),
        (
            "windows = {}",
            "repair = { max = 0 }",
            "pool[0].repair.max: is 0, so dead members are never replaced",
        ),
        (
            "windows = {}",
            "repair = { window_secs = 299 }",
            "pool[0].repair.window_secs: is 299, less than life.boot_timeout_secs = 300, so members that never boot are \
             replaced without end",
        ),
    ];
    for (line, change, message) in table {
        assert_eq!(warnings(&least(line, change)), [message], "{change}");
    }
    assert!(warnings(&least("min = 2", "min = 2")).is_empty());
    assert!(warnings(EXAMPLE).is_empty());
}

#[test]
fn signals_have_a_range() {
    let range = |policy: &str| {
        let text = least("preset = \"cpu\", target = 0.6", policy);
        read(&text).unwrap().pools[0].signals[0].what.range
    };
    for (policy, expected) in [
        ("preset = \"cpu\", target = 0.6", Range::RATIO),
        ("preset = \"memory\", target = 0.6", Range::RATIO),
        ("preset = \"requests\", target = 6", Range::NOT_NEGATIVE),
        (
            "preset = \"cpu\", target = 0.6, range = [0, inf]",
            Range::NOT_NEGATIVE,
        ),
        ("field = \"celsius\", target = 60", Range::ANY),
        (
            "field = \"celsius\", target = 60, range = [-40, 125.0]",
            Range::new(-40.0, 125.0).unwrap(),
        ),
        (
            "field = \"c_total\", per_host = \"rate\", target = 6",
            Range::NOT_NEGATIVE,
        ),
    ] {
        assert_eq!(range(policy), expected, "{policy}");
    }
}
