//! The documents of a collection: create, get, put, patch, delete, list.
//!
//! A handler gets values that are checked already, asks the store once, and turns its answer into a response.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};
use uuid::Uuid;

use super::error::{Problem, ProblemKind};
use super::held::{Hold, PAGE_BYTES_MAX, Room};
use super::page_token::{self, Binding};
use super::payload::{
    DocumentBody, DocumentCreateBody, DocumentListBody, DocumentPatchBody, DocumentPutBody, ETag, PageSize,
    PathHeader, described_only,
};
use super::{AppState, Tag, held, payload};
use crate::domain::json::BODY_BYTES_MAX;
use crate::domain::{
    CollectionId, CollectionName, Document, DocumentId, DocumentMeta, DocumentPatch, NewDocument,
    Precondition,
};
use crate::store::{
    Cursor, Delete, DocumentCreate, DocumentPatched, DocumentPut, Page, PageLimits, PatchOrder,
};

/// Up to this size a page's answer is put together where it is: a thousand small documents take less than half a
/// millisecond, as copying this much does.
const LIST_INLINE_BYTES_MAX: usize = 512 * 1024;

/// `If-Match` and `If-None-Match` of a request.
pub(super) struct Conditions(pub(super) Precondition);

described_only!(Conditions);

impl Conditions {
    /// Of a list, which exists and has no version (RFC 9110, 13.1): whether the client wants it.
    pub(super) fn unversioned_is_wanted(&self) -> Result<bool, Problem> {
        match self.0.if_match_holds_unversioned() {
            true => Ok(self.0.if_none_match_holds_unversioned()),
            false => Err(precondition_failed()),
        }
    }
}

type State<'a> = Data<&'a Arc<AppState>>;

pub(super) struct Documents;

#[derive(ApiResponse)]
pub(super) enum CreateDocument {
    /// The document was created.
    #[oai(status = 201)]
    Created(
        DocumentBody,
        /// The document's version.
        #[oai(header = "ETag")]
        ETag,
        /// The document's path.
        #[oai(header = "Location")]
        PathHeader,
    ),
}

#[derive(ApiResponse)]
pub(super) enum GetDocument {
    /// The document.
    #[oai(status = 200)]
    Found(
        DocumentBody,
        /// The document's version.
        #[oai(header = "ETag")]
        ETag,
    ),
    /// The version that `If-None-Match` names is the current one.
    #[oai(status = 304)]
    NotModified(
        /// The document's version.
        #[oai(header = "ETag")]
        ETag,
    ),
}

#[derive(ApiResponse)]
pub(super) enum PutDocument {
    /// The document was replaced; its `created_at` is kept.
    #[oai(status = 200)]
    Replaced(
        DocumentBody,
        /// The document's new version.
        #[oai(header = "ETag")]
        ETag,
    ),
    /// The document was created.
    #[oai(status = 201)]
    Created(
        DocumentBody,
        /// The document's version.
        #[oai(header = "ETag")]
        ETag,
        /// The document's path.
        #[oai(header = "Location")]
        PathHeader,
    ),
}

#[derive(ApiResponse)]
pub(super) enum PatchDocument {
    /// The document as it is now.
    #[oai(status = 200)]
    Patched(
        DocumentBody,
        /// The document's new version.
        #[oai(header = "ETag")]
        ETag,
    ),
}

#[derive(ApiResponse)]
pub(super) enum DeleteDocument {
    /// The document is gone.
    #[oai(status = 204)]
    Deleted,
}

#[derive(ApiResponse)]
pub(super) enum ListDocuments {
    /// A page of documents.
    #[oai(status = 200)]
    Page(DocumentListBody),
    /// `If-None-Match: *`, and the list is there.
    #[oai(status = 304)]
    NotModified,
}

