//! Listing: pages, and those that do not add up.

use serde_json::{Value, json};
use tidepool_autoscaler::provider::digitalocean::{AddressKind, DropletTemplate};
use tidepool_autoscaler::provider::{Listing, Provider, ProviderErrorKind};
use tidepool_autoscaler_core::observe::{Member, MemberName, Power, Readiness, UnixMillis};
use wiremock::matchers::{header, method, path, query_param};
use wiremock::{Mock, Request, ResponseTemplate};

use crate::support::{
    InTurn, TOKEN, Time, calls, droplet, id, kind, one_page, provider, provider_at, refusal, server_with,
    template, web,
};

#[tokio::test]
async fn every_page_is_read_and_the_token_goes_to_no_other_host() {
    let pages = |request: &Request| {
        let page: usize = request
            .url
            .query_pairs()
            .find(|(k, _)| k == "page")
            .unwrap()
            .1
            .parse()
            .unwrap();
        let (from, to) = ((page - 1) * 200, (page * 200).min(450));
        let droplets: Vec<Value> = (from..to)
            .map(|n| droplet(1000 + n as u64, &format!("web-{n}"), "active", &["pool:web"]))
            .collect();
        // As DigitalOcean does, the links name its own host; they must not lead away from the configured one.
        let next = format!(
            "https://api.digitalocean.com/v2/droplets?page={}&per_page=200&tag_name=pool%3Aweb",
            page + 1
        );
        let links = if to < 450 {
            json!({ "pages": { "next": next, "last": "x" } })
        } else {
            json!({ "pages": { "first": "x" } })
        };
        ResponseTemplate::new(200)
            .set_body_json(json!({ "droplets": droplets, "links": links, "meta": { "total": 450 } }))
    };
    let listing = Mock::given(method("GET"))
        .and(path("/v2/droplets"))
        .and(query_param("tag_name", "pool:web"))
        .and(query_param("per_page", "200"))
        .and(header("authorization", format!("Bearer {TOKEN}").as_str()));
    let server = server_with(vec![listing.respond_with(pages).expect(3)]).await;
    let members = provider(&server).members_list(&web()).await.unwrap().members;
    assert_eq!(members.len(), 450);
    assert_eq!(members[449].name.0, "web-449");
}

#[tokio::test]
async fn a_droplet_is_described_in_our_words() {
    let mut bare = droplet(5, "web-e", "new", &["pool:web"]);
    bare["networks"] = json!({ "v4": [], "v6": [] });
    bare["image"]["slug"] = Value::Null;
    let droplets = [
        droplet(1, "web-a", "active", &["pool:web", "serving:web"]),
        droplet(2, "web-b", "off", &["pool:web", "draining:web", "serving:other"]),
        droplet(3, "web-c", "archive", &["pool:web"]),
        droplet(4, "stranger", "active", &["pool:webshop"]),
        bare,
    ];
    let page = ResponseTemplate::new(200).set_body_json(one_page(&droplets));
    let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(page)]).await;
    let members = provider(&server).members_list(&web()).await.unwrap().members;
    let expected = |number, name: &str, power, serving, draining| Member {
        id: id(number),
        name: MemberName(name.to_owned()),
        created_at: UnixMillis(1_795_269_605_000),
        power,
        serving,
        draining,
        readiness: Readiness::Unknown,
        address: Some("10.114.0.7".parse().unwrap()),
        image: "tidepool-api (7555620)".into(),
        size: Some("s-1vcpu-1gb".to_owned()),
        generation: None,
    };
    let no_address = Member {
        address: None,
        image: "7555620".into(),
        ..expected(5, "web-e", Power::Creating, false, false)
    };
    assert_eq!(
        members,
        [
            expected(1, "web-a", Power::Running, true, false),
            expected(2, "web-b", Power::Off, false, true),
            expected(3, "web-c", Power::Off, false, false),
            no_address,
        ]
    );
    let public = provider_at(
        &server.uri(),
        &Time::default(),
        DropletTemplate {
            address: AddressKind::Public,
            ..template()
        },
    );
    assert_eq!(
        public.members_list(&web()).await.unwrap().members[0].address,
        Some("203.0.113.7".parse().unwrap())
    );
}

