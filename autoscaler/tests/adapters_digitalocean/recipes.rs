//! What members are made of: looked up before, said in a create, read again from a tag.

use serde_json::{Value, json};
use tidepool_autoscaler::provider::{CreateMember, Made, Provider, RecipeError, UserData};
use tidepool_autoscaler_core::recipe::{Generation, Image, Recipe};
use wiremock::matchers::{body_json, method, path};
use wiremock::{Mock, ResponseTemplate};

use crate::support::{create, droplet, id, one_page, provider, refusal, server_with, web};

fn recipe(image: &str, size: &str) -> Recipe {
    Recipe {
        generation: Some(Generation("20261121-140005-123".to_owned())),
        name: None,
        image: image.into(),
        size: Some(size.to_owned()),
    }
}

#[tokio::test]
async fn a_member_of_a_generation_says_so_by_a_tag_and_is_made_of_what_was_ordered() {
    let tag = "generation:web:20261121-140005-123";
    let expected = json!({
        "name": "web-a", "region": "fra1", "size": "s-2", "image": 9002, "ssh_keys": [], "backups": false, "ipv6": false,
        "monitoring": false, "tags": ["pool:web", tag], "user_data": "#cloud-config"
    });
    let made = droplet(7, "web-a", "active", &["pool:web", tag]);
    let server = server_with(vec![
        Mock::given(method("POST"))
            .and(path("/v2/droplets"))
            .and(body_json(expected))
            .respond_with(ResponseTemplate::new(202).set_body_json(json!({ "droplet": made.clone() })))
            .expect(1),
        Mock::given(method("GET"))
            .and(path("/v2/droplets"))
            .respond_with(ResponseTemplate::new(200).set_body_json(one_page(&[made]))),
    ])
    .await;
    let provider = provider(&server);
    let order = CreateMember {
        made: Made {
            recipe: recipe("api (9002)", "s-2"),
            user_data: Some(UserData("#cloud-config".to_owned())),
        },
        ..create("web-a")
    };
    assert_eq!(provider.member_create(&order).await.unwrap(), id(7));
    let members = provider.members_list(&web()).await.unwrap().members;
    assert_eq!(members[0].generation, recipe("", "").generation);
    assert_eq!(members[0].size.as_deref(), Some("s-1vcpu-1gb"));
}

fn sizes() -> Value {
    let size = |slug: &str, disk: u64, available: bool, region: &str| json!({ "slug": slug, "disk": disk, "available": available, "regions": [region] });
    json!({ "sizes": [
        size("s-1vcpu-1gb", 25, true, "fra1"), size("s-small", 10, true, "fra1"), size("s-gone", 25, false, "fra1"),
        size("s-far", 25, true, "nyc3")
    ] })
}

#[tokio::test]
async fn an_image_and_a_size_that_are_not_to_be_had_are_known_before_a_create() {
    let image = |id: u64, slug: Value, regions: Value, status: &str| json!({ "image": { "id": id, "slug": slug, "regions": regions, "status": status, "min_disk_size": 20 } });
    let answer = |body| ResponseTemplate::new(200).set_body_json(body);
    let at = |name: &str, answer: ResponseTemplate| {
        Mock::given(method("GET"))
            .and(path(format!("/v2/images/{name}")))
            .respond_with(answer)
    };
    let server = server_with(vec![
        at(
            "9002",
            answer(image(9002, Value::Null, json!(["fra1", "nyc3"]), "available")),
        ),
        at(
            "api",
            answer(image(9003, json!("api"), json!(["fra1"]), "available")),
        ),
        at(
            "far",
            answer(image(9004, json!("far"), json!(["nyc3"]), "available")),
        ),
        at(
            "soon",
            answer(image(9005, json!("soon"), json!(["fra1"]), "pending")),
        ),
        at(
            "9006",
            answer(image(9007, Value::Null, json!(["fra1"]), "available")),
        ),
        at("odd", answer(json!({ "image": "odd" }))),
        at(
            "8000",
            refusal(
                404,
                "not_found",
                "The resource you were accessing could not be found.",
            ),
        ),
        Mock::given(path("/v2/sizes")).respond_with(answer(sizes())),
    ])
    .await;
    let provider = provider(&server);
    let found = provider
        .recipe_find(&recipe("9002", "s-1vcpu-1gb"))
        .await
        .unwrap();
    assert_eq!(found, Image::numbered(9002));
    let found = provider.recipe_find(&recipe("api", "s-1vcpu-1gb")).await.unwrap();
    assert_eq!(found, "api (9003)".into());
    let table = [
        (recipe("8000", "s-1vcpu-1gb"), "the account has no image 8000"),
        (
            recipe("far", "s-1vcpu-1gb"),
            "image far is not in region fra1, but in nyc3",
        ),
        (
            recipe("soon", "s-1vcpu-1gb"),
            "image soon is not available yet or any more: pending",
        ),
        (
            recipe("../account", "s-1vcpu-1gb"),
            "\"../account\" is neither an image's number nor a slug",
        ),
        (recipe("", "s-1vcpu-1gb"), "the image is not known"),
        (recipe("api", "s-none"), "DigitalOcean has no size s-none"),
        (recipe("api", "s-gone"), "size s-gone is not available"),
        (
            recipe("api", "s-far"),
            "size s-far is not in region fra1, but in nyc3",
        ),
        (
            recipe("api", "s-small"),
            "image api needs a disk of 20 GB, and size s-small has 10 GB",
        ),
    ];
    for (recipe, words) in table {
        let error = provider.recipe_find(&recipe).await.unwrap_err();
        assert!(matches!(error, RecipeError::NotToBeHad(_)), "{error:?}");
        assert_eq!(error.to_string(), words);
    }
    // Not an answer to the question.
    for image in ["9006", "odd"] {
        let error = provider
            .recipe_find(&recipe(image, "s-1vcpu-1gb"))
            .await
            .unwrap_err();
        assert!(matches!(error, RecipeError::Provider(_)), "{image}: {error:?}");
    }
}
