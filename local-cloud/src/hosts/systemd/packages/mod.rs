//! Debian's packages for hosts, which have no way out: served on the cloud's own network, at its gateway, file by file as a host's apt asks for
//! them. The machine's apt fetches what is not kept yet. The lists are Debian's own, with its signatures, so a host trusts them by the
//! keys in its image. Of the machine's mirror a host learns nothing.

mod cache;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use http::{Method, StatusCode, header};
use percent_encoding::percent_decode_str;
use poem::{Body, Endpoint, Request, Response};
use tokio::io::BufReader;

use self::cache::{Cache, Wanted};
use super::mirror::{self, DownloadError, MirrorError, Source};

/// The file in a host that names this repository to apt. Written at each boot, and in no snapshot.
pub(super) const LIST: &str = "etc/apt/sources.list.d/tidepool-local-cloud.list";
/// Bytes that are read from a kept file at a time.
const PIECE_BYTES: usize = 256 * 1024;
/// Longest path below a release: Debian's own have at most some 200 characters.
const PATH_BYTES_MAX: usize = 512;

/// What all hosts of a cloud may install.
#[derive(Debug, Clone)]
pub(super) struct Packages(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    cache: Cache,
    gateway: Ipv4Addr,
    /// What apt in a host must not look at, because this machine's doesn't.
    lenient: String,
    /// Where the releases of each suite are had from.
    suites: RwLock<HashMap<String, Vec<Source>>>,
}

impl Packages {
    /// Those of this machine's mirror, kept in `dir` and served at the gateway.
    ///
    /// # Errors
    /// When apt doesn't say what it needs, or the directory can't be made.
    pub(super) fn new(dir: PathBuf, gateway: Ipv4Addr) -> Result<Self, PackagesError> {
        Ok(Self(Arc::new(Inner {
            cache: Cache::new(dir, mirror::download)?,
            gateway,
            lenient: mirror::lenient()?,
            suites: RwLock::default(),
        })))
    }

    /// The list of sources of a host with that suite.
    ///
    /// # Errors
    /// When this machine has no mirror of Debian.
    pub(super) fn list(&self, suite: &str) -> Result<String, MirrorError> {
        let mut list =
            "# The local cloud's, at each boot: packages by way of the machine that this host runs on.\n"
                .to_owned();
        for source in self.sources(suite)? {
            let (gateway, release) = (self.0.gateway, source.release);
            let options = &self.0.lenient;
            // Descriptions in other languages are half of what an update downloads.
            list.push_str(&format!(
                "deb [lang=none{options}] http://{gateway}/{release} {release} main\n"
            ));
        }
        Ok(list)
    }

    fn sources(&self, suite: &str) -> Result<Vec<Source>, MirrorError> {
        {
            let known = self.0.suites.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(sources) = known.get(suite) {
                return Ok(sources.clone());
            }
        }
        let sources = mirror::sources(suite)?;
        let mut known = self.0.suites.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(suite.to_owned(), sources.clone());
        Ok(sources)
    }

    /// What a path means: `/<release>/` and a path of Debian's archive.
    fn wanted(&self, path: &str) -> Option<Wanted> {
        let path = percent_decode_str(path).decode_utf8().ok()?;
        let (release, path) = path.strip_prefix('/')?.split_once('/')?;
        let suites = self.0.suites.read().unwrap_or_else(PoisonError::into_inner);
        let mut sources = suites.values().flatten();
        let source = sources.find(|source| source.release == release)?;
        is_of_archive(release, path).then(|| Wanted {
            source: source.clone(),
            path: path.to_owned(),
        })
    }

    async fn answer(&self, wanted: Wanted) -> Result<Response, DownloadError> {
        let inner = Arc::clone(&self.0);
        // To its end though the client goes away: it asks again, and finds the file then.
        let opened = tokio::task::spawn_blocking(move || inner.cache.open(&wanted, now())).await;
        let (file, bytes) = opened.map_err(std::io::Error::other)??;
        let pieces = BufReader::with_capacity(PIECE_BYTES, tokio::fs::File::from_std(file));
        Ok(Response::builder()
            .content_type("application/octet-stream")
            .header(header::CONTENT_LENGTH, bytes)
            .body(Body::from_async_read(pieces)))
    }
}

impl Endpoint for Packages {
    type Output = Response;

