//! What can't be, and how it is said.

use std::process::Command;

use serde_json::json;

use crate::common::{PROGRAM, droplet_body};
use crate::room::{Room, missing};

#[tokio::test]
async fn what_cant_run_here_is_refused_with_a_reason() {
    let Some(room) = Room::open("systemd refusals::what_cant_run_here").await else {
        return;
    };
    let mut large = droplet_body("web-1", "debian", &[]);
    large["size"] = json!("gpu-h100x1-80gb");
    let of_processes = droplet_body("web-1", "web", &[]);
    for (body, reason) in [
        (large, "and this machine"),
        (of_processes, "has no [system] table"),
    ] {
        let reply = room.cloud.post("/v2/droplets", body).await;
        assert_eq!(reply.status, 422, "{reply:?}");
        assert!(reply.text("/message").contains(reason), "{reply:?}");
    }
    let droplets = room.cloud.get("/v2/droplets").await;
    assert_eq!(droplets.at("/droplets"), &json!([]));
}

#[test]
fn without_root_it_says_so() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd refusals::without_root_it_says_so: {missing}");
        return;
    }
    // A copy where everybody may run it.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("local-cloud");
    std::fs::copy(PROGRAM, &program).unwrap();
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), everybody).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(&program)
        .args(["serve", "--hosts", "systemd", "--images", "/", "--state"])
        .arg(dir.path().join("state"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(said.contains("--hosts systemd: needs root"), "{said}");
}
