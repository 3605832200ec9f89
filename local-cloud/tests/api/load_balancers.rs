//! Load balancers' fields: shown as sent and kept to, or refused. What a balancer does with them is asked in
//! `tests/balancer`.

use serde_json::{Value, json};

use crate::common::{Cloud, free_port};

fn request(more: Value) -> Value {
    let mut request = json!({
        "name": "front", "region": "nyc3", "tag": "serving:web",
        "forwarding_rules": [{"entry_protocol": "http", "entry_port": free_port(),
            "target_protocol": "http", "target_port": 8080}],
    });
    for (field, value) in more.as_object().cloned().unwrap_or_default() {
        request[field.as_str()] = value;
    }
    request
}

#[tokio::test]
async fn without_a_word_about_them_fields_have_the_documented_defaults() {
    let cloud = Cloud::start(&[]);
    let id = cloud
        .post("/v2/load_balancers", request(json!({})))
        .await
        .text("/load_balancer/id");
    let shown = cloud.get(&format!("/v2/load_balancers/{id}")).await;
    for (field, value) in [
        ("enable_backend_keepalive", json!(false)),
        ("redirect_http_to_https", json!(false)),
        ("enable_proxy_protocol", json!(false)),
        ("disable_lets_encrypt_dns_records", json!(false)),
        ("firewall", json!({"allow": [], "deny": []})),
        ("size_unit", json!(1)),
        ("size", json!(null)),
        ("type", json!("REGIONAL")),
        ("network", json!("EXTERNAL")),
        ("network_stack", json!("IPV4")),
        ("tls_cipher_policy", json!("DEFAULT")),
        ("sticky_sessions", json!({"type": "none"})),
        ("http_idle_timeout_seconds", json!(60)),
        ("algorithm", json!("round_robin")),
    ] {
        assert_eq!(shown.at(&format!("/load_balancer/{field}")), &value, "{field}");
    }
}

