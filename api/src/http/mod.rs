//! The public REST interface: from a request to domain values, to the store, to a response.
//!
//! No SQL, no CQL, no retries, no clock or randomness of its own. Error statuses stand in `error.rs` alone.
//!
//! A request passes: route (404, 405), key (401, 403), encoding and media type (415), body size (413), then names,
//! query, conditions and body (400), and only then the store (404, 412, 409). Handlers carry their OpenAPI description
//! (`#[OpenApi]`), and are called from here: see `docs/adr/0020-own-dispatch.md`.

pub mod access;
mod collections;
mod docs;
pub mod documents;
pub mod error;
mod incoming;
mod openapi;
mod page_token;
mod payload;
mod request_id;
mod route;

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use poem::http::{Method, StatusCode};
use poem::web::Data;
use poem::{Body, Endpoint, IntoResponse, Request, Response};
use poem_openapi::Tags;
use poem_openapi::param::{Path, Query};

use crate::domain::{CollectionName, DocumentId, InvalidName, Timestamp, WriteStamp};
use crate::store::{CollectionCatalog, Store};
use access::{Access, AuthProblem, Grant};
use collections::{Collections, Sender};
use documents::{Conditions, Documents};
use error::{Problem, ProblemKind};
use incoming::{Media, PendingBody};
use payload::{CollectionSettingsBody, DocumentCreateBody, DocumentPatchBody, DocumentPutBody, PageSize};
use route::Target;

pub use openapi::document as openapi_document;
pub use request_id::RequestId;
pub use route::Route;

/// What every request may use. Made once, by `main`.
pub struct AppState {
    /// The database.
    pub store: Arc<dyn Store>,
    /// What this instance knows about collections.
    pub catalog: CollectionCatalog,
    /// Keys and what they may do.
    pub access: Arc<Access>,
    /// The time.
    pub clock: fn() -> Timestamp,
    /// 64 random bits; unpredictability is not needed, uniqueness is.
    pub nonce: fn() -> u64,
    /// [`Store::cluster_secret`]: page tokens are sealed with it.
    pub cluster_secret: [u8; 32],
}

impl AppState {
    /// What a write takes along.
    #[must_use]
    pub fn stamp(&self) -> WriteStamp {
        WriteStamp {
            now: (self.clock)(),
            nonce: (self.nonce)(),
        }
    }
}

/// The groups of operations in the OpenAPI document.
#[derive(Tags)]
enum Tag {
    /// Named sets of documents.
    Collections,
    /// JSON documents with a version each.
    Documents,
}

/// The whole public interface as one endpoint; it never fails.
///
/// Every response carries its [`Route`] (the `route` label of metrics is its template) and its [`RequestId`] (for logs)
/// as extensions.
pub fn routes(state: Arc<AppState>) -> impl Endpoint<Output = Response> {
    PublicInterface { state }
}

struct PublicInterface {
    state: Arc<AppState>,
}

impl Endpoint for PublicInterface {
    type Output = Response;

    async fn call(&self, mut request: Request) -> poem::Result<Response> {
        let request_id = RequestId::new(self.state.nonce);
        let mut body = PendingBody::new(request.take_body());
        let target = Target::resolve(request.uri().path());
        let route = target.route;
        let mut response = match answer(&self.state, &request, &target, &mut body).await {
            Ok(response) => response,
            Err(problem) => problem.respond(&request_id),
        };
        if !body.is_finished() {
            Box::pin(body.drain(request.headers().contains_key(header::EXPECT))).await;
        }
        if request.method() == Method::HEAD {
            strip_body(&mut response);
        }
        finish(&mut response, route, request_id);
        Ok(response)
    }
}

fn finish(response: &mut Response, route: Route, request_id: RequestId) {
    const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, request_id.header_value());
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-cache"),
        );
    }
    response.extensions_mut().insert(route);
    response.extensions_mut().insert(request_id);
}

/// A HEAD's answer is that of GET with its length, but without the body.
fn strip_body(response: &mut Response) {
    let body = response.take_body();
    if response.status() == StatusCode::NOT_MODIFIED || response.status() == StatusCode::NO_CONTENT {
        return;
    }
    let length = hyper::body::Body::size_hint(&http_body_util::combinators::BoxBody::from(body)).exact();
    if let Some(length) = length {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
}

async fn answer(
    state: &Arc<AppState>,
    request: &Request,
    target: &Target<'_>,
    body: &mut PendingBody,
) -> Result<Response, Problem> {
    let route = target.route;
    if route == Route::Unknown {
        return Err(Problem::new(
            ProblemKind::NotFound,
            "no route has this path; /docs shows those there are",
        ));
    }
    if request.method() == Method::OPTIONS {
        return Ok(options(route));
    }
    if !route.has(request.method()) {
        let problem = Problem::new(
            ProblemKind::MethodNotAllowed,
            format!("this path has {}", route.allow()),
        );
        return Err(problem.with_header(header::ALLOW, route.allow()));
    }
    match route {
        Route::Docs => return Ok(docs::page(request.uri().path())),
        Route::OpenApi => return Ok(docs::document()),
        _ => {}
    }
    let sender = authenticate(state, request.headers())?;
    let collection = target.collection.as_deref().map(CollectionName::parse);
    if let Some(Ok(name)) = &collection {
        let level = route.level(request.method());
        if !sender.allows(level, name) {
            return Err(Problem::new(
                ProblemKind::Forbidden,
                format!("the key needs the scope {}:{name}", level.as_str()),
            ));
        }
    }
    incoming::refuse_content_encoding(request.headers())?;
    let media = match *request.method() {
        Method::PATCH => Some(Media::MergePatch),
        Method::PUT | Method::POST => Some(Media::Json),
        _ => None,
    };
    let body = match media {
        Some(media) => {
            media.demand(request.headers())?;
            body.read().await?
        }
        None => bytes::Bytes::new(),
    };
    let call = Call {
        state,
        request,
        sender,
        body,
    };
    let Some(collection) = collection else {
        return Box::pin(call.collections()).await;
    };
    let collection = Path(collection.map_err(|problem| invalid_id("collection's name", &problem))?);
    let id = match target.id.as_deref() {
        None => None,
        Some(id) => Some(Path(
            DocumentId::parse(id).map_err(|problem| invalid_id("document's id", &problem))?,
        )),
    };
    match (route, id) {
        (_, Some(id)) => call.document(collection, id).await,
        (Route::Documents, None) => Box::pin(call.documents(collection)).await,
        _ => Box::pin(call.collection(collection)).await,
    }
}

type PageQuery = (Query<Option<PageSize>>, Query<Option<String>>);

/// A request that may be carried out, as far as route, key and media type go.
struct Call<'r> {
    state: &'r Arc<AppState>,
    request: &'r Request,
    sender: Grant,
    body: bytes::Bytes,
}

