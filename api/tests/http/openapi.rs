//! Points 63 and 64: the OpenAPI document and Swagger UI; and that every operation in it works and fails as it says.

use std::collections::BTreeMap;

use serde_json::Value;
use tidepool_api::http::{OpenApiProfile, openapi_document};

use crate::support::{Answer, Api, JSON, MERGE_PATCH};

const COMMITTED: &str = include_str!("../../openapi.json");

fn document() -> Value {
    serde_json::from_str(COMMITTED).unwrap()
}

/// (operation id, method, path template, operation)
fn operations(document: &Value) -> Vec<(String, String, String, Value)> {
    let mut found = Vec::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let id = operation["operationId"]
                .as_str()
                .expect("an operationId")
                .to_owned();
            found.push((id, method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    found
}

#[test]
fn the_committed_document_is_what_the_program_prints() {
    assert!(
        openapi_document(OpenApiProfile::Full) == COMMITTED,
        "api/openapi.json is out of date: cargo run -p tidepool-api -- openapi > api/openapi.json"
    );
}

#[tokio::test]
async fn the_served_document_is_the_committed_one() {
    let api = Api::start().await;
    let served = api.get("/openapi.json").await.expect_status(200);
    assert!(served.text() == COMMITTED);
    assert_eq!(served.header("content-type"), Some(JSON));
}

#[test]
fn contract_64_every_operation_declares_security_errors_and_words() {
    let document = document();
    for (id, method, path, operation) in operations(&document) {
        assert!(
            operation["security"]
                .as_array()
                .is_some_and(|schemes| !schemes.is_empty()),
            "{id}"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses
                .keys()
                .any(|status| status.starts_with('4') || status == "default"),
            "{id}"
        );
        assert!(responses.keys().any(|status| status.starts_with('2')), "{id}");
        assert!(!operation["tags"].as_array().unwrap().is_empty(), "{id}");
        assert!(
            operation["summary"].as_str().is_some_and(|text| text.len() > 5),
            "{id}"
        );
        let verb = id.split('_').next().unwrap();
        assert!(
            ["get", "head", "list", "put", "create", "patch", "delete"].contains(&verb),
            "{id}"
        );
        for (status, response) in responses {
            assert!(response["headers"]["X-Request-Id"].is_object(), "{id} {status}");
            let problem = response["content"].get("application/problem+json").is_some();
            assert_eq!(
                problem,
                status.as_str() >= "400" && method != "HEAD",
                "{id} {status}"
            );
        }
        if let Some(body) = operation.get("requestBody") {
            assert!(
                body["content"]
                    .as_object()
                    .unwrap()
                    .values()
                    .all(|content| content.get("example").is_some()),
                "{id}"
            );
        }
        assert!(path.starts_with("/v1/") && !path.contains(':'), "{path}");
    }
}

/// Readers that go by `type: integer` take `1.0` for another type than `1` (poem-web/poem#910).
#[test]
fn every_number_of_the_document_is_written_as_an_integer() {
    fn numbers(value: &Value, place: &str, into: &mut Vec<(String, serde_json::Number)>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    numbers(member, &format!("{place}/{name}"), into);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| numbers(item, place, into)),
            Value::Number(number) => into.push((place.to_owned(), number.clone())),
            _ => {}
        }
    }
    for text in [COMMITTED, &openapi_document(OpenApiProfile::Basic)] {
        let mut found = Vec::new();
        numbers(&serde_json::from_str(text).unwrap(), "#", &mut found);
        assert!(
            found
                .iter()
                .any(|(place, number)| place.ends_with("/maximum") && number.as_u64() == Some(1_000))
        );
        for (place, number) in found {
            assert!(number.is_i64() || number.is_u64(), "{place}: {number}");
        }
    }
}

/// A client gets one type for all problems, and not a hundred that are the same.
#[test]
fn every_problem_has_the_one_schema_and_names_its_types() {
    for (id, method, _, operation) in operations(&document()) {
        for (status, response) in operation["responses"].as_object().unwrap() {
            if status.as_str() < "400" {
                continue;
            }
            let types = response["x-problem-types"].as_array().unwrap();
            assert!(!types.is_empty(), "{id} {status}");
            if method != "HEAD" {
                let schema = &response["content"]["application/problem+json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/Problem", "{id} {status}");
            }
        }
    }
    let problem = document()["components"]["schemas"]["Problem"].clone();
    assert!(
        problem["properties"]["type"].get("enum").is_none(),
        "a later type must not break a client"
    );
}

