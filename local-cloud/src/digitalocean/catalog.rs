//! Regions, sizes and distributions on offer: a part of the real catalogue, with its prices of 2026.

use serde_json::{Value, json};

use crate::machines;

/// Where things go when nobody says where.
pub(crate) const DEFAULT_REGION: &str = "nyc3";

/// Only what droplets really have here.
const REGION_FEATURES: [&str; 2] = ["image_transfer", "storage"];

/// Slug and name.
const REGIONS: [(&str, &str); 13] = [
    ("ams3", "Amsterdam 3"),
    ("atl1", "Atlanta 1"),
    ("blr1", "Bangalore 1"),
    ("fra1", "Frankfurt 1"),
    ("lon1", "London 1"),
    ("nyc1", "New York 1"),
    ("nyc2", "New York 2"),
    ("nyc3", "New York 3"),
    ("sfo2", "San Francisco 2"),
    ("sfo3", "San Francisco 3"),
    ("sgp1", "Singapore 1"),
    ("syd1", "Sydney 1"),
    ("tor1", "Toronto 1"),
];

/// A size of droplets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) slug: &'static str,
    pub(crate) memory_mb: u64,
    pub(crate) vcpus: u64,
    pub(crate) disk_gb: u64,
    transfer_tb: f64,
    price_monthly: f64,
    description: &'static str,
}

/// Hours that a month's price is made of: DigitalOcean bills at most 672 …
const HOURS_BILLED: f64 = 672.0;
/// … but every hour of a GPU, 744 in the longest month.
const GPU_HOURS_BILLED: f64 = 744.0;
/// How the slug of every size with a GPU begins.
const GPU_PREFIX: &str = "gpu-";

const SIZES: [Size; 12] = [
    size("s-1vcpu-512mb-10gb", (512, 1, 10), (0.5, 4.0), "Basic"),
    size("s-1vcpu-1gb", (1_024, 1, 25), (1.0, 6.0), "Basic"),
    size("s-1vcpu-2gb", (2_048, 1, 50), (2.0, 12.0), "Basic"),
    size("s-2vcpu-2gb", (2_048, 2, 60), (3.0, 18.0), "Basic"),
    size("s-2vcpu-4gb", (4_096, 2, 80), (4.0, 24.0), "Basic"),
    size("s-4vcpu-8gb", (8_192, 4, 160), (5.0, 48.0), "Basic"),
    size("s-8vcpu-16gb", (16_384, 8, 320), (6.0, 96.0), "Basic"),
    size("c-2", (4_096, 2, 25), (4.0, 42.0), "CPU-Optimized"),
    size("c-4", (8_192, 4, 50), (5.0, 84.0), "CPU-Optimized"),
    size("g-2vcpu-8gb", (8_192, 2, 25), (4.0, 63.0), "General Purpose"),
    size(
        "gpu-4000adax1-20gb",
        (32_768, 8, 500),
        (10.0, 565.44),
        "RTX 4000 Ada GPU - 1X",
    ),
    size(
        "gpu-h100x1-80gb",
        (245_760, 20, 720),
        (15.0, 2_522.16),
        "H100 GPU - 1X",
    ),
];

/// `shape` is memory in MiB, virtual CPUs, disk in GiB; `terms` is transfer in TiB and the month's price in dollars.
const fn size(
    slug: &'static str,
    shape: (u64, u64, u64),
    terms: (f64, f64),
    description: &'static str,
) -> Size {
    Size {
        slug,
        memory_mb: shape.0,
        vcpus: shape.1,
        disk_gb: shape.2,
        transfer_tb: terms.0,
        price_monthly: terms.1,
        description,
    }
}

/// All sizes, small ones first.
pub(crate) fn sizes() -> &'static [Size] {
    &SIZES
}

/// The size of that slug, in any case.
pub(crate) fn size_of(slug: &str) -> Option<&'static Size> {
    SIZES.iter().find(|size| size.slug.eq_ignore_ascii_case(slug))
}

impl Size {
    /// What a machine of this size has.
    pub(crate) fn of_machine(&self) -> machines::Size {
        machines::Size {
            vcpus: self.vcpus,
            memory_mb: self.memory_mb,
            disk_gb: self.disk_gb,
        }
    }

    /// Whether it has a GPU: such droplets are listed apart from the others.
    pub(crate) fn is_gpu(&self) -> bool {
        self.slug.starts_with(GPU_PREFIX)
    }
}

/// The slug of the region that a client means: its slug in any case, or the slug without its number (`nyc`) for any of
/// those regions, the default one if it is among them.
pub(crate) fn region_of(wanted: &str) -> Option<&'static str> {
    let regions = || REGIONS.iter().map(|(slug, _)| *slug);
    let named = |slug: &&str| names_region(wanted, slug);
    regions()
        .find(|slug| slug.eq_ignore_ascii_case(wanted))
        .or_else(|| regions().filter(named).find(|slug| *slug == DEFAULT_REGION))
        .or_else(|| regions().find(named))
}

/// Whether a client that says `wanted` may mean the region `slug`.
pub(crate) fn names_region(wanted: &str, slug: &str) -> bool {
    let area = slug.trim_end_matches(|char: char| char.is_ascii_digit());
    slug.eq_ignore_ascii_case(wanted) || area.eq_ignore_ascii_case(wanted)
}

/// Slugs of all regions.
pub(crate) fn region_slugs() -> Vec<&'static str> {
    REGIONS.iter().map(|(slug, _)| *slug).collect()
}

/// A region as the API shows it; an unknown one (from an older state) by its slug alone.
pub(crate) fn region_view(slug: &str) -> Value {
    let name = REGIONS
        .iter()
        .find(|(known, _)| *known == slug)
        .map_or(slug, |(_, name)| name);
    let sizes: Vec<&str> = SIZES.iter().map(|size| size.slug).collect();
    json!({"name": name, "slug": slug, "features": REGION_FEATURES, "available": true, "sizes": sizes})
}

/// A size as the API shows it.
pub(crate) fn size_view(size: &Size) -> Value {
    let hours = if size.is_gpu() {
        GPU_HOURS_BILLED
    } else {
        HOURS_BILLED
    };
    json!({
        "slug": size.slug,
        "memory": size.memory_mb,
        "vcpus": size.vcpus,
        "disk": size.disk_gb,
        "transfer": size.transfer_tb,
        "price_monthly": size.price_monthly,
        "price_hourly": (size.price_monthly / hours * 1e5).round() / 1e5,
        "regions": region_slugs(),
        "available": true,
        "description": size.description,
        "disk_info": [{"type": "local", "size": {"amount": size.disk_gb, "unit": "gib"}}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_found_in_any_case_and_by_their_area() {
        for (wanted, slug) in [
            ("nyc1", "nyc1"),
            ("NYC3", "nyc3"),
            ("nyc", "nyc3"),
            ("NYC", "nyc3"),
            ("fra", "fra1"),
            ("Sfo", "sfo2"),
        ] {
            assert_eq!(region_of(wanted), Some(slug), "{wanted}");
        }
        for wanted in ["", "ny", "n", "nyc9", "nyc33", "mars1", " nyc3", "1"] {
            assert_eq!(region_of(wanted), None, "{wanted}");
        }
    }

    #[test]
    fn gpus_are_known_by_their_slug_and_cost_what_their_hours_cost() {
        let gpu = size_of("GPU-H100x1-80GB").unwrap();
        assert!(gpu.is_gpu() && !size_of("s-1vcpu-1gb").unwrap().is_gpu());
        let price = size_view(gpu).get("price_hourly").and_then(Value::as_f64);
        assert_eq!(price, Some(3.39));
    }
}