    async fn call(&self, request: Request) -> poem::Result<Response> {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n"));
        }
        let path = request.uri().path();
        let Some(wanted) = self.wanted(path) else {
            return Ok(plain(StatusCode::NOT_FOUND, "not a file of a Debian archive\n"));
        };
        Ok(match self.answer(wanted).await {
            Ok(response) => response,
            Err(DownloadError::NotThere) => plain(StatusCode::NOT_FOUND, "the mirror doesn't have it\n"),
            Err(error) => {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(path, error, "a package file can't be had");
                let text = "this machine's mirror can't be used; the local cloud's log says why\n";
                plain(StatusCode::BAD_GATEWAY, text)
            }
        })
    }
}

/// Why there are no packages for hosts.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackagesError {
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    #[error("the directory of kept packages")]
    Disk(#[from] std::io::Error),
}

#[expect(
    clippy::disallowed_methods,
    reason = "kept files are as old as the file system says"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

/// Whether a path is one of a Debian archive's, in its plainest spelling.
fn is_of_archive(release: &str, path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+~:/%".contains(&byte);
    let below = path
        .strip_prefix("dists/")
        .and_then(|rest| rest.strip_prefix(release)?.strip_prefix('/'))
        .or_else(|| path.strip_prefix("pool/"));
    let parts = |below: &str| {
        below
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.'))
    };
    path.len() <= PATH_BYTES_MAX && path.bytes().all(plain) && below.is_some_and(parts)
}

fn plain(status: StatusCode, text: &'static str) -> Response {
    Response::builder()
        .status(status)
        .content_type("text/plain")
        .body(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packages() -> Packages {
        let source = |uri: &str, release: &str| Source {
            uri: uri.to_owned(),
            release: release.to_owned(),
        };
        let sources = vec![
            source("http://user:secret@mirror.example/debian/", "bookworm"),
            source("http://security.example/", "bookworm-security"),
        ];
        let dir = tempfile::tempdir().unwrap();
        Packages(Arc::new(Inner {
            cache: Cache::new(dir.path().join("kept"), |_, _, _| Err(DownloadError::NotThere)).unwrap(),
            gateway: Ipv4Addr::new(198, 18, 0, 1),
            lenient: " check-date=no".to_owned(),
            suites: RwLock::new(HashMap::from([("bookworm".to_owned(), sources)])),
        }))
    }

    #[test]
    fn a_hosts_list_names_the_gateway_and_not_the_mirror() {
        let list = packages().list("bookworm").unwrap();
        let lines: Vec<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            lines,
            [
                "deb [lang=none check-date=no] http://198.18.0.1/bookworm bookworm main",
                "deb [lang=none check-date=no] http://198.18.0.1/bookworm-security bookworm-security main",
            ]
        );
    }

    #[test]
    fn only_paths_of_the_archive_reach_the_mirror() {
        let packages = packages();
        for (path, of) in [
            ("/bookworm/dists/bookworm/InRelease", "bookworm"),
            (
                "/bookworm/dists/bookworm/main/binary-amd64/by-hash/SHA256/0a",
                "bookworm",
            ),
            (
                "/bookworm/pool/main/g/g%2b%2b/g%2b%2b_12.2.0-3_amd64.deb",
                "bookworm",
            ),
            (
                "/bookworm-security/dists/bookworm-security/InRelease",
                "bookworm-security",
            ),
        ] {
            let wanted = packages.wanted(path).unwrap();
            assert_eq!(wanted.source.release, of, "{path}");
            let decoded = path.replace("%2b", "+");
            assert_eq!(decoded, format!("/{of}/{}", wanted.path));
        }
        for path in [
            "/",
            "/bookworm",
            "/bookworm/",
            "/bookworm/dists/bookworm/",
            "/bookworm/dists/bookworm-security/InRelease",
            "/bookworm/dists/../pool/a",
            "/bookworm/pool/../../secret",
            "/bookworm/pool/%2e%2e/secret",
            "/bookworm/pool//a",
            "/bookworm/pool/a%00b",
            "/bookworm/pool/a%20b",
            "/bookworm/pool/a?b=%ff",
            "/bookworm/other/a",
            "/trixie/dists/trixie/InRelease",
        ] {
            assert!(packages.wanted(path).is_none(), "{path}");
        }
        let long = format!("/bookworm/pool/{}", "a".repeat(PATH_BYTES_MAX));
        assert!(packages.wanted(&long).is_none());
    }
}
