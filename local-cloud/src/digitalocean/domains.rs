//! Domains and their records. The name server answers every change at once.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::app::App;
use super::call::{Answer, Call, Result};
use super::error::ApiError;
use super::records::Cloud;
use super::records::domain::{Domain, DomainRecord, NAME_SERVERS, RecordData, TTL_DEFAULT_SECS};
use super::resources::{Kind, Urn};
use super::{domain_record_request as request, names, page, resources, zones};

/// Domains at most, and records of one: bounds of this cloud, since DigitalOcean documents none. A zone of so many records is
/// put together in some milliseconds, which every change of the domain takes.
const DOMAINS_MAX: usize = 1_000;
const RECORDS_MAX: usize = 10_000;

const GET_POST: &str = "GET, HEAD, POST";
const GET_DELETE: &str = "GET, HEAD, DELETE";
const GET_PUT_PATCH_DELETE: &str = "GET, HEAD, PUT, PATCH, DELETE";

/// `/v2/domains…`
pub(crate) async fn route(app: &App, call: &Call, rest: &[&str]) -> Result {
    match (call.method.as_str(), rest) {
        ("GET", []) => list(app, call),
        ("POST", []) => create(app, call).await,
        ("GET", [name]) => get(app, name),
        ("DELETE", [name]) => delete(app, name).await,
        ("GET", [name, "records"]) => records(app, name, call),
        ("POST", [name, "records"]) => create_record(app, name, call).await,
        ("GET", [name, "records", id]) => record(app, name, id),
        ("PUT" | "PATCH", [name, "records", id]) => update_record(app, (name, id), call).await,
        ("DELETE", [name, "records", id]) => delete_record(app, name, id).await,
        (_, [] | [_, "records"]) => Err(ApiError::method_not_allowed(GET_POST)),
        (_, [_]) => Err(ApiError::method_not_allowed(GET_DELETE)),
        (_, [_, "records", _]) => Err(ApiError::method_not_allowed(GET_PUT_PATCH_DELETE)),
        _ => Err(ApiError::not_found()),
    }
}

/// `GET /v2/domains`
fn list(app: &App, call: &Call) -> Result {
    app.read(|cloud| {
        let domains: Vec<&Arc<Domain>> = cloud.records.domains.values().collect();
        page::answer(call, "domains", &domains, |domain| view(domain))
    })
}

/// `GET /v2/domains/{name}`
fn get(app: &App, name: &str) -> Result {
    app.read(|cloud| Answer::ok(json!({"domain": view(find(cloud, name)?)})))
}

/// `POST /v2/domains`; with `ip_address` the domain itself is that address.
async fn create(app: &App, call: &Call) -> Result {
    let name = call.needed_text("name")?.to_owned();
    names::check_domain(&name)?;
    let address: Option<Ipv4Addr> = call.text("ip_address")?.map(request::ipv4).transpose()?;
    let (now, now_secs) = (app.now(), app.now_secs());
    app.change(|cloud| {
        let key = Domain::key(&name);
        if cloud.records.domains.contains_key(&key) {
            return Err(ApiError::unprocessable("name already exists"));
        }
        if cloud.records.domains.len() >= DOMAINS_MAX {
            let message = format!("this cloud has {DOMAINS_MAX} domains, and takes no more");
            return Err(ApiError::unprocessable(message));
        }
        let soa = RecordData::Soa {
            minimum_secs: TTL_DEFAULT_SECS,
        };
        let servers = NAME_SERVERS.map(|server| RecordData::Ns(server.to_owned()));
        let all = [soa].into_iter().chain(servers).chain(address.map(RecordData::A));
        let mut domain = Domain {
            name: name.clone(),
            created_at: now,
            serial: now_secs,
            records: BTreeMap::new(),
        };
        for data in all {
            let record = DomainRecord {
                id: cloud.machines.new_id(),
                name: "@".to_owned(),
                ttl_secs: TTL_DEFAULT_SECS,
                data,
            };
            domain.records.insert(record.id, Arc::new(record));
        }
        cloud.records.domains.insert(key, Arc::new(domain));
        Answer::created(json!({"domain": {"name": name, "ttl": TTL_DEFAULT_SECS, "zone_file": null}}))
    })
    .await
}

/// `DELETE /v2/domains/{name}`, with all of its records.
async fn delete(app: &App, name: &str) -> Result {
    app.change(|cloud| {
        let removed = cloud.records.domains.remove(&Domain::key(name));
        let removed = removed.ok_or_else(ApiError::not_found)?;
        resources::forget(cloud, &Urn::new(Kind::Domain, &removed.name));
        Answer::no_content()
    })
    .await
}

/// `GET /v2/domains/{name}/records`, by `name`, a full one, and `type` if they are given.
fn records(app: &App, name: &str, call: &Call) -> Result {
    app.read(|cloud| {
        let domain = find(cloud, name)?;
        let (kind, full) = (call.param("type"), call.param("name"));
        let full = full.map(|full| full.strip_suffix('.').unwrap_or(full));
        let found = domain.records.values().filter(|record| {
            let of_kind = kind.is_none_or(|kind| record.data.kind().eq_ignore_ascii_case(kind));
            of_kind && full.is_none_or(|full| Domain::is_same_name(&domain.full_name(record), full))
        });
        let found: Vec<&Arc<DomainRecord>> = found.collect();
        page::answer(call, "domain_records", &found, |record| {
            Value::Object(record_view(domain, record))
        })
    })
}

/// `GET /v2/domains/{name}/records/{id}`
fn record(app: &App, name: &str, id: &str) -> Result {
    app.read(|cloud| {
        let domain = find(cloud, name)?;
        answer(domain, find_record(domain, id)?)
    })
}

