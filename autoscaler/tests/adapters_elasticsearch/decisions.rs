//! The index of decisions, in a real Elasticsearch without a template: what an operator asks it, and that no decision's shape
//! keeps another one out.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tidepool_autoscaler::audit::{Audit, Inputs, Record};
use tidepool_autoscaler::config::{self, AuditConfig, AuditIndex, Purpose, Surroundings};
use tidepool_autoscaler::meters::Meters;
use tidepool_autoscaler::status::StepStatus;
use tidepool_autoscaler_core::decide::{Control, decide};
use tidepool_autoscaler_core::memory::Memory;
use tidepool_autoscaler_core::observe::{MemberName, Observation, UnixMillis};
use tidepool_autoscaler_core::spec::PoolSpec;

use super::real::with_server;

fn spec(pool: &str) -> PoolSpec {
    let text = format!(
        r#"
        state_dir = "state"
        metrics = "scrape"
        digitalocean.token_env = "TOKEN"
        [[pool]]
        name = "{pool}"
        min = 2
        max = 4
        digitalocean = {{ region = "fra1", size = "s-1vcpu-1gb", image = "api" }}
        policy = [{{ preset = "cpu", target = 0.6 }}]
        "#
    );
    let around = Surroundings {
        env: &|_| Some("token".to_owned()),
        read_file: &|_| Err(io::ErrorKind::NotFound.into()),
        base: Path::new("/"),
    };
    config::parse(&text, &around, Purpose::Act)
        .unwrap()
        .pools
        .remove(0)
        .spec
}

fn record(pool: &str, at: i64, control: Control, steps: Vec<StepStatus>) -> Record {
    let spec = spec(pool);
    let observation = Observation {
        at: UnixMillis(at),
        members: Vec::new(),
        unseen: 0,
        may_go_on: false,
        provider_ahead_millis: Some(0),
        missing: BTreeSet::new(),
        drained: BTreeSet::new(),
        signals: BTreeMap::new(),
    };
    let memory = Memory::default().observe(&spec, &observation);
    Record {
        at: observation.at,
        pool: spec.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        decision: decide(&spec, &observation, &memory, control),
        steps,
        problems: Vec::new(),
        inputs: Inputs {
            spec,
            observation,
            memory,
            control,
        },
    }
}

fn step(outcome: &str, detail: Option<&str>) -> StepStatus {
    StepStatus {
        step: "create".to_owned(),
        member: MemberName("api-1".to_owned()),
        outcome: outcome.to_owned(),
        detail: detail.map(str::to_owned),
    }
}

#[tokio::test]
async fn decisions_are_found_by_pool_time_and_outcome() {
    with_server("decisions_are_found_by_pool_time_and_outcome", |server| async move {
        let dir = tempfile::tempdir().unwrap();
        let name = format!("{}decisions", server.prefix);
        let meters = Arc::new(Meters::new().unwrap());
        let index = AuditIndex {
            name: name.clone(),
            server: server.config("decisions"),
        };
        let config = AuditConfig {
            file: dir.path().join("audit.jsonl"),
            index: Some(index),
        };
        // The first one fixes the index's fields: each later one differs from it in the shape of something.
        let records = [
            record("api", server.now, Control::Auto, Vec::new()),
            record("api", server.now + 1, Control::Hold { size: 3 }, vec![step("done", None)]),
            record("api", server.now + 2, Control::Auto, vec![step("failed", Some("no such image"))]),
            record("web", server.now + 3, Control::Manual { size: 4 }, vec![step("failed", None)]),
        ];
        let (audit, task) = Audit::start(&config, Arc::clone(&meters)).unwrap();
        for record in &records {
            audit.record(record.clone());
        }
        drop(audit);
        task.await.unwrap();
        let meters = String::from_utf8(meters.text().unwrap()).unwrap();
        assert!(!meters.contains("tidepool_autoscaler_audit_errors_total{"), "{meters}");

        let first = jiff::Timestamp::from_millisecond(server.now).unwrap();
        let found = server
            .search(
                &name,
                json!({
                    "query": { "bool": { "filter": [
                        { "term": { "pool.keyword": "api" } },
                        // As a date, for Kibana finds a decision by that alone.
                        { "range": { "@timestamp": { "gt": first.to_string() } } },
                    ] } },
                    "sort": [{ "@timestamp": "desc" }],
                }),
            )
            .await;
        let reasons: Vec<&str> = found.iter().filter_map(|one| one["decision"]["reason"].as_str()).collect();
        assert_eq!(
            reasons,
            [records[2].decision.reason(), records[1].decision.reason()]
        );
        let inputs: Inputs = serde_json::from_str(found[1]["inputs"].as_str().unwrap()).unwrap();
        assert_eq!(inputs, records[1].inputs);

        let failed = json!({ "query": { "term": { "steps.outcome.keyword": "failed" } }, "sort": ["pool.keyword"] });
        let failed = server.search(&name, failed).await;
        let pools: Vec<&Value> = failed.iter().map(|one| &one["pool"]).collect();
        assert_eq!(pools, ["api", "web"]);
    })
    .await;
}