#[tokio::test]
async fn pages_that_do_not_add_up_are_read_again_and_never_believed() {
    let whole = one_page(&[droplet(1, "web-a", "active", &["pool:web"])]);
    let torn = json!({ "droplets": whole["droplets"], "links": {}, "meta": { "total": 2 } });
    let answers = |bodies: &[&Value]| {
        InTurn::new(
            bodies
                .iter()
                .map(|b| ResponseTemplate::new(200).set_body_json(b))
                .collect(),
        )
    };
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(answers(&[&torn, &whole])),
    ])
    .await;
    assert_eq!(
        provider(&server)
            .members_list(&web())
            .await
            .unwrap()
            .members
            .len(),
        1
    );
    let other = json!({ "droplets": [], "links": {}, "meta": { "total": 2 } });
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(answers(&[&torn, &other, &torn])),
    ])
    .await;
    let error = provider(&server).members_list(&web()).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Transient);
    assert_eq!(
        error.detail,
        "the list changed each of the 3 times while it was read"
    );
}

/// Nobody is blind for good: what is there is managed, and what is counted is not made again.
#[tokio::test]
async fn a_number_of_items_that_the_pages_never_reach_is_believed_where_members_are_made() {
    let one = droplet(1, "web-a", "active", &["pool:web"]);
    let body = json!({ "droplets": [one], "links": {}, "meta": { "total": 3 } });
    let page = ResponseTemplate::new(200).set_body_json(body);
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(page).expect(3),
    ])
    .await;
    let listing = provider(&server).members_list(&web()).await.unwrap();
    assert_eq!((listing.members.len(), listing.unseen), (1, 2));
    let expected =
        "DigitalOcean counts 3 droplets and its list has 1; for the 2 that it leaves out none are made";
    assert!(
        listing.problems.iter().any(|problem| problem == expected),
        "{:?}",
        listing.problems
    );
}

/// Lists in changing order: five droplets on pages of two, and one of them on two pages.
#[tokio::test]
async fn a_list_that_is_short_by_repeats_says_how_many_it_lacks() {
    let pages = |request: &Request| {
        let page: usize = request
            .url
            .query_pairs()
            .find(|(name, _)| name == "page")
            .map_or(1, |(_, page)| page.parse().unwrap());
        let ids = [[1, 2].as_slice(), &[2, 3], &[4]];
        let droplets: Vec<Value> = ids[page - 1]
            .iter()
            .map(|n| droplet(*n, &format!("web-{n}"), "active", &["pool:web"]))
            .collect();
        let links = if page < 3 {
            json!({ "pages": { "next": format!("/v2/droplets?page={}", page + 1) } })
        } else {
            json!({})
        };
        ResponseTemplate::new(200)
            .set_body_json(json!({ "droplets": droplets, "links": links, "meta": { "total": 5 } }))
    };
    let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(pages)]).await;
    let listing = provider(&server).members_list(&web()).await.unwrap();
    assert_eq!((listing.members.len(), listing.unseen), (4, 1));
    let problems = listing.problems.join("\n");
    assert!(problems.contains("has 1 items more than once"), "{problems}");
    assert!(
        problems.contains("counts 5 droplets and its list has 4"),
        "{problems}"
    );
}

#[tokio::test]
async fn a_list_that_is_null_is_empty_where_none_are_counted() {
    let body = json!({ "droplets": null, "links": {}, "meta": { "total": 0 } });
    let page = ResponseTemplate::new(200).set_body_json(body);
    let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(page)]).await;
    let listing = provider(&server).members_list(&web()).await.unwrap();
    assert_eq!((listing.members.len(), listing.unseen), (0, 0));
    let body = json!({ "droplets": null, "links": {}, "meta": { "total": 1 } });
    let page = ResponseTemplate::new(200).set_body_json(body);
    let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(page)]).await;
    assert_eq!(
        kind(provider(&server).members_list(&web()).await),
        ProviderErrorKind::Transient
    );
}

/// A proxy's own path before ours, and a slash behind it: its query alone is taken.
#[tokio::test]
async fn a_next_page_by_way_of_a_proxy_is_followed_below_the_configured_address() {
    for next in [
        "/v2/droplets/?page=2",
        "/proxy/do/v2/droplets?page=2",
        "https://proxy.example/do/v2/droplets/?page=2",
        "?page=2",
    ] {
        let page = |droplets: &[Value], links: Value| {
            let body = json!({ "droplets": droplets, "links": links, "meta": { "total": 2 } });
            ResponseTemplate::new(200).set_body_json(body)
        };
        let first = page(
            &[droplet(1, "web-a", "active", &["pool:web"])],
            json!({ "pages": { "next": next } }),
        );
        let second = page(&[droplet(2, "web-b", "active", &["pool:web"])], json!({}));
        let at = |number: &str| {
            Mock::given(path("/v2/droplets"))
                .and(query_param("page", number))
                .and(query_param("tag_name", "pool:web"))
        };
        let server = server_with(vec![
            at("1").respond_with(first).expect(1),
            at("2").respond_with(second).expect(1),
        ])
        .await;
        let listing = provider(&server).members_list(&web()).await.unwrap();
        assert_eq!(listing.members.len(), 2, "{next}");
    }
}