/// `POST /v2/domains/{name}/records`
async fn create_record(app: &App, name: &str, call: &Call) -> Result {
    let now_secs = app.now_secs();
    app.change(|cloud| {
        let wanted = request::created(&call.body, &find(cloud, name)?.name)?;
        let id = cloud.machines.new_id();
        let domain = find_mut(cloud, name)?;
        if domain.records.len() >= RECORDS_MAX {
            let message = format!("the domain has {RECORDS_MAX} records, and takes no more");
            return Err(ApiError::unprocessable(message));
        }
        let record = wanted.record(id);
        fits(domain, &record)?;
        domain.changed(now_secs);
        domain.records.insert(id, Arc::new(record.clone()));
        let mut answer = answer(domain, &record)?;
        answer.status = http::StatusCode::CREATED;
        Ok(answer)
    })
    .await
}

/// `PUT` and `PATCH /v2/domains/{name}/records/{id}`: what is not sent stays.
async fn update_record(app: &App, (name, id): (&str, &str), call: &Call) -> Result {
    let now_secs = app.now_secs();
    app.change(|cloud| {
        let domain = find_mut(cloud, name)?;
        let before = find_record(domain, id)?;
        let wanted = request::updated(&call.body, &domain.name, before, record_view(domain, before))?;
        let record = wanted.record(before.id);
        fits(domain, &record)?;
        if record != **before {
            domain.changed(now_secs);
            domain.records.insert(record.id, Arc::new(record.clone()));
        }
        answer(domain, &record)
    })
    .await
}

/// `DELETE /v2/domains/{name}/records/{id}`
async fn delete_record(app: &App, name: &str, id: &str) -> Result {
    let now_secs = app.now_secs();
    app.change(|cloud| {
        let domain = find_mut(cloud, name)?;
        let record = find_record(domain, id)?;
        if matches!(record.data, RecordData::Soa { .. }) {
            return Err(ApiError::unprocessable(
                "a domain keeps its SOA record: delete the domain instead",
            ));
        }
        let id = record.id;
        domain.records.remove(&id);
        domain.changed(now_secs);
        Answer::no_content()
    })
    .await
}

fn find<'a>(cloud: &'a Cloud, name: &str) -> Result<&'a Domain> {
    let found = cloud.records.domains.get(&Domain::key(name));
    found.map(Arc::as_ref).ok_or_else(ApiError::not_found)
}

fn find_mut<'a>(cloud: &'a mut Cloud, name: &str) -> Result<&'a mut Domain> {
    let found = cloud.records.domains.get_mut(&Domain::key(name));
    found.map(Arc::make_mut).ok_or_else(ApiError::not_found)
}

fn find_record<'a>(domain: &'a Domain, id: &str) -> Result<&'a Arc<DomainRecord>> {
    let id: u64 = id.parse().map_err(|_| ApiError::not_found())?;
    domain.records.get(&id).ok_or_else(ApiError::not_found)
}

/// An alias is alone with its name: a server that found both would not know which to answer (RFC 1034, section 3.6.2).
fn fits(domain: &Domain, record: &DomainRecord) -> Result<()> {
    let is_alias = |record: &DomainRecord| matches!(record.data, RecordData::Cname(_));
    let mut others = domain
        .records
        .values()
        .filter(|other| other.id != record.id && Domain::is_same_name(&other.name, &record.name));
    if others.any(|other| is_alias(record) || is_alias(other)) {
        return Err(ApiError::unprocessable(
            "CNAME records cannot share a name with other records",
        ));
    }
    if let RecordData::Cname(target) = &record.data
        && Domain::is_same_name(target, &domain.full_name(record))
    {
        return Err(ApiError::unprocessable(
            "CNAME records cannot point to themselves",
        ));
    }
    Ok(())
}

fn view(domain: &Domain) -> Value {
    json!({"name": domain.name, "ttl": TTL_DEFAULT_SECS, "zone_file": zones::zone_file(domain)})
}

fn answer(domain: &Domain, record: &DomainRecord) -> Result {
    Answer::ok(json!({"domain_record": record_view(domain, record)}))
}

/// A record as the API shows it: names without the last dot, and `@` for the domain itself.
fn record_view(domain: &Domain, record: &DomainRecord) -> Map<String, Value> {
    let name = |target: &str| match Domain::is_same_name(target, &domain.name) {
        true => "@".to_owned(),
        false => target.to_owned(),
    };
    let data = match &record.data {
        RecordData::A(address) => address.to_string(),
        RecordData::Aaaa { written, .. } => written.clone(),
        RecordData::Cname(target)
        | RecordData::Ns(target)
        | RecordData::Mx { target, .. }
        | RecordData::Srv { target, .. } => name(target),
        RecordData::Txt(text) => text.clone(),
        RecordData::Caa { value, .. } => name(value),
        RecordData::Soa { minimum_secs } => minimum_secs.to_string(),
    };
    let mut view = Map::new();
    let mut set = |field: &str, value: Value| view.insert(field.to_owned(), value);
    set("id", json!(record.id));
    set("type", json!(record.data.kind()));
    set("name", json!(record.name));
    set("data", json!(data));
    set("ttl", json!(record.ttl_secs));
    for field in ["priority", "port", "weight", "flags", "tag"] {
        set(field, Value::Null);
    }
    match &record.data {
        RecordData::Mx { priority, .. } => {
            set("priority", json!(priority));
        }
        RecordData::Srv {
            priority,
            weight,
            port,
            ..
        } => {
            set("priority", json!(priority));
            set("weight", json!(weight));
            set("port", json!(port));
        }
        RecordData::Caa { flags, tag, .. } => {
            set("flags", json!(flags));
            set("tag", json!(tag));
        }
        _ => {}
    }
    view
}
