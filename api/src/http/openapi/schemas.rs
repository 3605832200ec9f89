//! The schemas of the OpenAPI document. What types in `payload.rs` refer to by name is written out here.
//!
//! Requests are closed: the server refuses members that it does not know. Answers are open, since a later version may add
//! members, and a client that was generated today must still read them; see ADR 85.

use serde_json::{Value, json};

use super::super::error::ProblemKind;
use super::super::payload::{NAME_PATTERN, schema};
use super::set;
use crate::domain::NAME_CHARS_MAX;

/// An example of a request body, by its schema's reference.
pub(super) fn example(reference: &str) -> Value {
    match reference.rsplit('/').next() {
        Some(schema::DOCUMENT_CREATE | schema::DOCUMENT_PUT) => {
            json!({ "data": { "title": "Buy milk", "done": false } })
        }
        Some(schema::DOCUMENT_PATCH) => json!({ "data": { "done": true } }),
        _ => json!({}),
    }
}

pub(super) fn schemas() -> Value {
    let mut schemas = answers();
    for (name, schema) in requests() {
        set(&mut schemas, name, schema);
    }
    for (name, schema) in members() {
        set(&mut schemas, name, schema);
    }
    schemas
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// An object that may get further members.
fn open_object(description: &str, required: &[&str], properties: Value) -> Value {
    let mut schema = json!({ "type": "object", "description": description, "properties": properties });
    if !required.is_empty() {
        set(&mut schema, "required", json!(required));
    }
    schema
}

/// An object without further members.
fn closed_object(description: &str, required: &[&str], properties: Value) -> Value {
    let mut schema = open_object(description, required, properties);
    set(&mut schema, "additionalProperties", json!(false));
    schema
}

fn time() -> Value {
    json!({ "type": "string", "format": "date-time", "description": "UTC, with milliseconds." })
}

/// What several schemas and parameters share, under one name each: a client gets one type for all of them.
fn members() -> [(&'static str, Value); 4] {
    let name = |description: &str, example: &str| {
        json!({
            "type": "string",
            "description": description,
            "minLength": 1,
            "maxLength": NAME_CHARS_MAX,
            "pattern": NAME_PATTERN,
            "example": example,
        })
    };
    [
        ("CollectionName", name("A collection's name.", "notes")),
        (
            "DocumentId",
            name("A document's id, unique in its collection.", "first"),
        ),
        (
            "Data",
            json!({
                "type": "object",
                "description": "The client's JSON object, kept exactly as it was written: numbers of any size, the members' \
                    order. In a merge patch `null` removes a member.",
                "additionalProperties": true,
            }),
        ),
        (
            "BodyError",
            open_object(
                "A place in the body that is wrong.",
                &["pointer", "detail"],
                json!({
                    "pointer": { "type": "string", "description": "A JSON pointer into the body, as a URI fragment.", "example": "#/data" },
                    "detail": { "type": "string" },
                }),
            ),
        ),
    ]
}

fn answers() -> Value {
    let token = json!({
        "type": "string",
        "description": "Give it as `page_token` to get the next page. Absent: this is the last page.",
    });
    let version =
        "Opaque; another one after every write, never used twice. The `ETag` is this in double quotes.";
    let types: Vec<&str> = ProblemKind::ALL.iter().map(|kind| kind.type_uri()).collect();
    json!({
        schema::DOCUMENT: open_object("A document.", &["id", "version", "created_at", "updated_at", "data"], json!({
            "id": reference("DocumentId"),
            "version": { "type": "string", "description": version },
            "created_at": time(),
            "updated_at": time(),
            "data": reference("Data"),
        })),
        schema::DOCUMENT_LIST: open_object("A page of documents.", &["items"], json!({
            "items": { "type": "array", "items": reference(schema::DOCUMENT) },
            "next_page_token": token,
        })),
        schema::COLLECTION: open_object("A collection.", &["name", "created_at", "updated_at"], json!({
            "name": reference("CollectionName"),
            "created_at": time(),
            "updated_at": time(),
        })),
        schema::COLLECTION_LIST: open_object("A page of collections.", &["items"], json!({
            "items": { "type": "array", "items": reference(schema::COLLECTION) },
            "next_page_token": token,
        })),
        "Problem": open_object("What went wrong (RFC 9457).", &["type", "title", "status", "detail", "request_id"], json!({
            "type": {
                "type": "string",
                "description": "What kind of problem it is. Those there are now are listed; treat one that you don't know by its `status`.",
                "x-extensible-enum": types,
            },
            "title": { "type": "string" },
            "status": { "type": "integer", "format": "int32", "minimum": 400, "maximum": 599 },
            "detail": { "type": "string" },
            "request_id": { "type": "string", "pattern": "^[0-9a-f]{32}$" },
            "errors": { "type": "array", "items": reference("BodyError") },
        })),
    })
}

fn requests() -> [(&'static str, Value); 4] {
    let ignored = json!({ "description": "Written by the server; ignored here, so that what was read can be written back." });
    [
        (
            schema::DOCUMENT_CREATE,
            closed_object(
                "A new document; without `id` the server makes one.",
                &["data"],
                json!({
                    "id": reference("DocumentId"),
                    "data": reference("Data"),
                    "version": ignored,
                    "created_at": ignored,
                    "updated_at": ignored,
                }),
            ),
        ),
        (
            schema::DOCUMENT_PUT,
            closed_object(
                "The whole document. An `id` may stand in it if it is the path's; it means nothing.",
                &["data"],
                json!({ "data": reference("Data"), "version": ignored, "created_at": ignored, "updated_at": ignored }),
            ),
        ),
        (
            schema::DOCUMENT_PATCH,
            closed_object(
                "A JSON merge patch (RFC 7396) of the document; `null` in `data` removes a member.",
                &[],
                json!({ "data": reference("Data") }),
            ),
        ),
        (
            schema::COLLECTION_SETTINGS,
            closed_object(
                "A collection's settings; there are none yet. A `name` may stand in it if it is the path's.",
                &[],
                json!({ "created_at": ignored, "updated_at": ignored }),
            ),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_that_a_handler_names_is_written_out() {
        let schemas = schemas();
        for name in schema::ALL {
            assert!(schemas[name]["description"].is_string(), "{name}");
        }
        for (name, _) in requests() {
            assert_eq!(schemas[name]["additionalProperties"], false, "{name}");
        }
    }
}
