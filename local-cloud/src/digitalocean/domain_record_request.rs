//! What a client sends of a domain and its records, checked: type by type, and in DigitalOcean's words where they are known.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::{Map, Value};

use super::call::{Result, text_of};
use super::error::ApiError;
use super::names::{DNS_LABEL_MAX, DNS_NAME_MAX};
use super::records::domain::{Domain, DomainRecord, RecordData, TTL_DEFAULT_SECS};

/// Shortest time to live; DigitalOcean refuses less (Pelado-Nerdworks/peladonerd#44).
const TTL_MIN_SECS: u32 = 30;
/// Longest one that the protocol has (RFC 2181, section 8).
const TTL_MAX_SECS: u32 = (1 << 31) - 1;
/// Longest text: a bound of this cloud, since DigitalOcean documents none. Keys for mail have some hundred characters.
const TXT_BYTES_MAX: usize = 4_096;
/// Longest value of a CAA record; a bound of this cloud.
const CAA_BYTES_MAX: usize = 512;
/// What a CAA record may be about, as DigitalOcean's API document lists it.
const CAA_TAGS: [&str; 3] = ["issue", "issuewild", "iodef"];
/// Fields that only some types have; nothing and 0 ask for nothing anywhere, since godo sends zeros.
const OF_SOME: [(&str, &[&str]); 5] = [
    ("priority", &["MX", "SRV"]),
    ("weight", &["SRV"]),
    ("port", &["SRV"]),
    ("flags", &["CAA"]),
    ("tag", &["CAA"]),
];

/// A record that a client may have.
#[derive(Debug)]
pub(super) struct Wanted {
    name: String,
    ttl_secs: u32,
    data: RecordData,
}

impl Wanted {
    pub(super) fn record(self, id: u64) -> DomainRecord {
        DomainRecord {
            id,
            name: self.name,
            ttl_secs: self.ttl_secs,
            data: self.data,
        }
    }
}

/// A new record of that domain.
///
/// # Errors
/// 422.
pub(super) fn created(body: &Map<String, Value>, domain: &str) -> Result<Wanted> {
    let kind = text_of(body, "type")?.ok_or_else(|| blank("Type"))?;
    if kind.eq_ignore_ascii_case("SOA") {
        return Err(ApiError::unprocessable(
            "an SOA record is made with its domain, and there is one only",
        ));
    }
    wanted(body, domain, kind)
}

/// An existing record with what is sent; `shown` is how the API shows it.
///
/// # Errors
/// 422.
pub(super) fn updated(
    body: &Map<String, Value>,
    domain: &str,
    before: &DomainRecord,
    shown: Map<String, Value>,
) -> Result<Wanted> {
    let kind = before.data.kind();
    if let Some(other) = text_of(body, "type")?
        && !other.eq_ignore_ascii_case(kind)
    {
        let message = format!("type: a record that is {kind} stays so; make another one");
        return Err(ApiError::unprocessable(message));
    }
    let mut whole = shown;
    if let Some(written) = data_as_sent(&before.data) {
        whole.insert("data".to_owned(), Value::String(written));
    }
    for (field, value) in body {
        let nothing = value.is_null() || (field == "ttl" && value == 0) || value == "";
        if whole.contains_key(field) && !nothing {
            whole.insert(field.clone(), value.clone());
        }
    }
    if let RecordData::Soa { .. } = before.data {
        return authority(&whole, before);
    }
    wanted(&whole, domain, kind)
}

/// Names in a record's data as a client sends them.
fn data_as_sent(data: &RecordData) -> Option<String> {
    match data {
        RecordData::Cname(target)
        | RecordData::Ns(target)
        | RecordData::Mx { target, .. }
        | RecordData::Srv { target, .. } => Some(format!("{target}.")),
        RecordData::Caa { value, .. } => Some(format!("{value}.")),
        _ => None,
    }
}

