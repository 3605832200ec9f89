//! Bodies and parameters as the OpenAPI document names them. Response bodies are JSON text put together from stored
//! text; request bodies are raw bytes, so that nothing is parsed twice or altered on the way.

use std::borrow::Cow;
use std::io::Write as _;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use poem::{IntoResponse, Request, RequestBody, Response};
use poem_openapi::payload::Payload;
use poem_openapi::registry::{MetaMediaType, MetaRequest, MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{ParseError, ParseFromParameter, ParseResult, ToHeader, Type};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::answer::{AnswerText, Pieces};
use super::error::{Problem, ProblemKind};
use super::held::Hold;
use super::incoming::Media;
use crate::domain::{CollectionName, Document, DocumentId, DocumentMeta, Version, hex_digits};
use crate::store::Collection;

/// The schemas that types here refer to; `openapi.rs` writes them out.
pub(super) mod schema {
    pub(in crate::http) const DOCUMENT: &str = "Document";
    pub(in crate::http) const DOCUMENT_LIST: &str = "DocumentList";
    pub(in crate::http) const DOCUMENT_CREATE: &str = "DocumentCreate";
    pub(in crate::http) const DOCUMENT_PUT: &str = "DocumentPut";
    pub(in crate::http) const DOCUMENT_PATCH: &str = "DocumentPatch";
    pub(in crate::http) const COLLECTION: &str = "Collection";
    pub(in crate::http) const COLLECTION_LIST: &str = "CollectionList";
    pub(in crate::http) const COLLECTION_SETTINGS: &str = "CollectionSettings";

    #[cfg(test)]
    pub(in crate::http) const ALL: [&str; 8] = [
        DOCUMENT,
        DOCUMENT_LIST,
        DOCUMENT_CREATE,
        DOCUMENT_PUT,
        DOCUMENT_PATCH,
        COLLECTION,
        COLLECTION_LIST,
        COLLECTION_SETTINGS,
    ];
}

fn register(registry: &mut Registry, name: &'static str) {
    // Only the name: the schema itself is written by the pass over the document.
    registry
        .schemas
        .entry(name.to_owned())
        .or_insert_with(|| MetaSchema::new("object"));
}

macro_rules! response_body {
    ($(#[$doc:meta])* $name:ident, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name(pub(super) AnswerText);

        impl Payload for $name {
            const CONTENT_TYPE: &'static str = "application/json";

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Reference($schema.to_owned())
            }

            fn register(registry: &mut Registry) {
                register(registry, $schema);
            }
        }

        impl IntoResponse for $name {
            fn into_response(self) -> Response {
                let mut response = Response::builder().body(poem::Body::from(self.0));
                let json = HeaderValue::from_static(Self::CONTENT_TYPE);
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                response
            }
        }
    };
}

response_body!(
    /// A document's envelope.
    DocumentBody,
    schema::DOCUMENT
);
response_body!(
    /// A page of documents.
    DocumentListBody,
    schema::DOCUMENT_LIST
);
response_body!(
    /// A collection.
    CollectionBody,
    schema::COLLECTION
);
response_body!(
    /// A page of collections.
    CollectionListBody,
    schema::COLLECTION_LIST
);

/// The answer of an extractor of poem's. Its traits are implemented for what they say of a handler in the OpenAPI document;
/// handlers get their arguments from `call.rs`.
pub(super) fn not_extracted() -> poem::Error {
    Problem::new(ProblemKind::Internal, "handlers are called by http/mod.rs alone").into()
}

/// Makes a type an argument that the OpenAPI document does not mention.
macro_rules! described_only {
    ($name:ident) => {
        impl<'a> poem::FromRequest<'a> for $name {
            async fn from_request(
                _request: &'a poem::Request,
                _body: &mut poem::RequestBody,
            ) -> poem::Result<Self> {
                Err($crate::http::payload::not_extracted())
            }
        }
    };
}
pub(super) use described_only;

macro_rules! request_body {
    ($(#[$doc:meta])* $name:ident, $media:expr, $schema:expr) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub(super) struct $name(pub(super) Bytes);

        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                register(registry, $schema);
            }

            fn request_meta() -> Option<MetaRequest> {
                Some(MetaRequest {
                    description: None,
                    content: vec![MetaMediaType {
                        content_type: $media.as_str(),
                        schema: MetaSchemaRef::Reference($schema.to_owned()),
                    }],
                    required: true,
                })
            }

            async fn from_request(
                _request: &'a Request,
                _body: &mut RequestBody,
                _options: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                Err(not_extracted())
            }
        }

        impl From<Bytes> for $name {
            fn from(bytes: Bytes) -> Self {
                Self(bytes)
            }
        }
    };
}

