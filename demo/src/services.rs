//! The real servers of the stack, started and stopped by the repository's own scripts: Cassandra, Elasticsearch, Metricbeat.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::process::Command;

use crate::children::tail;
use crate::mark::Mark;

/// How long starting may take: fetching and building the servers the first time takes about 5 minutes here.
const UP_MAX: Duration = Duration::from_secs(1_800);
/// How long stopping, or killing one node, may take.
const DOWN_MAX: Duration = Duration::from_secs(90);

/// The servers can't be had.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// No scripts.
    #[error("there is no {}: start this with `make stack` at the top of the repository, or name the folder by --services", .script.display())]
    NoScripts {
        /// What was looked for.
        script: PathBuf,
    },
    /// A script can't be run.
    #[error("{script} can't be run")]
    Run {
        /// Which.
        script: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A script failed.
    #[error("{script} failed ({status}); the end of {}:\n{tail}", .log.display())]
    Failed {
        /// Which.
        script: String,
        /// How.
        status: String,
        /// Its log.
        log: PathBuf,
        /// The last lines.
        tail: String,
    },
    /// A script took too long.
    #[error("{script} took longer than {secs} s; the end of {}:\n{tail}", .log.display())]
    TooLong {
        /// Which.
        script: String,
        /// The bound.
        secs: u64,
        /// Its log.
        log: PathBuf,
        /// The last lines.
        tail: String,
    },
    /// A script didn't say where a server is.
    #[error("the services' scripts did not say {name}")]
    NotSaid {
        /// The variable's name.
        name: &'static str,
    },
}

/// Where the servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoints {
    /// Cassandra's nodes, `host,host,host`.
    pub cassandra_hosts: String,
    /// Elasticsearch's address.
    pub elasticsearch_url: String,
    /// Metricbeat's executable.
    pub metricbeat: PathBuf,
}

/// One set of servers, in a directory of its own.
#[derive(Debug, Clone)]
pub struct Services {
    scripts: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    mark: Option<Mark>,
}

impl Services {
    /// `scripts` is the repository's folder `services`; data and logs go below `dir`.
    pub fn new(scripts: &Path, dir: PathBuf, logs: &Path) -> Result<Self, ServicesError> {
        let script = scripts.join("services");
        if !script.is_file() {
            return Err(ServicesError::NoScripts { script });
        }
        let scripts = std::path::absolute(scripts).map_err(|source| ServicesError::Run {
            script: script.display().to_string(),
            source,
        })?;
        Ok(Self {
            scripts,
            dir,
            log: logs.join("services.log"),
            mark: None,
        })
    }

    /// Marks what the scripts start, for the guard.
    pub fn marked(mut self, mark: Mark) -> Self {
        self.mark = Some(mark);
        self
    }

    /// Starts all of them and waits until they answer.
    pub async fn up(&self) -> Result<Endpoints, ServicesError> {
        let text = self
            .script(
                "services",
                &["up", "cassandra", "elasticsearch", "metricbeat"],
                UP_MAX,
            )
            .await?;
        endpoints(&text)
    }

    /// Kills one Cassandra node with SIGKILL. The first is 1.
    pub async fn kill_cassandra_node(&self, node: u32) -> Result<(), ServicesError> {
        let dir = self.dir.to_string_lossy().into_owned();
        self.script("cassandra/kill-node", &[&dir, &node.to_string()], DOWN_MAX)
            .await
            .map(drop)
    }

    /// Stops all of them and forgets their data.
    pub async fn down(&self) -> Result<(), ServicesError> {
        self.script("services", &["down", "cassandra", "elasticsearch"], DOWN_MAX)
            .await
            .map(drop)
    }

    async fn script(&self, name: &str, args: &[&str], within: Duration) -> Result<String, ServicesError> {
        let script = format!("{} {}", name, args.first().unwrap_or(&""));
        let run = |source| ServicesError::Run {
            script: script.clone(),
            source,
        };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(run)?;
        let child = Command::new(self.scripts.join(name))
            .args(args)
            .env("SERVICE_DIR", &self.dir)
            .envs(self.mark.as_ref().map(Mark::variable))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C in the terminal reaches the demo, which then stops the servers by `down`.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(run)?;
        // Tokio's `output` would take the log away again.
        let output: Output = match tokio::time::timeout(within, child.wait_with_output()).await {
            Ok(output) => output.map_err(run)?,
            Err(_) => {
                let (log, tail) = (self.log.clone(), tail(&self.log));
                return Err(ServicesError::TooLong {
                    script,
                    secs: within.as_secs(),
                    log,
                    tail,
                });
            }
        };
        if !output.status.success() {
            let (log, tail) = (self.log.clone(), tail(&self.log));
            return Err(ServicesError::Failed {
                script,
                status: output.status.to_string(),
                log,
                tail,
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn endpoints(text: &str) -> Result<Endpoints, ServicesError> {
    let said: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let value = |name: &'static str| {
        said.get(name)
            .map(|value| (*value).to_owned())
            .ok_or(ServicesError::NotSaid { name })
    };
    Ok(Endpoints {
        cassandra_hosts: value("CASSANDRA_HOSTS")?,
        elasticsearch_url: value("ELASTICSEARCH_URL")?,
        metricbeat: value("METRICBEAT")?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_from_what_the_scripts_say() {
        let text = "CASSANDRA_HOSTS=127.0.5.1,127.0.5.2\nCASSANDRA_PORT=9042\nELASTICSEARCH_URL=http://127.0.0.1:1\nMETRICBEAT=/m\n";
        let endpoints = endpoints(text).unwrap();
        assert_eq!(endpoints.cassandra_hosts, "127.0.5.1,127.0.5.2");
        assert_eq!(endpoints.metricbeat, PathBuf::from("/m"));
    }

    #[test]
    fn what_is_not_said_is_named() {
        let error = endpoints("CASSANDRA_HOSTS=a\n").unwrap_err().to_string();
        assert_eq!(error, "the services' scripts did not say ELASTICSEARCH_URL");
    }

    #[tokio::test]
    async fn what_a_script_that_fails_has_said_is_in_the_error_and_in_the_log() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("services");
        std::fs::write(&script, "#!/bin/sh\necho 'services/up: no Java' >&2\nexit 1\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let services = Services::new(dir.path(), dir.path().join("x"), dir.path()).unwrap();
        let error = services.up().await.unwrap_err().to_string();
        assert!(error.contains("services/up: no Java"), "{error}");
        let log = std::fs::read_to_string(dir.path().join("services.log")).unwrap();
        assert_eq!(log, "services/up: no Java\n");
    }

    #[test]
    fn missing_scripts_are_reported_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = Services::new(dir.path(), dir.path().join("x"), dir.path())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("make stack") && error.contains("--services"),
            "{error}"
        );
    }
}