#[tokio::test]
async fn what_is_taken_is_shown_as_sent_at_create_and_at_update() {
    let cloud = Cloud::start(&[]);
    let project = cloud
        .post("/v2/projects", json!({"name": "p", "purpose": "Service or API"}))
        .await
        .text("/project/id");
    let vpc = cloud
        .post("/v2/vpcs", json!({"name": "net", "region": "fra1"}))
        .await
        .text("/vpc/id");
    let fields = json!({
        "region": "FRA1", "vpc_uuid": vpc, "project_id": project, "size_unit": 2, "algorithm": "least_connections",
        "enable_backend_keepalive": true, "disable_lets_encrypt_dns_records": true, "http_idle_timeout_seconds": 90,
        "firewall": {"allow": ["cidr:10.0.0.0/8", "ip:127.0.0.1"], "deny": ["ip:127.0.0.9"]},
    });
    let made = cloud.post("/v2/load_balancers", request(fields.clone())).await;
    assert_eq!(made.status, 202, "{made:?}");
    let path = format!("/v2/load_balancers/{}", made.text("/load_balancer/id"));
    let check = |shown: &Value, fields: &Value| {
        for (field, value) in fields.as_object().unwrap() {
            if field == "region" {
                assert_eq!(shown["region"]["slug"], "fra1");
            } else {
                assert_eq!(&shown[field], value, "{field}");
            }
        }
    };
    let shown = cloud.get(&path).await.at("/load_balancer").clone();
    check(&shown, &fields);
    // What was read is taken back as it is, its region by its slug.
    let mut back = shown.clone();
    back["region"] = json!("fra1");
    back.as_object_mut().unwrap().remove("droplet_ids");
    let put = cloud.put(&path, back).await;
    assert_eq!(put.at("/load_balancer"), &shown, "{put:?}");
    // A PUT is the whole configuration, except for what a balancer can't change.
    let rules = json!({"forwarding_rules": shown["forwarding_rules"], "tag": "other", "size": "lb-medium"});
    let put = cloud
        .put(
            &path,
            request(json!({"region": null, "size": "lb-medium",
        "forwarding_rules": rules["forwarding_rules"]})),
        )
        .await;
    assert_eq!(put.status, 200, "{put:?}");
    let defaults = json!({
        "region": "fra1", "vpc_uuid": vpc, "project_id": project, "size_unit": 3, "size": "lb-medium",
        "enable_backend_keepalive": false, "disable_lets_encrypt_dns_records": false,
        "firewall": {"allow": [], "deny": []}, "http_idle_timeout_seconds": 60,
    });
    check(put.at("/load_balancer"), &defaults);
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_the_fields_name() {
    let cloud = Cloud::start(&[]);
    for (field, value) in [
        ("redirect_http_to_https", json!(true)),
        ("redirect_http_to_https", json!("yes")),
        ("enable_proxy_protocol", json!("yes")),
        ("enable_backend_keepalive", json!("yes")),
        ("disable_lets_encrypt_dns_records", json!(1)),
        ("type", json!("GLOBAL")),
        ("type", json!("REGIONAL_NETWORK")),
        ("network", json!("INTERNAL")),
        ("network_stack", json!("DUALSTACK")),
        ("tls_cipher_policy", json!("STRONG")),
        ("domains", json!([{"name": "example.com"}])),
        ("glb_settings", json!({"target_port": 80})),
        (
            "target_load_balancer_ids",
            json!(["7dbf91fe-cbdb-48dc-8290-c3a181554905"]),
        ),
        ("sticky_sessions", json!({"cookie_name": "c"})),
        (
            "sticky_sessions",
            json!({"type": "none", "cookie_ttl_seconds": 60}),
        ),
        ("sticky_sessions", json!({"type": "cookies", "cookie_name": "c"})),
        (
            "sticky_sessions",
            json!({"type": "cookies", "cookie_ttl_seconds": 60}),
        ),
        (
            "sticky_sessions",
            json!({"type": "cookies", "cookie_name": "a;b", "cookie_ttl_seconds": 60}),
        ),
        ("sticky_sessions", json!({"type": "source_ip"})),
        ("sticky_sessions", json!("none")),
        ("firewall", json!({"allow": ["cidr:2400:cb00::/32"]})),
        ("firewall", json!({"deny": ["127.0.0.9"]})),
        ("firewall", json!({"deny": "ip:127.0.0.9"})),
        ("firewall", json!({"deny": [9]})),
        ("firewall", json!(["ip:127.0.0.9"])),
        ("size", json!("lb-huge")),
        ("size_unit", json!(101)),
        ("size_unit", json!(0)),
        ("size_unit", json!("2")),
        ("http_idle_timeout_seconds", json!(29)),
        ("http_idle_timeout_seconds", json!(601)),
        ("project_id", json!("mine")),
        ("project_id", json!("4de7ac8b-495b-4884-9a69-1050c6793cd6")),
        ("region", json!("")),
        ("region", json!("mars1")),
        ("vpc_uuid", json!("nowhere")),
        ("name", json!("under_score")),
        ("name", json!("  ")),
        ("tag", json!("sp ace")),
        ("health_check", json!({"proxy_protocol": true})),
        ("health_check", json!({"protocol": "https"})),
    ] {
        let reply = cloud
            .post("/v2/load_balancers", request(json!({field: value})))
            .await;
        assert_eq!(
            (reply.status, reply.text("/id")),
            (422, "unprocessable_entity".into()),
            "{field} {value}: {reply:?}"
        );
    }
    let both = request(json!({"size": "lb-small", "size_unit": 2}));
    assert_eq!(cloud.post("/v2/load_balancers", both).await.status, 422);
    assert_eq!(cloud.get("/v2/load_balancers").await.number("/meta/total"), 0);
    // Asking for nothing, as clients do, and what nobody knows, are fine.
    let nothing = request(
        json!({"domains": [], "glb_settings": {}, "redirect_http_to_https": false,
        "sticky_sessions": {"type": "none", "cookie_name": "", "cookie_ttl_seconds": 0}, "network": "",
        "colour": "red", "status": "active", "ip": "192.0.2.1"}),
    );
    let made = cloud.post("/v2/load_balancers", nothing).await;
    assert_eq!(made.status, 202, "{made:?}");
}

#[tokio::test]
async fn rules_that_can_t_be_kept_to_are_refused() {
    let cloud = Cloud::start(&[]);
    let rule = |more: Value| {
        let mut rule = json!({"entry_protocol": "http", "entry_port": 8000, "target_protocol": "http", "target_port": 80});
        rule.as_object_mut()
            .unwrap()
            .extend(more.as_object().cloned().unwrap_or_default());
        json!([rule])
    };
    for more in [
        json!({"certificate_id": "c"}),
        json!({"tls_passthrough": true}),
        json!({"entry_protocol": "https"}),
        json!({"target_protocol": "http2"}),
        json!({"certificate_name": "c"}),
        json!({"entry_protocol": "https", "target_protocol": "https"}),
        json!({"entry_protocol": "http2", "target_protocol": "https", "tls_passthrough": true}),
        json!({"entry_protocol": "https", "tls_passthrough": true}),
        json!({"entry_protocol": "udp", "target_protocol": "udp"}),
        json!({"entry_protocol": "http3"}),
        json!({"entry_protocol": "tcp"}),
        json!({"target_protocol": "tcp"}),
    ] {
        let reply = cloud
            .post(
                "/v2/load_balancers",
                request(json!({"forwarding_rules": rule(more.clone())})),
            )
            .await;
        assert_eq!(
            (reply.status, reply.text("/id")),
            (422, "unprocessable_entity".into()),
            "{more}: {reply:?}"
        );
    }
}

#[tokio::test]
async fn a_balancer_keeps_its_place_and_its_name_is_its_own() {
    let cloud = Cloud::start(&[]);
    let id = cloud
        .post("/v2/load_balancers", request(json!({})))
        .await
        .text("/load_balancer/id");
    let other = request(json!({"name": "other"}));
    let other_id = cloud
        .post("/v2/load_balancers", other)
        .await
        .text("/load_balancer/id");
    let path = format!("/v2/load_balancers/{id}");
    let vpc = cloud
        .post("/v2/vpcs", json!({"name": "net", "region": "nyc3"}))
        .await
        .text("/vpc/id");
    for bad in [
        json!({"region": "fra1"}),
        json!({"vpc_uuid": vpc}),
        json!({"name": "other"}),
    ] {
        assert_eq!(cloud.put(&path, request(bad.clone())).await.status, 422, "{bad}");
    }
    let elsewhere = request(json!({"name": "third", "region": "fra1", "vpc_uuid": vpc}));
    assert_eq!(cloud.post("/v2/load_balancers", elsewhere).await.status, 422);
    // Droplets are named, and exist, or the call is refused.
    let path = format!("/v2/load_balancers/{other_id}/droplets");
    assert_eq!(cloud.post(&path, json!({})).await.status, 422);
    // Only a rule that is there can be removed.
    let path = format!("/v2/load_balancers/{other_id}/forwarding_rules");
    let shown = cloud.get(&format!("/v2/load_balancers/{other_id}")).await;
    let mut rule = shown.at("/load_balancer/forwarding_rules/0").clone();
    rule["target_port"] = json!(9999);
    let wrong = json!({"forwarding_rules": [rule]});
    assert_eq!(
        cloud.call(reqwest::Method::DELETE, &path, wrong).await.status,
        422
    );
}

#[tokio::test]
async fn every_kind_of_rule_is_shown_as_sent_and_taken_back_as_shown() {
    let cloud = Cloud::start(&[]);
    let dns_names = ["api.tidepool.example"];
    let made = cloud
        .post(
            "/v2/certificates",
            json!({"name": "api", "type": "lets_encrypt", "dns_names": dns_names}),
        )
        .await;
    let certificate = made.text("/certificate/id");
    let rule = |entry: &str, target: &str, certificate: &str, tls_passthrough: bool| {
        json!({"entry_protocol": entry, "entry_port": free_port(), "target_protocol": target, "target_port": 8080,
            "certificate_id": certificate, "tls_passthrough": tls_passthrough})
    };
    let rules = json!([
        rule("http", "http", "", false),
        rule("https", "http", &certificate, false),
        rule("http2", "http", &certificate, false),
        rule("https", "https", "", true),
        rule("http2", "http2", "", true),
        rule("tcp", "tcp", "", false),
    ]);
    let fields = json!({
        "forwarding_rules": rules, "redirect_http_to_https": true, "enable_proxy_protocol": true,
        "sticky_sessions": {"type": "cookies", "cookie_name": "DO-LB", "cookie_ttl_seconds": 300},
    });
    let made = cloud.post("/v2/load_balancers", request(fields.clone())).await;
    assert_eq!(made.status, 202, "{made:?}");
    let path = format!("/v2/load_balancers/{}", made.text("/load_balancer/id"));
    let shown = cloud.get(&path).await.at("/load_balancer").clone();
    for (field, value) in fields.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }
    let mut back = shown.clone();
    back["region"] = json!("nyc3");
    back.as_object_mut().unwrap().remove("droplet_ids");
    let put = cloud.put(&path, back.clone()).await;
    assert_eq!(put.at("/load_balancer"), &shown, "{put:?}");
    // By its name, it is the same certificate.
    let named = &mut back["forwarding_rules"][1];
    named.as_object_mut().unwrap().remove("certificate_id");
    named["certificate_name"] = json!("api");
    let put = cloud.put(&path, back.clone()).await;
    assert_eq!(put.at("/load_balancer"), &shown, "{put:?}");
    // Redirected where nobody speaks https, clients would be lost.
    back["forwarding_rules"] = json!([shown["forwarding_rules"][0]]);
    assert_eq!(cloud.put(&path, back).await.status, 422);
}

