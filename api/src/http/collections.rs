//! Collections: list, get, put, delete.

use std::sync::Arc;

use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{ApiResponse, OpenApi};

use super::access::Grant;
use super::documents::{
    Conditions, collection_not_found, invalid_page_token, next_page_token, precondition_failed,
};
use super::error::Problem;
use super::held::UNHELD_BYTES_MAX;
use super::page_token::{self, Binding};
use super::payload::{
    CollectionBody, CollectionListBody, CollectionSettingsBody, ETag, PAGE_ITEMS_MAX, PageSize, PathHeader,
    described_only,
};
use super::{AppState, Tag};
use crate::domain::{CollectionName, check_collection_settings};
use crate::store::{Collection, CollectionPut, Cursor, Delete};

/// How often one request asks the store for collections, when the key sees few of those that there are: with 1,000 a
/// time, a page ends after 8,000 collections at the latest, early and perhaps empty, and the client asks on.
const LIST_ROUNDS_MAX: usize = 8;

/// What the client that sent a request may do.
pub(super) struct Caller(pub(super) Grant);

described_only!(Caller);

type State<'a> = Data<&'a Arc<AppState>>;

pub(super) struct Collections;

#[derive(ApiResponse)]
pub(super) enum ListCollections {
    /// A page of collections.
    #[oai(status = 200)]
    Page(CollectionListBody),
    /// `If-None-Match: *`, and the list is there.
    #[oai(status = 304)]
    NotModified,
}

#[derive(ApiResponse)]
pub(super) enum GetCollection {
    /// The collection.
    #[oai(status = 200)]
    Found(
        CollectionBody,
        /// The version of the collection's settings.
        #[oai(header = "ETag")]
        ETag,
    ),
    /// The version that `If-None-Match` names is the current one.
    #[oai(status = 304)]
    NotModified(
        /// The version of the collection's settings.
        #[oai(header = "ETag")]
        ETag,
    ),
}

#[derive(ApiResponse)]
pub(super) enum PutCollection {
    /// The collection existed; its settings are replaced, its documents kept.
    #[oai(status = 200)]
    Replaced(
        CollectionBody,
        /// The new version of the collection's settings.
        #[oai(header = "ETag")]
        ETag,
    ),
    /// The collection was made.
    #[oai(status = 201)]
    Created(
        CollectionBody,
        /// The version of the collection's settings.
        #[oai(header = "ETag")]
        ETag,
        /// The collection's path.
        #[oai(header = "Location")]
        PathHeader,
    ),
}

#[derive(ApiResponse)]
pub(super) enum DeleteCollection {
    /// The collection and its documents are gone, on every instance.
    #[oai(status = 204)]
    Deleted,
}

#[OpenApi(prefix_path = "/v1/collections", tag = "Tag::Collections")]
impl Collections {
    /// List collections
    ///
    /// Shows the collections that the key has any scope on, ordered by name. A page may end early, or be empty; only
    /// an absent `next_page_token` means the end. A list has no version: of conditions only `*` matches it.
    #[oai(path = "/", method = "get", method = "head")]
    pub(super) async fn list(
        &self,
        state: State<'_>,
        caller: Caller,
        /// Most collections of the page.
        limit: Query<Option<PageSize>>,
        /// The `next_page_token` of the page before; leave it out for the first page.
        page_token: Query<Option<String>>,
        conditions: Conditions,
    ) -> Result<ListCollections, Problem> {
        if !conditions.unversioned_is_wanted()? {
            return Ok(ListCollections::NotModified);
        }
        let mut after = match &page_token.0 {
            None => None,
            Some(token) => Some(open(&state, token).ok_or_else(invalid_page_token)?),
        };
        let limit = limit.0.unwrap_or(PageSize::DEFAULT).items();
        let bytes_max = CollectionListBody::bytes_max(limit);
        let hold = match bytes_max > UNHELD_BYTES_MAX {
            true => Some(state.held.answers.take(bytes_max).await?),
            false => None,
        };
        let mut items: Vec<Collection> = Vec::new();
        let mut at_end = false;
        // One more than the page holds shows whether it is the last.
        let asked = if matches!(caller.0, Grant::Open) {
            limit + 1
        } else {
            PAGE_ITEMS_MAX
        };
        for _ in 0..LIST_ROUNDS_MAX {
            let found = state.store.collection_list(after.as_ref(), asked).await?;
            at_end = found.len() < asked;
            for collection in found {
                if !caller.0.sees(&collection.name) {
                    after = Some(collection.name);
                } else if items.len() < limit {
                    after = Some(collection.name.clone());
                    items.push(collection);
                } else {
                    // One more is there: the page is full, but not the last.
                    at_end = false;
                    break;
                }
            }
            if at_end || items.len() == limit {
                break;
            }
        }
        let next = match after.filter(|_| !at_end) {
            None => None,
            Some(after) => Some(seal(&state, &after)?),
        };
        Ok(ListCollections::Page(CollectionListBody::of(
            &items,
            next.as_deref(),
            hold,
        )))
    }