request_body!(
    /// The body of `create_document`.
    DocumentCreateBody,
    Media::Json,
    schema::DOCUMENT_CREATE
);
request_body!(
    /// The body of `put_document`.
    DocumentPutBody,
    Media::Json,
    schema::DOCUMENT_PUT
);
request_body!(
    /// The body of `patch_document`.
    DocumentPatchBody,
    Media::MergePatch,
    schema::DOCUMENT_PATCH
);
request_body!(
    /// The body of `put_collection`.
    CollectionSettingsBody,
    Media::Json,
    schema::COLLECTION_SETTINGS
);

macro_rules! simple_type {
    ($type:ty, $name:literal, $schema:expr) => {
        impl Type for $type {
            const IS_REQUIRED: bool = true;
            type RawValueType = Self;
            type RawElementValueType = Self;

            fn name() -> Cow<'static, str> {
                Cow::Borrowed($name)
            }

            fn schema_ref() -> MetaSchemaRef {
                MetaSchemaRef::Inline(Box::new($schema))
            }

            fn as_raw_value(&self) -> Option<&Self> {
                Some(self)
            }

            fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
                Box::new(std::iter::once(self))
            }
        }
    };
}

/// 1 to 128 characters of the names' alphabet, at least one of them no dot, or at least three dots.
pub(super) const NAME_PATTERN: &str = r"^(\.{0,127}[A-Za-z0-9_~-][A-Za-z0-9_.~-]{0,127}|\.{3,128})$";

fn name_schema(example: &str) -> MetaSchema {
    MetaSchema {
        min_length: Some(1),
        max_length: Some(crate::domain::NAME_CHARS_MAX),
        pattern: Some(NAME_PATTERN.to_owned()),
        example: Some(example.into()),
        ..MetaSchema::new("string")
    }
}

simple_type!(CollectionName, "CollectionName", name_schema("notes"));
simple_type!(DocumentId, "DocumentId", name_schema("first"));

impl ParseFromParameter for CollectionName {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        Self::parse(value).map_err(ParseError::custom)
    }
}

impl ParseFromParameter for DocumentId {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        Self::parse(value).map_err(ParseError::custom)
    }
}

/// How many items a page may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageSize(usize);

/// Most items of a page. With [`super::held::PAGE_BYTES_MAX`] it bounds what one request holds in memory.
pub(super) const PAGE_ITEMS_MAX: usize = 1_000;

/// Items of a page when the client says nothing.
pub(super) const PAGE_ITEMS_DEFAULT: usize = 100;

impl PageSize {
    pub(super) const DEFAULT: Self = Self(PAGE_ITEMS_DEFAULT);

    /// 1 to [`PAGE_ITEMS_MAX`], in plain digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
        let items = text.parse().ok().filter(|_| digits)?;
        (1..=PAGE_ITEMS_MAX).contains(&items).then_some(Self(items))
    }

    pub(super) fn items(self) -> usize {
        self.0
    }
}

simple_type!(
    PageSize,
    "PageSize",
    MetaSchema {
        minimum: Some(1.0),
        maximum: Some(1_000.0),
        default: Some(PAGE_ITEMS_DEFAULT.into()),
        ..MetaSchema::new_with_format("integer", "int32")
    }
);

impl ParseFromParameter for PageSize {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        Self::parse(value).ok_or_else(|| ParseError::custom("must be 1 to 1000"))
    }
}

/// A version as an `ETag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ETag(pub(super) Version);

simple_type!(
    ETag,
    "ETag",
    MetaSchema {
        pattern: Some(r#"^"[0-9a-f]{32}"$"#.to_owned()),
        ..MetaSchema::new("string")
    }
);

impl ToHeader for ETag {
    fn to_header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(format!("\"{}\"", self.0)).ok()
    }
}

/// A header with a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathHeader(pub(super) String);

simple_type!(
    PathHeader,
    "PathHeader",
    MetaSchema::new_with_format("string", "uri-reference")
);

