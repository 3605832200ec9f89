//! The routes of the public interface, one for each path in `routes.rs`: how a raw path finds its route, and a method its
//! operation.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::HeaderValue;
use percent_encoding::percent_decode_str;
use poem::http::Method;

use super::routes::{OPERATIONS, Operation};
use super::segments::Segments;

/// In this order `Allow` lists them.
const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

/// One route, or none: [`Route::index`] is its number, for tables of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Route(usize);

/// What is known of a route, derived from its operations.
struct Entry {
    template: &'static str,
    segments: Vec<&'static str>,
    operations: Vec<&'static Operation>,
    allow: &'static str,
}

/// In the order of the table of operations.
static ENTRIES: LazyLock<Vec<Entry>> = LazyLock::new(|| {
    let mut entries: Vec<Entry> = Vec::new();
    for operation in OPERATIONS {
        if !entries.iter().any(|entry| entry.template == operation.path) {
            entries.push(Entry::of(operation.path));
        }
    }
    entries
});

impl Entry {
    fn of(template: &'static str) -> Self {
        let operations = OPERATIONS.iter().filter(|operation| operation.path == template);
        let operations: Vec<&Operation> = operations.collect();
        let mut allow = Vec::new();
        for method in &METHODS {
            if operations.iter().any(|operation| operation.method == *method) {
                allow.push(method.as_str());
                if *method == Method::GET {
                    allow.push("HEAD");
                }
            }
        }
        allow.push("OPTIONS");
        Self {
            template,
            segments: template.split('/').skip(1).collect(),
            operations,
            // Made once, for the process's whole life.
            allow: allow.join(", ").leak(),
        }
    }

    /// Whether decoded segments fit. A parameter takes any segment but an empty one.
    fn fits(&self, segments: &[Cow<'_, str>]) -> bool {
        let pairs = || self.segments.iter().zip(segments);
        self.segments.len() == segments.len()
            && pairs().all(|(own, given)| match own.starts_with('{') {
                true => !given.is_empty(),
                false => own == given,
            })
    }
}

impl Route {
    /// Any path without a route.
    pub const UNKNOWN: Self = Self(usize::MAX);

    /// How many there are, the unknown one included.
    #[must_use]
    pub fn count() -> usize {
        ENTRIES.len() + 1
    }

    /// A number below [`Route::count`].
    #[must_use]
    pub fn index(self) -> usize {
        self.0.min(ENTRIES.len())
    }

    /// The path with its parameters unfilled; the `route` label of metrics. Unknown paths share one.
    #[must_use]
    pub fn template(self) -> &'static str {
        self.entry().map_or("unknown", |entry| entry.template)
    }

    /// The route of a raw path, for requests that are answered before they are routed.
    #[must_use]
    pub fn of(path: &str) -> Self {
        RouteMatch::resolve(path).route
    }

    /// The methods it has, as the `Allow` header lists them; of an unknown route none but OPTIONS.
    pub(super) fn allow(self) -> &'static str {
        self.entry().map_or("OPTIONS", |entry| entry.allow)
    }

    /// The route of a path in the table.
    pub(super) fn of_template(template: &str) -> Self {
        let found = ENTRIES.iter().position(|entry| entry.template == template);
        found.map_or(Self::UNKNOWN, Self)
    }

    /// [`Route::allow`] as a header's value.
    pub(super) fn allow_header(self) -> HeaderValue {
        HeaderValue::from_static(self.allow())
    }

    /// What answers a method; HEAD is answered as GET is.
    pub(super) fn operation(self, method: &Method) -> Option<&'static Operation> {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        let operations = self.entry()?.operations.iter().copied();
        operations
            .into_iter()
            .find(|operation| operation.method == *method)
    }

    fn entry(self) -> Option<&'static Entry> {
        ENTRIES.get(self.0)
    }
}

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RouteMatch<'p> {
    pub(super) route: Route,
    pub(super) segments: Segments<'p>,
}