    /// Get a collection
    #[oai(
        path = "/:collection",
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
        conditions: Conditions,
    ) -> Result<GetCollection, Problem> {
        let found = state.store.collection_fetch(&collection.0).await?;
        let found = found.ok_or_else(|| collection_not_found(&collection.0))?;
        if !conditions.0.if_match_holds(Some(found.version)) {
            return Err(precondition_failed());
        }
        if !conditions.0.if_none_match_holds(Some(found.version)) {
            return Ok(GetCollection::NotModified(ETag(found.version)));
        }
        Ok(GetCollection::Found(
            CollectionBody::of(&found),
            ETag(found.version),
        ))
    }

    /// Make a collection, or replace its settings
    ///
    /// A body is required; `{}` is the default. There are no settings yet. Members that the server writes are ignored,
    /// so what GET gave can be put back.
    #[oai(
        path = "/:collection",
        method = "put",
        request_header(
            name = "If-Match",
            ty = "Option<String>",
            description = "The version must be one of these."
        ),
        request_header(
            name = "If-None-Match",
            ty = "Option<String>",
            description = "The version must be none of these; `*`: there must be no collection."
        )
    )]
    pub(super) async fn put(
        &self,
        state: State<'_>,
        collection: Path<CollectionName>,
        conditions: Conditions,
        body: CollectionSettingsBody,
    ) -> Result<PutCollection, Problem> {
        let (body_bytes, name) = (body.0.len(), collection.0.clone());
        let check = move || check_collection_settings(&body.0, &name);
        let checked = state.large.run(body_bytes, check).await?;
        checked.map_err(Problem::invalid_body)?;
        match state
            .catalog
            .put(&collection.0, &conditions.0, state.stamp())
            .await?
        {
            CollectionPut::Created(made) => Ok(PutCollection::Created(
                CollectionBody::of(&made),
                ETag(made.version),
                PathHeader(format!("/v1/collections/{}", made.name)),
            )),
            CollectionPut::Replaced(put) => Ok(PutCollection::Replaced(
                CollectionBody::of(&put),
                ETag(put.version),
            )),
            CollectionPut::PreconditionFailed => Err(precondition_failed()),
        }
    }

    /// Drop a collection with its documents
    ///
    /// They are gone at once, on every instance, also for a collection made again under the same name.
    #[oai(
        path = "/:collection",
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
        conditions: Conditions,
    ) -> Result<DeleteCollection, Problem> {
        match state.catalog.delete(&collection.0, &conditions.0).await? {
            Delete::Deleted => Ok(DeleteCollection::Deleted),
            Delete::Missing => Err(collection_not_found(&collection.0)),
            Delete::PreconditionFailed => Err(precondition_failed()),
        }
    }
}

fn seal(state: &AppState, after: &CollectionName) -> Result<String, Problem> {
    let cursor = Cursor(after.as_str().as_bytes().to_vec());
    next_page_token(state, Binding::Collections, &cursor)
}

fn open(state: &AppState, token: &str) -> Option<CollectionName> {
    let cursor = page_token::open(&state.cluster_secret, Binding::Collections, token)?;
    CollectionName::parse(std::str::from_utf8(&cursor.0).ok()?).ok()
}
