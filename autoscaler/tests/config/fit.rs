//! Settings that are each in order and don't fit each other.

use crate::{EXAMPLE, POLICY, least, problems_of, read, warnings};

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
fn a_target_that_no_load_can_be_steered_to_is_refused() {
    let with = |policy: &str| problems_of(&least("{ preset = \"cpu\", target = 0.6 }", policy));
    for (target, why) in [
        (
            "1e-300",
            "so that the least load asks for the largest pool; it must be at least 1e-6",
        ),
        ("9e-7", "it must be at least 1e-6"),
        (
            "1e300",
            "so that no load asks for more than the smallest pool; it must be at most 1e15",
        ),
        ("2e15", "it must be at most 1e15"),
    ] {
        let problems = with(&format!("{{ preset = \"requests\", target = {target} }}"));
        assert_eq!(problems.len(), 1, "{target}: {problems:?}");
        assert!(
            problems[0].starts_with("pool[0].policy[0].target: is ") && problems[0].contains(why),
            "{problems:?}"
        );
    }
    for target in ["1e-6", "1e15"] {
        let problems = with(&format!("{{ preset = \"requests\", target = {target} }}"));
        assert_eq!(problems, [""; 0]);
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
fn a_boot_that_no_tick_can_see_is_refused() {
    let with = |tick_secs: u32, boot_secs: u32| {
        let text = least(
            "windows = {}",
            &format!("life = {{ boot_timeout_secs = {boot_secs} }}"),
        );
        format!("tick_secs = {tick_secs}\n{text}")
    };
    assert_eq!(
        problems_of(&with(41, 5)),
        [
            "pool[0].life.boot_timeout_secs: is 5, less than a tick of 41 s, so every member would be given up before it \
          is looked at"
        ]
    );
    assert_eq!(problems_of(&with(41, 40)).len(), 1);
    assert_eq!(
        warnings(&with(41, 41)),
        [
            "pool[0].life.boot_timeout_secs: is 41, less than two ticks of 41 s, so a new member is looked at once and then \
          given up"
        ]
    );
    assert_eq!(warnings(&with(41, 82)), [""; 0]);
}
