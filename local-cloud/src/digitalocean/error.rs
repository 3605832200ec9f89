//! Errors as DigitalOcean's API writes them: `{"id", "message", "request_id"}`. The one place with error statuses.

use http::StatusCode;
use tidepool_listener::Early;

use crate::state::owner::NotKept;

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) id: &'static str,
    pub(crate) message: String,
    /// The methods that the path has, for 405.
    pub(crate) allow: Option<&'static str>,
}

impl From<NotKept> for ApiError {
    fn from(error: NotKept) -> Self {
        Self::server_error(error.to_string())
    }
}

impl ApiError {
    /// 404 of a resource.
    pub(crate) fn not_found() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "The resource you requested could not be found.",
        )
    }

    /// 404 of a droplet whose host has not ended yet.
    pub(crate) fn being_destroyed() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "not_found",
            "The Droplet is being destroyed, and no action can begin on it. Take a snapshot before you destroy a Droplet.",
        )
    }

    /// 401.
    pub(crate) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "Unable to authenticate you",
        )
    }

    /// 400: the request can't be read.
    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// 403.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 409.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    /// 405, with the methods that the path has.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let message = format!("This method is not allowed here; {allow} are.");
        let mut error = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
        error.allow = Some(allow);
        error
    }

    /// What no route is asked for: the request is not one, or is about the server as a whole.
    pub(crate) fn early(early: Early) -> Self {
        let id = match early.status() {
            StatusCode::METHOD_NOT_ALLOWED => "method_not_allowed",
            StatusCode::NOT_IMPLEMENTED => "not_implemented",
            StatusCode::INTERNAL_SERVER_ERROR => "server_error",
            StatusCode::PAYLOAD_TOO_LARGE => "payload_too_large",
            _ => "bad_request",
        };
        let mut error = Self::new(early.status(), id, early.detail());
        error.allow = early
            .has_allow()
            .then_some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        error
    }

    /// 412: something else has to be done first.
    pub(crate) fn precondition_failed(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", message)
    }

    /// 413.
    pub(crate) fn too_large(bytes_max: usize) -> Self {
        let message = format!("The body has more than {bytes_max} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", message)
    }

    /// 422: it can be read, but not done.
    pub(crate) fn unprocessable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable_entity", message)
    }

    /// 429.
    pub(crate) fn too_many_requests() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "API Rate limit exceeded.",
        )
    }

    /// 500.
    pub(crate) fn server_error(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "server_error", message)
    }

    /// The status that an armed fault asks for.
    pub(crate) fn of_fault(status: u16) -> Self {
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let id = match status {
            StatusCode::TOO_MANY_REQUESTS => "too_many_requests",
            StatusCode::UNPROCESSABLE_ENTITY => "unprocessable_entity",
            StatusCode::SERVICE_UNAVAILABLE => "service_unavailable",
            _ => "server_error",
        };
        Self::new(status, id, "Server was unable to give you a response.")
    }

    fn new(status: StatusCode, id: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            id,
            message: message.into(),
            allow: None,
        }
    }
}
