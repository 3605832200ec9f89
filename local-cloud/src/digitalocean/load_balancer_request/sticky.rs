//! Sticky sessions of a load balancer's body.

use serde_json::{Map, Value};

use crate::digitalocean::call::{NumberBounds, Result, number_of, text_of};
use crate::digitalocean::error::ApiError;
use crate::digitalocean::records::load_balancer::StickySessions;

/// Longest name of a cookie: far more than any that is in use.
const COOKIE_NAME_MAX: usize = 255;
/// How long a client may keep it: DigitalOcean documents no longest time, so a year.
const COOKIE_TTL_SECS: NumberBounds = NumberBounds {
    from: 1,
    to: 365 * 86_400,
    default: 0,
};

/// With the type `cookies` a name and a time are needed; with none, neither may be there.
pub(super) fn sticky_sessions(object: Option<&Map<String, Value>>) -> Result<Option<StickySessions>> {
    let Some(object) = object else { return Ok(None) };
    let name = text_of(object, "cookie_name")?;
    let ttl = number_of(object, "cookie_ttl_seconds", COOKIE_TTL_SECS)?;
    match (text_of(object, "type")?, name, ttl) {
        (None | Some("none"), None, 0) => Ok(None),
        (None | Some("none"), _, _) => Err(ApiError::unprocessable(
            "sticky_sessions: cookie_name and cookie_ttl_seconds need the type cookies",
        )),
        (Some("cookies"), Some(name), 1..) if is_token(name) => Ok(Some(StickySessions {
            cookie_name: name.to_owned(),
            cookie_ttl_secs: ttl,
        })),
        (Some("cookies"), _, _) => Err(ApiError::unprocessable(
            "sticky_sessions: the type cookies needs a cookie_name of letters, digits and -_.!#$%&'*+^`|~, and \
             cookie_ttl_seconds",
        )),
        (Some(_), _, _) => Err(ApiError::unprocessable(
            "sticky_sessions.type must be cookies or none",
        )),
    }
}

/// A cookie's name is a token (RFC 6265, 4.1.1; RFC 9110, 5.6.2).
fn is_token(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&byte);
    name.len() <= COOKIE_NAME_MAX && name.bytes().all(is_allowed)
}