#[tokio::test]
async fn a_port_keeps_its_listener_when_its_rule_changes() {
    let cloud = Cloud::start(&[]);
    let mut body = request(json!({}));
    let id = cloud
        .post("/v2/load_balancers", body.clone())
        .await
        .text("/load_balancer/id");
    let path = format!("/v2/load_balancers/{id}");
    for (field, value) in [("target_port", json!(9090)), ("entry_protocol", json!("tcp"))] {
        body["forwarding_rules"][0][field] = value;
        body["forwarding_rules"][0]["target_protocol"] =
            body["forwarding_rules"][0]["entry_protocol"].clone();
        let put = cloud.put(&path, body.clone()).await;
        assert_eq!(put.status, 200, "{put:?}");
        let shown = put.at("/load_balancer/forwarding_rules/0");
        assert_eq!(shown[field], body["forwarding_rules"][0][field]);
    }
}

#[tokio::test]
async fn a_size_is_shown_in_the_words_in_which_it_was_asked_for() {
    let cloud = Cloud::start(&[]);
    let mut asked = request(json!({"size_unit": 1}));
    let id = cloud
        .post("/v2/load_balancers", asked.clone())
        .await
        .text("/load_balancer/id");
    let path = format!("/v2/load_balancers/{id}");
    let shown = cloud.get(&path).await;
    assert_eq!(shown.number("/load_balancer/size_unit"), 1);
    assert!(shown.at("/load_balancer/size").is_null(), "{shown:?}");
    asked["size_unit"] = json!(null);
    asked["size"] = json!("lb-small");
    let shown = cloud.put(&path, asked).await;
    assert_eq!(
        (
            shown.number("/load_balancer/size_unit"),
            shown.text("/load_balancer/size")
        ),
        (1, "lb-small".into())
    );
}
