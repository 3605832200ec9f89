//! The configuration: what is taken, and how everything that is wrong is reported at once.

#![expect(clippy::unwrap_used, reason = "tests")]

mod example;
mod fit;
mod follow;
mod mistakes;
mod secrets;

use std::io;
use std::path::Path;

use tidepool_autoscaler::config::{Config, Problem, Purpose, Surroundings, parse};

const EXAMPLE: &str = include_str!("../../example.toml");

const POLICY: &str = "policy = [{ preset = \"cpu\", target = 0.6 }]";

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
        Some("/etc/tidepool/empty") => Ok(String::new()),
        Some("/etc/tidepool/words") => Ok("two words\n".to_owned()),
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

fn warnings(text: &str) -> Vec<String> {
    let config = read(text).unwrap();
    config.warnings.iter().map(ToString::to_string).collect()
}
