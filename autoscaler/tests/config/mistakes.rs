//! What is wrong: every mistake has a message at its place, and all are reported at once.

use crate::{least, problems_of};

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
             life, repair, rollout",
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

const DIGITALOCEAN: &str = "digitalocean = { token_env = \"DIGITALOCEAN_TOKEN\" }";

#[test]
fn a_base_url_is_an_address_and_perhaps_a_path() {
    let with = |url: &str| {
        let table = format!("digitalocean = {{ base_url = \"{url}\", token_env = \"DIGITALOCEAN_TOKEN\" }}");
        least(DIGITALOCEAN, &table)
    };
    for url in [
        "https://proxy.example/do?team=1",
        "https://proxy.example/do?",
        "https://proxy.example/#do",
        "ftp://proxy.example",
        "https://a:b@proxy.example",
    ] {
        assert_eq!(
            problems_of(&with(url)),
            [
                "digitalocean.base_url: must be an http or https address, without a user name, a password, a query or a fragment"
            ],
            "{url}"
        );
    }
    for url in [
        "https://proxy.example/do",
        "https://proxy.example",
        "http://127.0.0.1:9",
        "http://localhost:9/do/",
        "http://[::1]:9",
    ] {
        assert_eq!(crate::warnings(&with(url)), [""; 0], "{url}");
    }
    assert_eq!(
        crate::warnings(&with("http://api.digitalocean.com")),
        ["digitalocean.base_url: is http://, so the token crosses the network unencrypted"]
    );
}

#[test]
fn a_token_that_cannot_be_one_is_blamed_on_the_key_that_names_it() {
    let table = "digitalocean = { token_file = \"words\" }";
    let problems = problems_of(&least(DIGITALOCEAN, table));
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("digitalocean.token_file: "),
        "{problems:?}"
    );
}

#[test]
fn what_is_given_and_empty_is_refused() {
    let pool = "digitalocean = { region = \"fra1\"";
    let with = |key: &str| problems_of(&least(pool, &format!("{pool}, {key}")));
    assert_eq!(
        with("user_data_file = \"empty\""),
        ["pool[0].digitalocean.user_data_file: is empty"]
    );
    assert_eq!(
        with("vpc_uuid = \"\""),
        ["pool[0].digitalocean.vpc_uuid: is empty"]
    );
}

#[test]
fn decisions_do_not_go_where_samples_are_read() {
    let with = |index: &str| {
        let text = least(
            "audit = {}",
            &format!("audit = {{ elasticsearch_index = \"{index}\" }}"),
        );
        let source = "metrics = \"elasticsearch\"\nelasticsearch = { url = \"http://localhost:9200\" }";
        text.replacen("metrics = \"scrape\"", source, 1)
            .replacen("scrape = {}\n", "", 1)
    };
    assert_eq!(problems_of(&with("tidepool-decisions")), [""; 0]);
    assert_eq!(
        problems_of(&with("metricbeat-decisions")),
        ["audit.elasticsearch_index: is among the indices that samples are read from (metricbeat-*)"]
    );
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
        ["pool: is missing; at least one [[pool]] is needed (pool = [] if there are none yet)"]
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

/// What no provider and no index takes: it would be found at the first create, or at the first decision.
#[test]
fn what_can_never_be_taken_is_refused() {
    let droplets = "region = \"fra1\", size = \"s-1vcpu-1gb\", image = \"api\"";
    let pool = |change: &str, expected: &str| {
        let (line, _) = change.split_once(" = ").unwrap();
        let text = match droplets.split(", ").find(|one| one.starts_with(line)) {
            Some(one) => droplets.replace(one, change),
            None => format!("{droplets}, {change}"),
        };
        let found = problems_of(&least(droplets, &text));
        assert_eq!(found, [format!("pool[0].digitalocean.{expected}")], "{change}");
    };
    pool(
        "region = \"Frankfurt 1\"",
        "region: \"Frankfurt 1\" is not a slug: a-z, 0-9, '-', '_' and '.'",
    );
    pool(
        "size = \"s-1vCPU-1GB\"",
        "size: \"s-1vCPU-1GB\" is not a slug: a-z, 0-9, '-', '_' and '.'",
    );
    pool(
        "image = \"a\\nb\"",
        "image: \"a\\nb\" is not a slug: a-z, 0-9, '-', '_' and '.'",
    );
    pool("vpc_uuid = \"default\"", "vpc_uuid: \"default\" is not a UUID");
    let key = "is neither a key's number nor its fingerprint, such as 3b:16:e4:bf:8b:00:8b:b8:59:8c:a9:d3:f0:19:fa:45";
    for given in ["my laptop", "ssh-ed25519 AAAAC3Nz me@home", ""] {
        pool(
            &format!("ssh_keys = [7, {given:?}]"),
            &format!("ssh_keys[1]: {key}"),
        );
    }
    let policy = "preset = \"cpu\",";
    for name in ["", "a\\nb", &"x".repeat(101)] {
        let text = least(policy, &format!("preset = \"cpu\", name = \"{name}\","));
        let expected = "pool[0].policy[0].name: must be 1 to 100 characters, and no control characters";
        assert_eq!(problems_of(&text), [expected], "{name}");
    }
    let server = |setting: &str| {
        let server = format!("elasticsearch = {{ url = \"http://es:9200\", {setting} }}\nscrape = {{}}");
        problems_of(&least("scrape = {}", &server))
    };
    for index in ["", "a,,b", "metric beat"] {
        let expected = format!(
            "elasticsearch.index: {index:?} is not an index or a pattern, or several with commas between"
        );
        assert_eq!(server(&format!("index = {index:?}")), [expected]);
    }
    for (setting, field) in [
        ("host_field = \"\"", "host_field"),
        ("host_field = \"host name\"", "host_field"),
        ("series_fields = [\"a.*\", \"\"]", "series_fields[1]"),
        ("series_fields = [\"*\"]", "series_fields[0]"),
    ] {
        let found = server(setting);
        assert!(
            found.len() == 1 && found[0].starts_with(&format!("elasticsearch.{field}: ")),
            "{found:?}"
        );
    }
    assert_eq!(
        server("index = \"a-*, -a-old,eu:b-*,<m-{now/d}>\", series_fields = [\"labels.*\"]"),
        [""; 0]
    );
    let audit = |setting: &str| {
        problems_of(&least(
            "audit = {}",
            &format!("audit = {{ {setting} }}\nelasticsearch = {{ url = \"http://es:9200\" }}"),
        ))
    };
    for index in ["", "A", "a b", "a-*", "_a", "a,b"] {
        let expected =
            format!("audit.elasticsearch_index: {index:?} is not the name of one index or data stream");
        assert_eq!(audit(&format!("elasticsearch_index = {index:?}")), [expected]);
    }
    assert_eq!(audit("elasticsearch_index = \"<decisions-{now/M}>\""), [""; 0]);
    for file in ["state/journal.jsonl", "state/lease", "state/api.memory.json"] {
        assert_eq!(
            audit(&format!("file = {file:?}")),
            ["audit.file: is a file of the state itself"]
        );
    }
    assert_eq!(audit("file = \"\""), ["audit.file: is empty"]);
    assert_eq!(
        problems_of(&least("state_dir = \"state\"", "state_dir = \" \"")),
        ["state_dir: is empty"]
    );
}