#[OpenApi(prefix_path = "/v1/collections", tag = "Tag::Documents")]
impl Documents {
    /// List documents
    ///
    /// Pages through the documents of a collection in an unspecified but stable order: a document that exists
    /// throughout is seen exactly once. A page may end early; only an absent `next_page_token` means the end. A list has no
    /// version: of conditions only `*` matches it.
    #[oai(path = "/:collection/documents", method = "get", method = "head")]
    pub(super) async fn list(
        &self,
        state: State<'_>,
        collection: Path<CollectionName>,
        /// Most documents of the page.
        limit: Query<Option<PageSize>>,
        /// The `next_page_token` of the page before; leave it out for the first page.
        page_token: Query<Option<String>>,
        conditions: Conditions,
    ) -> Result<ListDocuments, Problem> {
        let collection = collection_id(state.0, &collection.0).await?;
        if !conditions.unversioned_is_wanted()? {
            return Ok(ListDocuments::NotModified);
        }
        let binding = Binding::Documents(collection);
        let cursor = match &page_token.0 {
            None => None,
            Some(token) => {
                Some(page_token::open(&state.cluster_secret, binding, token).ok_or_else(invalid_page_token)?)
            }
        };
        let limits = PageLimits {
            items_max: limit.0.unwrap_or(PageSize::DEFAULT).items(),
            bytes_max: PAGE_BYTES_MAX,
        };
        let (page, hold) = page_with_room(state.0, collection, cursor.as_ref(), limits).await?;
        let next = match page.next {
            None => None,
            Some(cursor) => Some(next_page_token(&state, binding, &cursor)?),
        };
        let bytes = payload::page_bytes(&page.documents);
        let body = move || DocumentListBody::of(page.documents, next.as_deref(), hold);
        Ok(ListDocuments::Page(match bytes <= LIST_INLINE_BYTES_MAX {
            true => body(),
            false => state.large.run(bytes, body).await?,
        }))
    }

    /// Create a document
    ///
    /// Creates a document under the id in the body, or, without one, under a new UUID (version 7). An id that is taken
    /// is a 409; use PUT to create or replace.
    #[oai(path = "/:collection/documents", method = "post")]
    pub(super) async fn create(
        &self,
        state: State<'_>,
        collection: Path<CollectionName>,
        conditions: Conditions,
        body: DocumentCreateBody,
    ) -> Result<CreateDocument, Problem> {
        // What is created has no version yet that `If-Match` could name, nor one that `If-None-Match` could rule out.
        if !conditions.0.if_match_holds(None) {
            return Err(precondition_failed());
        }
        let body_bytes = body.0.len();
        let parse = move || NewDocument::parse(&body.0);
        let document = state
            .large
            .run(body_bytes, parse)
            .await?
            .map_err(Problem::invalid_body)?;
        let id = match document.id {
            Some(id) => id,
            None => new_id(state.0)?,
        };
        let owner = collection_id(state.0, &collection.0).await?;
        let created = state
            .store
            .document_create(owner, &id, &document.data, state.stamp())
            .await?;
        match created {
            DocumentCreate::Created(meta) => Ok(CreateDocument::Created(
                DocumentBody::from_parts(&id, &meta, document.data.as_bytes()),
                ETag(meta.version),
                location(&collection.0, &id),
            )),
            DocumentCreate::AlreadyExists => Err(Problem::new(
                ProblemKind::AlreadyExists,
                format!("the collection has a document {id} already"),
            )),
        }
    }

