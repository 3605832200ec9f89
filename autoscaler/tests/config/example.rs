//! The example and the README: in order, complete, and true about defaults.

use tidepool_autoscaler::config::MetricsConfig;
use tidepool_autoscaler::metrics::PerHost;
use tidepool_autoscaler::metrics::presets::{PRESETS, SourceKind};
use tidepool_autoscaler_core::spec::{Across, PolicyKind};

use crate::{EXAMPLE, read};

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
    let readme = include_str!("../../README.md");
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
