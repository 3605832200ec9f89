//! Rate limits.

use tidepool_autoscaler::provider::{Provider, ProviderErrorKind};
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

use crate::support::{
    T0, Time, create, kind, one_page, provider, provider_at, refusal, server_with, template, web,
};

#[tokio::test]
async fn a_429_keeps_every_call_back_for_as_long_as_it_says() {
    let limited =
        refusal(429, "too_many_requests", "API rate limit exceeded.").insert_header("retry-after", "7");
    let page = ResponseTemplate::new(200).set_body_json(one_page(&[]));
    let server = server_with(vec![
        Mock::given(method("POST")).respond_with(limited).expect(1),
        Mock::given(path("/v2/droplets"))
            .and(method("GET"))
            .respond_with(page)
            .expect(1),
    ])
    .await;
    let time = Time::default();
    let provider = provider_at(&server.uri(), &time, template());
    let limit = |secs| ProviderErrorKind::RateLimited {
        retry_after_secs: secs,
    };
    assert_eq!(kind(provider.member_create(&create("web-a")).await), limit(7));
    time.pass_secs(3);
    assert_eq!(kind(provider.member_create(&create("web-a")).await), limit(4));
    let kept_back = provider.members_list(&web()).await.unwrap_err();
    assert_eq!(kept_back.kind, limit(4));
    // With the words of the call that was answered so, which may have been another one.
    let said = kept_back.detail;
    assert!(
        said.contains("API rate limit exceeded.") && said.ends_with("; nothing was sent"),
        "{said}"
    );
    time.pass_secs(4);
    provider.members_list(&web()).await.unwrap();
}

/// Its reset is a time of the provider's clock, which may be an hour ahead of ours or behind it.
#[tokio::test]
async fn the_hours_last_calls_are_left_alone_until_the_reset() {
    for (date, ahead_secs) in [
        ("Fri, 15 Jan 2027 08:00:00 GMT", 0),
        ("Fri, 15 Jan 2027 09:00:00 GMT", 3600),
        ("Fri, 15 Jan 2027 07:00:00 GMT", -3600),
    ] {
        let reset = T0 / 1000 + ahead_secs + 120;
        until_the_reset(date, &reset.to_string()).await;
    }
}

async fn until_the_reset(date: &str, reset: &str) {
    let page = ResponseTemplate::new(200)
        .set_body_json(one_page(&[]))
        .insert_header("date", date)
        .insert_header("ratelimit-limit", "5000")
        .insert_header("ratelimit-remaining", "20")
        .insert_header("ratelimit-reset", reset);
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(page).expect(2),
    ])
    .await;
    let time = Time::default();
    let provider = provider_at(&server.uri(), &time, template());
    provider.members_list(&web()).await.unwrap();
    let waits = kind(provider.members_list(&web()).await);
    assert_eq!(
        waits,
        ProviderErrorKind::RateLimited {
            retry_after_secs: 120
        }
    );
    time.pass_secs(120);
    provider.members_list(&web()).await.unwrap();
}

#[tokio::test]
async fn no_more_than_the_minutes_calls_are_sent() {
    let page = ResponseTemplate::new(200).set_body_json(one_page(&[]));
    let server = server_with(vec![
        Mock::given(path("/v2/droplets")).respond_with(page).expect(239),
        Mock::given(path("/v2/tags")).respond_with(refusal(404, "not_found", "no")),
    ])
    .await;
    let provider = provider(&server);
    // One of the 240 calls asked for the account's tags.
    for _ in 0..239 {
        provider.members_list(&web()).await.unwrap();
    }
    let waits = kind(provider.members_list(&web()).await);
    assert_eq!(waits, ProviderErrorKind::RateLimited { retry_after_secs: 60 });
}

/// RFC 9110, 10.2.3: seconds or a date, which is by the clock of whoever says it.
#[tokio::test]
async fn a_429_that_names_a_date_is_obeyed_until_then() {
    for (date, until, secs) in [
        (
            "Fri, 15 Jan 2027 08:00:00 GMT",
            "Fri, 15 Jan 2027 08:05:00 GMT",
            300,
        ),
        (
            "Fri, 15 Jan 2027 09:00:00 GMT",
            "Fri, 15 Jan 2027 09:05:00 GMT",
            300,
        ),
        (
            "Fri, 15 Jan 2027 08:00:00 GMT",
            "Fri, 15 Jan 2027 07:00:00 GMT",
            1,
        ),
        ("Fri, 15 Jan 2027 08:00:00 GMT", "soon", 60),
    ] {
        let limited = refusal(429, "too_many_requests", "API rate limit exceeded.")
            .insert_header("date", date)
            .insert_header("retry-after", until);
        let server = server_with(vec![Mock::given(method("POST")).respond_with(limited)]).await;
        let provider = provider(&server);
        let expected = ProviderErrorKind::RateLimited {
            retry_after_secs: secs,
        };
        assert_eq!(
            kind(provider.member_create(&create("web-a")).await),
            expected,
            "{until}"
        );
    }
}