    /// Get a document
    ///
    /// With `If-None-Match` and the version that the client has, an unchanged document is a 304 without a body.
    #[oai(
        path = "/:collection/documents/:id",
        method = "get",
        method = "head",
        request_header(
            name = "If-Match",
            ty = "Option<String>",
            description = "The version must be one of these."
        ),
        request_header(
            name = "If-None-Match",
            ty = "Option<String>",
            description = "The version must be none of these, else 304."
        )
    )]
    pub(super) async fn get(
        &self,
        state: State<'_>,
        collection: Path<CollectionName>,
        id: Path<DocumentId>,
        conditions: Conditions,
    ) -> Result<GetDocument, Problem> {
        let collection = collection_id(state.0, &collection.0).await?;
        let found = document_with_room(state.0, collection, &id.0).await?;
        let document = found.ok_or_else(|| document_not_found(&id.0))?;
        let version = document.meta.version;
        if !conditions.0.if_match_holds(Some(version)) {
            return Err(precondition_failed());
        }
        if !conditions.0.if_none_match_holds(Some(version)) {
            return Ok(GetDocument::NotModified(ETag(version)));
        }
        Ok(GetDocument::Found(DocumentBody::of(&document), ETag(version)))
    }

    /// Create or replace a document
    ///
    /// Members of the envelope that the server writes are ignored, so what GET gave can be put back. `If-None-Match: *`
    /// only creates; `If-Match` only replaces that version.
    #[oai(
        path = "/:collection/documents/:id",
        method = "put",
        request_header(
            name = "If-Match",
            ty = "Option<String>",
            description = "The version must be one of these."
        ),
        request_header(
            name = "If-None-Match",
            ty = "Option<String>",
            description = "The version must be none of these; `*`: there must be no document."
        )
    )]
    pub(super) async fn put(
        &self,
        state: State<'_>,
        collection: Path<CollectionName>,
        id: Path<DocumentId>,
        conditions: Conditions,
        body: DocumentPutBody,
    ) -> Result<PutDocument, Problem> {
        let (body_bytes, path_id) = (body.0.len(), id.0.clone());
        let parse = move || NewDocument::parse_for(&body.0, &path_id);
        let document = state.large.run(body_bytes, parse).await?;
        let data = document.map_err(Problem::invalid_body)?.data;
        let owner = collection_id(state.0, &collection.0).await?;
        let put = state
            .store
            .document_put(owner, &id.0, &data, &conditions.0, state.stamp())
            .await?;
        let envelope = |meta: &DocumentMeta| DocumentBody::from_parts(&id.0, meta, data.as_bytes());
        match put {
            DocumentPut::Created(meta) => Ok(PutDocument::Created(
                envelope(&meta),
                ETag(meta.version),
                location(&collection.0, &id.0),
            )),
            DocumentPut::Replaced(meta) => Ok(PutDocument::Replaced(envelope(&meta), ETag(meta.version))),
            DocumentPut::PreconditionFailed => Err(precondition_failed()),
        }
    }

    /// Change parts of a document
    ///
    /// A JSON merge patch (RFC 7396) of the envelope: `{"data": {"done": true, "note": null}}` sets `done` and removes
    /// `note`. Parts that the patch does not name stay exactly as they are. Members that the server writes can't be
    /// patched.
    #[oai(
        path = "/:collection/documents/:id",
        method = "patch",
        request_header(
            name = "If-Match",
            ty = "Option<String>",
            description = "The version must be one of these."
        ),
        request_header(
            name = "If-None-Match",
            ty = "Option<String>",
            description = "The version must be none of these."
        )
    )]
    pub(super) async fn patch(
        &self,
        state: State<'_>,
        collection: Path<CollectionName>,
        id: Path<DocumentId>,
        conditions: Conditions,
        body: DocumentPatchBody,
    ) -> Result<PatchDocument, Problem> {
        let body_bytes = body.0.len();
        let parse = move || DocumentPatch::parse(&body.0);
        let patch = state.large.run(body_bytes, parse).await?;
        let order = PatchOrder {
            patch: patch.map_err(Problem::invalid_body)?,
            precondition: conditions.0,
        };
        let owner = collection_id(state.0, &collection.0).await?;
        // How long the result is going to be, nobody knows; and once it is written, it is too late to refuse it. Answers'
        // room, because the patch itself may have some of that for bodies: nobody waits for both in another order.
        let hold = state.held.answers.take(BODY_BYTES_MAX).await?;
        let patched = state
            .store
            .document_patch(owner, &id.0, &order, state.stamp())
            .await?;
        match patched {
            DocumentPatched::Patched(document) => {
                let document = held::kept(document, hold);
                Ok(PatchDocument::Patched(
                    DocumentBody::of(&document),
                    ETag(document.meta.version),
                ))
            }
            DocumentPatched::Missing => Err(document_not_found(&id.0)),
            DocumentPatched::PreconditionFailed => Err(precondition_failed()),
            DocumentPatched::TooLarge => Err(Problem::new(
                ProblemKind::BodyTooLarge,
                format!("the patched document would be larger than {BODY_BYTES_MAX} bytes"),
            )),
        }
    }

    /// Delete a document
    #[oai(
        path = "/:collection/documents/:id",
        method = "delete",
        request_header(
            name = "If-Match",
            ty = "Option<String>",
            description = "The version must be one of these."
        ),
        request_header(
            name = "If-None-Match",
            ty = "Option<String>",
            description = "The version must be none of these."
        )
    )]
    pub(super) async fn delete(
        &self,
        state: State<'_>,
        collection: Path<CollectionName>,
        id: Path<DocumentId>,
        conditions: Conditions,
    ) -> Result<DeleteDocument, Problem> {
        let collection = collection_id(state.0, &collection.0).await?;
        let deleted = state
            .store
            .document_delete(collection, &id.0, &conditions.0, state.stamp())
            .await?;
        match deleted {
            Delete::Deleted => Ok(DeleteDocument::Deleted),
            Delete::Missing => Err(document_not_found(&id.0)),
            Delete::PreconditionFailed => Err(precondition_failed()),
        }
    }
}

