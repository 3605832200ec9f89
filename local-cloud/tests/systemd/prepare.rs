//! Base images that are made by `prepare`, and those that a start leaves alone.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::{Cloud, PROGRAM, images};
use crate::room::missing;

/// An image that no mirror has.
fn add_image(dir: &Path, slug: &str, more: &str) {
    let image = dir.join("images").join(slug);
    std::fs::create_dir_all(&image).unwrap();
    let manifest = format!("slug = \"{slug}\"\n[system]\nsuite = \"nosuchrelease\"\n{more}");
    std::fs::write(image.join("image.toml"), manifest).unwrap();
}

fn prepare(dir: &Path, slugs: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(["prepare", "--images"])
        .arg(dir.join("images"))
        .arg("--base-images")
        .arg(dir.join("base"))
        .args(slugs)
        .output()
        .unwrap()
}

#[test]
fn an_image_that_is_not_there_is_named_and_nothing_is_made() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd prepare::an_image_that_is_not_there: {missing}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    add_image(dir.path(), "future", "");
    let output = prepare(dir.path(), &["future", "past"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(64), "{said}");
    assert!(
        said.contains("past: no image of --images has this slug"),
        "{said}"
    );
    assert!(!dir.path().join("base").exists());
}

#[test]
fn a_base_image_that_cant_be_made_is_named_and_nothing_is_left_of_it() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd prepare::a_base_image_that_cant_be_made: {missing}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    add_image(dir.path(), "future", "");
    let output = prepare(dir.path(), &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let reason = "the base image nosuchrelease could not be made from this machine's Debian mirror";
    assert!(said.contains(reason), "{said}");
    let kept = std::fs::read_dir(dir.path().join("base")).unwrap().flatten();
    let kept = kept.filter(|entry| entry.path().extension().is_none_or(|name| name != "lock"));
    assert_eq!(kept.count(), 0, "half an image is left");
}

#[tokio::test]
async fn a_system_that_is_not_for_the_start_is_listed_and_not_made_then() {
    if let Some(missing) = missing() {
        println!("tidepool-skip: systemd prepare::a_system_that_is_not_for_the_start: {missing}");
        return;
    }
    let dir = images();
    add_image(dir.path(), "future", "at_start = false\n");
    let bases = dir.path().join("base").display().to_string();
    let cloud = Cloud::start_in(dir, &["--hosts", "systemd", "--base-images", &bases]);
    let listed = cloud.get("/v2/images/future").await;
    assert_eq!(listed.status, 200, "{listed:?}");
    assert!(!Path::new(&bases).join("nosuchrelease").exists());
}