/// How a server without links and a total answers.
#[derive(Debug, Clone, Copy)]
struct Bare {
    droplets: u64,
    /// Items a page at most.
    cap: u64,
    heeds_page: bool,
    heeds_per_page: bool,
    /// After the last page it gives that one again, and not an empty one.
    repeats_last: bool,
}

impl Bare {
    fn answer(self, request: &Request) -> ResponseTemplate {
        let number = |wanted: &str| {
            let pair = request.url.query_pairs().find(|(name, _)| name == wanted);
            pair.map_or(1, |(_, number)| number.parse::<u64>().unwrap())
        };
        let items = if self.heeds_per_page {
            self.cap.min(number("per_page"))
        } else {
            self.cap
        };
        let last = self.droplets.div_ceil(items).max(1);
        let page = if self.heeds_page { number("page") } else { 1 };
        let page = if self.repeats_last { page.min(last) } else { page };
        let (from, to) = ((page - 1) * items, (page * items).min(self.droplets));
        let droplets: Vec<Value> = (from..to)
            .map(|n| droplet(1000 + n, &format!("web-{n}"), "active", &["pool:web"]))
            .collect();
        ResponseTemplate::new(200).set_body_json(json!({ "droplets": droplets }))
    }

    async fn listing(self) -> Listing {
        let pages = move |request: &Request| self.answer(request);
        let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(pages)]).await;
        provider(&server).members_list(&web()).await.unwrap()
    }
}

/// Neither links nor a total, and fewer items a page than were asked for.
#[tokio::test]
async fn a_server_that_caps_its_pages_is_read_until_a_page_brings_nothing_new() {
    for (droplets, cap) in [(450, 20), (450, 200), (400, 200), (7, 200)] {
        for repeats_last in [false, true] {
            let server = Bare {
                droplets,
                cap,
                heeds_page: true,
                heeds_per_page: true,
                repeats_last,
            };
            let listing = server.listing().await;
            let read = (listing.members.len() as u64, listing.may_go_on);
            assert_eq!(read, (droplets, false), "{server:?}");
        }
    }
}

/// It gives its first page for every other, and neither links nor a total: whether that is all only the number of items that
/// were asked for can say. Where it can't, what is there is managed, and none are made.
#[tokio::test]
async fn a_server_that_ignores_page_is_not_blind_for_good_and_not_taken_for_the_whole() {
    for (droplets, cap, heeds_per_page, listed, may_go_on) in [
        (7, 200, true, 7, false),
        (25, 20, false, 20, true),
        (7, 200, false, 7, true),
        (1, 200, false, 1, false),
        (450, 200, true, 200, true),
        (0, 200, false, 0, false),
    ] {
        let server = Bare {
            droplets,
            cap,
            heeds_page: false,
            heeds_per_page,
            repeats_last: false,
        };
        let listing = server.listing().await;
        assert_eq!(
            (listing.members.len(), listing.unseen, listing.may_go_on),
            (listed, 0, may_go_on),
            "{server:?}"
        );
        let problems = listing.problems.join("\n");
        let expected = "nothing says whether there are more, neither links nor meta.total, so none are made";
        assert_eq!(problems.contains(expected), may_go_on, "{server:?}: {problems}");
    }
}

#[tokio::test]
async fn pages_without_an_end_are_left() {
    let endless = |request: &Request| {
        let page = request
            .url
            .query_pairs()
            .find(|(name, _)| name == "page")
            .unwrap()
            .1;
        let next = format!("/v2/droplets?page={}", page.parse::<u32>().unwrap() + 1);
        ResponseTemplate::new(200).set_body_json(
            json!({ "droplets": [], "links": { "pages": { "next": next } }, "meta": { "total": 0 } }),
        )
    };
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(endless).expect(50),
    ])
    .await;
    let error = provider(&server).members_list(&web()).await.unwrap_err();
    assert!(error.detail.contains("more than 50 pages"), "{error}");
}

#[tokio::test]
async fn pages_that_lead_in_a_circle_are_left_and_not_taken_for_the_whole() {
    let page = |droplets: &[Value], total: usize| {
        let links = json!({ "pages": { "next": "https://api.digitalocean.com/v2/droplets?page=2" } });
        json!({ "droplets": droplets, "links": links, "meta": { "total": total } })
    };
    let one = droplet(1, "web-a", "active", &["pool:web"]);
    for (body, expected) in [
        (page(&[], 0), Err(ProviderErrorKind::Transient)),
        (
            page(std::slice::from_ref(&one), 2),
            Err(ProviderErrorKind::Transient),
        ),
        // All that there are were seen: the circle does no harm, and is reported.
        (page(&[one], 1), Ok(1)),
    ] {
        let answer = ResponseTemplate::new(200).set_body_json(body);
        let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(answer)]).await;
        let listing = provider(&server).members_list(&web()).await;
        if let Ok(listing) = &listing {
            assert!(listing.problems.iter().any(|problem| problem.contains("circle")));
        }
        let count = listing
            .map(|listing| listing.members.len())
            .map_err(|error| error.kind);
        assert_eq!(count, expected);
        assert!(calls(&server, "GET").await < 10);
    }
}

