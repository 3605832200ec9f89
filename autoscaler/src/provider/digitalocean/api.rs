//! One account at DigitalOcean: authenticated calls, bounded in time and size, within the rate limits, and what a failure
//! means. The only place with DigitalOcean's status codes.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use tidepool_autoscaler_core::observe::UnixMillis;

use super::budget::{Budget, LimitHeaders};
use super::refusal::{self, Words, one_line};
use super::tags::Spellings;
use crate::provider::{ProviderError, ProviderErrorKind};

/// Where the API is, unless the configuration says otherwise.
pub const BASE_URL_DEFAULT: &str = "https://api.digitalocean.com";

/// A call takes at most so long, its body included: DigitalOcean answers a create within about two seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer is at most so large: a page holds 200 droplets of about 5 KiB each, which makes 1 MiB.
const BODY_BYTES_MAX: usize = 8 << 20;
/// A GET is tried so often: 3 calls of 15 s and pauses of 0.2 s and 0.4 s end within 46 s.
const READ_ATTEMPTS: u32 = 3;
const READ_PAUSE: Duration = Duration::from_millis(200);
/// The provider's words are cut here in messages.
const DETAIL_CHARS_MAX: usize = 500;
/// An id of a request is a UUID; what is longer is cut.
const REQUEST_ID_CHARS_MAX: usize = 100;

/// What is at least so long is taken out of messages; DigitalOcean's tokens have 71 characters.
const TOKEN_CHARS_SECRET: usize = 8;

/// Tells the time; `main` makes the real one, tests their own.
pub type Clock = Arc<dyn Fn() -> UnixMillis + Send + Sync>;

/// A token of DigitalOcean's API. It is never printed.
#[derive(Clone)]
pub struct ApiToken(HeaderValue);

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why an account can't be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The token can't be sent in a header.
    #[error("the token is empty or has characters other than visible ASCII")]
    Token,
    /// The address can't be used. It isn't shown: one with a name and a password in it would show them.
    #[error("base_url is not an http or https address without a user name and password")]
    BaseUrl,
    /// The HTTP client could not be made (TLS roots, for one).
    #[error("the HTTP client can't be made")]
    Client(#[source] reqwest::Error),
}

impl ApiToken {
    /// A token as it stands in a file or the environment; space around it is taken off.
    pub fn new(text: &str) -> Result<Self, AccountError> {
        let text = text.trim();
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(AccountError::Token);
        }
        let mut value = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| AccountError::Token)?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl ApiToken {
    fn secret(&self) -> Option<&str> {
        let text = self.0.to_str().ok()?;
        let token = text.strip_prefix("Bearer ").unwrap_or(text);
        // A token of a few letters, as in trials, is a part of many words.
        (token.len() >= TOKEN_CHARS_SECRET).then_some(token)
    }

    /// An answer without the token in it: it may repeat what it was asked with.
    fn out_of(&self, body: &Bytes) -> Bytes {
        let text = String::from_utf8_lossy(body);
        match self.secret() {
            Some(token) if text.contains(token) => Bytes::from(text.replace(token, "[redacted]")),
            Some(_) | None => body.clone(),
        }
    }

    /// An error without the token in it.
    fn taken_out(&self, mut error: ProviderError) -> ProviderError {
        if let Some(token) = self.secret()
            && error.detail.contains(token)
        {
            error.detail = error.detail.replace(token, "[redacted]");
        }
        error
    }
}

/// One account at DigitalOcean; every pool of the same token shares it, for the budget's sake.
pub struct Account {
    http: reqwest::Client,
    base: Url,
    token: ApiToken,
    clock: Clock,
    call_timeout: Duration,
    budget: Mutex<Budget>,
    /// By how many milliseconds the provider's clock is ahead of ours, by its last answer that told the time.
    ahead_millis: Mutex<Option<i64>>,
    spellings: Mutex<Spellings>,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("base", &self.base.as_str())
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}