impl<'p> RouteMatch<'p> {
    /// Resolves a raw path. Each segment is decoded on its own, so `%2F` is a character of an id and not a slash; what is
    /// not a valid encoding stays as it is, and is then not a valid id. Empty segments (a doubled or trailing slash) lead
    /// nowhere.
    pub(super) fn resolve(path: &'p str) -> Self {
        let mut target = Self {
            route: Route::UNKNOWN,
            segments: Segments {
                template: &[],
                given: std::array::from_fn(|_| Cow::Borrowed("")),
            },
        };
        let Some(path) = path.strip_prefix('/') else {
            return target;
        };
        let mut count = 0;
        for segment in path.split('/') {
            let Some(slot) = target.segments.given.get_mut(count) else {
                return target;
            };
            *slot = decode(segment);
            count += 1;
        }
        let segments = target.segments.given.get(..count).unwrap_or_default();
        let found = ENTRIES.iter().position(|entry| entry.fits(segments));
        target.route = found.map_or(Route::UNKNOWN, Route);
        target.segments.template = target.route.entry().map_or(&[], |entry| &entry.segments);
        target
    }
}

fn decode(segment: &str) -> Cow<'_, str> {
    if segment.contains('%') {
        // What is not UTF-8 becomes U+FFFD, which no name may hold.
        percent_decode_str(segment).decode_utf8_lossy()
    } else {
        Cow::Borrowed(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::super::segments::SEGMENTS_MAX;
    use super::*;

    fn resolve(path: &str) -> (&'static str, String, String) {
        let target = RouteMatch::resolve(path);
        let parameter = |name| target.segments.parameter(name).unwrap_or_default().to_owned();
        (target.route.template(), parameter("collection"), parameter("id"))
    }

    #[test]
    fn finds_routes_and_decodes_each_segment_alone() {
        let found = |template, collection: &str, id: &str| (template, collection.to_owned(), id.to_owned());
        let document = "/v1/collections/{collection}/documents/{id}";
        assert_eq!(resolve("/v1/collections"), found("/v1/collections", "", ""));
        assert_eq!(
            resolve("/v1/collections/a"),
            found("/v1/collections/{collection}", "a", "")
        );
        assert_eq!(
            resolve("/v1/collections/a/documents").0,
            "/v1/collections/{collection}/documents"
        );
        assert_eq!(
            resolve("/%761/collections/%61/documents/x%2Fy"),
            found(document, "a", "x/y")
        );
        assert_eq!(
            resolve("/v1/collections/documents/documents/documents"),
            found(document, "documents", "documents")
        );
        assert_eq!(resolve("/v1/collections/%zz").1, "%zz");
        assert_eq!(resolve("/v1/collections/%ff").1, "\u{fffd}");
        for path in ["/", "/docs", "/docs/start.js", "/openapi.json"] {
            assert_eq!(resolve(path).0, path);
        }
    }

    #[test]
    fn other_paths_lead_nowhere() {
        for path in [
            "",
            "*",
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
            "/v1/collections/a/documents/b/c/d/e/f",
            "/v1/collections/a/Documents",
            "/v2/collections",
            "/docs/",
            "/docs/other.js",
            "/openapi.json/",
            "v1/collections",
        ] {
            assert_eq!(Route::of(path), Route::UNKNOWN, "{path}");
        }
    }

    #[test]
    fn head_goes_wherever_get_goes_and_allow_lists_what_is_there() {
        for operation in OPERATIONS {
            let route = Route::of(&operation.path.replace(['{', '}'], ""));
            assert_eq!(route.template(), operation.path);
            assert!(route.index() < Route::count());
            let reads = |method| route.operation(&method).map(|operation| operation.id);
            assert_eq!(reads(Method::GET), reads(Method::HEAD));
            assert!(reads(Method::GET).is_some() && reads(Method::TRACE).is_none());
            for method in &METHODS {
                let listed = route.allow().split(", ").any(|name| name == method.as_str());
                assert_eq!(
                    listed,
                    route.operation(method).is_some(),
                    "{} {method}",
                    operation.path
                );
            }
        }
        let document = Route::of("/v1/collections/a/documents/b");
        assert_eq!(document.allow(), "GET, HEAD, PUT, PATCH, DELETE, OPTIONS");
        assert_eq!(Route::UNKNOWN.index(), Route::count() - 1);
    }

    #[test]
    fn every_method_and_every_path_of_the_table_has_its_place() {
        for operation in OPERATIONS {
            assert!(METHODS.contains(&operation.method), "{}", operation.id);
            assert!(
                operation.path.split('/').count() - 1 <= SEGMENTS_MAX,
                "{}",
                operation.id
            );
        }
    }
}