#[tokio::test]
async fn the_basic_profile_leaves_out_what_simple_generators_do_not_know() {
    let api = Api::start().await;
    let served = api.get("/openapi.json?profile=basic").await.expect_status(200);
    assert_eq!(served.text(), openapi_document(OpenApiProfile::Basic));
    let basic = served.json();
    let ids: Vec<String> = operations(&basic).into_iter().map(|(id, ..)| id).collect();
    let all = operations(&document());
    let kept = all
        .iter()
        .filter(|(_, method, ..)| method != "HEAD" && method != "PATCH");
    assert_eq!(ids.len(), kept.count(), "{ids:?}");
    for (id, method, _, operation) in operations(&basic) {
        assert!(method != "HEAD" && method != "PATCH", "{id}");
        assert!(operation["responses"].get("304").is_none(), "{id}");
        let media = operation["requestBody"]["content"].as_object();
        assert!(
            media
                .into_iter()
                .flat_map(|media| media.keys())
                .all(|media| media == JSON),
            "{id}"
        );
        for response in operation["responses"].as_object().unwrap().values() {
            for link in response["links"]
                .as_object()
                .into_iter()
                .flat_map(|links| links.values())
            {
                assert!(ids.iter().any(|id| link["operationId"] == **id), "{id}: {link}");
            }
        }
    }
    let full = api.get("/openapi.json?profile=full").await.expect_status(200);
    assert_eq!(full.text(), COMMITTED);
    for bad in ["/openapi.json?profile=small", "/openapi.json?profile="] {
        api.get(bad).await.expect_problem(400, "invalid-request");
    }
}

