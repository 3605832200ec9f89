//! The OpenAPI document: poem-openapi's, from the handlers' signatures, and a pass over it for what it can't say.
//!
//! The pass writes the schemas out (closed objects, examples), gives every operation its security, its problems and
//! `X-Request-Id`, spells headers as people do, and links operations that follow from each other.

use poem_openapi::OpenApiService;
use serde_json::{Map, Value, json};

use super::collections::Collections;
use super::documents::Documents;
use super::error::{PROBLEM_JSON, ProblemKind};
use super::payload::{NAME_PATTERN, schema};
use crate::domain::NAME_CHARS_MAX;

const DESCRIPTION: &str = "A REST document database. Documents are JSON objects in collections; each has a version, \
which is its `ETag`, so that reads can be conditional and writes never overwrite what the writer has not seen. Errors \
are RFC 9457 problems with a `request_id`.";

/// The document as pretty JSON with a final newline. It depends on nothing but this program's version.
#[must_use]
pub fn document() -> String {
    let service = OpenApiService::new((Collections, Documents), "Tidepool", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION);
    let mut document: Value = serde_json::from_str(&service.spec()).unwrap_or_default();
    complete(&mut document);
    let mut text = serde_json::to_string_pretty(&sorted(document)).unwrap_or_default();
    text.push('\n');
    text
}

fn complete(document: &mut Value) {
    set(document, "openapi", json!("3.0.3"));
    set(
        document,
        "components",
        json!({
            "schemas": schemas(),
            "headers": { "RequestId": {
                "description": "The server's id for this request; the same as a problem's `request_id`.",
                "required": true,
                "schema": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
            }},
            "securitySchemes": { "key": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "tp_…",
                "description": "A key made by `tidepool-api keys create`. A server without keys needs none.",
            }},
        }),
    );
    // No list of servers means: where the document came from.
    if let Some(document) = document.as_object_mut() {
        document.remove("servers");
    }
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else {
        return;
    };
    for operations in paths.values_mut().filter_map(Value::as_object_mut) {
        for (method, operation) in operations {
            complete_operation(method, operation);
        }
    }
}

