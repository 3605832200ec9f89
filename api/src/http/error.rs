//! Problems (RFC 9457), and the operations listener's refusals: the one place with error statuses.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use http::header::{self, HeaderName, HeaderValue};
use poem::Response;
use poem::error::ResponseError;
use poem::http::StatusCode;
use poem_openapi::ApiResponse;
use poem_openapi::registry::{MetaResponses, Registry};
use serde::Serialize;

use super::access::AuthProblem;
use super::request_id::RequestId;
use crate::domain::conditions::InvalidCondition;
use crate::domain::json::JsonProblem;
use crate::domain::{KEY_PREFIX, redact};
use crate::store::{StoreError, StoreErrorKind, TurnTimeout};

/// What `Retry-After` says, seconds: long enough for a busy database to breathe, short enough that clients don't wait for nothing.
const RETRY_AFTER_SECS: &str = "1";

/// From this length on the detail of a problem with a body names no further places: about a screen's width times five.
const BODY_DETAIL_BYTES: usize = 400;

/// The media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! problem_kinds {
    ($($(#[$doc:meta])* $kind:ident $slug:literal $status:ident $title:literal;)*) => {
        /// Every problem that the interface can answer with.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ProblemKind {
            $($(#[$doc])* $kind,)*
        }

        impl ProblemKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// The problem's type.
            #[must_use]
            pub const fn type_uri(self) -> &'static str {
                match self { $(Self::$kind => concat!("urn:tidepool:problem:", $slug),)* }
            }

            /// The status it is answered with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)* }
            }

            /// The same words for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)* }
            }
        }
    };
}

problem_kinds! {
    /// A query parameter or header is wrong.
    InvalidRequest "invalid-request" BAD_REQUEST "The request is not valid";
    /// The body is wrong; `errors` says where.
    InvalidBody "invalid-body" BAD_REQUEST "The body is not valid";
    /// A name or id in the path is wrong.
    InvalidId "invalid-id" BAD_REQUEST "The name or id is not valid";
    /// A page token is forged, damaged, or of another collection.
    InvalidPageToken "invalid-page-token" BAD_REQUEST "The page token is not valid";
    /// No key, or one that is not valid.
    Unauthenticated "unauthenticated" UNAUTHORIZED "A valid key is needed";
    /// The key's scopes don't suffice.
    Forbidden "forbidden" FORBIDDEN "This is not allowed";
    /// No such route.
    NotFound "not-found" NOT_FOUND "There is nothing here";
    /// No such collection.
    CollectionNotFound "collection-not-found" NOT_FOUND "There is no such collection";
    /// No such document.
    DocumentNotFound "document-not-found" NOT_FOUND "There is no such document";
    /// The route has no such method; `Allow` says which it has.
    MethodNotAllowed "method-not-allowed" METHOD_NOT_ALLOWED "The method is not allowed here";
    /// The id of a new document is taken.
    AlreadyExists "already-exists" CONFLICT "The document exists already";
    /// `If-Match` or `If-None-Match` does not hold.
    PreconditionFailed "precondition-failed" PRECONDITION_FAILED "The precondition does not hold";
    /// The body, or a patch's result, is too large.
    BodyTooLarge "body-too-large" PAYLOAD_TOO_LARGE "The body is too large";
    /// The body's type or encoding is not understood.
    UnsupportedMediaType "unsupported-media-type" UNSUPPORTED_MEDIA_TYPE "The media type is not supported";
    /// The path and query are longer than any.
    TargetTooLong "target-too-long" URI_TOO_LONG "The request target is too long";
    /// The headers are larger than allowed, or too many.
    HeadersTooLarge "headers-too-large" REQUEST_HEADER_FIELDS_TOO_LARGE "The headers are too large";
    /// A transfer coding that the server does not know.
    NotImplemented "not-implemented" NOT_IMPLEMENTED "The server does not support this";
    /// A defect of the server.
    Internal "internal" INTERNAL_SERVER_ERROR "The server failed";
    /// The database can't be reached or is too slow; nothing was written.
    StoreUnavailable "store-unavailable" SERVICE_UNAVAILABLE "The database is not available";
    /// A write may or may not have happened.
    OutcomeUnknown "outcome-unknown" SERVICE_UNAVAILABLE "The outcome of the write is unknown";
}

