//! The table of operations: one row each, and all that is decided by the row. The `Allow` header, the route label of metrics,
//! the scope that is asked for, the media type, the checks of query and body, the problems in the OpenAPI document, and which
//! handler answers, are read from here.
//!
//! To add a route: write its handler (`#[OpenApi]` describes its parameters and answers) and add its row.

use futures_util::future::BoxFuture;
use poem::http::Method;
use poem::{IntoResponse as _, Response};

use super::call::Call;
use super::collections::Collections;
use super::docs;
use super::documents::Documents;
use super::error::{Problem, ProblemKind, ProblemKind as P};
use super::incoming::Media;
use crate::domain::Level;

/// One row: a method of a path.
pub(super) struct Operation {
    /// Its `operationId` in the OpenAPI document, verb first. HEAD, which is served wherever GET is, has `head` for the verb.
    pub(super) id: &'static str,
    /// Its method.
    pub(super) method: Method,
    /// Its path; `{collection}` and `{id}` are the parameters there are.
    pub(super) path: &'static str,
    /// What the client must present.
    pub(super) access: Requires,
    /// The query parameters that it knows; any other is refused.
    pub(super) query: &'static [&'static str],
    /// The body that it takes.
    pub(super) body: BodyMode,
    /// The problems that its handler answers with, beside those that follow from the other columns.
    pub(super) problems: &'static [ProblemKind],
    /// What answers it.
    pub(super) handler: Handler,
}

/// Answers a request that passed every check of its row.
pub(super) type Handler = for<'r> fn(Call<'r>) -> BoxFuture<'r, Result<Response, Problem>>;

/// What an operation asks of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Requires {
    /// Nothing: the documentation.
    Nothing,
    /// A key, whatever its scopes.
    Key,
    /// A key with a scope of this level on the path's `{collection}`.
    Scope(Level),
}

/// How an operation reads its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyMode {
    /// Not at all.
    Unread,
    /// Whole, within the bound, in this media type.
    Whole(Media),
}

const READ: Requires = Requires::Scope(Level::Read);
const WRITE: Requires = Requires::Scope(Level::Write);
const ADMIN: Requires = Requires::Scope(Level::Admin);

const JSON: BodyMode = BodyMode::Whole(Media::Json);
const MERGE_PATCH: BodyMode = BodyMode::Whole(Media::MergePatch);

/// What lists know in their query.
const PAGE: &[&str] = &["limit", "page_token"];

const COLLECTIONS: &str = "/v1/collections";
const COLLECTION: &str = "/v1/collections/{collection}";
const DOCUMENTS: &str = "/v1/collections/{collection}/documents";
const DOCUMENT: &str = "/v1/collections/{collection}/documents/{id}";

/// A handler of `#[OpenApi]`; its arguments are taken from the request by the methods of [`Call`] that have their names.
macro_rules! handler {
    ($resource:ident.$handler:ident($($argument:ident),*)) => {
        |mut call: Call<'_>| {
            Box::pin(async move {
                let answer = $resource.$handler($(call.$argument()?),*).await?;
                Ok::<Response, Problem>(answer.into_response())
            })
        }
    };
}

/// A page of the documentation, the same for everybody.
macro_rules! page {
    ($response:expr) => {
        |_: Call<'_>| Box::pin(async move { Ok::<Response, Problem>($response) })
    };
}

