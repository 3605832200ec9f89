//! Projects, and what is in them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::common::Cloud;

async fn project(cloud: &Cloud, name: &str) -> String {
    let body =
        json!({"name": name, "description": "", "purpose": "Service or API", "environment": "Production"});
    let reply = cloud.post("/v2/projects", body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
    reply.text("/project/id")
}

async fn urns(cloud: &Cloud, project: &str) -> Vec<String> {
    let reply = cloud
        .get(&format!("/v2/projects/{project}/resources?page=1&per_page=200"))
        .await;
    let list = reply.at("/resources").as_array().unwrap().clone();
    assert_eq!(reply.number("/meta/total"), u64::try_from(list.len()).unwrap());
    let mut urns: Vec<String> = list
        .iter()
        .map(|resource| resource["urn"].as_str().unwrap().to_owned())
        .collect();
    urns.sort();
    urns
}

#[tokio::test]
async fn there_is_a_default_project_and_it_can_be_another_one() {
    let cloud = Cloud::start(&[]);
    let first = cloud.get("/v2/projects/default").await;
    for (field, value) in [
        ("name", json!("first-project")),
        (
            "description",
            json!("Update your project information under Settings"),
        ),
        ("purpose", json!("Other")),
        ("environment", json!("")),
        ("is_default", json!(true)),
    ] {
        assert_eq!(first.at(&format!("/project/{field}")), &value, "{field}");
    }
    let first = first.text("/project/id");
    let droplet = cloud.droplet("a", "tiny", &[]).await;
    let urn = format!("do:droplet:{droplet}");
    assert_eq!(urns(&cloud, "default").await, std::slice::from_ref(&urn));
    let other = project(&cloud, "other").await;
    let path = format!("/v2/projects/{other}");
    let reply = cloud
        .call(Method::PATCH, &path, json!({"is_default": true}))
        .await;
    assert_eq!(
        (reply.status, reply.at("/project/is_default")),
        (200, &json!(true))
    );
    assert_eq!(cloud.get("/v2/projects/default").await.text("/project/id"), other);
    assert_eq!(urns(&cloud, &first).await, [urn], "what was there stays there");
    assert!(urns(&cloud, &other).await.is_empty());
    let newer = cloud.droplet("b", "tiny", &[]).await;
    assert_eq!(urns(&cloud, &other).await, [format!("do:droplet:{newer}")]);
    let refused = cloud
        .call(Method::PATCH, &path, json!({"is_default": false}))
        .await;
    assert_eq!(refused.status, 422);
    assert_eq!(cloud.delete("/v2/projects/default").await.status, 412);
}

#[tokio::test]
async fn projects_are_made_changed_and_deleted() {
    let mut cloud = Cloud::start(&[]);
    let body = json!({"name": "tidepool", "description": "Tidepool production", "purpose": "Service or API",
        "environment": "production"});
    let made = cloud.post("/v2/projects", body).await;
    assert_eq!(made.status, 201);
    let fields = [
        "id",
        "owner_uuid",
        "owner_id",
        "name",
        "description",
        "purpose",
        "environment",
        "is_default",
        "created_at",
        "updated_at",
    ];
    assert_eq!(made.at("/project").as_object().unwrap().len(), fields.len());
    for field in fields {
        assert!(!made.at(&format!("/project/{field}")).is_null(), "{field}");
    }
    assert_eq!(made.text("/project/environment"), "Production");
    let path = format!("/v2/projects/{}", made.text("/project/id"));
    let changed = cloud
        .call(
            Method::PATCH,
            &path,
            json!({"purpose": "To learn", "description": ""}),
        )
        .await;
    assert_eq!(changed.text("/project/purpose"), "Other: To learn");
    assert_eq!(changed.text("/project/name"), "tidepool");
    assert_eq!(changed.text("/project/description"), "");
    let whole = json!({"name": "renamed", "description": "d", "purpose": "Other: To learn", "environment": "Staging",
        "is_default": false});
    let replaced = cloud.put(&path, whole.clone()).await;
    assert_eq!(
        (replaced.status, replaced.text("/project/purpose")),
        (200, "Other: To learn".into())
    );
    for (method, field, value, status) in [
        (Method::PUT, "name", Value::Null, 422),
        (Method::PUT, "is_default", Value::Null, 422),
        (Method::PATCH, "name", json!(""), 422),
        (Method::PATCH, "name", json!("x".repeat(176)), 422),
        (Method::PATCH, "name", json!("x".repeat(175)), 200),
        (Method::PATCH, "description", json!("x".repeat(256)), 422),
        (Method::PATCH, "purpose", json!("x".repeat(256)), 422),
        (Method::PATCH, "environment", json!("Test"), 422),
        (Method::PATCH, "environment", json!(1), 422),
        (Method::PATCH, "is_default", json!("yes"), 422),
        (Method::POST, "name", Value::Null, 422),
        (Method::POST, "purpose", Value::Null, 422),
        (Method::POST, "is_default", json!(true), 422),
    ] {
        let mut body = whole.clone();
        body[field] = value.clone();
        let at = if method == Method::POST {
            "/v2/projects"
        } else {
            &path
        };
        let reply = cloud.call(method.clone(), at, body).await;
        assert_eq!(reply.status, status, "{method} {field} {value}: {reply:?}");
    }
    assert_eq!(cloud.get("/v2/projects").await.number("/meta/total"), 2);
    assert_eq!(
        cloud
            .get("/v2/projects?per_page=1")
            .await
            .text("/projects/0/name"),
        "first-project"
    );
    assert_eq!(cloud.stop(nix::sys::signal::Signal::SIGKILL), None);
    cloud.start_again();
    assert_eq!(cloud.get(&path).await.text("/project/environment"), "Staging");
    assert_eq!(cloud.delete(&path).await.status, 204);
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::DELETE, path.clone()),
        (Method::PATCH, path.clone()),
        (Method::GET, format!("{path}/resources")),
    ] {
        assert_eq!(cloud.call(method, &path, Value::Null).await.status, 404);
    }
}