impl Call<'_> {
    async fn collections(self) -> Result<Response, Problem> {
        let (limit, page_token) = self.page_query()?;
        let page = Collections.list(Data(self.state), Sender(self.sender), limit, page_token);
        Ok(page.await?.into_response())
    }

    async fn collection(self, name: Path<CollectionName>) -> Result<Response, Problem> {
        let state = Data(self.state);
        let conditions = self.conditions()?;
        Ok(match *self.request.method() {
            Method::PUT => {
                let body = CollectionSettingsBody(self.body);
                Collections
                    .put(state, name, conditions, body)
                    .await?
                    .into_response()
            }
            Method::DELETE => Collections.delete(state, name, conditions).await?.into_response(),
            _ => Collections.get(state, name, conditions).await?.into_response(),
        })
    }

    async fn documents(self, collection: Path<CollectionName>) -> Result<Response, Problem> {
        let state = Data(self.state);
        if self.request.method() == Method::POST {
            // Checked as everywhere, though a new document has no version that a condition could name.
            self.conditions()?;
            let body = DocumentCreateBody(self.body);
            return Ok(Documents.create(state, collection, body).await?.into_response());
        }
        let (limit, page_token) = self.page_query()?;
        let page = Documents.list(state, collection, limit, page_token);
        Ok(page.await?.into_response())
    }

    /// Reads are the most frequent by far. The other handlers are boxed, so that a request's future, which is moved a few
    /// times before it runs, is only as large as that of a read.
    async fn document(
        self,
        collection: Path<CollectionName>,
        id: Path<DocumentId>,
    ) -> Result<Response, Problem> {
        let state = Data(self.state);
        let conditions = self.conditions()?;
        Ok(match *self.request.method() {
            Method::PUT => {
                let body = DocumentPutBody(self.body);
                Box::pin(Documents.put(state, collection, id, conditions, body))
                    .await?
                    .into_response()
            }
            Method::PATCH => {
                let body = DocumentPatchBody(self.body);
                Box::pin(Documents.patch(state, collection, id, conditions, body))
                    .await?
                    .into_response()
            }
            Method::DELETE => Box::pin(Documents.delete(state, collection, id, conditions))
                .await?
                .into_response(),
            _ => Documents
                .get(state, collection, id, conditions)
                .await?
                .into_response(),
        })
    }

    /// What single resources take beside their path: conditions, and no query.
    fn conditions(&self) -> Result<Conditions, Problem> {
        incoming::no_query(self.request.uri().query())?;
        if self.request.method() != Method::GET && self.request.method() != Method::HEAD {
            incoming::refuse_idempotency_key(self.request.headers())?;
        }
        incoming::precondition(self.request.headers()).map(Conditions)
    }

    /// What lists take.
    fn page_query(&self) -> Result<PageQuery, Problem> {
        let [limit, page_token] = incoming::query(self.request.uri().query(), ["limit", "page_token"])?;
        let limit = match limit {
            None => None,
            Some(text) => Some(PageSize::parse(&text).ok_or_else(|| {
                let detail = format!("limit must be 1 to {}, is {text:?}", payload::PAGE_ITEMS_MAX);
                Problem::new(ProblemKind::InvalidRequest, detail)
            })?),
        };
        Ok((Query(limit), Query(page_token.map(std::borrow::Cow::into_owned))))
    }
}

/// Who sent the request; two `Authorization` lines are nobody.
fn authenticate(state: &AppState, headers: &HeaderMap) -> Result<Grant, Problem> {
    let mut lines = headers.get_all(header::AUTHORIZATION).iter();
    let header = lines.next();
    if lines.next().is_some() {
        return Err(AuthProblem::Malformed.into());
    }
    Ok(state.access.authorise(header)?)
}

fn invalid_id(what: &str, problem: &InvalidName) -> Problem {
    Problem::new(ProblemKind::InvalidId, format!("the {what} {problem}"))
}

fn options(route: Route) -> Response {
    let mut response = Response::builder()
        .status(StatusCode::NO_CONTENT)
        .body(Body::empty());
    response
        .headers_mut()
        .insert(header::ALLOW, HeaderValue::from_static(route.allow()));
    response
}
