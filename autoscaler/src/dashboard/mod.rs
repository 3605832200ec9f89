//! The dashboard: one page, its script and its style, all in the binary. It works without the internet; everything it shows
//! comes from `GET /api/status`.
//!
//! For tests in a browser: a pool is `[data-pool="NAME"]`, its numbers are `[data-field="actual"]` (also `desired`, `serving`,
//! `limits`, `members`, `mode`) in it, a member is `[data-member="NAME"]`, and `#link[data-state]` is `live` or `lost`.

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

#[cfg(test)]
mod tests {
    use poem::Request;

    use super::*;

    async fn got(path: &str) -> (Response, String) {
        let request = Request::builder().uri(path.parse().unwrap()).finish();
        let mut answer = page().get_response(request).await;
        let body = answer.take_body().into_string().await.unwrap();
        (answer, body)
    }

    #[tokio::test]
    async fn each_file_comes_with_its_kind_and_the_policy() {
        for (path, kind) in [
            ("/", "text/html"),
            ("/app.js", "text/javascript"),
            ("/style.css", "text/css"),
        ] {
            let (answer, body) = got(path).await;
            assert_eq!(answer.status(), 200, "{path}");
            assert!(answer.content_type().unwrap().starts_with(kind), "{path}");
            let header = |name| {
                answer
                    .headers()
                    .get(name)
                    .and_then(|value: &HeaderValue| value.to_str().ok())
            };
            assert_eq!(header("content-security-policy"), Some(POLICY), "{path}");
            assert_eq!(header("x-content-type-options"), Some("nosniff"), "{path}");
            assert!(body.len() > 1_000, "{path}");
        }
        assert_eq!(got("/other").await.0.status(), 404);
    }

    #[tokio::test]
    async fn nothing_is_fetched_from_elsewhere() {
        for path in ["/", "/app.js", "/style.css"] {
            let (_, body) = got(path).await;
            // The names of SVG's namespace are addresses that nobody asks.
            let body = body.replace("http://www.w3.org/2000/svg", "");
            for elsewhere in [
                "http://",
                "https://",
                "src=\"//",
                "@import",
                "url(//",
                "<style",
                "style=\"",
                "onclick=\"",
            ] {
                assert!(!body.contains(elsewhere), "{path} has {elsewhere}");
            }
        }
    }
}
