//! A server, and a client that checks on every answer what the contract promises for every answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tidepool_api::config::Limits;
use tidepool_api::domain::Timestamp;
use tidepool_api::http::error::ProblemKind;
use tidepool_api::http::{AppState, HeldBytes, HeldLimits, routes};
use tidepool_api::keys::{KeyFreshness, LoadedKeys};
use tidepool_api::lifecycle::{Lifecycle, Stage};
use tidepool_api::metrics::Metrics;
use tidepool_api::public::{PublicService, PublicServiceParts};
use tidepool_api::run::{nonce, now, wall_clock};
use tidepool_api::store::{self, CollectionCatalog, KeyRecord, LargeWork, OpenOptions};
use tidepool_listener::{BoundSocket, Server, TrustedHosts};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// No test waits longer than this for anything.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The defaults of the program.
const HELD: HeldLimits = HeldLimits {
    body_bytes_max: 128 * 1024 * 1024,
    answer_bytes_max: 128 * 1024 * 1024,
};

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

/// A running server. Its tasks end with the test's runtime.
pub(crate) struct Api {
    pub(crate) address: SocketAddr,
    client: reqwest::Client,
    folder: Arc<TempDir>,
    key: Option<String>,
}

impl Api {
    /// A server on a new database, without keys.
    pub(crate) async fn start() -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), &[]).await
    }

    /// The same, with a collection `c`.
    pub(crate) async fn with_collection() -> Self {
        let api = Self::start().await;
        api.put("/v1/collections/c", "{}").await.expect_status(201);
        api
    }

    /// A server with keys, each the text of its name (`tp_` and it) with its scopes.
    pub(crate) async fn with_keys(keys: &[(&str, &[&str])]) -> Self {
        Self::start_in(Arc::new(TempDir::new().unwrap()), keys).await
    }

    /// A second instance on the same database.
    pub(crate) async fn another(&self) -> Self {
        Self::start_in(Arc::clone(&self.folder), &[]).await
    }

    async fn start_in(folder: Arc<TempDir>, keys: &[(&str, &[&str])]) -> Self {
        let url = format!("sqlite:{}", folder.path().join("db").display());
        let store = store::open(&url.parse().unwrap(), OpenOptions::default())
            .await
            .unwrap();
        for (name, scopes) in keys {
            let record = KeyRecord {
                name: (*name).to_owned(),
                hash: Sha256::digest(format!("tp_{name}")).into(),
                scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
                created_at: Timestamp(0),
                expires_at: name.starts_with("expired").then_some(Timestamp(1)),
            };
            store.key_create(&record).await.unwrap();
        }
        let state = AppState {
            catalog: CollectionCatalog::new(Arc::clone(&store)),
            access: LoadedKeys::load(&*store, now).await.unwrap().access,
            cluster_secret: store.cluster_secret().await.unwrap(),
            clock: now,
            nonce,
            held: HeldBytes::new(HELD),
            large: LargeWork::default(),
            store,
        };
        let access = Arc::clone(&state.access);
        let limits = Limits {
            connections: tidepool_listener::Limits {
                connections_max: 100,
                header_timeout: DEADLINE,
                body_timeout: DEADLINE,
                idle_timeout: DEADLINE,
                header_bytes_max: 64 * 1024,
            },
            reads_in_flight_max: 100,
            writes_in_flight_max: 100,
        };
        let lifecycle = Arc::new(Lifecycle::default());
        let metrics = Arc::new(Metrics::new().unwrap());
        let service = Arc::new(PublicService::new(PublicServiceParts {
            endpoint: routes(Arc::new(state)),
            metrics: Arc::clone(&metrics),
            lifecycle: Arc::clone(&lifecycle),
            freshness: Arc::new(KeyFreshness::default()),
            limits,
            access,
            trusted: TrustedHosts::default(),
            nonce,
        }));
        let socket = BoundSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.address();
        let server = Server {
            name: "public",
            limits: limits.connections,
            rooms: tidepool_listener::Rooms::default(),
            stages: lifecycle.stages(),
            metrics: Some(metrics),
            tls: None,
            clock: wall_clock(),
        };
        let listener = socket.listen().unwrap();
        lifecycle.advance(Stage::Serving);
        tokio::spawn(server.run(listener, service));
        Self {
            address,
            client: reqwest::Client::builder().timeout(DEADLINE).build().unwrap(),
            folder,
            key: None,
        }
    }

    /// The same server, spoken to with a key.
    pub(crate) fn as_key(&self, name: &str) -> Self {
        Self {
            address: self.address,
            client: self.client.clone(),
            folder: Arc::clone(&self.folder),
            key: Some(format!("tp_{name}")),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], None).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], None).await
    }

    pub(crate) async fn put(&self, path: &str, body: impl Into<String>) -> Answer {
        self.send("PUT", path, &[("content-type", JSON)], Some(body.into()))
            .await
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<String>) -> Answer {
        self.send("POST", path, &[("content-type", JSON)], Some(body.into()))
            .await
    }

    pub(crate) async fn patch(&self, path: &str, body: impl Into<String>) -> Answer {
        self.send("PATCH", path, &[("content-type", MERGE_PATCH)], Some(body.into()))
            .await
    }

    /// A request with headers, one of them possibly several times.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Answer {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = self
            .client
            .request(method, format!("http://{}{path}", self.address));
        if let Some(key) = &self.key {
            request = request.bearer_auth(key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.bytes().await.unwrap().to_vec();
        Answer {
            status,
            headers,
            body,
        }
        .checked()
    }

    /// Bytes to the server as they are; what it answers until it closes the connection. Says `Connection: close` itself
    /// or speaks HTTP/1.0.
    pub(crate) async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_ref()).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer))
            .await
            .expect("an answer in time")
            .unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The status of a request whose path no client library would send as it is.
    pub(crate) async fn raw_status(&self, method: &str, path: &str) -> u16 {
        let answer = self
            .raw(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            ))
            .await;
        status_of(&answer)
    }
}