impl ToHeader for PathHeader {
    fn to_header(&self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.0.as_str()).ok()
    }
}

/// Longest envelope around the data: names and quotes (about 100), id (128), version (32), two times (24 each).
const ENVELOPE_BYTES: usize = 320;

/// Data up to this size is copied beside its envelope, so that an answer is written in one go; longer data goes out as it
/// is. Copying 16 KiB takes about a microsecond, a piece of its own some more.
const COPIED_BYTES_MAX: usize = 16 * 1024;

/// Most bytes set aside for a list at once: one piece of it.
const LIST_PIECE_BYTES: usize = 64 * 1024;

/// Bytes that a page of documents takes as an answer, about.
pub(super) fn page_bytes(documents: &[Document]) -> usize {
    let bytes = documents
        .iter()
        .map(|document| document.data.as_bytes().len() + ENVELOPE_BYTES);
    bytes.sum()
}

impl DocumentBody {
    pub(super) fn of(document: &Document) -> Self {
        Self::from_parts(&document.id, &document.meta, document.data.as_bytes())
    }

    pub(super) fn from_parts(id: &DocumentId, meta: &DocumentMeta, data: &Bytes) -> Self {
        let copied = Some(data.len()).filter(|bytes| *bytes <= COPIED_BYTES_MAX);
        let mut body = Pieces::with_capacity(copied.unwrap_or(0) + ENVELOPE_BYTES);
        write_document(&mut body, id, meta, data);
        Self(body.finish(None))
    }
}

impl DocumentListBody {
    /// Takes the documents with it, so that each is let go when it has been written. `hold` is what they are held by.
    pub(super) fn of(
        documents: Vec<Document>,
        next_page_token: Option<&str>,
        mut hold: Option<Hold>,
    ) -> Self {
        let mut body = Pieces::with_capacity((page_bytes(&documents) + 512).min(LIST_PIECE_BYTES));
        body.text.extend_from_slice(LIST_BEGIN);
        for (index, document) in documents.into_iter().enumerate() {
            if index > 0 {
                body.text.push(b',');
            }
            let mut data = document.data.as_bytes().clone();
            if data.len() > COPIED_BYTES_MAX
                && let Some(its_own) = hold.as_mut().and_then(|hold| hold.split_off(data.len()))
            {
                data = its_own.keep(data);
            }
            write_document(&mut body, &document.id, &document.meta, &data);
            body.cut(LIST_PIECE_BYTES);
        }
        write_list_end(&mut body.text, next_page_token);
        Self(body.finish(hold))
    }
}

impl CollectionBody {
    pub(super) fn of(collection: &Collection) -> Self {
        let mut body = Vec::with_capacity(ENVELOPE_BYTES);
        write_collection(&mut body, collection);
        Self(body.into())
    }
}

impl CollectionListBody {
    pub(super) fn of(collections: &[Collection], next_page_token: Option<&str>, hold: Option<Hold>) -> Self {
        let mut body = Pieces::with_capacity(collections.len() * ENVELOPE_BYTES);
        body.text.extend_from_slice(LIST_BEGIN);
        for (index, collection) in collections.iter().enumerate() {
            if index > 0 {
                body.text.push(b',');
            }
            write_collection(&mut body.text, collection);
        }
        write_list_end(&mut body.text, next_page_token);
        Self(body.finish(hold))
    }

    /// Bytes that a page of this many collections takes, at most.
    pub(super) fn bytes_max(collections: usize) -> usize {
        collections * ENVELOPE_BYTES
    }
}

