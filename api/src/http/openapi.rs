//! The OpenAPI document: poem-openapi's, from the handlers' signatures, and a pass over it for what it can't say.
//!
//! The pass writes the schemas out (`schemas`), gives every operation what its row in `routes.rs` says (id, security,
//! problems) and `X-Request-Id`, spells headers as people do, links operations that follow from each other, and writes whole
//! numbers as such.

mod schemas;

use poem::http::Method;
use poem_openapi::OpenApiService;
use serde_json::{Map, Value, json};

use super::collections::Collections;
use super::docs::Profile;
use super::documents::Documents;
use super::error::{PROBLEM_JSON, ProblemKind};
use super::route::Route;
use super::routes::{OPERATIONS, Operation};
use schemas::schemas;

const DESCRIPTION: &str = "A REST document database. Documents are JSON objects in collections; each has a version, \
which is its `ETag`, so that reads can be conditional and writes never overwrite what the writer has not seen. Errors \
are RFC 9457 problems with a `request_id`. HEAD is served wherever GET is.";

/// The document as pretty JSON with a final newline. It depends on nothing but this program's version.
#[must_use]
pub fn document(profile: Profile) -> String {
    let service = OpenApiService::new((Collections, Documents), "Tidepool", env!("CARGO_PKG_VERSION"))
        .description(DESCRIPTION);
    let mut document: Value = serde_json::from_str(&service.spec()).unwrap_or_default();
    complete(&mut document);
    if profile == Profile::Basic {
        reduce(&mut document);
    }
    let mut text = serde_json::to_string_pretty(&tidy(document)).unwrap_or_default();
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
    for (path, method, value) in operations_mut(document) {
        // HEAD stands in the row of GET.
        let row_method = if method == "head" { "get" } else { method };
        let row = OPERATIONS.iter().find(|row| {
            row.path == path && row.method.as_str().eq_ignore_ascii_case(row_method) && row.is_documented()
        });
        // A handler without a row is not served; a test demands one for each.
        if let Some(row) = row {
            let id = match method {
                "head" => head_id(row),
                _ => row.id.to_owned(),
            };
            complete_operation(&OperationContext { row, method, id }, value);
        }
    }
}

/// Each operation with its path and its method, which is in lower case.
fn operations_mut(document: &mut Value) -> impl Iterator<Item = (&str, &str, &mut Value)> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    paths.into_iter().flatten().flat_map(|(path, methods)| {
        let methods = methods.as_object_mut().into_iter().flatten();
        methods.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// Takes out what the basic profile leaves out.
fn reduce(document: &mut Value) {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut);
    for methods in paths
        .into_iter()
        .flat_map(Map::values_mut)
        .filter_map(Value::as_object_mut)
    {
        methods.retain(|method, _| method != "head" && method != "patch");
    }
    for (_, _, operation) in operations_mut(document) {
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
            continue;
        };
        responses.remove("304");
        let links = responses
            .values_mut()
            .filter_map(|response| response.get_mut("links"));
        for links in links.filter_map(Value::as_object_mut) {
            links.retain(|id, _| !id.starts_with("head_") && !id.starts_with("patch_"));
        }
    }
}

/// An operation of the document and its row.
struct OperationContext<'d> {
    row: &'static Operation,
    method: &'d str,
    id: String,
}

/// `get_document` is `head_document`, and `list_documents` is `head_documents`.
fn head_id(row: &Operation) -> String {
    let subject = row.id.split_once('_').map_or(row.id, |(_, subject)| subject);
    format!("head_{subject}")
}

fn complete_operation(context: &OperationContext<'_>, operation: &mut Value) {
    let row = context.row;
    if context.method == "head" {
        let summary = operation
            .get("summary")
            .and_then(Value::as_str)
            .unwrap_or_default();
        set(operation, "summary", json!(format!("{summary}: headers only")));
    }
    set(operation, "operationId", json!(context.id));
    // The empty alternative: a server without keys, which is only possible on loopback, asks for none.
    set(operation, "security", json!([{ "key": [] }, {}]));
    for parameter in array_mut(operation, "parameters") {
        complete_parameter(parameter);
    }
    let contents = operation
        .pointer_mut("/requestBody/content")
        .and_then(Value::as_object_mut);
    for content in contents.into_iter().flat_map(Map::values_mut) {
        let name = content.pointer("/schema/$ref").and_then(Value::as_str);
        let example = schemas::example(name.unwrap_or_default());
        set(content, "example", example);
    }
    let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for (status, response) in responses.iter_mut() {
        complete_success(row, status, response);
    }
    for (status, kinds) in by_status(row.problems()) {
        responses.insert(status.to_string(), problem_response(&kinds));
    }
    if context.method == "head" {
        for response in responses.values_mut().filter_map(Value::as_object_mut) {
            response.remove("content");
        }
    }
}

