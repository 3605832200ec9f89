//! Secrets: where they come from, and that they are not shown.

use std::path::Path;

use tidepool_autoscaler::config::Purpose;

use crate::{least, read, read_for};

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
fn an_address_with_a_password_is_never_printed() {
    let server =
        "elasticsearch = { url = \"http://u:es-secret@es:9200\" }\naudit.elasticsearch_index = \"decisions\"";
    let text = least("scrape = {}", server).replacen("audit = {}", "", 1);
    let text = text.replacen("metrics = \"scrape\"", "metrics = \"elasticsearch\"", 1);
    let printed = format!("{:?}", read(&text).unwrap());
    assert!(!printed.contains("es-secret"), "{printed}");
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
    assert_eq!(config.pools[0].spec.recipe.image.to_string(), "7");
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
