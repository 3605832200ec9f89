//! Addresses other than DigitalOcean's own.

use tidepool_autoscaler::provider::Provider;
use wiremock::matchers::path;
use wiremock::{Mock, ResponseTemplate};

use crate::support::{Time, one_page, provider_at, server_with, template, web};

#[tokio::test]
async fn a_path_of_the_base_url_is_kept() {
    let page = ResponseTemplate::new(200).set_body_json(one_page(&[]));
    let server = server_with(vec![
        Mock::given(path("/proxy/do/v2/droplets"))
            .respond_with(page)
            .expect(2),
    ])
    .await;
    for end in ["", "/"] {
        let url = format!("{}/proxy/do{end}", server.uri());
        let provider = provider_at(&url, &Time::default(), template());
        provider.members_list(&web()).await.unwrap();
    }
}