/// Why the operations listener refuses. It answers in plain text, which is enough for checkers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainRefusal {
    /// Not now: starting, draining, or without its store; or not yet to be stopped.
    NotReady,
    /// No such path.
    NotFound,
    /// The path has no such method.
    MethodNotAllowed,
    /// Not for this caller.
    Forbidden,
    /// A defect of the server.
    Defect,
}

impl PlainRefusal {
    /// The status it is answered with.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotReady => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::Defect => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// One problem, on its way to the client. Boxed, so that results stay small where all is well.
#[derive(Debug)]
pub struct Problem(Box<Occurrence>);

#[derive(Debug)]
struct Occurrence {
    kind: ProblemKind,
    detail: Cow<'static, str>,
    errors: Vec<JsonProblem>,
    header: Option<(HeaderName, HeaderValue)>,
    cause: Option<StoreError>,
}

#[derive(Serialize)]
struct ProblemBody<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ErrorBody<'a>>,
}

#[derive(Serialize)]
struct ErrorBody<'a> {
    pointer: &'a str,
    detail: &'a str,
}

impl Problem {
    /// A problem with words for people.
    pub fn new(kind: ProblemKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Occurrence {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            header: None,
            cause: None,
        }))
    }

    /// A body that is wrong in places. The errors name all of them, the detail as many as a person reads.
    #[must_use]
    pub fn invalid_body(errors: Vec<JsonProblem>) -> Self {
        let mut detail = String::from("the body is not valid");
        for (index, error) in errors.iter().enumerate() {
            if detail.len() >= BODY_DETAIL_BYTES {
                let _ = write!(detail, "; and {} more", errors.len() - index);
                break;
            }
            let separator = if index == 0 { ": " } else { "; " };
            // Writing to a String cannot fail.
            let _ = write!(detail, "{separator}{} {}", error.pointer, error.detail);
        }
        let mut problem = Self::new(ProblemKind::InvalidBody, detail);
        problem.0.errors = errors;
        problem
    }

    /// Adds a header that belongs to this occurrence.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.header = Some((name, HeaderValue::from_static(value)));
        self
    }

    /// Which problem it is.
    #[must_use]
    pub fn kind(&self) -> ProblemKind {
        self.0.kind
    }

    /// The response. A failure of the server's own is logged here, once, with its causes.
    #[must_use]
    pub fn respond(mut self, request_id: &RequestId) -> Response {
        self.log(request_id);
        // Where a key was sent in place of a name, neither the answer nor whoever logs it shows it.
        if self.0.detail.contains(KEY_PREFIX) {
            self.0.detail = redact(&self.0.detail).into();
        }
        for error in &mut self.0.errors {
            if error.pointer.contains(KEY_PREFIX) {
                error.pointer = redact(&error.pointer);
            }
        }
        let status = self.0.kind.status();
        let errors = self.0.errors.iter();
        let body = ProblemBody {
            r#type: self.0.kind.type_uri(),
            title: self.0.kind.title(),
            status: status.as_u16(),
            detail: &self.0.detail,
            request_id: request_id.as_str(),
            errors: errors
                .map(|error| ErrorBody {
                    pointer: &error.pointer,
                    detail: &error.detail,
                })
                .collect(),
        };
        // A struct of strings and a number always serializes.
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = Response::builder().status(status).body(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        match self.0.kind {
            ProblemKind::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            ProblemKind::StoreUnavailable => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECS));
            }
            _ => {}
        }
        if let Some((name, value)) = self.0.header {
            headers.insert(name, value);
        }
        response
    }

    fn log(&self, request_id: &RequestId) {
        let Some(cause) = &self.0.cause else {
            return;
        };
        let chain = redact(&tidepool_logging::chain(cause));
        let request_id = request_id.as_str();
        match cause.kind {
            StoreErrorKind::Internal => tracing::error!(request_id, "{chain}"),
            StoreErrorKind::Unavailable | StoreErrorKind::UnknownOutcome => {
                tracing::warn!(request_id, "{chain}");
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.kind.title(), self.0.detail)
    }
}

