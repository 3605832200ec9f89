//! What the adapter makes of documents, with `test_server` in Elasticsearch's place.

use tidepool_autoscaler_core::observe::{MemberName, Reading, UnixMillis};

use super::test_server::{Stored, read, read_together};
use crate::metrics::{SignalQuery, test_query};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

/// CPU documents of a host, one in ten seconds; with an id in `cloud.instance.id`, or without one.
fn cpu(host: &str, id: Option<&str>, value: f64) -> Vec<Stored> {
    let cloud = id.map_or_else(String::new, |id| {
        format!(",\"cloud\":{{\"instance\":{{\"id\":\"{id}\"}}}}")
    });
    let one = |ago: i64| Stored {
        host: host.to_owned(),
        instance: id.map(str::to_owned),
        at_ms: NOW.0 - 10_000 * ago,
        label: String::new(),
        source: format!("{{\"system\":{{\"cpu\":{{\"total\":{{\"norm\":{{\"pct\":{value}}}}}}}}}{cloud}}}"),
        is_ignored: false,
    };
    (0..6).map(one).collect()
}

fn values(query: &SignalQuery, stored: &[Stored]) -> (Vec<(String, f64)>, Reading) {
    let reading = read(query, stored, NOW);
    let samples = reading.samples.iter();
    (
        samples
            .map(|sample| (sample.host.0.clone(), sample.value))
            .collect(),
        reading,
    )
}

fn cause<'a>(reading: &'a Reading, host: &str) -> &'a str {
    reading
        .causes
        .get(&MemberName(host.to_owned()))
        .map_or("", String::as_str)
}

#[test]
fn documents_of_another_droplet_in_a_members_name_do_not_count() {
    let query = test_query(&[("api-1", "100"), ("api-2", "101"), ("api-3", "102")]);
    // The own documents have stopped, for all of them or for one; those of staging go on.
    let staging: Vec<Stored> = ["api-1", "api-2", "api-3"]
        .iter()
        .zip(["900", "901", "902"])
        .flat_map(|(host, id)| cpu(host, Some(id), 0.0078125))
        .collect();
    let (none, reading) = values(&query, &staging);
    assert_eq!(none, []);
    assert_eq!(
        cause(&reading, "api-1"),
        "the documents in its name are another droplet's: cloud.instance.id is \"900\", and its own is \"100\""
    );
    let own = cpu("api-1", Some("100"), 0.5)
        .into_iter()
        .chain(cpu("api-2", Some("101"), 0.5));
    let both: Vec<Stored> = own.chain(staging).collect();
    let (two, reading) = values(&query, &both);
    assert_eq!(two, [("api-1".to_owned(), 0.5), ("api-2".to_owned(), 0.5)]);
    assert!(
        cause(&reading, "api-3").contains("another droplet's"),
        "{reading:?}"
    );
    assert_eq!(cause(&reading, "api-1"), "");
}

/// Members that were taken in keep their names, and two pools may have one of the same name.
#[test]
fn members_of_two_pools_that_share_a_name_have_values_of_their_own() {
    let pools = [test_query(&[("web", "100")]), test_query(&[("web", "200")])];
    let stored = |ids: [Option<&str>; 2]| {
        let [one, other] = ids;
        let mut stored = cpu("web", one, 0.5);
        stored.extend(cpu("web", other, 0.0078125));
        stored
    };
    let read = |ids| read_together(&pools, &stored(ids), NOW);
    let values: Vec<Vec<f64>> = read([Some("100"), Some("200")])
        .iter()
        .map(|reading| reading.samples.iter().map(|sample| sample.value).collect())
        .collect();
    assert_eq!(values, [[0.5], [0.0078125]]);
    // Without ids nobody can tell them apart.
    for reading in read([None, None]) {
        assert_eq!(reading.samples, []);
        let expected = "members of two pools are named web, and the documents have no cloud.instance.id";
        assert!(cause(&reading, "web").contains(expected), "{reading:?}");
    }
}