/// Where the page does not say whether there is another one, it is asked for; what is listed twice is one member.
#[tokio::test]
async fn pages_without_links_or_totals_are_read_to_their_end() {
    let all: Vec<Value> = (0..450_u64)
        .map(|n| droplet(1000 + n, &format!("web-{n}"), "active", &["pool:web"]))
        .collect();
    let metas = [
        json!({ "total": 450 }),
        json!({ "total": "450" }),
        json!(null),
        json!({}),
    ];
    for (links, meta) in [json!(null), json!("none"), json!({ "pages": 7 })]
        .iter()
        .zip(metas.iter().cycle())
    {
        let (all, links, meta) = (all.clone(), links.clone(), meta.clone());
        let pages = move |request: &Request| {
            let page = request
                .url
                .query_pairs()
                .find(|(name, _)| name == "page")
                .unwrap()
                .1;
            let page: usize = page.parse().unwrap();
            // One droplet of the page before stands on each page again.
            let from = ((page - 1) * 200).saturating_sub(1).min(all.len());
            let to = (page * 200).min(all.len());
            let mut body = json!({ "droplets": all.get(from..to).unwrap_or_default() });
            if !links.is_null() {
                body["links"] = links.clone();
            }
            if !meta.is_null() {
                body["meta"] = meta.clone();
            }
            ResponseTemplate::new(200).set_body_json(body)
        };
        let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(pages)]).await;
        let members = provider(&server).members_list(&web()).await.unwrap().members;
        assert_eq!(members.len(), 450);
    }
}

#[tokio::test]
async fn a_list_that_shows_one_twice_for_good_is_read_and_reported() {
    let one = droplet(1, "web-a", "active", &["pool:web"]);
    let body = json!({ "droplets": [one, one], "links": {}, "meta": { "total": 2 } });
    let answer = ResponseTemplate::new(200).set_body_json(body);
    let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(answer)]).await;
    let listing = provider(&server).members_list(&web()).await.unwrap();
    assert_eq!(listing.members.len(), 1);
    assert!(
        listing
            .problems
            .iter()
            .any(|problem| problem.contains("more than once"))
    );
}

#[tokio::test]
async fn a_next_page_elsewhere_is_not_followed() {
    for next in [
        "https://evil.example/v2/account/keys",
        "/v2/account",
        "::",
        "http://[",
    ] {
        let body = json!({ "droplets": [], "links": { "pages": { "next": next } } });
        let page = ResponseTemplate::new(200).set_body_json(body);
        let server = server_with(vec![
            Mock::given(path("/v2/droplets")).respond_with(page).expect(1),
        ])
        .await;
        assert_eq!(
            kind(provider(&server).members_list(&web()).await),
            ProviderErrorKind::Transient,
            "{next}"
        );
    }
}

#[tokio::test]
async fn a_listing_that_can_not_be_read_is_not_an_empty_pool() {
    for body in [
        "",
        "{",
        "<html>",
        "[]",
        "{}",
        r#"{"droplets":null}"#,
        r#"{"droplets":{}}"#,
        r#"{"droplets":[{"id":1}"#,
    ] {
        let page = ResponseTemplate::new(200).set_body_raw(body, "application/json");
        let server = server_with(vec![Mock::given(path("/v2/droplets")).respond_with(page)]).await;
        assert_eq!(
            kind(provider(&server).members_list(&web()).await),
            ProviderErrorKind::Transient,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_read_is_tried_again_a_few_times() {
    let down = || refusal(503, "service_unavailable", "Server is busy.");
    let page = || ResponseTemplate::new(200).set_body_json(one_page(&[]));
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(InTurn::new(vec![down(), down(), page()])),
    ])
    .await;
    assert_eq!(provider(&server).members_list(&web()).await.unwrap().members, []);
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(down()).expect(3),
    ])
    .await;
    let error = provider(&server).members_list(&web()).await.unwrap_err();
    assert_eq!(error.kind, ProviderErrorKind::Transient);
    assert_eq!(
        error.to_string(),
        "members_list web failed (Transient): 503 service_unavailable: Server is busy. (request 4d9d8375-3c56)"
    );
}
