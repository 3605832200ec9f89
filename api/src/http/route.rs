//! The routes of the public interface: their templates, methods, and how a path finds its route.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;
use poem::http::Method;

use crate::domain::Level;

/// One route. The order is that of [`Route::ALL`], so `as usize` indexes tables of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// All collections.
    Collections,
    /// One collection.
    Collection,
    /// The documents of a collection.
    Documents,
    /// One document.
    Document,
    /// Swagger UI and its assets.
    Docs,
    /// The OpenAPI document.
    OpenApi,
    /// Any other path.
    Unknown,
}

impl Route {
    /// Every route.
    pub const ALL: [Self; 7] = [
        Self::Collections,
        Self::Collection,
        Self::Documents,
        Self::Document,
        Self::Docs,
        Self::OpenApi,
        Self::Unknown,
    ];

    /// The path with its parameters unfilled; the `route` label of metrics. Unknown paths share one.
    #[must_use]
    pub const fn template(self) -> &'static str {
        match self {
            Self::Collections => "/v1/collections",
            Self::Collection => "/v1/collections/{collection}",
            Self::Documents => "/v1/collections/{collection}/documents",
            Self::Document => "/v1/collections/{collection}/documents/{id}",
            Self::Docs => "/docs",
            Self::OpenApi => "/openapi.json",
            Self::Unknown => "unknown",
        }
    }

    /// The route of a raw path, for requests that are answered before they are routed.
    #[must_use]
    pub fn of(path: &str) -> Self {
        Target::resolve(path).route
    }

    /// The methods it has, as the `Allow` header lists them.
    #[must_use]
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Collection => "GET, HEAD, PUT, DELETE, OPTIONS",
            Self::Documents => "GET, HEAD, POST, OPTIONS",
            Self::Document => "GET, HEAD, PUT, PATCH, DELETE, OPTIONS",
            Self::Collections | Self::Docs | Self::OpenApi | Self::Unknown => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether it has the method.
    #[must_use]
    pub fn has(self, method: &Method) -> bool {
        // Every route has these two.
        let reads = *method == Method::GET || *method == Method::HEAD;
        reads || self.allow().split(", ").any(|name| name == method.as_str())
    }

    /// What a key must be granted on the collection.
    #[must_use]
    pub fn level(self, method: &Method) -> Level {
        match (self, method) {
            (_, &Method::GET | &Method::HEAD) => Level::Read,
            (Self::Collection, _) => Level::Admin,
            _ => Level::Write,
        }
    }
}

/// Where a path leads. Names and ids are decoded but not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target<'p> {
    pub(super) route: Route,
    pub(super) collection: Option<Cow<'p, str>>,
    pub(super) id: Option<Cow<'p, str>>,
}

impl<'p> Target<'p> {
    /// Resolves a raw path. Each segment is decoded on its own, so `%2F` is a character of an id and no slash; what is
    /// no valid encoding stays as it is, and is then no valid id. Empty segments (a doubled or trailing slash) lead
    /// nowhere.
    pub(super) fn resolve(path: &'p str) -> Self {
        let nowhere = Self {
            route: Route::Unknown,
            collection: None,
            id: None,
        };
        let Some(path) = path.strip_prefix('/') else {
            return nowhere;
        };
        let mut segments = path.split('/').map(decode);
        let (first, second) = (segments.next(), segments.next());
        let (collection, literal, id) = (segments.next(), segments.next(), segments.next());
        if segments.next().is_some()
            || [&collection, &id]
                .into_iter()
                .flatten()
                .any(|name| name.is_empty())
        {
            return nowhere;
        }
        let route = match (
            first.as_deref(),
            second.as_deref(),
            &collection,
            literal.as_deref(),
            &id,
        ) {
            (Some("v1"), Some("collections"), None, None, None) => Route::Collections,
            (Some("v1"), Some("collections"), Some(_), None, None) => Route::Collection,
            (Some("v1"), Some("collections"), Some(_), Some("documents"), None) => Route::Documents,
            (Some("v1"), Some("collections"), Some(_), Some("documents"), Some(_)) => Route::Document,
            (Some("docs"), None, ..) => Route::Docs,
            (Some("docs"), Some(asset), None, ..) if super::docs::is_asset(asset) => Route::Docs,
            (Some("openapi.json"), None, ..) => Route::OpenApi,
            _ => return nowhere,
        };
        Self {
            route,
            collection,
            id,
        }
    }
}

fn decode(segment: &str) -> Cow<'_, str> {
    if segment.contains('%') {
        // What is no UTF-8 becomes U+FFFD, which no name may hold.
        percent_decode_str(segment).decode_utf8_lossy()
    } else {
        Cow::Borrowed(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(path: &str) -> (Route, Option<String>, Option<String>) {
        let target = Target::resolve(path);
        (
            target.route,
            target.collection.map(Cow::into_owned),
            target.id.map(Cow::into_owned),
        )
    }

    #[test]
    fn finds_routes_and_decodes_each_segment_alone() {
        assert_eq!(resolve("/v1/collections"), (Route::Collections, None, None));
        assert_eq!(
            resolve("/v1/collections/a"),
            (Route::Collection, Some("a".into()), None)
        );
        assert_eq!(resolve("/v1/collections/a/documents").0, Route::Documents);
        assert_eq!(
            resolve("/%761/collections/%61/documents/x%2Fy"),
            (Route::Document, Some("a".into()), Some("x/y".into()))
        );
        assert_eq!(
            resolve("/v1/collections/documents/documents/documents"),
            (
                Route::Document,
                Some("documents".into()),
                Some("documents".into())
            )
        );
        assert_eq!(resolve("/v1/collections/%zz").1.as_deref(), Some("%zz"));
        assert_eq!(resolve("/v1/collections/%ff").1.as_deref(), Some("\u{fffd}"));
        assert_eq!(resolve("/docs").0, Route::Docs);
        assert_eq!(resolve("/openapi.json").0, Route::OpenApi);
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "",
            "*",
            "/",
            "//",
            "/v1",
            "/v1/",
            "/v1/collections/",
            "//v1/collections",
            "/v1//collections",
            "/v1/collections//documents",
            "/v1/collections/a/",
            "/v1/collections/a/documents/",
            "/v1/collections/a/documents//",
            "/v1/collections/a/documents/b/",
            "/v1/collections/a/documents/b/c",
            "/v1/collections/a/Documents",
            "/v2/collections",
            "/docs/",
            "/docs/other.js",
            "/openapi.json/",
            "v1/collections",
        ] {
            assert_eq!(resolve(path).0, Route::Unknown, "{path}");
        }
    }

    #[test]
    fn head_goes_wherever_get_goes_and_levels_follow_the_method() {
        for route in Route::ALL {
            assert!(route.has(&Method::GET) && route.has(&Method::HEAD));
            assert!(!route.has(&Method::TRACE));
        }
        assert!(!Route::Collection.has(&Method::PATCH));
        assert_eq!(Route::Collection.level(&Method::HEAD), Level::Read);
        assert_eq!(Route::Collection.level(&Method::PUT), Level::Admin);
        assert_eq!(Route::Document.level(&Method::DELETE), Level::Write);
    }
}
