//! The routes of the public interface: their templates, methods, and how a path finds its route.

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
    pub fn template(self) -> &'static str {
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
}