impl std::error::Error for Problem {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.cause.as_ref().map(|cause| cause as _)
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.0.kind.status()
    }
}

/// Each operation's problems are written into the OpenAPI document by `openapi.rs`.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: Vec::new(),
        }
    }

    fn register(_registry: &mut Registry) {}
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let (kind, detail) = match error.kind {
            StoreErrorKind::Unavailable => (
                ProblemKind::StoreUnavailable,
                "the database could not be reached in time; nothing was written",
            ),
            StoreErrorKind::UnknownOutcome => (
                ProblemKind::OutcomeUnknown,
                "the write may or may not have happened; read the document to find out",
            ),
            StoreErrorKind::Internal => (ProblemKind::Internal, "the server failed; its log says more"),
        };
        let mut problem = Self::new(kind, detail);
        problem.0.cause = Some(error);
        problem
    }
}

impl From<TurnTimeout> for Problem {
    fn from(_: TurnTimeout) -> Self {
        Self::new(
            ProblemKind::StoreUnavailable,
            "too many large requests are under way; nothing was done",
        )
    }
}

impl From<AuthProblem> for Problem {
    fn from(problem: AuthProblem) -> Self {
        Self::new(ProblemKind::Unauthenticated, problem.to_string())
    }
}

impl From<(&'static str, InvalidCondition)> for Problem {
    fn from((field, problem): (&'static str, InvalidCondition)) -> Self {
        Self::new(ProblemKind::InvalidRequest, format!("{field} {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_problem_has_every_member_and_its_headers() {
        let id = RequestId::new(|| 7);
        let problem = Problem::invalid_body(vec![JsonProblem::new("#/data", "is required")]);
        let response = problem.respond(&id);
        assert_eq!(response.status(), StatusCode::BAD_REQUEST);
        assert_eq!(response.content_type(), Some(PROBLEM_JSON));
        let body: serde_json::Value = response.into_body().into_json().await.unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:tidepool:problem:invalid-body",
                "title": "The body is not valid",
                "status": 400,
                "detail": "the body is not valid: #/data is required",
                "request_id": "00000000000000070000000000000007",
                "errors": [{"pointer": "#/data", "detail": "is required"}],
            })
        );
    }

    #[test]
    fn store_errors_are_reported_by_kind_and_with_retry_after() {
        for (kind, expected, retry) in [
            (
                StoreErrorKind::Unavailable,
                ProblemKind::StoreUnavailable,
                Some("1"),
            ),
            (StoreErrorKind::UnknownOutcome, ProblemKind::OutcomeUnknown, None),
            (StoreErrorKind::Internal, ProblemKind::Internal, None),
        ] {
            let problem = Problem::from(StoreError {
                kind,
                operation: "document_put",
                subject: "a".into(),
                source: None,
            });
            assert_eq!(problem.kind(), expected);
            let response = problem.respond(&RequestId::new(|| 7));
            assert_eq!(response.status(), expected.status());
            assert_eq!(response.header("retry-after"), retry);
        }
    }

    #[test]
    fn types_are_unique() {
        let types: std::collections::HashSet<_> =
            ProblemKind::ALL.iter().map(|kind| kind.type_uri()).collect();
        assert_eq!(types.len(), ProblemKind::ALL.len());
    }

    /// Invariant 8.
    #[test]
    fn no_other_file_names_an_error_status() {
        const ERRORS: [&str; 8] = [
            "BAD_",
            "UNAUTH",
            "FORBIDDEN",
            "NOT_",
            "METHOD_",
            "INTERNAL_",
            "SERVICE_",
            "CONFLICT",
        ];
        let mut folders = vec![std::path::PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/src"
        ))];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                files += 1;
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]").next().unwrap();
                for status in code.split("StatusCode::").skip(1) {
                    let error = ERRORS.iter().any(|error| status.starts_with(error));
                    let allowed = path.ends_with("http/error.rs") || status.starts_with("NOT_MODIFIED");
                    assert!(!error || allowed, "{}: {}", path.display(), &status[..20]);
                }
            }
        }
        assert!(files > 40, "only {files} files were found");
    }
}