/// The schema that a parameter of a path shares with the members of its name.
fn parameter_schema(parameter: &Value) -> Option<&'static str> {
    match (parameter.get("in")?.as_str()?, parameter.get("name")?.as_str()?) {
        ("path", "collection") => Some("#/components/schemas/CollectionName"),
        ("path", "id") => Some("#/components/schemas/DocumentId"),
        _ => None,
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
    } else if let Some(schema) = parameter_schema(parameter) {
        set(parameter, "schema", json!({ "$ref": schema }));
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

fn complete_success(row: &Operation, status: &str, response: &mut Value) {
    if let Some(headers) = response.get_mut("headers").and_then(Value::as_object_mut) {
        let named: Map<String, Value> = std::mem::take(headers)
            .into_iter()
            .map(|(name, header)| (header_name(&name), header))
            .collect();
        *headers = named;
    }
    add_request_id(response);
    let links = links_of(row, status);
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

fn by_status(kinds: Vec<ProblemKind>) -> Vec<(u16, Vec<ProblemKind>)> {
    let mut by_status: Vec<(u16, Vec<ProblemKind>)> = Vec::new();
    for kind in kinds {
        let status = kind.status().as_u16();
        match by_status.iter_mut().find(|(known, _)| *known == status) {
            Some((_, kinds)) => kinds.push(kind),
            None => by_status.push((status, vec![kind])),
        }
    }
    by_status
}

/// One schema for all problems, so that a generated client has one type for them; which types an operation has for a status is
/// said in words and in `x-problem-types`.
fn problem_response(kinds: &[ProblemKind]) -> Value {
    let types: Vec<&str> = kinds.iter().map(|kind| kind.type_uri()).collect();
    let described = kinds
        .iter()
        .map(|kind| format!("{} (`{}`)", kind.title(), kind.type_uri()));
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
        "description": format!("{}.", described.collect::<Vec<_>>().join(", or: ")),
        "headers": headers,
        "content": { PROBLEM_JSON: { "schema": { "$ref": "#/components/schemas/Problem" } } },
        "x-problem-types": types,
    })
}

/// What can be done next with what an operation made, changed or listed, derived from the table: a resource's other
/// operations after a PUT or POST, and for a list its next page.
fn links_of(row: &Operation, status: &str) -> Map<String, Value> {
    let mut links = Map::new();
    if !matches!(status, "200" | "201") {
        return links;
    }
    let mut add = |id: String, parameters: &Map<String, Value>| {
        let link = json!({ "operationId": id, "parameters": parameters });
        links.insert(id, link);
    };
    if row.query.contains(&"page_token") {
        let mut parameters = path_parameters(row.path);
        parameters.insert("page_token".to_owned(), json!("$response.body#/next_page_token"));
        add(row.id.to_owned(), &parameters);
        return links;
    }
    let resource = match row.method {
        Method::PUT => Some(Route::of_template(row.path)),
        Method::POST => OPERATIONS
            .iter()
            .find(|other| {
                other
                    .path
                    .rsplit_once('/')
                    .is_some_and(|(parent, _)| parent == row.path)
            })
            .map(|other| Route::of_template(other.path)),
        _ => None,
    };
    let Some(resource) = resource else {
        return links;
    };
    let path = resource.template();
    // The last parameter is the new resource's own name, which a POST only learns from the answer.
    let mut parameters = path_parameters(path);
    let member = if path.ends_with("{id}") { "id" } else { "name" };
    if let Some(last) = path.rsplit('/').next().map(|last| last.trim_matches(['{', '}'])) {
        parameters.insert(last.to_owned(), json!(format!("$response.body#/{member}")));
    }
    let is_about = |other: &&Operation| {
        let child = other
            .path
            .strip_prefix(path)
            .is_some_and(|rest| !rest.contains('{') && rest.starts_with('/'));
        other.id != row.id && (other.path == path || child)
    };
    for other in OPERATIONS.iter().filter(is_about) {
        add(other.id.to_owned(), &parameters);
        if other.method == Method::GET {
            add(head_id(other), &parameters);
        }
    }
    links
}

