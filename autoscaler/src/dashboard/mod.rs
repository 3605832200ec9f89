//! The dashboard: one page, its script and its style, all in the binary. It works without the internet; everything it shows
//! comes from `GET /api/status`.

use poem::http::{HeaderValue, header};
use poem::{Endpoint, EndpointExt, Response, Route, get, handler};

const INDEX: &str = include_str!("index.html");
const SCRIPT: &str = include_str!("app.js");
const STYLE: &str = include_str!("style.css");

/// Nothing but our own files, and nobody else's frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page's routes: `/`, `/app.js` and `/style.css`.
pub fn page() -> Route {
    Route::new()
        .at("/", get(guarded(index)))
        .at("/app.js", get(guarded(script)))
        .at("/style.css", get(guarded(style)))
}

fn guarded(endpoint: impl Endpoint<Output = Response> + 'static) -> impl Endpoint<Output = Response> {
    endpoint.after(async |answer: poem::Result<Response>| {
        let mut answer = answer?;
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
        headers.insert(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        );
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        // A new version of the program brings a new page.
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        Ok(answer)
    })
}

#[handler]
fn index() -> Response {
    text("text/html; charset=utf-8", INDEX)
}

#[handler]
fn script() -> Response {
    text("text/javascript; charset=utf-8", SCRIPT)
}

#[handler]
fn style() -> Response {
    text("text/css; charset=utf-8", STYLE)
}

fn text(kind: &'static str, body: &'static str) -> Response {
    Response::builder().content_type(kind).body(body)
}
