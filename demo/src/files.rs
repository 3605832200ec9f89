//! The files that the other programs are configured by: image manifests, the autoscaler's configuration, cloud-init data.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::cloud::{Cloud, REGION, SIZE};
use crate::place::{Place, PlaceError};
use crate::services::Endpoints;

/// The pool's name.
pub const POOL: &str = "api";
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
    /// How long a smaller size must have been enough before the pool shrinks, seconds.
    pub in_window_secs: u32,
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
) -> Result<PathBuf, PlaceError> {
    place.write("user-data.yaml", &user_data(place, backend))?;
    let state = place.path().join("autoscaler");
    std::fs::create_dir_all(&state).map_err(|source| PlaceError::new(state, source))?;
    place.write(
        "autoscaler.toml",
        &scaler_config(cloud.base(), status, pool, backend),
    )
}

fn scaler_config(cloud: &str, status: SocketAddr, pool: &Pool, backend: &Backend) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let (source, policy_times) = match backend {
        // The members are asked at every tick.
        Backend::Embedded => (
            "metrics = \"scrape\"\n\n[scrape]\ntimeout_ms = 1000\n".to_owned(),
            "window_secs = 5\nfresh_secs = 5\n",
        ),
        // Metricbeat reports every 2 s: a window of five reports, and three may be missed.
        Backend::Stack(endpoints) => (
            format!(
                "metrics = \"elasticsearch\"\n\n[elasticsearch]\nurl = {}\n\n[audit]\n\
                 elasticsearch_index = \"tidepool-decisions\"\n",
                quoted(&endpoints.elasticsearch_url)
            ),
            "window_secs = 10\nfresh_secs = 10\n",
        ),
    };
    format!(
        "# Written by tidepool-demo. A production configuration has the defaults' windows, which are minutes.\n\
         tick_secs = 1\nstate_dir = \"autoscaler\"\n{source}\n\
         [status]\nlisten = {status}\n\n\
         [digitalocean]\nbase_url = {cloud}\ntoken_env = \"{TOKEN_ENV}\"\n\n\
         [[pool]]\nname = \"{POOL}\"\nmin = {min}\nmax = {max}\n\n\
         [pool.digitalocean]\nregion = \"{REGION}\"\nsize = \"{SIZE}\"\nimage = \"{image}\"\n\
         user_data_file = \"user-data.yaml\"\n\n\
         [[pool.policy]]\npreset = \"requests\"\ntarget = {target:.1}\n{policy_times}\n\
         [pool.windows]\nout_secs = 0\nin_secs = {in_secs}\n\n\
         [pool.limits]\nout_max = 2\nout_period_secs = 4\nin_max = 1\nin_period_secs = 3\n\n\
         [pool.life]\nwarm_up_secs = 3\nboot_timeout_secs = 60\nunready_secs = 10\ncreate_settle_secs = 20\n\
         withdraw_settle_secs = 1\ndrain_secs = 10\nshutdown_secs = 20\n",
        status = quoted(&status.to_string()),
        cloud = quoted(cloud),
        min = pool.min,
        max = pool.max,
        image = backend.image(),
        target = pool.target_per_sec,
        in_secs = pool.in_window_secs,
    )
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
    fn the_scalers_configuration_is_toml_for_both_backends() {
        let pool = Pool {
            min: 2,
            max: 6,
            target_per_sec: 60.0,
            in_window_secs: 10,
        };
        let endpoints = Endpoints {
            cassandra_hosts: "127.0.5.1".into(),
            elasticsearch_url: "http://127.0.0.1:9200".into(),
            metricbeat: "/m".into(),
        };
        for (backend, source) in [
            (Backend::Embedded, "scrape"),
            (Backend::Stack(endpoints), "elasticsearch"),
        ] {
            let text = scaler_config("http://127.0.0.1:1", ([127, 0, 0, 1], 2).into(), &pool, &backend);
            let table: toml::Table = text.parse().unwrap();
            assert_eq!(table["metrics"].as_str(), Some(source), "{text}");
            assert_eq!(table["pool"][0]["policy"][0]["target"].as_float(), Some(60.0));
        }
    }

    #[test]
    fn a_store_with_odd_characters_is_quoted() {
        let place = Place::new(None).unwrap();
        let config = user_data(&place, &Backend::Embedded);
        assert!(config.contains("      store = \"sqlite:/"), "{config}");
    }
}
