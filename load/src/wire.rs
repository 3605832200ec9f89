//! One request over HTTP: sending it, and telling a right answer from a wrong one.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, RequestBuilder, Url};
use serde_json::Value;

use super::LoadError;

/// Connections that are idle longer are closed by us, before the balancer does (a request that meets a closing
/// connection would count as broken).
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(10);
/// The balancer is on this machine or in the next rack: a connection stands at once or never.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// The header in which a balancer may name the droplet that broke off.
const MEMBER_HEADER: &str = "x-lb-member";
/// How much of an answer's text goes into a message.
const SHOWN_CHARS_MAX: usize = 200;

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) problem: bool,
    pub(crate) member: Option<String>,
    pub(crate) body: Vec<u8>,
}

/// No complete answer came back.
#[derive(Debug)]
pub(crate) enum NoAnswer {
    /// The connection could not be made or broke.
    Broken(String),
    /// Patience ran out.
    TimedOut,
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("its body is not JSON: {error}"))
    }

    /// Status and the beginning of the body, for people.
    pub(crate) fn shown(&self) -> String {
        let text: String = String::from_utf8_lossy(&self.body)
            .chars()
            .take(SHOWN_CHARS_MAX)
            .collect();
        format!("status {} {text}", self.status)
    }
}

/// Builds and sends requests to one collection.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    client: Client,
    collection: Url,
    key: Option<String>,
}

impl Wire {
    /// `target` is the balancer's base address, such as `http://127.0.0.1:8080`.
    pub(crate) fn new(target: &str, collection: &str, key: Option<String>) -> Result<Self, LoadError> {
        let bad = |reason: String| LoadError::Target {
            target: target.to_owned(),
            reason,
        };
        let mut url = Url::parse(target).map_err(|error| bad(error.to_string()))?;
        url.path_segments_mut()
            .map_err(|()| bad("it can't have a path".into()))?
            .pop_if_empty()
            .extend(["v1", "collections", collection]);
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .pool_idle_timeout(IDLE_CONNECTION_MAX)
            .connect_timeout(CONNECT_MAX)
            .build()
            .map_err(|source| LoadError::Client { source })?;
        Ok(Self {
            client,
            collection: url,
            key,
        })
    }

    pub(crate) fn put_collection(&self) -> RequestBuilder {
        self.request(Method::PUT, self.collection.clone())
            .json(&Value::Object(serde_json::Map::new()))
    }

    pub(crate) fn get(&self, id: &str) -> RequestBuilder {
        self.request(Method::GET, self.document(Some(id)))
    }

    pub(crate) fn put(&self, id: &str, body: &Value) -> RequestBuilder {
        self.request(Method::PUT, self.document(Some(id))).json(body)
    }

    pub(crate) fn post(&self, body: &Value) -> RequestBuilder {
        self.request(Method::POST, self.document(None)).json(body)
    }

    pub(crate) fn list(&self, limit: usize, page_token: Option<&str>) -> RequestBuilder {
        let mut url = self.document(None);
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(token) = page_token {
            url.query_pairs_mut().append_pair("page_token", token);
        }
        self.request(Method::GET, url)
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        let request = self.client.request(method, url);
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }

    fn document(&self, id: Option<&str>) -> Url {
        let mut url = self.collection.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push("documents").extend(id);
        }
        url
    }
}

/// Sends a request and reads its whole answer within `patience`.
pub(crate) async fn exchange(request: RequestBuilder, patience: Duration) -> Result<Answer, NoAnswer> {
    let exchange = async {
        let response = request.send().await?;
        let status = response.status().as_u16();
        let header = |name: &str| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let problem =
            header(CONTENT_TYPE.as_str()).is_some_and(|value| value.starts_with("application/problem+json"));
        let member = header(MEMBER_HEADER);
        let body = response.bytes().await?.to_vec();
        Ok::<_, reqwest::Error>(Answer {
            status,
            problem,
            member,
            body,
        })
    };
    match tokio::time::timeout(patience, exchange).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if error.is_timeout() => Err(NoAnswer::TimedOut),
        Ok(Err(error)) => Err(NoAnswer::Broken(root_cause(&error))),
        Err(_) => Err(NoAnswer::TimedOut),
    }
}

/// The innermost cause; the layers above only say that a request failed.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