pub(crate) fn status_of(raw_answer: &str) -> u16 {
    raw_answer.split(' ').nth(1).expect(raw_answer).parse().unwrap()
}

/// An answer of which everything was checked that holds for all.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    fn checked(self) -> Self {
        let request_id = self.header("x-request-id").expect("a request id").to_owned();
        assert_eq!(request_id.len(), 32, "{self:?}");
        assert_eq!(self.header("x-content-type-options"), Some("nosniff"), "{self:?}");
        assert_eq!(self.header("access-control-allow-origin"), None, "{self:?}");
        if self.status >= 400 && !self.body.is_empty() {
            assert_eq!(
                self.header("content-type"),
                Some("application/problem+json"),
                "{self:?}"
            );
            let problem = self.json();
            assert_eq!(problem["request_id"], request_id);
            assert_eq!(problem["status"], self.status);
            assert!(
                problem["title"].is_string() && problem["detail"].is_string(),
                "{problem}"
            );
            let kind = ProblemKind::ALL
                .iter()
                .find(|kind| problem["type"] == kind.type_uri());
            assert_eq!(
                kind.expect("a type of the contract").status().as_u16(),
                self.status
            );
        }
        self
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn etag(&self) -> String {
        self.header("etag").expect("an ETag").to_owned()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }

    /// A problem of a type, given by its slug.
    #[track_caller]
    pub(crate) fn expect_problem(self, status: u16, slug: &str) -> Self {
        let answer = self.expect_status(status);
        assert_eq!(
            answer.json()["type"],
            format!("urn:tidepool:problem:{slug}"),
            "{}",
            answer.text()
        );
        answer
    }

    /// The pointers of a problem's errors.
    pub(crate) fn pointers(&self) -> Vec<String> {
        let problem = self.json();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors
            .iter()
            .map(|error| {
                assert!(error["detail"].is_string(), "{problem}");
                error["pointer"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}
