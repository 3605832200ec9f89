//! Regions and sizes on offer: a small part of the real catalogue, with its prices of 2026.

use serde_json::{Value, json};

/// Where things go when nobody says where.
pub(crate) const DEFAULT_REGION: &str = "nyc3";

const REGION_FEATURES: [&str; 5] = ["backups", "ipv6", "metadata", "install_agent", "image_transfer"];

/// Slug and name.
const REGIONS: [(&str, &str); 9] = [
    ("ams3", "Amsterdam 3"),
    ("blr1", "Bangalore 1"),
    ("fra1", "Frankfurt 1"),
    ("lon1", "London 1"),
    ("nyc1", "New York 1"),
    ("nyc3", "New York 3"),
    ("sfo3", "San Francisco 3"),
    ("sgp1", "Singapore 1"),
    ("syd1", "Sydney 1"),
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

/// Hours that a month's price is made of: DigitalOcean bills at most 672.
const HOURS_BILLED: f64 = 672.0;

const SIZES: [Size; 10] = [
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

/// The size of that slug.
pub(crate) fn size_of(slug: &str) -> Option<&'static Size> {
    SIZES.iter().find(|size| size.slug == slug)
}

/// Whether there is such a region.
pub(crate) fn is_region(slug: &str) -> bool {
    REGIONS.iter().any(|(known, _)| *known == slug)
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
    json!({
        "slug": size.slug,
        "memory": size.memory_mb,
        "vcpus": size.vcpus,
        "disk": size.disk_gb,
        "transfer": size.transfer_tb,
        "price_monthly": size.price_monthly,
        "price_hourly": (size.price_monthly / HOURS_BILLED * 1e5).round() / 1e5,
        "regions": region_slugs(),
        "available": true,
        "description": size.description,
        "disk_info": [{"type": "local", "size": {"amount": size.disk_gb, "unit": "gib"}}],
    })
}