/// The id's alphabet needs no escaping, and the data is checked JSON.
fn write_document(pieces: &mut Pieces, id: &DocumentId, meta: &DocumentMeta, data: &Bytes) {
    let body = &mut pieces.text;
    // Piece by piece, since a page has up to a thousand of these.
    body.extend_from_slice(br#"{"id":""#);
    body.extend_from_slice(id.as_str().as_bytes());
    body.extend_from_slice(br#"","version":""#);
    body.extend_from_slice(&hex_digits(meta.version.to_bytes()));
    body.extend_from_slice(br#"","created_at":""#);
    let created_at = body.len();
    // Writing to a Vec cannot fail.
    let _ = write!(body, "{}", meta.created_at);
    let created_at = created_at..body.len();
    body.extend_from_slice(br#"","updated_at":""#);
    if meta.updated_at == meta.created_at {
        body.extend_from_within(created_at);
    } else {
        let _ = write!(body, "{}", meta.updated_at);
    }
    body.extend_from_slice(br#"","data":"#);
    if data.len() <= COPIED_BYTES_MAX {
        body.extend_from_slice(data);
    } else {
        pieces.push(data.clone());
    }
    pieces.text.push(b'}');
}

fn write_collection(body: &mut Vec<u8>, collection: &Collection) {
    // Writing to a Vec cannot fail.
    let _ = write!(
        body,
        r#"{{"name":"{}","created_at":"{}","updated_at":"{}"}}"#,
        collection.name, collection.created_at, collection.updated_at
    );
}

const LIST_BEGIN: &[u8] = br#"{"items":["#;

fn write_list_end(body: &mut Vec<u8>, next_page_token: Option<&str>) {
    body.push(b']');
    if let Some(token) = next_page_token {
        // The token is base64url: nothing to escape.
        body.extend_from_slice(br#","next_page_token":""#);
        body.extend_from_slice(token.as_bytes());
        body.push(b'"');
    }
    body.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{JsonObject, Timestamp, WriteStamp};

    fn document(id: &str) -> Document {
        let stamp = WriteStamp {
            now: Timestamp(1_000),
            nonce: 2,
        };
        Document {
            id: DocumentId::parse(id).unwrap(),
            meta: DocumentMeta {
                version: Version::first(stamp),
                created_at: Timestamp(1_000),
                updated_at: Timestamp(2_000),
            },
            data: JsonObject::from_checked(Bytes::from_static(br#"{"n": 1.0}"#)),
        }
    }

    #[test]
    fn bodies_hold_the_data_as_it_was_stored() {
        let expected = concat!(
            r#"{"id":"a","version":"00000000000003e80000000000000002","created_at":"1970-01-01T00:00:00.001Z","#,
            r#""updated_at":"1970-01-01T00:00:00.002Z","data":{"n": 1.0}}"#
        );
        assert_eq!(DocumentBody::of(&document("a")).0.to_vec(), expected.as_bytes());
        let list = DocumentListBody::of(vec![document("a"), document("a")], Some("t"), None);
        let expected = format!(r#"{{"items":[{expected},{expected}],"next_page_token":"t"}}"#);
        assert_eq!(list.0.to_vec(), expected.as_bytes());
        let list = DocumentListBody::of(Vec::new(), None, None);
        assert_eq!(list.0.to_vec(), br#"{"items":[]}"#);
    }

    /// Long data is not copied, and stands where it belongs all the same.
    #[test]
    fn long_and_short_data_come_out_alike() {
        let data = |bytes: usize| Bytes::from(format!(r#"{{"x":"{}"}}"#, "y".repeat(bytes)));
        let with = |bytes: usize| Document {
            data: JsonObject::from_checked(data(bytes)),
            ..document("a")
        };
        let lengths = [1, COPIED_BYTES_MAX, 200_000, 2, 70_000, 30_000];
        let one_by_one: Vec<_> = lengths
            .iter()
            .map(|bytes| String::from_utf8(DocumentBody::of(&with(*bytes)).0.to_vec()).unwrap())
            .collect();
        let list = DocumentListBody::of(lengths.map(with).into(), None, None).0;
        let expected = format!(r#"{{"items":[{}]}}"#, one_by_one.join(","));
        assert_eq!(
            (list.len(), list.to_vec()),
            (expected.len(), expected.clone().into_bytes())
        );
        let body: serde_json::Value = serde_json::from_str(&expected).unwrap();
        assert_eq!(body["items"][2]["data"]["x"].as_str().unwrap().len(), 200_000);
    }

    #[test]
    fn page_sizes_are_not_clamped() {
        assert_eq!(PageSize::parse("1").unwrap().items(), 1);
        assert_eq!(PageSize::parse("1000").unwrap().items(), 1_000);
        assert_eq!(PageSize::parse("0100").unwrap().items(), 100);
        for bad in ["", "0", "1001", "-1", "+1", "1.0", "ten", " 1", "00001"] {
            assert_eq!(PageSize::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn etags_are_quoted_and_strong() {
        let etag = ETag(document("a").meta.version).to_header().unwrap();
        assert_eq!(etag, "\"00000000000003e80000000000000002\"");
    }
}