/// Every operation of the public interface. Where two paths fit, the first counts.
#[rustfmt::skip]
pub(super) static OPERATIONS: &[Operation] = &[
    Operation { id: "list_collections", method: Method::GET, path: COLLECTIONS, access: Requires::Key, query: PAGE, body: BodyMode::Unread,
        problems: &[P::InvalidPageToken, P::PreconditionFailed],
        handler: handler!(Collections.list(state, caller, limit, page_token, conditions)) },
    Operation { id: "get_collection", method: Method::GET, path: COLLECTION, access: READ, query: &[], body: BodyMode::Unread,
        problems: &[P::CollectionNotFound, P::PreconditionFailed],
        handler: handler!(Collections.get(state, collection, conditions)) },
    Operation { id: "put_collection", method: Method::PUT, path: COLLECTION, access: ADMIN, query: &[], body: JSON,
        problems: &[P::PreconditionFailed],
        handler: handler!(Collections.put(state, collection, conditions, body)) },
    Operation { id: "delete_collection", method: Method::DELETE, path: COLLECTION, access: ADMIN, query: &[], body: BodyMode::Unread,
        problems: &[P::CollectionNotFound, P::PreconditionFailed],
        handler: handler!(Collections.delete(state, collection, conditions)) },
    Operation { id: "list_documents", method: Method::GET, path: DOCUMENTS, access: READ, query: PAGE, body: BodyMode::Unread,
        problems: &[P::CollectionNotFound, P::InvalidPageToken, P::PreconditionFailed],
        handler: handler!(Documents.list(state, collection, limit, page_token, conditions)) },
    Operation { id: "create_document", method: Method::POST, path: DOCUMENTS, access: WRITE, query: &[], body: JSON,
        problems: &[P::CollectionNotFound, P::AlreadyExists, P::PreconditionFailed],
        handler: handler!(Documents.create(state, collection, conditions, body)) },
    Operation { id: "get_document", method: Method::GET, path: DOCUMENT, access: READ, query: &[], body: BodyMode::Unread,
        problems: &[P::CollectionNotFound, P::DocumentNotFound, P::PreconditionFailed],
        handler: handler!(Documents.get(state, collection, id, conditions)) },
    Operation { id: "put_document", method: Method::PUT, path: DOCUMENT, access: WRITE, query: &[], body: JSON,
        problems: &[P::CollectionNotFound, P::PreconditionFailed],
        handler: handler!(Documents.put(state, collection, id, conditions, body)) },
    Operation { id: "patch_document", method: Method::PATCH, path: DOCUMENT, access: WRITE, query: &[], body: MERGE_PATCH,
        problems: &[P::CollectionNotFound, P::DocumentNotFound, P::PreconditionFailed],
        handler: handler!(Documents.patch(state, collection, id, conditions, body)) },
    Operation { id: "delete_document", method: Method::DELETE, path: DOCUMENT, access: WRITE, query: &[], body: BodyMode::Unread,
        problems: &[P::CollectionNotFound, P::DocumentNotFound, P::PreconditionFailed],
        handler: handler!(Documents.delete(state, collection, id, conditions)) },
    // The documentation describes the operations above, and not itself.
    page_operation("get_root", "/", page!(docs::root())),
    page_operation("get_docs", "/docs", page!(docs::page())),
    page_operation("get_docs_style", "/docs/swagger-ui.css", page!(docs::style())),
    page_operation("get_docs_script", "/docs/swagger-ui-bundle.js", page!(docs::script())),
    page_operation("get_docs_start", "/docs/start.js", page!(docs::start())),
    page_operation("get_openapi", "/openapi.json", |call: Call<'_>| Box::pin(async move { docs::document(call.query(), call.openapi) })),
];

const fn page_operation(id: &'static str, path: &'static str, handler: Handler) -> Operation {
    Operation {
        id,
        method: Method::GET,
        path,
        access: Requires::Nothing,
        query: &[],
        body: BodyMode::Unread,
        problems: &[],
        handler,
    }
}

impl Operation {
    /// Whether it changes what is stored.
    pub(super) fn writes(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether it stands in the OpenAPI document.
    pub(super) fn is_documented(&self) -> bool {
        self.access != Requires::Nothing
    }

    /// Every problem that it may be answered with: those that follow from its other columns, and its handler's own. Those of
    /// a path or a connection (404 of a route, 405, 408, 431) are not among them.
    pub(super) fn problems(&self) -> Vec<ProblemKind> {
        let mut kinds = vec![P::InvalidRequest];
        match self.access {
            Requires::Nothing => {}
            Requires::Key => kinds.push(P::Unauthenticated),
            Requires::Scope(_) => kinds.extend([P::InvalidId, P::Unauthenticated, P::Forbidden]),
        }
        if self.body != BodyMode::Unread {
            kinds.extend([P::InvalidBody, P::BodyTooLarge]);
        }
        kinds.extend(self.problems);
        kinds.extend([P::UnsupportedMediaType, P::Internal, P::StoreUnavailable]);
        if self.writes() {
            kinds.push(P::OutcomeUnknown);
        }
        kinds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_id_and_no_method_of_a_path_stands_twice() {
        for (index, one) in OPERATIONS.iter().enumerate() {
            for other in &OPERATIONS[..index] {
                assert_ne!(one.id, other.id);
                assert!(
                    (one.path, &one.method) != (other.path, &other.method),
                    "{}",
                    one.id
                );
            }
            // GET answers HEAD, and OPTIONS is answered for every path.
            assert!(
                one.method != Method::HEAD && one.method != Method::OPTIONS,
                "{}",
                one.id
            );
        }
    }

    #[test]
    fn a_scope_is_asked_for_where_the_path_names_a_collection() {
        for operation in OPERATIONS {
            let scoped = matches!(operation.access, Requires::Scope(_));
            assert_eq!(
                scoped,
                operation.path.contains("{collection}"),
                "{}",
                operation.id
            );
        }
    }
}
