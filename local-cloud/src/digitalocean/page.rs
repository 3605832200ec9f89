//! Pages of lists: `page`, `per_page`, `links` and `meta`.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::call::{Answer, Call, Result};

const PER_PAGE_DEFAULT: usize = 20;
const PER_PAGE_MAX: usize = 200;

/// Answers with the page of `items` that the call asks for, under `key`; only that page's items are rendered.
pub(crate) fn answer<T>(call: &Call, key: &str, items: &[T], render: impl Fn(&T) -> Value) -> Result {
    let number = |name| {
        call.param(name)
            .and_then(|text| text.parse::<usize>().ok())
            .filter(|number| *number > 0)
    };
    let per_page = number("per_page").unwrap_or(PER_PAGE_DEFAULT).min(PER_PAGE_MAX);
    let page = number("page").unwrap_or(1);
    let last = items.len().div_ceil(per_page).max(1);
    let skipped = (page - 1).saturating_mul(per_page);
    let shown: Vec<Value> = items.iter().skip(skipped).take(per_page).map(render).collect();
    Answer::ok(json!({
        key: shown,
        "links": links(call, page, last),
        "meta": {"total": items.len()},
    }))
}

/// `first` and `prev` not on the first page, `next` and `last` not on the last; nothing when there is one page.
fn links(call: &Call, page: usize, last: usize) -> Value {
    let mut pages = Map::new();
    let mut add = |name: &str, number: usize| {
        pages.insert(name.to_owned(), Value::String(link(call, number)));
    };
    if page > 1 {
        add("first", 1);
        add("prev", (page - 1).min(last));
    }
    if page < last {
        add("next", page + 1);
        add("last", last);
    }
    if pages.is_empty() {
        json!({})
    } else {
        json!({"pages": pages})
    }
}

/// The same call with another page.
fn link(call: &Call, page: usize) -> String {
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut query: Vec<String> = call
        .query
        .iter()
        .filter(|(key, _)| key != "page")
        .map(|(key, value)| format!("{}={}", key, encode(value)))
        .collect();
    query.push(format!("page={page}"));
    format!("{}/{}?{}", call.base, call.path.join("/"), query.join("&"))
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::call::parse_query;
    use super::*;

    fn call(query: &str) -> Call {
        Call {
            method: Method::GET,
            path: vec!["v2".into(), "droplets".into()],
            query: parse_query(query),
            body: Map::new(),
            base: "http://h".into(),
        }
    }

    fn page(query: &str, count: u32) -> Value {
        let items: Vec<u32> = (1..=count).collect();
        answer(&call(query), "n", &items, |number| json!(number))
            .unwrap()
            .body
            .unwrap()
    }

    #[test]
    fn one_page_has_no_links() {
        let body = page("", 20);
        assert_eq!(body["links"], json!({}));
        assert_eq!(body["meta"]["total"], 20);
        assert_eq!(body["n"].as_array().unwrap().len(), 20);
        assert_eq!(page("", 0)["n"], json!([]));
    }

    #[test]
    fn links_lead_everywhere_and_keep_the_filters() {
        let body = page("tag_name=a%3Ab&page=2&per_page=2", 7);
        assert_eq!(body["n"], json!([3, 4]));
        let at = |page: u32| format!("http://h/v2/droplets?tag_name=a%3Ab&per_page=2&page={page}");
        assert_eq!(
            body["links"]["pages"],
            json!({"first": at(1), "prev": at(1), "next": at(3), "last": at(4)})
        );
        let first = page("per_page=2", 3);
        assert_eq!(
            first["links"]["pages"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            ["last", "next"]
        );
        let last = page("page=2&per_page=2", 3);
        assert_eq!(
            last["links"]["pages"]
                .as_object()
                .unwrap()
                .keys()
                .collect::<Vec<_>>(),
            ["first", "prev"]
        );
    }

    #[test]
    fn odd_pages_are_taken_kindly() {
        assert_eq!(page("page=0&per_page=x", 3)["n"], json!([1, 2, 3]));
        assert_eq!(page("page=99", 3)["n"], json!([]));
        assert_eq!(page("per_page=1000", 300)["n"].as_array().unwrap().len(), 200);
    }
}
