//! What things may be called, as DigitalOcean's API document says; the same at a create and at a rename.

use super::call::Result;
use super::error::ApiError;

/// Longest name of a droplet or load balancer, and longest description of a network.
const TEXT_MAX: usize = 255;
/// Longest name of the DNS without the last dot, and longest part of one (RFC 1035, section 2.3.4; 255 bytes with lengths and the
/// root are 253 characters).
pub(super) const DNS_NAME_MAX: usize = 253;
pub(super) const DNS_LABEL_MAX: usize = 63;

/// A droplet's name is a host's name: `^[a-zA-Z0-9]?[a-z0-9A-Z.\\-]*[a-z0-9A-Z]$`.
///
/// # Errors
/// 422 with the real one's words.
pub(crate) fn check_droplet(name: &str) -> Result<()> {
    let ends_well = name
        .bytes()
        .next_back()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    if is_host_text(name) && ends_well && name.len() <= TEXT_MAX {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "Only valid hostname characters are allowed. (a-z, A-Z, 0-9, . and -) A name ends in a letter or a number, and has \
         at most 255 characters.",
    ))
}

/// A network's name: `^[a-zA-Z0-9\\-\\.]+$`.
///
/// # Errors
/// 422.
pub(crate) fn check_vpc(name: &str) -> Result<()> {
    check_plain("VPC", name)
}

/// A load balancer's name: letters, numbers, dashes and periods.
///
/// # Errors
/// 422.
pub(crate) fn check_balancer(name: &str) -> Result<()> {
    check_plain("load balancer", name)
}

/// A certificate's name: DigitalOcean documents no rule, so any text that fits a line.
///
/// # Errors
/// 422.
pub(crate) fn check_certificate(name: &str) -> Result<()> {
    if name.chars().count() <= TEXT_MAX && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "name must have at most {TEXT_MAX} characters, none of them a control character"
    )))
}

/// A name of the DNS, perhaps with `*` as its first label (RFC 1035, 2.3.4; RFC 6125, 6.4.3).
///
/// # Errors
/// 422.
pub(crate) fn check_dns_name(name: &str) -> Result<()> {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    if name.len() <= DNS_NAME_MAX && is_domain(rest) {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!("`{name}` is not a domain name")))
}

/// The name of a domain, before which there is room for the mailbox of its start of authority.
///
/// # Errors
/// 422.
pub(crate) fn check_domain(name: &str) -> Result<()> {
    if name.len() <= DNS_NAME_MAX - "hostmaster.".len() && is_domain(name) {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "name is not a domain's name: letters, numbers and dashes, with a dot between its parts and none at the end",
    ))
}

/// Names of hosts with at least one dot (RFC 1035, 2.3.1; RFC 1123, 2.1); an address is none.
fn is_domain(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=DNS_LABEL_MAX).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let is_address = name.parse::<std::net::Ipv4Addr>().is_ok();
    name.contains('.') && name.split('.').all(is_label) && !is_address
}

/// A description of a network.
///
/// # Errors
/// 422.
pub(crate) fn check_description(text: &str) -> Result<()> {
    if text.chars().count() <= TEXT_MAX {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "description must have at most {TEXT_MAX} characters"
    )))
}

/// A firewall's name: `^[a-zA-Z0-9][a-zA-Z0-9\\.-]+$`.
///
/// # Errors
/// 422.
pub(crate) fn check_firewall(name: &str) -> Result<()> {
    check_plain("firewall", name)?;
    if name.len() > 1
        && name
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_alphanumeric())
    {
        return Ok(());
    }
    Err(ApiError::unprocessable(
        "firewall name is invalid: it begins with a letter or a number, and has at least 2 characters",
    ))
}

fn check_plain(of: &str, name: &str) -> Result<()> {
    if is_host_text(name) && !name.is_empty() && name.len() <= TEXT_MAX {
        return Ok(());
    }
    Err(ApiError::unprocessable(format!(
        "{of} name is invalid: letters, numbers, dashes and periods, at most {TEXT_MAX} characters"
    )))
}

fn is_host_text(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
}
