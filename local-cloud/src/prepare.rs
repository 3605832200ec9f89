//! `prepare`: makes base images of systemd hosts; starts nothing.

use std::path::PathBuf;

use crate::hosts::systemd;
use crate::manifests::{Images, Manifests, System};
use crate::problems::Problems;

/// What `prepare` was asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) images: PathBuf,
    pub(crate) base_images: PathBuf,
    /// All images that are systems, when it is empty.
    pub(crate) slugs: Vec<String>,
}

/// Makes what is not there yet, and prints where each base image is.
pub(crate) async fn run(plan: Plan) -> anyhow::Result<()> {
    let images = Manifests::new(plan.images).read().await?;
    for system in systems(&images, &plan.slugs)? {
        let kept = plan.base_images.clone();
        let made = tokio::task::spawn_blocking(move || systemd::base_image(kept, &system)).await??;
        tidepool_logging::print(&format!("{}\n", made.display()))?;
    }
    Ok(())
}

fn systems(images: &Images, slugs: &[String]) -> Result<Vec<System>, Problems> {
    if slugs.is_empty() {
        return Ok(images.iter().filter_map(|image| image.system.clone()).collect());
    }
    let mut problems = Problems::new();
    let mut found = Vec::new();
    for slug in slugs {
        match images.get(slug).map(|image| &image.system) {
            Some(Some(system)) => found.push(system.clone()),
            Some(None) => problems.add(slug, "has no [system] table in its manifest"),
            None => problems.add(slug, "no image of --images has this slug"),
        }
    }
    problems.or(found)
}