#[tokio::test]
async fn a_reserved_address_is_in_the_project_that_it_was_asked_for_and_leaves_nothing_there() {
    let cloud = Cloud::start(&[]);
    let home = project(&cloud, "home").await;
    let reserved = cloud
        .post("/v2/reserved_ips", json!({"region": "nyc3", "project_id": home}))
        .await;
    assert_eq!(reserved.text("/reserved_ip/project_id"), home);
    let ip = reserved.text("/reserved_ip/ip");
    assert_eq!(urns(&cloud, &home).await, [format!("do:reservedip:{ip}")]);
    let path = format!("/v2/reserved_ips/{ip}");
    assert_eq!(cloud.delete(&path).await.status, 204);
    let again = cloud.post("/v2/reserved_ips", json!({"region": "nyc3"})).await;
    assert_eq!(again.text("/reserved_ip/ip"), ip);
    assert_ne!(
        again.text("/reserved_ip/project_id"),
        home,
        "a new one has nothing of the old one"
    );
    assert_eq!(cloud.delete(&path).await.status, 204);
}

#[tokio::test]
async fn resources_move_between_projects() {
    let cloud = Cloud::start(&[]);
    let home = project(&cloud, "home").await;
    let droplet = format!("do:droplet:{}", cloud.droplet("a", "tiny", &[]).await);
    let volume = cloud
        .post(
            "/v2/volumes",
            json!({"name": "v", "region": "nyc3", "size_gigabytes": 1}),
        )
        .await
        .text("/volume/id");
    let volume = format!("do:volume:{volume}");
    let (balancer, _) = cloud.balancer("t", json!({"project_id": home})).await;
    let shown = cloud.get(&format!("/v2/load_balancers/{balancer}")).await;
    assert_eq!(shown.text("/load_balancer/project_id"), home);
    let balancer = format!("do:loadbalancer:{balancer}");
    assert_eq!(urns(&cloud, &home).await, std::slice::from_ref(&balancer));
    assert_eq!(urns(&cloud, "default").await, [droplet.clone(), volume.clone()]);
    let path = format!("/v2/projects/{home}/resources");
    let gone = "do:loadbalancer:cc81cc42-99d2-4b92-8e78-ffbdeca321d8";
    let body = json!({"resources": [droplet, volume, balancer, gone, "do:space:x", droplet]});
    let reply = cloud.post(&path, body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let statuses: Vec<&str> = reply
        .at("/resources")
        .as_array()
        .unwrap()
        .iter()
        .map(|resource| resource["status"].as_str().unwrap())
        .collect();
    assert_eq!(
        statuses,
        [
            "assigned",
            "assigned",
            "already_assigned",
            "not_found",
            "not_found",
            "already_assigned"
        ]
    );
    assert_eq!(reply.text("/resources/0/urn"), droplet);
    let id = droplet.rsplit(':').next().unwrap();
    assert_eq!(
        reply.text("/resources/0/links/self"),
        format!("{}/v2/droplets/{id}", cloud.url)
    );
    assert!(urns(&cloud, "default").await.is_empty());
    assert_eq!(
        urns(&cloud, &home).await,
        [droplet.clone(), balancer.clone(), volume.clone()]
    );
    let listed = cloud.get(&format!("{path}?per_page=2")).await;
    assert_eq!(listed.text("/resources/0/status"), "ok");
    assert!(listed.text("/links/pages/next").contains("page=2"));
    let refused = cloud.delete(&format!("/v2/projects/{home}")).await;
    assert_eq!(
        (refused.status, refused.text("/id")),
        (412, "precondition_failed".into())
    );
    assert!(
        refused
            .text("/message")
            .starts_with("cannot delete a project with resources")
    );
    for bad in [
        json!({}),
        json!({"resources": 1}),
        json!({"resources": [1]}),
        json!({"resources": ["droplet:1"]}),
    ] {
        assert_eq!(cloud.post(&path, bad.clone()).await.status, 422, "{bad}");
    }
    assert_eq!(
        cloud
            .post("/v2/projects/none/resources", json!({"resources": []}))
            .await
            .status,
        404
    );
    assert_eq!(cloud.delete(&format!("/v2/droplets/{id}")).await.status, 204);
    let back = json!({"resources": [droplet, volume, balancer]});
    let reply = cloud.post("/v2/projects/default/resources", back).await;
    assert_eq!(reply.text("/resources/0/status"), "not_found");
    assert_eq!(urns(&cloud, "default").await, [balancer, volume]);
    assert_eq!(cloud.delete(&format!("/v2/projects/{home}")).await.status, 204);
}