/// The parameters of a path, as the request had them.
fn path_parameters(path: &str) -> Map<String, Value> {
    let names = path.split('/').filter(|segment| segment.starts_with('{'));
    names
        .map(|name| name.trim_matches(['{', '}']))
        .map(|name| (name.to_owned(), json!(format!("$request.path.{name}"))))
        .collect()
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

/// Members by name, so that the text does not depend on how `serde_json` was built; whole numbers without a fraction, as
/// readers that go by `type: integer` expect them (poem-openapi keeps bounds as `f64`); and nothing that says the default.
fn tidy(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<(String, Value)> = members
                .into_iter()
                .filter(|(name, member)| !(name == "deprecated" && *member == Value::Bool(false)))
                .filter(|(name, member)| !(name == "explode" && *member == Value::Bool(true)))
                .collect();
            members.sort_by(|(left, _), (right, _)| left.cmp(right));
            Value::Object(
                members
                    .into_iter()
                    .map(|(name, member)| (name, tidy(member)))
                    .collect(),
            )
        }
        Value::Array(items) => Value::Array(items.into_iter().map(tidy).collect()),
        Value::Number(number) => Value::Number(whole(&number).unwrap_or(number)),
        other => other,
    }
}

/// A number as an integer, if it is one: in Rust a whole `f64` prints without a fraction.
fn whole(number: &serde_json::Number) -> Option<serde_json::Number> {
    let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
    let text = format!("{float:.0}");
    text.parse::<i64>().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::super::routes::BodyMode;
    use super::*;

    #[test]
    fn header_names_are_spelled_as_people_do() {
        assert_eq!(header_name("IF-NONE-MATCH"), "If-None-Match");
        assert_eq!(header_name("ETAG"), "ETag");
        assert_eq!(header_name("LOCATION"), "Location");
    }

    #[test]
    fn whole_numbers_lose_their_fraction_and_others_keep_it() {
        let value = json!({ "minimum": 1.0, "maximum": 1e3, "least": -5.0, "step": 0.5, "count": 7, "most": u64::MAX });
        let expected =
            r#"{"count":7,"least":-5,"maximum":1000,"minimum":1,"most":18446744073709551615,"step":0.5}"#;
        assert_eq!(tidy(value).to_string(), expected);
    }

    #[test]
    fn every_documented_row_has_its_handler_and_every_handler_its_row() {
        let document: Value = serde_json::from_str(&document(Profile::Full)).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let described: usize = paths
            .values()
            .map(|methods| {
                methods
                    .as_object()
                    .unwrap()
                    .keys()
                    .filter(|method| *method != "head")
                    .count()
            })
            .sum();
        let rows = OPERATIONS.iter().filter(|row| row.is_documented());
        assert_eq!(rows.clone().count(), described);
        for row in rows {
            let method = row.method.as_str().to_ascii_lowercase();
            let operation = &paths[row.path][&method];
            assert_eq!(operation["operationId"], row.id);
            assert_eq!(
                paths[row.path].get("head").is_some(),
                paths[row.path].get("get").is_some(),
                "{}: a handler for GET says method = \"head\" too",
                row.path
            );
            let query = operation["parameters"].as_array().into_iter().flatten();
            let query = query.filter(|parameter| parameter["in"] == "query");
            let query: Vec<_> = query
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            assert_eq!(query, row.query, "{}", row.id);
            let media = operation["requestBody"]["content"].as_object();
            let media = media
                .and_then(|content| content.keys().next())
                .map(String::as_str);
            let expected = match row.body {
                BodyMode::Unread => None,
                BodyMode::Whole(media) => Some(media.as_str()),
            };
            assert_eq!(media, expected, "{}", row.id);
        }
    }
}
