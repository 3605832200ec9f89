//! Swagger UI at `/docs` and the document at `/openapi.json`. Everything is served from this program: nothing is loaded
//! from elsewhere, and no badge asks an outside validator.

use std::sync::{LazyLock, OnceLock};

use http::header::{self, HeaderValue};
use poem::Response;
use poem::http::StatusCode;
use poem_openapi::OpenApiService;

use super::error::{Problem, ProblemKind};
use super::incoming;

/// What the page may load: only from here. Swagger UI sets styles inline and shows icons as data.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The program may be replaced at any time; an hour is long enough to make the page quick.
const CACHE_CONTROL: &str = "public, max-age=3600";

const PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tidepool API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<style>
/* HEAD is served wherever GET is: shown, it would only repeat it. */
.opblock-head { display: none; }
/* Bodies are shown as they came: often one long line. */
.responses-wrapper .microlight code { white-space: pre-wrap !important; overflow-wrap: anywhere; }
</style>
</head>
<body>
<div id="ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"#;

const START_SCRIPT: &str = r##"// Swagger UI parses JSON before it shows it, which alters numbers: 9007199254740993 would be shown as 9007199254740992, and 1.0
// as 1. Here the bytes that came are shown.
const showBytes = () => ({
  wrapComponents: {
    responseBody: (Original, system) => (props) => {
      const h = system.React.createElement;
      if (typeof props.content !== "string" || !/json/i.test(props.contentType)) {
        return h(Original, props);
      }
      const Code = props.getComponent("HighlightCode", true) || props.getComponent("highlightCode");
      const code = { language: "json", downloadable: true, fileName: "response.json", canCopy: true };
      return h("div", null, h("h5", null, "Response body"), h(Code, code, props.content));
    },
  },
});

SwaggerUIBundle({
  dom_id: "#ui",
  url: "/openapi.json",
  validatorUrl: null,
  deepLinking: true,
  tryItOutEnabled: true,
  plugins: [showBytes],
});
"##;

/// Which document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// All that is served.
    Full,
    /// For generators that know only JSON bodies and one kind of answer beside success and error: without PATCH (whose body is
    /// a merge patch), without HEAD, and without 304. What is left is the same. See `docs/generators.md`.
    Basic,
}

impl Profile {
    /// Their names.
    pub const NAMES: [&str; 2] = ["full", "basic"];

    /// The profile of a name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "full" => Some(Self::Full),
            "basic" => Some(Self::Basic),
            _ => None,
        }
    }
}

/// The root leads to the documentation.
pub(super) fn root() -> Response {
    Response::builder()
        .status(StatusCode::TEMPORARY_REDIRECT)
        .header(header::LOCATION, "/docs")
        .finish()
}

/// The page.
pub(super) fn page() -> Response {
    asset("text/html; charset=utf-8", PAGE)
}

/// Swagger UI's style sheet.
pub(super) fn style() -> Response {
    asset("text/css; charset=utf-8", ASSETS.style)
}

/// Swagger UI itself.
pub(super) fn script() -> Response {
    asset("text/javascript; charset=utf-8", ASSETS.script)
}

/// What starts it.
pub(super) fn start() -> Response {
    asset("text/javascript; charset=utf-8", START_SCRIPT)
}

/// The OpenAPI document, which `make` makes once; `?profile=` asks for another than the full one.
pub(super) fn document(query: Option<&str>, make: fn(Profile) -> String) -> Result<Response, Problem> {
    static FULL: OnceLock<String> = OnceLock::new();
    static BASIC: OnceLock<String> = OnceLock::new();
    let profile = match incoming::query_value(query, "profile") {
        None => Profile::Full,
        Some(name) => Profile::parse(&name).ok_or_else(|| {
            let detail = format!("profile must be {}, is {name:?}", Profile::NAMES.join(" or "));
            Problem::new(ProblemKind::InvalidRequest, detail)
        })?,
    };
    let text = match profile {
        Profile::Full => &FULL,
        Profile::Basic => &BASIC,
    };
    let text = text.get_or_init(|| make(profile));
    Ok(cached("application/json", text.as_str()))
}

fn asset(content_type: &'static str, body: &'static str) -> Response {
    let mut response = cached(content_type, body);
    let policy = HeaderValue::from_static(CONTENT_SECURITY_POLICY);
    response
        .headers_mut()
        .insert(header::CONTENT_SECURITY_POLICY, policy);
    response
}

fn cached(content_type: &'static str, body: &'static str) -> Response {
    let mut response = Response::builder().body(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE_CONTROL));
    response
}

struct Assets {
    style: &'static str,
    script: &'static str,
}

/// Swagger UI as poem-openapi carries it: cut out of the one page that it would serve, because that page's template
/// sets no `validatorUrl` and inlines 1.6 MB into every load.
static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let page: &'static str = OpenApiService::new((), "", "").swagger_ui_html().leak();
    Assets {
        style: between(page, "<style charset=\"UTF-8\">", "</style>\n").unwrap_or_default(),
        script: between(page, "<script charset=\"UTF-8\">", "</script>\n</head>").unwrap_or_default(),
    }
});

fn between(page: &'static str, begin: &str, end: &str) -> Option<&'static str> {
    let (_, rest) = page.split_once(begin)?;
    rest.split_once(end).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assets_are_whole() {
        assert!(
            ASSETS.style.starts_with(".swagger-ui") && ASSETS.style.len() > 100_000,
            "{}",
            &ASSETS.style[..80]
        );
        assert!(ASSETS.script.contains("SwaggerUIBundle") && ASSETS.script.len() > 1_000_000);
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        assert!(START_SCRIPT.contains("validatorUrl: null"));
        // Swagger UI's default: a key stays in the page, and does not outlive it in the browser's storage.
        assert!(!START_SCRIPT.contains("persistAuthorization"));
        for text in [PAGE, ASSETS.style] {
            for foreign in ["http://", "https://", "src=\"//", "href=\"//", "@import"] {
                let allowed =
                    text.matches(foreign).count() == text.matches("http://www.w3.org/2000/svg").count();
                assert!(
                    !text.contains(foreign) || (foreign == "http://" && allowed),
                    "{foreign}"
                );
            }
        }
    }
}
