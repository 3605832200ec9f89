//! What a pool follows: signals and policies.

use tidepool_autoscaler::metrics::range::Range;

use crate::{POLICY, least, problems_of, read, warnings};

#[test]
fn a_fixed_pool_needs_no_policy() {
    let text = least("max = 4", "max = 2").replacen("policy = [{ preset = \"cpu\", target = 0.6 }]", "", 1);
    assert!(read(&text).unwrap().pools[0].spec.policies.is_empty());
}

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

#[test]
fn names_of_fields_are_checked() {
    let refused = "must be one metric's name, or two with \" / \" between them";
    for (field, problem) in [
        ("", refused),
        (" ", refused),
        ("a b", refused),
        ("a\\tb", refused),
        ("a / b / c", refused),
        ("a / ", refused),
        (" / b", refused),
        ("a /b", refused),
    ] {
        let policy = format!("{{ field = \"{field}\", target = 5 }}");
        let problems = problems_of(&least("{ preset = \"cpu\", target = 0.6 }", &policy));
        let shown = format!("\"{field}\" {problem}");
        assert_eq!(problems, [format!("pool[0].policy[0].field: {shown}")]);
    }
    for field in ["a", "a / b", "app.queue-depth", "node:cpu:rate", "größe"] {
        let policy = format!("{{ field = \"{field}\", target = 5 }}");
        let problems = problems_of(&least("{ preset = \"cpu\", target = 0.6 }", &policy));
        assert_eq!(problems, [] as [String; 0], "{field}");
    }
    let source = "metrics = \"elasticsearch\"\nelasticsearch.url = \"http://es:9200\"";
    for (field, is_name) in [
        ("system.load.5", true),
        ("http.server-requests", true),
        ("", false),
        ("a b", false),
        ("a / b", false),
        ("system..load", false),
        ("system.", false),
        ("system.*", false),
    ] {
        let policy = format!("{{ field = \"{field}\", target = 5 }}");
        let text = least("{ preset = \"cpu\", target = 0.6 }", &policy);
        let problems = problems_of(
            &text
                .replace("metrics = \"scrape\"", source)
                .replace("scrape = {}\n", ""),
        );
        assert_eq!(problems.is_empty(), is_name, "{field}: {problems:?}");
    }
}