/// Answers may get further members later, and a client that was generated today must still read them.
#[test]
fn objects_of_requests_are_closed_and_those_of_answers_open() {
    let document = document();
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        let request = [
            "DocumentCreate",
            "DocumentPut",
            "DocumentPatch",
            "CollectionSettings",
        ]
        .contains(&name.as_str());
        let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
        assert_eq!(closed, request, "{name}");
    }
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 10);
    for reference in references {
        assert!(
            document.pointer(reference.trim_start_matches('#')).is_some(),
            "{reference}"
        );
    }
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            into.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members
                .values()
                .for_each(|member| collect_references(member, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

/// A request that succeeds on a server with the collection `c` and the document `a`, and one that fails.
struct Sample {
    success: (&'static str, u16),
    failure: (&'static str, u16),
    body: Option<(&'static str, &'static str)>,
}

const fn sample(success: (&'static str, u16), failure: (&'static str, u16)) -> Sample {
    Sample {
        success,
        failure,
        body: None,
    }
}

fn samples() -> BTreeMap<&'static str, Sample> {
    const LIST: &str = "/v1/collections/c/documents";
    const DOC: &str = "/v1/collections/c/documents/a";
    const NO_DOC: &str = "/v1/collections/c/documents/b";
    const NO_COLLECTION: &str = "/v1/collections/x";
    let with = |body, sample| Sample {
        body: Some(body),
        ..sample
    };
    BTreeMap::from([
        (
            "list_collections",
            sample(("/v1/collections", 200), ("/v1/collections?limit=0", 400)),
        ),
        (
            "head_collections",
            sample(("/v1/collections", 200), ("/v1/collections?limit=0", 400)),
        ),
        (
            "get_collection",
            sample(("/v1/collections/c", 200), (NO_COLLECTION, 404)),
        ),
        (
            "head_collection",
            sample(("/v1/collections/c", 200), (NO_COLLECTION, 404)),
        ),
        (
            "put_collection",
            with(
                (JSON, "{}"),
                sample(("/v1/collections/new", 201), ("/v1/collections/a%20b", 400)),
            ),
        ),
        (
            "delete_collection",
            sample(("/v1/collections/c", 204), (NO_COLLECTION, 404)),
        ),
        (
            "list_documents",
            sample((LIST, 200), ("/v1/collections/c/documents?page_token=x", 400)),
        ),
        (
            "head_documents",
            sample((LIST, 200), ("/v1/collections/x/documents", 404)),
        ),
        (
            "create_document",
            with(
                (JSON, r#"{"data":{}}"#),
                sample((LIST, 201), ("/v1/collections/x/documents", 404)),
            ),
        ),
        ("get_document", sample((DOC, 200), (NO_DOC, 404))),
        ("head_document", sample((DOC, 200), (NO_DOC, 404))),
        (
            "put_document",
            with(
                (JSON, r#"{"data":{}}"#),
                sample((DOC, 200), ("/v1/collections/x/documents/a", 404)),
            ),
        ),
        (
            "patch_document",
            with((MERGE_PATCH, r#"{"data":{}}"#), sample((DOC, 200), (NO_DOC, 404))),
        ),
        ("delete_document", sample((DOC, 204), (NO_DOC, 404))),
    ])
}

#[tokio::test]
async fn every_operation_of_the_document_succeeds_and_fails_as_declared() {
    let document = document();
    let mut samples = samples();
    for (id, method, path, operation) in operations(&document) {
        let sample = samples
            .remove(id.as_str())
            .unwrap_or_else(|| panic!("{id} has no sample: add one"));
        let api = Api::with_collection().await;
        api.put("/v1/collections/c/documents/a", r#"{"data":{"n":1}}"#)
            .await
            .expect_status(201);
        // The failure first: the success may be the collection's end.
        for (target, status) in [sample.failure, sample.success] {
            assert_eq!(template_of(target), path, "{id}");
            let answer = send(&api, &method, target, sample.body).await;
            assert_eq!(answer.status, status, "{id} {target}: {}", answer.text());
            let declared = &operation["responses"][status.to_string()];
            assert!(declared.is_object(), "{id}: {status} is not declared");
            check_body(&document, declared, &answer);
            for (name, header) in declared["headers"].as_object().unwrap() {
                let optional = name == "Retry-After" || header.get("required") == Some(&Value::Bool(false));
                assert!(
                    optional || answer.header(name).is_some(),
                    "{id} {status}: no {name}"
                );
            }
        }
    }
    assert!(samples.is_empty(), "not in the document: {:?}", samples.keys());
}

/// The body has exactly the members that its schema describes, required ones at least; a problem is of a declared type.
fn check_body(document: &Value, declared: &Value, answer: &Answer) {
    let content = declared["content"].as_object().into_iter().flatten().next();
    let Some((media, content)) = content else {
        assert!(answer.body.is_empty(), "{}", answer.text());
        return;
    };
    assert_eq!(answer.header("content-type"), Some(media.as_str()));
    let schema = content["schema"]["$ref"].as_str().unwrap();
    let schema = document.pointer(schema.trim_start_matches('#')).unwrap();
    let body = answer.json();
    for name in body.as_object().unwrap().keys() {
        assert!(
            schema["properties"].get(name).is_some(),
            "{name} is not described: {body}"
        );
    }
    for name in schema["required"].as_array().unwrap() {
        assert!(
            body.get(name.as_str().unwrap()).is_some(),
            "{name} is missing: {body}"
        );
    }
    if let Some(types) = declared["x-problem-types"].as_array() {
        assert!(types.contains(&body["type"]), "{body}: {types:?}");
    }
}

async fn send(api: &Api, method: &str, path: &str, body: Option<(&str, &str)>) -> Answer {
    match body {
        Some((media, body)) => {
            api.send(method, path, &[("content-type", media)], Some(body.to_owned()))
                .await
        }
        None => api.send(method, path, &[], None).await,
    }
}

fn template_of(path: &str) -> String {
    let path = path.split('?').next().unwrap();
    let mut segments: Vec<&str> = path.split('/').collect();
    for (index, name) in [(3, "{collection}"), (5, "{id}")] {
        if let Some(segment) = segments.get_mut(index) {
            *segment = name;
        }
    }
    segments.join("/")
}

#[tokio::test]
async fn contract_63_swagger_ui_is_served_from_here_alone() {
    let api = Api::start().await;
    let page = api.get("/docs").await.expect_status(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'") && !policy.contains("http"),
        "{policy}"
    );
    let mut assets = 0;
    for attribute in ["src=\"", "href=\""] {
        for rest in page.text().split(attribute).skip(1) {
            let target = rest.split('"').next().unwrap();
            if target.starts_with("data:") {
                continue;
            }
            assert!(target.starts_with("/docs/"), "{target}");
            let asset = api.get(target).await.expect_status(200);
            assert!(!asset.text().contains("@import"), "{target}");
            assets += 1;
        }
    }
    assert_eq!(assets, 3);
    assert!(page.text().contains(".opblock-head { display: none; }"));
    let start = api.get("/docs/start.js").await;
    assert!(start.text().contains("validatorUrl: null") && start.text().contains("\"/openapi.json\""));
    assert!(!start.text().contains("://"));
}