/// One call: what is sent, and what messages call it.
pub(super) struct Call<'a> {
    /// The port's method, for messages.
    pub(super) operation: &'static str,
    /// Which member or pool, for messages.
    pub(super) subject: &'a str,
    pub(super) method: Method,
    /// Path and query below the base address.
    pub(super) path: &'a str,
    pub(super) body: Option<serde_json::Value>,
}

impl Account {
    /// An account at `base_url` (`None`: DigitalOcean itself).
    pub fn new(base_url: Option<&str>, token: ApiToken, clock: Clock) -> Result<Self, AccountError> {
        let text = base_url.unwrap_or(BASE_URL_DEFAULT);
        let base = base_url_of(text).ok_or(AccountError::BaseUrl)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("tidepool-autoscaler/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            // The token goes to the configured address, and nowhere else.
            .redirect(reqwest::redirect::Policy::none());
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(AccountError::Client)?;
        Ok(Self {
            http,
            base,
            token,
            clock,
            call_timeout: CALL_TIMEOUT,
            budget: Mutex::default(),
            ahead_millis: Mutex::default(),
            spellings: Mutex::default(),
        })
    }

    /// Gives a call another time than 15 s, its body included. (DigitalOcean answers a create within about two.)
    #[must_use]
    pub fn with_call_timeout(mut self, timeout: Duration) -> Self {
        self.call_timeout = timeout;
        self
    }

    /// The time, by the clock that the account was given.
    pub(super) fn now(&self) -> UnixMillis {
        (self.clock)()
    }

    /// By how many milliseconds the provider's clock is ahead of ours; `None` while it has not given the time.
    pub(super) fn ahead_millis(&self) -> Option<i64> {
        *self.ahead_millis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A time of ours by the provider's clock; `None` while it has not given the time.
    pub(super) fn by_their_clock(&self, at: UnixMillis) -> Option<UnixMillis> {
        let ahead = self.ahead_millis();
        ahead.map(|ahead| UnixMillis(at.0.saturating_add(ahead)))
    }

    fn learn_clock(&self, headers: &HeaderMap) {
        let date =
            text_header(headers, "date").and_then(|date| DateTimeParser::new().parse_timestamp(date).ok());
        if let Some(date) = date {
            let ahead = date.as_millisecond().saturating_sub(self.now().0);
            *self.ahead_millis.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        }
    }

    /// Makes one call and gives the body of a 2xx. A GET is tried again a few times when nothing but time was lost; any
    /// other call is sent once.
    pub(super) async fn call(&self, call: &Call<'_>) -> Result<Bytes, ProviderError> {
        self.tried(call)
            .await
            .map_err(|error| self.token.taken_out(error))
    }

    /// The account's spellings of tags.
    pub(super) fn spellings<T>(&self, ask: impl FnOnce(&mut Spellings) -> T) -> T {
        ask(&mut self.spellings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn tried(&self, call: &Call<'_>) -> Result<Bytes, ProviderError> {
        let attempts = if call.method == Method::GET {
            READ_ATTEMPTS
        } else {
            1
        };
        let mut pause = READ_PAUSE;
        for _ in 1..attempts {
            match self.attempt(call).await {
                Err(error) if error.kind == ProviderErrorKind::Transient => {
                    tracing::debug!(%error, "reading again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                settled => return settled,
            }
        }
        self.attempt(call).await
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Bytes, ProviderError> {
        if let Err(retry_after_secs) = self.budget(|budget, now| budget.take(now)) {
            let kind = ProviderErrorKind::RateLimited { retry_after_secs };
            let why = self.budget(|budget, _| budget.closed_by().map(str::to_owned));
            let why = why.unwrap_or_else(|| "the call budget is used up".to_owned());
            return Err(call.error(kind, format!("{why}; nothing was sent")));
        }
        // A path of the base address is kept: `Url::join` would take it away.
        let below = format!("{}{}", self.base.as_str().trim_end_matches('/'), call.path);
        let url = Url::parse(&below).map_err(|error| {
            call.error(
                ProviderErrorKind::Invalid,
                format!("{:?} is not a path: {error}", call.path),
            )
        })?;
        let mut request = self
            .http
            .request(call.method.clone(), url)
            .timeout(self.call_timeout)
            .header(reqwest::header::AUTHORIZATION, self.token.0.clone());
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| call.lost(error))?;
        let (status, headers) = (response.status(), response.headers().clone());
        self.learn_clock(&headers);
        let now = self.now();
        let limits = limit_headers(status, &headers, self.by_their_clock(now).unwrap_or(now));
        let wait_secs = self.budget(|budget, now| budget.learn(now, limits));
        let refused = match read_body(response).await {
            Ok(body) if status.is_success() => return Ok(body),
            Ok(body) => call.refused(status, &headers, &self.token.out_of(&body), wait_secs),
            // A refusal whose words are cut short is a refusal all the same.
            Err(_) if !status.is_success() => call.refused(status, &headers, &[], wait_secs),
            Err(BodyError::TooLarge) => {
                let detail = format!("the answer is larger than {BODY_BYTES_MAX} bytes");
                return Err(call.error(call.kind_when_lost(), detail));
            }
            Err(BodyError::Broken(error)) => return Err(call.lost(error)),
        };
        if limits.limited {
            // The calls that are not sent now are not sent for this reason.
            self.budget(|budget, _| budget.close_for_words(&refused.detail));
        }
        Err(refused)
    }

    fn budget<T>(&self, ask: impl FnOnce(&mut Budget, UnixMillis) -> T) -> T {
        let now = self.now();
        ask(
            &mut self.budget.lock().unwrap_or_else(PoisonError::into_inner),
            now,
        )
    }
}

impl Call<'_> {
    /// A failure of this call.
    pub(super) fn error(&self, kind: ProviderErrorKind, detail: String) -> ProviderError {
        ProviderError {
            kind,
            operation: self.operation,
            subject: self.subject.to_owned(),
            detail,
            source: None,
        }
    }

    /// What it means when the answer to this call can't be had: a read may be done again, anything else may have happened.
    pub(super) fn kind_when_lost(&self) -> ProviderErrorKind {
        if self.method == Method::GET {
            ProviderErrorKind::Transient
        } else {
            ProviderErrorKind::UnknownOutcome
        }
    }

    fn lost(&self, error: reqwest::Error) -> ProviderError {
        let kind = if error.is_builder() {
            ProviderErrorKind::Invalid
        } else if error.is_connect() {
            // No connection, so nothing was sent.
            ProviderErrorKind::Transient
        } else {
            self.kind_when_lost()
        };
        let detail = if error.is_timeout() {
            "no answer in time"
        } else if error.is_connect() {
            "no connection"
        } else {
            "the connection broke before the whole answer had come"
        };
        ProviderError {
            source: Some(Box::new(error.without_url())),
            ..self.error(kind, detail.to_owned())
        }
    }

    fn refused(&self, status: StatusCode, headers: &HeaderMap, body: &[u8], wait_secs: u64) -> ProviderError {
        let Words {
            text,
            request_id,
            says_not_found,
        } = refusal::words(body);
        let request_id = request_id.or_else(|| text_header(headers, "x-request-id").map(str::to_owned));
        let mut detail = status.as_u16().to_string();
        if !text.is_empty() {
            detail.push(' ');
            detail.push_str(&one_line(&text, DETAIL_CHARS_MAX));
        }
        if let Some(id) = request_id {
            detail.push_str(" (request ");
            detail.push_str(&one_line(&id, REQUEST_ID_CHARS_MAX));
            detail.push(')');
        }
        let kind = match self.kind_of_refusal(status, &text, wait_secs) {
            // A 404 of something in between says nothing about whether the thing is there.
            ProviderErrorKind::NotFound if !says_not_found => self.kind_when_lost(),
            kind => kind,
        };
        self.error(kind, detail)
    }

    fn kind_of_refusal(&self, status: StatusCode, words: &str, wait_secs: u64) -> ProviderErrorKind {
        let words = words.to_ascii_lowercase();
        let quota = words.contains("limit") && (words.contains("exceed") || words.contains("reach"));
        match status.as_u16() {
            429 => ProviderErrorKind::RateLimited {
                retry_after_secs: wait_secs,
            },
            403 | 422 if quota => ProviderErrorKind::QuotaReached,
            401 | 403 => ProviderErrorKind::Denied,
            404 => ProviderErrorKind::NotFound,
            // Another action of the same droplet is under way; the next tick may ask again.
            422 if words.contains("pending") => ProviderErrorKind::Transient,
            409 => ProviderErrorKind::Transient,
            408 | 500..=599 => self.kind_when_lost(),
            _ => ProviderErrorKind::Invalid,
        }
    }
}

enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

async fn read_body(mut response: reqwest::Response) -> Result<Bytes, BodyError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + chunk.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

/// What an answer says about limits. Its times are compared with `their_now`, the provider's own.
fn limit_headers(status: StatusCode, headers: &HeaderMap, their_now: UnixMillis) -> LimitHeaders {
    let text = |name| text_header(headers, name).map(str::trim);
    let number = |name| text(name).and_then(|text| text.parse::<u64>().ok());
    let secs_until = |at_secs: i64| u64::try_from(at_secs.saturating_sub(their_now.0.div_euclid(1000))).ok();
    // RFC 9110, 10.2.3: seconds, or a date.
    let date = text("retry-after").and_then(|text| DateTimeParser::new().parse_timestamp(text).ok());
    let until_date = date.map(|date| secs_until(date.as_second()).unwrap_or_default());
    LimitHeaders {
        limited: status == StatusCode::TOO_MANY_REQUESTS,
        retry_after_secs: number("retry-after").or(until_date),
        remaining: number("ratelimit-remaining"),
        reset_in_secs: number("ratelimit-reset").and_then(|at| secs_until(i64::try_from(at).ok()?)),
    }
}

fn text_header<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether the token would cross a network unencrypted to an account at this address; `None` if none can be there.
pub fn in_clear(text: &str) -> Option<bool> {
    let url = base_url_of(text)?;
    Some(url.scheme() == "http" && !is_loopback(&url))
}

fn base_url_of(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .filter(|url| url.username().is_empty() && url.password().is_none())
        .filter(|url| url.query().is_none() && url.fragment().is_none())
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed() {
        let token = ApiToken::new(" dop_v1_0123456789abcdef\n").unwrap();
        assert_eq!(format!("{token:?}"), "[redacted]");
        let account = Account::new(None, token, Arc::new(|| UnixMillis(0))).unwrap();
        let printed = format!("{account:?}");
        assert!(
            printed.contains("[redacted]") && !printed.contains("dop_v1"),
            "{printed}"
        );
    }

    #[test]
    fn a_token_that_no_header_can_carry_is_refused() {
        for bad in ["", "  \n", "two words", "tab\tbed", "é"] {
            assert!(matches!(ApiToken::new(bad), Err(AccountError::Token)), "{bad:?}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_refused() {
        for bad in [
            "",
            "api.digitalocean.com",
            "ftp://api.digitalocean.com",
            "http://",
            "https://user:pass@api.digitalocean.com",
            "https://user@api.digitalocean.com",
        ] {
            let made = Account::new(Some(bad), ApiToken::new("t").unwrap(), Arc::new(|| UnixMillis(0)));
            assert!(matches!(made, Err(AccountError::BaseUrl)), "{bad:?}");
        }
    }
}
