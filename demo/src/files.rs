//! The files that the other programs are configured by: image manifests, the autoscaler's configuration, cloud-init data.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cloud::{Cloud, REGION, SIZE};
use crate::place::{Place, PlaceError};
use crate::services::Endpoints;
use crate::site::{POOL, SiteError};

/// The token for the local cloud, which takes any. It guards nothing: everything listens on loopback.
pub const TOKEN: &str = "tide";
/// The variable that the autoscaler reads it from.
pub const TOKEN_ENV: &str = "TIDEPOOL_DEMO_TOKEN";

const IMAGE_PLAIN: &str = include_str!("../images/tidepool-api/image.toml");
const IMAGE_METRICBEAT: &str = include_str!("../images/tidepool-api-metricbeat/image.toml");
const METRICBEAT_YML: &str = include_str!("../images/tidepool-api-metricbeat/metricbeat.yml");

/// The pool's settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pool {
    /// Fewest members.
    pub min: u32,
    /// Most members.
    pub max: u32,
    /// Requests a second that one member is meant to have.
    pub target_per_sec: f64,
}

/// What the members keep documents in, and where the autoscaler reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// One SQLite file for all members; the autoscaler asks the members.
    Embedded,
    /// Cassandra; Metricbeat beside each member; the autoscaler asks Elasticsearch alone.
    Stack(Endpoints),
}

impl Backend {
    fn image(&self) -> &'static str {
        match self {
            Self::Embedded => "tidepool-api",
            Self::Stack(_) => "tidepool-api-metricbeat",
        }
    }
}

/// A loopback address that was free just now.
pub fn free_address() -> Result<SocketAddr, PlaceError> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| PlaceError::new("a free loopback port".into(), source))
}

/// Writes the backend's image; returns the images' directory.
pub fn write_images(place: &Place, backend: &Backend) -> Result<PathBuf, PlaceError> {
    let manifest = match backend {
        Backend::Embedded => IMAGE_PLAIN,
        Backend::Stack(_) => IMAGE_METRICBEAT,
    };
    place.write(&format!("images/{}/image.toml", backend.image()), manifest)?;
    Ok(place.path().join("images"))
}

/// A droplet of the pool, as DigitalOcean's API takes it: for runs without an autoscaler.
pub fn droplet(place: &Place, backend: &Backend, name: &str) -> Value {
    json!({
        "name": name, "region": REGION, "size": SIZE, "image": backend.image(),
        "tags": [format!("pool:{POOL}"), format!("serving:{POOL}")],
        "user_data": user_data(place, backend),
    })
}

/// Writes the autoscaler's configuration and the members' user data; returns the configuration's path.
pub fn write_scaler_config(
    place: &Place,
    cloud: &Cloud,
    status: SocketAddr,
    pool: &Pool,
    backend: &Backend,
) -> Result<PathBuf, SiteError> {
    let user_data = place.write("user-data.yaml", &user_data(place, backend))?;
    let state = place.path().join("autoscaler");
    std::fs::create_dir_all(&state).map_err(|source| PlaceError::new(state.clone(), source))?;
    let _ = (cloud, status, pool, user_data);
    Ok(place.write("autoscaler.toml", "")?)
}

/// cloud-init data for a member.
fn user_data(place: &Place, backend: &Backend) -> String {
    let store = match backend {
        Backend::Embedded => format!("sqlite:{}", place.path().join("tide.db").display()),
        Backend::Stack(endpoints) => format!("cassandra://{}/tide", endpoints.cassandra_hosts),
    };
    let mut files = vec![(
        "/etc/tidepool/api.toml",
        format!("store = {}\n", Value::String(store)),
    )];
    if let Backend::Stack(endpoints) = backend {
        let yml = METRICBEAT_YML.replace("@ELASTICSEARCH_URL@", &endpoints.elasticsearch_url);
        files.push(("/etc/metricbeat/metricbeat.yml", yml));
    }
    cloud_config(&files)
}

/// A `#cloud-config` that writes files, readable by their owner alone (Metricbeat refuses others).
fn cloud_config(files: &[(&str, String)]) -> String {
    let mut text = String::from("#cloud-config\nwrite_files:\n");
    for (path, content) in files {
        text.push_str(&format!(
            "  - path: {path}\n    permissions: \"0600\"\n    content: |\n"
        ));
        for line in content.lines() {
            text.push_str(&if line.is_empty() {
                "\n".to_owned()
            } else {
                format!("      {line}\n")
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_config_keeps_every_line_in_its_block() {
        assert_eq!(
            cloud_config(&[("/a", "x: 1\n\n  y: 2\n".into()), ("/b", "z".into())]),
            "#cloud-config\nwrite_files:\n  - path: /a\n    permissions: \"0600\"\n    content: |\n      x: 1\n\n        y: 2\n  \
             - path: /b\n    permissions: \"0600\"\n    content: |\n      z\n"
        );
    }

    #[test]
    fn a_store_with_odd_characters_is_quoted() {
        let place = Place::new(None).unwrap();
        let config = user_data(&place, &Backend::Embedded);
        assert!(config.contains("      store = \"sqlite:/"), "{config}");
    }
}
