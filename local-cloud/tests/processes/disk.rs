//! A state that can't be written: the answer says so, and nothing of the change is kept.

use std::collections::BTreeSet;
use std::process::Command;

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::{Value, json};

use crate::common::{Cloud, PROGRAM, images};

/// Tags of this length fill the file after a few dozen.
const TAG_CHARS: usize = 200;
/// More than fit into the largest file that is allowed.
const TAGS_MAX: usize = 200;

/// A cloud whose files may have 4 to 8 KiB, depending on what the shell takes for a block.
fn cloud_of_small_files() -> Cloud {
    let mut command = Command::new("/bin/sh");
    // Without the signal a write beyond that fails, as on a full disk.
    command
        .args(["-c", "trap '' XFSZ && ulimit -f 8 && exec \"$0\" \"$@\""])
        .arg(PROGRAM);
    Cloud::start_by(command, images(), &[])
}

async fn tags(cloud: &Cloud) -> BTreeSet<String> {
    let listed = cloud
        .call(Method::GET, "/v2/tags?per_page=200", Value::Null)
        .await;
    let tags = listed.at("/tags").as_array().cloned().unwrap_or_default();
    tags.iter()
        .filter_map(|tag| tag["name"].as_str().map(str::to_owned))
        .collect()
}

#[tokio::test]
async fn a_change_that_can_not_be_written_is_500_with_the_reason_and_not_kept() {
    let mut cloud = cloud_of_small_files();
    let mut kept = BTreeSet::new();
    let mut refused = None;
    for nth in 0..TAGS_MAX {
        let name = format!("{nth:0TAG_CHARS$}");
        let made = cloud.call(Method::POST, "/v2/tags", json!({"name": name})).await;
        match made.status {
            201 => kept.insert(name),
            500 => {
                refused = Some((name, made));
                break;
            }
            _ => panic!("{made:?}"),
        };
    }
    let (name, answer) = refused.expect("a file of that size was written");
    assert_eq!(answer.text("/id"), "server_error");
    assert!(answer.text("/message").contains("File too large"), "{answer:?}");
    assert_eq!(tags(&cloud).await, kept);

    // As soon as there is room, changes are kept again.
    let gone: Vec<String> = kept.iter().take(3).cloned().collect();
    for name in gone {
        let path = format!("/v2/tags/{name}");
        assert_eq!(cloud.call(Method::DELETE, &path, Value::Null).await.status, 204);
        kept.remove(&name);
    }
    let again = cloud.call(Method::POST, "/v2/tags", json!({"name": name})).await;
    assert_eq!(again.status, 201, "{again:?}");
    kept.insert(name);
    assert_eq!(cloud.stop(Signal::SIGKILL), None);
    cloud.start_again();
    assert_eq!(tags(&cloud).await, kept, "what was answered is what is kept");
}
