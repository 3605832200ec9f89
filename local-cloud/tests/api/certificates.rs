//! Certificates: what is checked, shown and refused. What a balancer does with one is asked in `tests/balancer`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};

use crate::common::{Cloud, free_port};

/// An upload, as the real provider sends it.
fn upload(name: &str) -> Value {
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names = [
        "api.tidepool.example".to_owned(),
        "www.tidepool.example".to_owned(),
    ];
    let mut params = CertificateParams::new(names).unwrap();
    params.not_after = rcgen::date_time_ymd(2037, 2, 25);
    let leaf = params.signed_by(&key, &issuer).unwrap();
    json!({"name": name, "type": "custom", "private_key": key.serialize_pem(), "leaf_certificate": leaf.pem(),
        "certificate_chain": issuer.pem()})
}

fn lets_encrypt(name: &str) -> Value {
    json!({"name": name, "type": "lets_encrypt", "dns_names": ["api.tidepool.example", "*.tidepool.example"]})
}

/// Every file under a directory, with its mode.
fn files(dir: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            found.push((path.display().to_string(), mode));
        }
    }
    found
}

#[tokio::test]
async fn an_uploaded_certificate_is_shown_with_what_it_says_and_without_its_key() {
    let cloud = Cloud::start(&[]);
    let made = cloud.post("/v2/certificates", upload("api-1")).await;
    assert_eq!(made.status, 201, "{made:?}");
    let shown = made.at("/certificate").clone();
    assert_eq!(shown["state"], "pending");
    assert_eq!(shown["not_after"], "2037-02-25T00:00:00Z");
    assert_eq!(
        shown["dns_names"],
        json!(["api.tidepool.example", "www.tidepool.example"])
    );
    assert_eq!(shown["type"], "custom");
    assert_eq!(shown["sha1_fingerprint"].as_str().unwrap().len(), 40);
    let mut fields: Vec<&String> = shown.as_object().unwrap().keys().collect();
    fields.sort_unstable();
    let expected = [
        "created_at",
        "dns_names",
        "id",
        "name",
        "not_after",
        "sha1_fingerprint",
        "state",
        "type",
    ];
    assert_eq!(fields, expected);
    let path = format!("/v2/certificates/{}", made.text("/certificate/id"));
    let mut verified = shown.clone();
    verified["state"] = json!("verified");
    assert_eq!(cloud.get(&path).await.at("/certificate"), &verified);
    // By name, as the real provider asks; and all, in pages.
    cloud.post("/v2/certificates", upload("api-2")).await;
    let named = cloud.get("/v2/certificates?name=api-1").await;
    assert_eq!(named.at("/certificates"), &json!([verified]));
    assert_eq!(named.number("/meta/total"), 1);
    assert_eq!(
        cloud.get("/v2/certificates?name=api-3").await.at("/certificates"),
        &json!([])
    );
    let page = cloud.get("/v2/certificates?per_page=1&page=2").await;
    assert_eq!(page.number("/meta/total"), 2);
    assert_eq!(page.text("/certificates/0/name"), "api-2");
    assert!(page.at("/links/pages/prev").is_string());
    assert_eq!(cloud.delete(&path).await.status, 204);
    for reply in [cloud.delete(&path).await, cloud.get(&path).await] {
        assert_eq!((reply.status, reply.text("/id")), (404, "not_found".into()));
    }
}

#[tokio::test]
async fn what_can_t_be_used_is_refused() {
    let cloud = Cloud::start(&[]);
    let other = upload("other");
    for (field, value, message) in [
        ("name", json!(""), "name can't be blank"),
        ("type", json!("managed"), "type must be custom or lets_encrypt"),
        ("private_key", json!(null), "private_key can't be blank"),
        ("private_key", json!(1), "private_key must be a string"),
        (
            "private_key",
            json!("-----BEGIN PRIVATE KEY-----"),
            "Invalid certificate data: private_key",
        ),
        (
            "private_key",
            other["private_key"].clone(),
            "Invalid certificate data: the private key does not match",
        ),
        ("leaf_certificate", json!(""), "leaf_certificate can't be blank"),
        (
            "leaf_certificate",
            json!("none"),
            "Invalid certificate data: leaf_certificate",
        ),
        (
            "certificate_chain",
            other["certificate_chain"].clone(),
            "Invalid certificate data: certificate 1",
        ),
        (
            "certificate_chain",
            json!([]),
            "certificate_chain must be a string",
        ),
        (
            "certificate_chain",
            json!("none"),
            "Invalid certificate data: certificate_chain",
        ),
        ("dns_names", json!(["a.example"]), "dns_names"),
    ] {
        let mut body = upload("bad");
        body[field] = value.clone();
        let reply = cloud.post("/v2/certificates", body).await;
        assert_eq!(
            (reply.status, reply.text("/id")),
            (422, "unprocessable_entity".into()),
            "{field} {value}"
        );
        let said = reply.text("/message");
        assert!(said.starts_with(message), "{field}: {said}");
        assert!(!said.contains("BEGIN") && reply.at("/request_id").is_string());
    }
    for names in [
        json!(null),
        json!([]),
        json!([1]),
        json!(["a b.example"]),
        json!(["localhost"]),
        json!(["192.0.2.1"]),
        json!(["*.*.example"]),
        json!(["-a.example"]),
        json!([format!("{}.example", "a".repeat(64))]),
    ] {
        let mut body = lets_encrypt("bad");
        body["dns_names"] = names.clone();
        assert_eq!(cloud.post("/v2/certificates", body).await.status, 422, "{names}");
    }
    let mut body = lets_encrypt("bad");
    body["private_key"] = other["private_key"].clone();
    assert_eq!(cloud.post("/v2/certificates", body).await.status, 422);
    assert_eq!(cloud.get("/v2/certificates").await.number("/meta/total"), 0);
    assert_eq!(
        files(&cloud.state_dir().join("certificates")),
        [],
        "no key is left behind"
    );
    for method in [reqwest::Method::PUT, reqwest::Method::PATCH] {
        assert_eq!(
            cloud.call(method, "/v2/certificates", json!({})).await.status,
            405
        );
    }
}