fn complete_operation(method: &str, operation: &mut Value) {
    let get_id = operation
        .get("operationId")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned();
    // One handler serves GET and HEAD; each needs an id of its own.
    let id = match (method, get_id.split_once('_')) {
        ("head", Some((_, subject))) => format!("head_{subject}"),
        _ => get_id,
    };
    if method == "head" {
        let summary = operation
            .get("summary")
            .and_then(Value::as_str)
            .unwrap_or_default();
        set(operation, "summary", json!(format!("{summary}: headers only")));
    }
    set(operation, "operationId", json!(id));
    // The empty alternative: a server without keys, which is only possible on loopback, asks for none.
    set(operation, "security", json!([{ "key": [] }, {}]));
    for parameter in array_mut(operation, "parameters") {
        complete_parameter(parameter);
    }
    if let Some(contents) = operation
        .pointer_mut("/requestBody/content")
        .and_then(Value::as_object_mut)
    {
        for content in contents.values_mut() {
            set(content, "example", body_example(&id));
        }
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for (status, response) in responses.iter_mut() {
        complete_success(&id, status, response);
    }
    for (status, kinds) in problems_of(&id) {
        responses.insert(status.to_string(), problem_response(&kinds));
    }
    if method == "head" {
        for response in responses.values_mut().filter_map(Value::as_object_mut) {
            response.remove("content");
        }
    }
}

fn complete_parameter(parameter: &mut Value) {
    let name = parameter.get("name").and_then(Value::as_str).map(header_name);
    if parameter.get("in") == Some(&json!("header"))
        && let Some(name) = name
    {
        // No example: Swagger UI fills examples in, and a condition that nobody wrote would be a 412.
        set(parameter, "name", json!(name));
        if let Some(schema) = parameter.get_mut("schema") {
            set(schema, "pattern", json!(ENTITY_TAGS_PATTERN));
        }
    } else if parameter.get("name") == Some(&json!("page_token"))
        && let Some(schema) = parameter.get_mut("schema")
    {
        set(schema, "pattern", json!("^[A-Za-z0-9_-]+$"));
        set(
            schema,
            "maxLength",
            json!(super::page_token::PAGE_TOKEN_CHARS_MAX),
        );
    }
}

/// `*`, or a list of entity tags, with empty members.
const ENTITY_TAGS_PATTERN: &str =
    r#"^([ \t,]*\*[ \t,]*|[ \t,]*(W/)?"[!#-~]*"[ \t]*(,[ \t]*((W/)?"[!#-~]*"[ \t]*)?)*)$"#;

fn complete_success(id: &str, status: &str, response: &mut Value) {
    if let Some(headers) = response.get_mut("headers").and_then(Value::as_object_mut) {
        let named: Map<String, Value> = std::mem::take(headers)
            .into_iter()
            .map(|(name, header)| (header_name(&name), header))
            .collect();
        *headers = named;
    }
    add_request_id(response);
    let links = links_of(id, status);
    if !links.is_empty() {
        set(response, "links", Value::Object(links));
    }
}

fn add_request_id(response: &mut Value) {
    let reference = json!({ "$ref": "#/components/headers/RequestId" });
    match response.get_mut("headers").and_then(Value::as_object_mut) {
        Some(headers) => {
            headers.insert("X-Request-Id".to_owned(), reference);
        }
        None => set(response, "headers", json!({ "X-Request-Id": reference })),
    }
}

/// poem-openapi writes header names in capitals.
fn header_name(name: &str) -> String {
    match name {
        "ETAG" => "ETag".to_owned(),
        _ => {
            let words = name.split('-').map(|word| {
                let (first, rest) = word.split_at(word.len().min(1));
                format!("{first}{}", rest.to_ascii_lowercase())
            });
            words.collect::<Vec<_>>().join("-")
        }
    }
}

/// The problems that each operation can answer with, by status.
fn problems_of(id: &str) -> Vec<(u16, Vec<ProblemKind>)> {
    use ProblemKind as P;
    let mut kinds = vec![
        P::InvalidRequest,
        P::Unauthenticated,
        P::UnsupportedMediaType,
        P::Internal,
        P::StoreUnavailable,
    ];
    let writes = matches!(id.split('_').next(), Some("create" | "put" | "patch" | "delete"));
    let has_body = matches!(id.split('_').next(), Some("create" | "put" | "patch"));
    let lists = matches!(
        id,
        "list_documents" | "list_collections" | "head_documents" | "head_collections"
    );
    if !id.ends_with("_collections") {
        kinds.extend([P::InvalidId, P::Forbidden]);
        if id != "put_collection" {
            kinds.push(P::CollectionNotFound);
        }
    }
    if id.ends_with("_document") && !matches!(id, "create_document" | "put_document") {
        kinds.push(P::DocumentNotFound);
    }
    if lists {
        kinds.push(P::InvalidPageToken);
    } else if id != "create_document" {
        kinds.push(P::PreconditionFailed);
    }
    if writes {
        kinds.push(P::OutcomeUnknown);
    }
    if has_body {
        kinds.extend([P::InvalidBody, P::BodyTooLarge]);
    }
    if id == "create_document" {
        kinds.push(P::AlreadyExists);
    }
    let mut by_status: Vec<(u16, Vec<P>)> = Vec::new();
    for kind in kinds {
        let status = kind.status().as_u16();
        match by_status.iter_mut().find(|(known, _)| *known == status) {
            Some((_, kinds)) => kinds.push(kind),
            None => by_status.push((status, vec![kind])),
        }
    }
    by_status
}

fn problem_response(kinds: &[ProblemKind]) -> Value {
    let types: Vec<&str> = kinds.iter().map(|kind| kind.type_uri()).collect();
    let titles: Vec<&str> = kinds.iter().map(|kind| kind.title()).collect();
    let mut headers = Map::new();
    headers.insert(
        "X-Request-Id".to_owned(),
        json!({ "$ref": "#/components/headers/RequestId" }),
    );
    if kinds.contains(&ProblemKind::Unauthenticated) {
        let header = json!({ "required": true, "schema": { "type": "string", "enum": ["Bearer"] } });
        headers.insert("WWW-Authenticate".to_owned(), header);
    }
    if kinds.contains(&ProblemKind::StoreUnavailable) {
        let header =
            json!({ "description": "Seconds to wait.", "schema": { "type": "integer", "minimum": 1 } });
        headers.insert("Retry-After".to_owned(), header);
    }
    json!({
        "description": format!("{}.", titles.join(", or: ")),
        "headers": headers,
        "content": { PROBLEM_JSON: { "schema": { "allOf": [
            { "$ref": "#/components/schemas/Problem" },
            { "type": "object", "properties": { "type": { "type": "string", "enum": types } } },
        ]}}},
    })
}

/// What can be done next with a resource that an operation made or changed.
fn links_of(id: &str, status: &str) -> Map<String, Value> {
    let collection = json!("$request.path.collection");
    let (next, parameters): (&[&str], Value) = match (id, status) {
        ("create_document", "201") => (
            &[
                "get_document",
                "head_document",
                "put_document",
                "patch_document",
                "delete_document",
            ],
            json!({ "collection": collection, "id": "$response.body#/id" }),
        ),
        ("put_document", "200" | "201") => (
            &[
                "get_document",
                "head_document",
                "patch_document",
                "delete_document",
            ],
            json!({ "collection": collection, "id": "$response.body#/id" }),
        ),
        ("put_collection", "200" | "201") => (
            &[
                "get_collection",
                "head_collection",
                "delete_collection",
                "create_document",
                "list_documents",
                "head_documents",
                "put_document",
            ],
            json!({ "collection": "$response.body#/name" }),
        ),
        ("list_documents", "200") => (
            &["list_documents"],
            json!({ "collection": collection, "page_token": "$response.body#/next_page_token" }),
        ),
        ("list_collections", "200") => (
            &["list_collections"],
            json!({ "page_token": "$response.body#/next_page_token" }),
        ),
        _ => (&[], Value::Null),
    };
    let links = next.iter().map(|next| {
        (
            (*next).to_owned(),
            json!({ "operationId": next, "parameters": parameters }),
        )
    });
    links.collect()
}

fn body_example(id: &str) -> Value {
    match id {
        "create_document" | "put_document" => json!({ "data": { "title": "Buy milk", "done": false } }),
        "patch_document" => json!({ "data": { "done": true } }),
        _ => json!({}),
    }
}

fn schemas() -> Value {
    let name = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": NAME_CHARS_MAX,
        "pattern": NAME_PATTERN,
    });
    let time = json!({ "type": "string", "format": "date-time", "description": "UTC, with milliseconds." });
    let data = json!({ "type": "object", "description": "The client's JSON object, kept exactly as it was written.", "additionalProperties": true });
    let ignored = json!({ "description": "Written by the server; ignored here, so that what was read can be written back." });
    let token = json!({
        "type": "string",
        "description": "Give it as `page_token` to get the next page. Absent: this is the last page.",
    });
    let object = |description: &str, required: &[&str], properties: Value| {
        let mut schema = json!({
            "type": "object",
            "description": description,
            "properties": properties,
            "additionalProperties": false,
        });
        if !required.is_empty() {
            set(&mut schema, "required", json!(required));
        }
        schema
    };
    let types: Vec<&str> = ProblemKind::ALL.iter().map(|kind| kind.type_uri()).collect();
    json!({
        schema::DOCUMENT: object(
            "A document.",
            &["id", "version", "created_at", "updated_at", "data"],
            json!({
                "id": name,
                "version": {
                    "type": "string",
                    "description": "Opaque; another one after every write, never used twice. The `ETag` is this in double quotes.",
                },
                "created_at": time,
                "updated_at": time,
                "data": data,
            }),
        ),
        schema::DOCUMENT_LIST: object("A page of documents.", &["items"], json!({
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Document" } },
            "next_page_token": token,
        })),
        schema::DOCUMENT_CREATE: object("A new document; without `id` the server makes one.", &["data"], json!({
            "id": name, "data": data, "version": ignored, "created_at": ignored, "updated_at": ignored,
        })),
        schema::DOCUMENT_PUT: object(
            "The whole document. An `id` may stand in it if it is the path's; it means nothing.",
            &["data"],
            json!({ "data": data, "version": ignored, "created_at": ignored, "updated_at": ignored }),
        ),
        schema::DOCUMENT_PATCH: object(
            "A JSON merge patch (RFC 7396) of the document; `null` in `data` removes a member.",
            &[],
            json!({ "data": { "type": "object", "additionalProperties": true } }),
        ),
        schema::COLLECTION: object("A collection.", &["name", "created_at", "updated_at"], json!({
            "name": name, "created_at": time, "updated_at": time,
        })),
        schema::COLLECTION_LIST: object("A page of collections.", &["items"], json!({
            "items": { "type": "array", "items": { "$ref": "#/components/schemas/Collection" } },
            "next_page_token": token,
        })),
        schema::COLLECTION_SETTINGS: object(
            "A collection's settings; there are none yet. A `name` may stand in it if it is the path's.",
            &[],
            json!({ "created_at": ignored, "updated_at": ignored }),
        ),
        "Problem": object(
            "What went wrong (RFC 9457).",
            &["type", "title", "status", "detail", "request_id"],
            json!({
                "type": { "type": "string", "enum": types },
                "title": { "type": "string" },
                "status": { "type": "integer", "minimum": 400, "maximum": 599 },
                "detail": { "type": "string" },
                "request_id": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
                "errors": { "type": "array", "items": {
                    "type": "object",
                    "required": ["pointer", "detail"],
                    "additionalProperties": false,
                    "properties": {
                        "pointer": { "type": "string", "description": "A JSON pointer into the body, as a URI fragment.", "example": "#/data" },
                        "detail": { "type": "string" },
                    },
                }},
            }),
        ),
    })
}

fn set(value: &mut Value, name: &str, member: Value) {
    if let Some(object) = value.as_object_mut() {
        object.insert(name.to_owned(), member);
    }
}

fn array_mut<'v>(value: &'v mut Value, name: &str) -> impl Iterator<Item = &'v mut Value> {
    value
        .get_mut(name)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
}

/// Members by name, so that the text does not depend on how `serde_json` was built.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> = members.into_iter().collect();
            members.sort_by(|(left, _), (right, _)| left.cmp(right));
            Value::Object(
                members
                    .into_iter()
                    .map(|(name, member)| (name, sorted(member)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_are_spelled_as_people_do() {
        assert_eq!(header_name("IF-NONE-MATCH"), "If-None-Match");
        assert_eq!(header_name("ETAG"), "ETag");
        assert_eq!(header_name("LOCATION"), "Location");
    }

    #[test]
    fn every_schema_that_a_handler_names_is_written_out() {
        let schemas = schemas();
        for name in schema::ALL {
            assert_eq!(
                schemas.pointer(&format!("/{name}/additionalProperties")),
                Some(&json!(false)),
                "{name}"
            );
        }
    }
}