#[test]
fn an_id_that_the_groups_do_not_show_counts_all_the_same() {
    // `cloud.instance.id` is newer than what is known of the fields, so that groups are not made by it.
    let query = test_query(&[("api-1", "100")]);
    let hidden = |id| {
        let mut stored = cpu("api-1", Some(id), 0.5);
        stored.iter_mut().for_each(|one| one.instance = None);
        stored
    };
    assert_eq!(values(&query, &hidden("100")).0, [("api-1".to_owned(), 0.5)]);
    assert_eq!(values(&query, &hidden("i-0abc")).0, [("api-1".to_owned(), 0.5)]);
    let (none, reading) = values(&query, &hidden("900"));
    assert_eq!(none, []);
    assert!(
        cause(&reading, "api-1").contains("another droplet's"),
        "{reading:?}"
    );
}

#[test]
fn containers_of_one_host_are_series_of_their_own() {
    let query = SignalQuery {
        what: crate::metrics::SignalSpec {
            field: "docker.cpu.total.norm.pct".to_owned(),
            per_host: crate::metrics::PerHost::Avg,
            ..test_query(&[]).what
        },
        ..test_query(&[("api-1", "100")])
    };
    let mut stored = Vec::new();
    for round in 0..6 {
        for (nth, value) in [0.5, 0.0625, 0.0625, 0.0625].into_iter().enumerate() {
            stored.push(Stored {
                host: "api-1".to_owned(),
                instance: None,
                at_ms: NOW.0 - 10_000 * round - 3 * nth as i64,
                label: nth.to_string(),
                source: format!(
                    "{{\"container\":{{\"id\":\"c{nth}\"}},\"docker\":{{\"cpu\":{{\"total\":{{\"norm\":{{\"pct\":{value}}}}}}}}}}}"
                ),
                is_ignored: false,
            });
        }
    }
    assert_eq!(values(&query, &stored).0, [("api-1".to_owned(), 0.6875)]);
}

#[test]
fn a_document_without_a_time_costs_its_own_host() {
    let query = test_query(&[("api-1", "100"), ("api-2", "101")]);
    let mut stored = cpu("api-1", None, 0.5);
    stored.extend(cpu("api-2", None, 0.5));
    let (both, _) = values(&query, &stored);
    assert_eq!(both.len(), 2);
    let reading = super::test_server::read_without_times(&query, &stored, NOW, "api-1");
    let named: Vec<&str> = reading
        .samples
        .iter()
        .map(|sample| sample.host.0.as_str())
        .collect();
    assert_eq!(named, ["api-2"]);
    assert_eq!(
        cause(&reading, "api-1"),
        "a document has no time that can be read"
    );
}

#[test]
fn an_empty_filter_asks_for_documents_without_the_field() {
    use super::fields::{Fields, asked};
    use super::hosts::Directory;
    use super::query::Search;
    use serde_json::{Value, json};
    let config = super::ElasticsearchConfig::new("http://test".to_owned(), super::Auth::Anonymous);
    let clauses = |value: &str, place: &str| {
        let mut query = test_query(&[("api-1", "100")]);
        query.what.filter = [("tenant".to_owned(), value.to_owned())].into();
        let fields = Fields::read(
            asked(std::slice::from_ref(&query), &config),
            &json!({ "fields": {} }),
        )
        .unwrap();
        let search = Search::new(&query, &config, &fields, &Directory::default()).unwrap();
        let body = search.body(&query, NOW, &config);
        let clauses = body.pointer(place).unwrap().as_array().unwrap();
        clauses.last().cloned().unwrap_or(Value::Null)
    };
    let empty = json!({ "bool": { "minimum_should_match": 1, "should": [
        { "term": { "tenant": "" } },
        { "bool": { "must_not": { "exists": { "field": "tenant" } } } },
    ] } });
    assert_eq!(clauses("", "/query/bool/filter"), empty);
    assert_eq!(clauses("!", "/query/bool/must_not"), empty);
    assert_eq!(
        clauses("a", "/query/bool/filter"),
        json!({ "term": { "tenant": "a" } })
    );
}
