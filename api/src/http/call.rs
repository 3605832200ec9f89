//! A request whose route, key, media type and query are checked, and what handlers take from it. A method here gives the
//! argument of its name to handlers in `routes.rs`.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};

use super::access::Grant;
use super::collections::Caller;
use super::docs::Profile;
use super::documents::Conditions;
use super::error::{Problem, ProblemKind};
use super::payload::{PAGE_ITEMS_MAX, PageSize};
use super::segments::Segments;
use super::{AppState, incoming};
use crate::domain::{CollectionName, DocumentId, InvalidName};

/// A request on its way to a handler.
pub(super) struct Call<'r> {
    pub(super) state: &'r Arc<AppState>,
    pub(super) request: &'r Request,
    pub(super) segments: &'r Segments<'r>,
    /// Makes the OpenAPI document: it is made from the table of operations, which leads here.
    pub(super) openapi: fn(Profile) -> String,
    pub(super) grant: Grant,
    /// The path's `{collection}`, as it is parsed for the scope.
    pub(super) collection: Option<Result<CollectionName, InvalidName>>,
    /// The path's `{id}`, once [`Call::check_path`] has parsed it.
    pub(super) id: Option<DocumentId>,
    pub(super) body: Bytes,
}

impl<'r> Call<'r> {
    pub(super) fn state(&mut self) -> Result<Data<&'r Arc<AppState>>, Problem> {
        Ok(Data(self.state))
    }

    pub(super) fn caller(&mut self) -> Result<Caller, Problem> {
        Ok(Caller(self.grant.clone()))
    }

    /// Refuses what in the path is not a name or an id.
    pub(super) fn check_path(&mut self) -> Result<(), Problem> {
        if let Some(Err(problem)) = &self.collection {
            return Err(invalid_id("collection's name", problem));
        }
        if let Some(id) = self.segments.parameter("id") {
            let id = DocumentId::parse(id).map_err(|problem| invalid_id("document's id", &problem))?;
            self.id = Some(id);
        }
        Ok(())
    }

    pub(super) fn collection(&mut self) -> Result<Path<CollectionName>, Problem> {
        let name = self.collection.take().and_then(Result::ok);
        name.map(Path).ok_or_else(|| not_in_path("{collection}"))
    }

    pub(super) fn id(&mut self) -> Result<Path<DocumentId>, Problem> {
        self.id.take().map(Path).ok_or_else(|| not_in_path("{id}"))
    }

    pub(super) fn conditions(&mut self) -> Result<Conditions, Problem> {
        incoming::precondition(self.request.headers()).map(Conditions)
    }

    pub(super) fn limit(&mut self) -> Result<Query<Option<PageSize>>, Problem> {
        let Some(text) = incoming::query_value(self.query(), "limit") else {
            return Ok(Query(None));
        };
        let limit = PageSize::parse(&text).ok_or_else(|| {
            let detail = format!("limit must be 1 to {PAGE_ITEMS_MAX}, is {text:?}");
            Problem::new(ProblemKind::InvalidRequest, detail)
        })?;
        Ok(Query(Some(limit)))
    }

    pub(super) fn page_token(&mut self) -> Result<Query<Option<String>>, Problem> {
        let token = incoming::query_value(self.query(), "page_token");
        Ok(Query(token.map(Cow::into_owned)))
    }

    pub(super) fn body<B: From<Bytes>>(&mut self) -> Result<B, Problem> {
        Ok(std::mem::take(&mut self.body).into())
    }

    /// The raw query.
    pub(super) fn query(&self) -> Option<&'r str> {
        self.request.uri().query()
    }
}

fn invalid_id(what: &str, problem: &InvalidName) -> Problem {
    Problem::new(ProblemKind::InvalidId, format!("the {what} {problem}"))
}

/// A row whose handler asks for more than its path has: a defect, which a request to every operation in the tests would find.
fn not_in_path(parameter: &str) -> Problem {
    let detail = format!("the path of this operation has no {parameter}");
    Problem::new(ProblemKind::Internal, detail)
}
