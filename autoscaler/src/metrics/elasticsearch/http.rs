//! Requests whose answers are read no further than a bound, however they are framed (docs/adr/0088, 0134).

use std::fmt;

use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use serde_json::Value;

use super::answer::error_reason;
use super::config::{Auth, ConnectError, ElasticsearchConfig, url};
use crate::metrics::fault::{first_words, innermost, words};

/// No answer is larger, unpacked: 10,000 series with 100 documents of 60 bytes make 60 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Of an answer that is an error only the reason is wanted.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// A client.
pub(super) struct Http {
    client: reqwest::Client,
    /// The address, which may hold a password.
    base: Url,
    auth: Auth,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

/// What is sent.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// The path's segments.
    pub(super) path: &'a [&'a str],
    /// The query's names and values.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// One JSON document, or one a line.
    pub(super) lines: &'a [Value],
}

impl Http {
    /// A client; nothing is sent yet.
    pub(super) fn new(config: &ElasticsearchConfig) -> Result<Http, ConnectError> {
        let client = reqwest::Client::builder()
            .timeout(config.timeout)
            .redirect(reqwest::redirect::Policy::none())
            .gzip(true)
            .no_proxy()
            .build()
            .map_err(ConnectError::Http)?;
        Ok(Http {
            client,
            base: url(config)?,
            auth: config.auth.clone(),
        })
    }

    /// The body of a 2xx, or what is wrong, in words without secrets.
    pub(super) async fn post(&self, request: Request<'_>) -> Result<Vec<u8>, String> {
        self.answer(request)
            .await
            .map_err(|reason| self.without_secrets(reason))
    }

    async fn answer(&self, request: Request<'_>) -> Result<Vec<u8>, String> {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(request.path);
        }
        let (media, end) = match request.lines {
            [_] => ("application/json", ""),
            _ => ("application/x-ndjson", "\n"),
        };
        let lines: Vec<String> = request.lines.iter().map(Value::to_string).collect();
        let builder = self
            .client
            .post(url)
            .query(request.query)
            .header(CONTENT_TYPE, media)
            .body(lines.join("\n") + end);
        let builder = match &self.auth {
            Auth::Anonymous => builder,
            Auth::Basic { username, password } => builder.basic_auth(username, Some(password)),
            Auth::ApiKey(key) => builder.header("authorization", format!("ApiKey {key}")),
        };
        let mut response = builder.send().await.map_err(|error| reason(&error))?;
        let status = response.status();
        let bytes_max = if status.is_success() {
            ANSWER_BYTES_MAX
        } else {
            REFUSAL_BYTES_MAX
        };
        let mut body = Vec::new();
        let mut cut_off = false;
        while let Some(chunk) = response.chunk().await.map_err(|error| reason(&error))? {
            let room = bytes_max - body.len();
            body.extend_from_slice(chunk.get(..chunk.len().min(room)).unwrap_or_default());
            cut_off = chunk.len() > room;
            if cut_off {
                break;
            }
        }
        if !status.is_success() {
            return Err(format!("HTTP {}{}", status.as_u16(), refusal(&body)));
        }
        if cut_off {
            return Err(format!("the answer has more than {ANSWER_BYTES_MAX} bytes"));
        }
        Ok(body)
    }

    /// What a server or a proxy says may repeat what it was sent.
    fn without_secrets(&self, mut text: String) -> String {
        let in_url = self.base.password().unwrap_or_default();
        let secrets = match &self.auth {
            Auth::Anonymous => [in_url, ""],
            Auth::Basic { password, .. } => [in_url, password.as_str()],
            Auth::ApiKey(key) => [in_url, key.as_str()],
        };
        for secret in secrets.into_iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "[redacted]");
        }
        text
    }
}

/// An index that documents are written into.
#[derive(Debug)]
pub struct Writer {
    http: Http,
    index: String,
}

impl Writer {
    /// For documents of this index; nothing is sent yet.
    pub fn new(config: &ElasticsearchConfig, index: &str) -> Result<Writer, ConnectError> {
        Ok(Writer {
            http: Http::new(config)?,
            index: index.to_owned(),
        })
    }

    /// Writes one document, or says why it is not written.
    pub async fn write(&self, document: Value) -> Result<(), String> {
        let request = Request {
            path: &[&self.index, "_doc"],
            query: &[],
            lines: &[document],
        };
        self.http.post(request).await.map(drop)
    }
}

/// The reason of an answer that is an error: Elasticsearch's own, or the first words of whoever answered in its place.
fn refusal(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let reason = parsed.and_then(|body| error_reason(body.get("error")?));
    reason.map_or_else(|| first_words(body), |reason| format!(": {reason}"))
}

/// The reason of an answer that is an error, though its status says that all is well: a proxy or a gateway may give each answer the
/// status 200.
pub(super) fn error_within(answer: &Value) -> Option<String> {
    let error = answer.get("error").filter(|error| !error.is_null())?;
    let reason = error_reason(error).unwrap_or_else(|| "an error without a reason".to_owned());
    Some(format!("the answer is an error: {reason}"))
}

/// That an answer is not what was asked for, with its reason or its first words.
pub(super) fn not_json(body: &[u8], error: &serde_json::Error) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    if let Some(reason) = parsed.as_ref().and_then(error_within) {
        return reason;
    }
    let looks_like_json = body.trim_ascii_start().starts_with(b"{");
    let words = if looks_like_json {
        format!(": {}", words(&error.to_string()))
    } else {
        first_words(body)
    };
    format!("the answer is not the JSON that was asked for{words}")
}

fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        "no answer in time: the request timed out".to_owned()
    } else {
        innermost(error)
    }
}