/// The collection's identity, as this instance knows it; at most a moment old.
async fn collection_id(state: &AppState, name: &CollectionName) -> Result<CollectionId, Problem> {
    match state.catalog.collection(name).await? {
        Some(collection) => Ok(collection.id),
        None => Err(collection_not_found(name)),
    }
}

/// A page, and the room for it if it is large. Without room the page is let go, and read again when there is room for the
/// largest.
async fn page_with_room(
    state: &AppState,
    collection: CollectionId,
    cursor: Option<&Cursor>,
    limits: PageLimits,
) -> Result<(Page, Option<Hold>), Problem> {
    let page = read_page(state, collection, cursor, limits).await?;
    match state.held.answers.room_for(payload::page_bytes(&page.documents)) {
        Room::Unneeded => Ok((page, None)),
        Room::Taken(hold) => Ok((page, Some(hold))),
        Room::Lacking => {
            drop(page);
            let mut hold = state.held.answers.take(PAGE_BYTES_MAX).await?;
            let page = read_page(state, collection, cursor, limits).await?;
            hold.shrink_to(payload::page_bytes(&page.documents));
            Ok((page, Some(hold)))
        }
    }
}

async fn read_page(
    state: &AppState,
    collection: CollectionId,
    cursor: Option<&Cursor>,
    limits: PageLimits,
) -> Result<Page, Problem> {
    let _turn = state.held.page_turn().await?;
    Ok(state.store.document_page(collection, cursor, limits).await?)
}

/// A document that has room if it is large; without room it is let go and read again, as a page is.
async fn document_with_room(
    state: &AppState,
    collection: CollectionId,
    id: &DocumentId,
) -> Result<Option<Document>, Problem> {
    let Some(document) = state.store.document_fetch(collection, id).await? else {
        return Ok(None);
    };
    match state.held.answers.room_for(document.data.as_bytes().len()) {
        Room::Unneeded => Ok(Some(document)),
        Room::Taken(hold) => Ok(Some(held::kept(document, hold))),
        Room::Lacking => {
            drop(document);
            let hold = state.held.answers.take(BODY_BYTES_MAX).await?;
            let found = state.store.document_fetch(collection, id).await?;
            Ok(found.map(|document| held::kept(document, hold)))
        }
    }
}

/// A UUID of version 7: ids of later documents are greater, to the millisecond.
fn new_id(state: &AppState) -> Result<DocumentId, Problem> {
    let millis = u64::try_from((state.clock)().micros() / 1_000).unwrap_or(0);
    let random = (u128::from((state.nonce)()) << 64) | u128::from((state.nonce)());
    let mut bytes = [0; 10];
    bytes.copy_from_slice(random.to_be_bytes().get(..10).unwrap_or(&[0; 10]));
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid();
    let mut buffer = Uuid::encode_buffer();
    DocumentId::parse(id.hyphenated().encode_lower(&mut buffer))
        .map_err(|error| Problem::new(ProblemKind::Internal, error.to_string()))
}

fn location(collection: &CollectionName, id: &DocumentId) -> PathHeader {
    PathHeader(format!("/v1/collections/{collection}/documents/{id}"))
}

pub(super) fn collection_not_found(name: &CollectionName) -> Problem {
    Problem::new(
        ProblemKind::CollectionNotFound,
        format!("there is no collection {name}; PUT /v1/collections/{name} makes one"),
    )
}

fn document_not_found(id: &DocumentId) -> Problem {
    Problem::new(
        ProblemKind::DocumentNotFound,
        format!("the collection has no document {id}"),
    )
}

pub(super) fn precondition_failed() -> Problem {
    Problem::new(
        ProblemKind::PreconditionFailed,
        "the current version is not what If-Match or If-None-Match demands; nothing was written",
    )
}

/// The token of the next page.
pub(super) fn next_page_token(
    state: &AppState,
    binding: Binding,
    cursor: &Cursor,
) -> Result<String, Problem> {
    page_token::seal(&state.cluster_secret, binding, cursor)
        .ok_or_else(|| Problem::new(ProblemKind::Internal, "the next page's token can't be made"))
}

pub(super) fn invalid_page_token() -> Problem {
    Problem::new(
        ProblemKind::InvalidPageToken,
        "the page token was not made for this list, or is damaged; begin again without one",
    )
}