fn wanted(body: &Map<String, Value>, domain: &str, kind: &str) -> Result<Wanted> {
    let kind = kind.to_ascii_uppercase();
    let target = || target(body, domain);
    let number = |field| number(body, field, u16::MAX.into()).map(Option::unwrap_or_default);
    let data = match kind.as_str() {
        "A" => RecordData::A(ipv4(data(body)?)?),
        "AAAA" => {
            let written = data(body)?.to_owned();
            let address: Ipv6Addr = written.parse().map_err(|_| {
                ApiError::unprocessable("IP address did not match IPv6 format (e.g. 2001:db8::1).")
            })?;
            RecordData::Aaaa { address, written }
        }
        "CNAME" => RecordData::Cname(target()?),
        "NS" => RecordData::Ns(target()?),
        "MX" => {
            needed(body, "priority", "Priority")?;
            RecordData::Mx {
                priority: fitting(number("priority")?),
                target: target()?,
            }
        }
        "SRV" => {
            for (field, shown) in [("priority", "Priority"), ("port", "Port"), ("weight", "Weight")] {
                needed(body, field, shown)?;
            }
            RecordData::Srv {
                priority: fitting(number("priority")?),
                weight: fitting(number("weight")?),
                port: fitting(number("port")?),
                target: target()?,
            }
        }
        "TXT" => RecordData::Txt(text(body)?),
        "CAA" => caa(body, domain)?,
        other => {
            let message = format!("type {other} is not one of A, AAAA, CAA, CNAME, MX, NS, SRV, TXT");
            return Err(ApiError::unprocessable(message));
        }
    };
    for (field, kinds) in OF_SOME {
        let asks = body
            .get(field)
            .is_some_and(|value| !value.is_null() && *value != 0 && *value != "");
        if asks && !kinds.contains(&kind.as_str()) {
            let message = format!("{field}: only records of type {} have one", kinds.join(" and "));
            return Err(ApiError::unprocessable(message));
        }
    }
    Ok(Wanted {
        name: name(body, domain, &kind)?,
        ttl_secs: ttl(body)?,
        data,
    })
}

/// Of the start of authority only the times can be set.
fn authority(whole: &Map<String, Value>, before: &DomainRecord) -> Result<Wanted> {
    let minimum = data(whole)?;
    let minimum_secs = minimum
        .parse()
        .ok()
        .filter(|secs| (1..=TTL_MAX_SECS).contains(secs));
    let minimum_secs = minimum_secs.ok_or_else(|| ApiError::unprocessable("Data is invalid"))?;
    if text_of(whole, "name")? != Some("@") {
        return Err(ApiError::unprocessable("an SOA record's name is @"));
    }
    Ok(Wanted {
        name: before.name.clone(),
        ttl_secs: ttl(whole)?,
        data: RecordData::Soa { minimum_secs },
    })
}

fn caa(body: &Map<String, Value>, domain: &str) -> Result<RecordData> {
    let flags = number(body, "flags", u8::MAX.into())?.ok_or_else(|| blank("Flags"))?;
    let tag = text_of(body, "tag")?.ok_or_else(|| blank("Tag"))?;
    if !CAA_TAGS.contains(&tag) {
        return Err(ApiError::unprocessable(
            "Tag must be one of issue, issuewild and iodef",
        ));
    }
    let sent = data(body)?;
    let value = match sent.strip_suffix('.') {
        Some(value) => value,
        // A mail address or a page, and "nobody": these are no names.
        None if tag == "iodef" || sent == ";" => sent,
        None if sent == "@" => domain,
        None => return Err(no_dot()),
    };
    let plain = value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    if !plain || value.is_empty() || value.len() > CAA_BYTES_MAX {
        return Err(ApiError::unprocessable("Data is invalid"));
    }
    Ok(RecordData::Caa {
        flags: u8::try_from(flags).unwrap_or(u8::MAX),
        tag: tag.to_owned(),
        value: value.to_owned(),
    })
}

fn text(body: &Map<String, Value>) -> Result<String> {
    let text = data(body)?;
    if text.len() > TXT_BYTES_MAX {
        return Err(ApiError::unprocessable(format!(
            "Data is too long (maximum is {TXT_BYTES_MAX} bytes)"
        )));
    }
    Ok(text.to_owned())
}

fn data(body: &Map<String, Value>) -> Result<&str> {
    text_of(body, "data")?.ok_or_else(|| blank("Data"))
}