#[tokio::test]
async fn a_name_is_taken_once_however_many_ask_at_the_same_time() {
    let cloud = Cloud::start(&[]);
    let asked = (0..6).map(|_| cloud.post("/v2/certificates", lets_encrypt("api")));
    let replies = futures_util::future::join_all(asked).await;
    let made = replies.iter().filter(|reply| reply.status == 201).count();
    let refused = replies.iter().filter(|reply| reply.status == 422).count();
    assert_eq!((made, refused), (1, 5), "{replies:?}");
    assert_eq!(files(&cloud.state_dir().join("certificates")).len(), 1);
}

#[tokio::test]
async fn keys_are_private_and_survive_a_kill_with_what_uses_them() {
    let mut cloud = Cloud::start(&[]);
    let made = cloud.post("/v2/certificates", lets_encrypt("api")).await;
    assert_eq!(made.text("/certificate/type"), "lets_encrypt");
    assert_eq!(
        made.at("/certificate/dns_names"),
        &json!(["api.tidepool.example", "*.tidepool.example"])
    );
    let id = made.text("/certificate/id");
    for dir in ["certificates", "authority"] {
        for (file, mode) in files(&cloud.state_dir().join(dir)) {
            assert_eq!(mode, 0o600, "{file}");
        }
    }
    let key = std::fs::read_to_string(cloud.state_dir().join(format!("certificates/{id}.pem"))).unwrap();
    let secret = key.lines().nth(1).unwrap().to_owned();
    let state = std::fs::read_to_string(cloud.state_dir().join("cloud.json")).unwrap();
    assert!(
        !state.contains(&secret)
            && !cloud
                .get("/_local/state")
                .await
                .body
                .to_string()
                .contains(&secret)
    );
    let port = free_port();
    let rule = json!({"entry_protocol": "https", "entry_port": port, "target_protocol": "http", "target_port": 8080,
        "certificate_id": id});
    let (balancer, _) = cloud
        .balancer("serving:web", json!({"forwarding_rules": [rule]}))
        .await;
    let path = format!("/v2/certificates/{id}");
    let refused = cloud.delete(&path).await;
    assert_eq!((refused.status, refused.text("/id")), (403, "forbidden".into()));
    assert_eq!(
        refused.text("/message"),
        "Make sure the certificate is not in use before deleting it"
    );
    let before = (
        cloud.get(&path).await.body,
        cloud.get(&format!("/v2/load_balancers/{balancer}")).await.body,
    );
    cloud.stop(Signal::SIGKILL);
    // What a create that was not finished leaves.
    std::fs::write(cloud.state_dir().join("certificates/0000.pem"), "half").unwrap();
    cloud.start_again();
    let after = (
        cloud.get(&path).await.body,
        cloud.get(&format!("/v2/load_balancers/{balancer}")).await.body,
    );
    assert_eq!(before, after);
    let kept = files(&cloud.state_dir().join("certificates"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert_eq!(
        cloud
            .delete(&format!("/v2/load_balancers/{balancer}"))
            .await
            .status,
        204
    );
    assert_eq!(cloud.delete(&path).await.status, 204);
    assert_eq!(files(&cloud.state_dir().join("certificates")), []);
}

#[tokio::test]
async fn a_state_of_an_earlier_version_is_read() {
    let mut cloud = Cloud::start(&[]);
    let (balancer, _) = cloud.balancer("serving:web", json!({})).await;
    cloud.stop(Signal::SIGKILL);
    let file = cloud.state_dir().join("cloud.json");
    let mut state: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert!(state.as_object_mut().unwrap().remove("certificates").is_some());
    let old = &mut state["balancers"][&balancer];
    for field in [
        "redirect_http_to_https",
        "enable_proxy_protocol",
        "sticky_sessions",
    ] {
        assert!(old.as_object_mut().unwrap().remove(field).is_some(), "{field}");
    }
    for field in [
        "entry_protocol",
        "target_protocol",
        "certificate_id",
        "tls_passthrough",
    ] {
        let rule = old["forwarding_rules"][0].as_object_mut().unwrap();
        assert!(rule.remove(field).is_some(), "{field}");
    }
    std::fs::write(&file, state.to_string()).unwrap();
    cloud.start_again();
    let shown = cloud.get(&format!("/v2/load_balancers/{balancer}")).await;
    assert_eq!(
        shown.text("/load_balancer/forwarding_rules/0/entry_protocol"),
        "http"
    );
    assert_eq!(
        shown.at("/load_balancer/sticky_sessions"),
        &json!({"type": "none"})
    );
    assert_eq!(cloud.get("/v2/certificates").await.number("/meta/total"), 0);
}