/// A full name in the data, without its last dot.
fn target(body: &Map<String, Value>, domain: &str) -> Result<String> {
    let sent = data(body)?;
    if sent == "@" {
        return Ok(domain.to_owned());
    }
    let name = sent.strip_suffix('.').ok_or_else(no_dot)?;
    if name.len() > DNS_NAME_MAX || !name.split('.').all(is_label) {
        return Err(ApiError::unprocessable("Data is invalid"));
    }
    Ok(name.to_owned())
}

/// The record's name as it is shown: short, and `@` for the domain itself.
fn name(body: &Map<String, Value>, domain: &str, kind: &str) -> Result<String> {
    let Some(sent) = text_of(body, "name")? else {
        // The others can't be without one, as DigitalOcean's API document says.
        if ["MX", "NS"].contains(&kind) {
            return Ok("@".to_owned());
        }
        return Err(blank("Name"));
    };
    let short = match sent.strip_suffix('.') {
        None => sent,
        Some(full) if Domain::is_same_name(full, domain) => "@",
        Some(full) => below(full, domain)
            .ok_or_else(|| ApiError::unprocessable(format!("Name {sent} is not in the domain {domain}")))?,
    };
    let labels = short.strip_prefix("*.").unwrap_or(short);
    if short != "@" && labels != "*" && !labels.split('.').all(is_label) {
        return Err(ApiError::unprocessable(
            "Name Only valid hostname characters are allowed. (a-z, A-Z, 0-9, ., _ and -)",
        ));
    }
    if short.len() + 1 + domain.len() > DNS_NAME_MAX {
        return Err(ApiError::unprocessable(format!(
            "Name is too long (maximum is {DNS_NAME_MAX} characters with the domain)"
        )));
    }
    Ok(short.to_owned())
}

/// What stands before the domain in a full name.
fn below<'a>(full: &'a str, domain: &str) -> Option<&'a str> {
    let length = full.len().checked_sub(domain.len())?;
    let (before, end) = full.split_at_checked(length)?;
    let before = before.strip_suffix('.')?;
    Domain::is_same_name(end, domain).then_some(before)
}

fn is_label(label: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    !label.is_empty() && label.len() <= DNS_LABEL_MAX && label.bytes().all(fits)
}

/// # Errors
/// 422 with the real one's words.
pub(super) fn ipv4(text: &str) -> Result<Ipv4Addr> {
    text.parse()
        .map_err(|_| ApiError::unprocessable("IP address did not match IPv4 format (e.g. 127.0.0.1)."))
}

/// Absent, null and 0 are the default.
fn ttl(body: &Map<String, Value>) -> Result<u32> {
    let secs = match body.get("ttl") {
        None | Some(Value::Null) => 0,
        Some(value) => value
            .as_u64()
            .ok_or_else(|| ApiError::unprocessable("ttl must be a number"))?,
    };
    match u32::try_from(secs) {
        Ok(0) => Ok(TTL_DEFAULT_SECS),
        Ok(secs) if secs < TTL_MIN_SECS => Err(ApiError::unprocessable("record ttl must be greater than 30")),
        Ok(secs) if secs <= TTL_MAX_SECS => Ok(secs),
        _ => Err(ApiError::unprocessable(format!(
            "record ttl must be at most {TTL_MAX_SECS}"
        ))),
    }
}

fn needed(body: &Map<String, Value>, field: &str, shown: &str) -> Result<()> {
    match body.get(field) {
        None | Some(Value::Null) => Err(blank(shown)),
        Some(_) => Ok(()),
    }
}

/// A number up to `max`; absent and null are none.
fn number(body: &Map<String, Value>, field: &str, max: u64) -> Result<Option<u64>> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().filter(|number| *number <= max) {
            Some(number) => Ok(Some(number)),
            None => Err(ApiError::unprocessable(format!(
                "{field} must be a number from 0 to {max}"
            ))),
        },
    }
}

/// A number that was checked to be in range.
fn fitting(number: u64) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

fn blank(field: &str) -> ApiError {
    ApiError::unprocessable(format!("{field} can't be blank"))
}

fn no_dot() -> ApiError {
    ApiError::unprocessable("Data needs to end with a dot (.)")
}
