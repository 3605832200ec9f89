//! What a pool's droplets are made of, and what of it DigitalOcean would refuse.

use serde::{Deserialize, Serialize};
use tidepool_autoscaler_core::recipe::{Image, Recipe};

use super::tags;
use crate::provider::{Made, UserData};

/// DigitalOcean's bound on cloud-init data.
const USER_DATA_BYTES_MAX: usize = 64 << 10;
/// DigitalOcean's bound on a tag's length.
const TAG_CHARS_MAX: usize = 255;

/// An image, by slug or by id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ImageRef {
    /// A snapshot's or a private image's number.
    Id(u64),
    /// A public image's name.
    Slug(String),
}

impl ImageRef {
    /// The same as the core knows it.
    pub fn image(&self) -> Image {
        match self {
            ImageRef::Id(id) => Image::numbered(*id),
            ImageRef::Slug(slug) => Image {
                slug: Some(slug.clone()),
                ..Image::default()
            },
        }
    }
}

impl From<String> for ImageRef {
    /// As an operator writes it: a number, or else a slug.
    fn from(text: String) -> ImageRef {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse() {
            Ok(id) if digits => ImageRef::Id(id),
            Ok(_) | Err(_) => ImageRef::Slug(text),
        }
    }
}

/// An SSH key, by id or by fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SshKeyRef {
    /// Its number.
    Id(u64),
    /// Its MD5 fingerprint.
    Fingerprint(String),
}

/// On which of its addresses a member is asked. There is no falling back to the other one: a member would look unready for
/// want of a route, or be asked in the open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressKind {
    /// The VPC's.
    #[default]
    Private,
    /// The internet's.
    Public,
}

impl AddressKind {
    /// As DigitalOcean calls it, and the configuration.
    pub(super) const fn name(self) -> &'static str {
        match self {
            AddressKind::Private => "private",
            AddressKind::Public => "public",
        }
    }
}

/// What the pool's droplets are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DropletTemplate {
    /// Region slug, such as `fra1`.
    pub region: String,
    /// Size slug, such as `s-1vcpu-1gb`.
    pub size: String,
    /// What they boot.
    pub image: ImageRef,
    /// Who may log in as root.
    pub ssh_keys: Vec<SshKeyRef>,
    /// The VPC; the region's default one when `None`.
    pub vpc_uuid: Option<String>,
    /// Tags beside our own.
    pub tags: Vec<String>,
    /// cloud-init data.
    pub user_data: Option<String>,
    /// On which address members are asked.
    pub address: AddressKind,
}

impl DropletTemplate {
    /// The same, made of this.
    pub fn made_of(&self, made: &Made) -> DropletTemplate {
        let Made { recipe, user_data } = made;
        let image = match (recipe.image.number, &recipe.image.slug) {
            (Some(number), _) => ImageRef::Id(number),
            (None, Some(slug)) => ImageRef::Slug(slug.clone()),
            (None, None) => self.image.clone(),
        };
        DropletTemplate {
            image,
            size: recipe.size.clone().unwrap_or_else(|| self.size.clone()),
            user_data: user_data.as_ref().map(|data| data.0.clone()),
            ..self.clone()
        }
    }

    /// What members are made of as long as nothing else was ordered.
    pub fn made(&self) -> Made {
        Made {
            recipe: Recipe {
                generation: None,
                name: None,
                image: self.image.image(),
                size: Some(self.size.clone()),
            },
            user_data: self.user_data.clone().map(UserData),
        }
    }

    /// Whether its droplets are in the list of GPU droplets alone.
    pub(super) fn is_gpu(&self) -> bool {
        self.size
            .get(.."gpu-".len())
            .is_some_and(|begin| begin.eq_ignore_ascii_case("gpu-"))
    }

    /// Everything that DigitalOcean would refuse for certain: the field and what is wrong with it.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (field, text) in [("region", &self.region), ("size", &self.size)] {
            problems.extend(slug_problem(text).map(|problem| (field.to_owned(), problem)));
        }
        if let ImageRef::Slug(text) = &self.image {
            problems.extend(slug_problem(text).map(|problem| ("image".to_owned(), problem)));
        }
        for (n, key) in self.ssh_keys.iter().enumerate() {
            // It isn't shown: it may be a whole key.
            if matches!(key, SshKeyRef::Fingerprint(text) if !is_fingerprint(text)) {
                let problem = "is neither a key's number nor its fingerprint, such as 3b:16:e4:bf:8b:00:8b:b8:59:8c:a9:d3:f0:19:fa:45";
                problems.push((format!("ssh_keys[{n}]"), problem.to_owned()));
            }
        }
        if let Some(text) = self
            .vpc_uuid
            .as_ref()
            .filter(|text| !text.is_empty() && !is_uuid(text))
        {
            problems.push(("vpc_uuid".to_owned(), format!("{text:?} is not a UUID")));
        }
        for (n, tag) in self.tags.iter().enumerate() {
            let path = format!("tags[{n}]");
            if !is_tag(tag) {
                problems.push((
                    path,
                    format!("{tag:?} is not a tag: 1-255 letters, digits, ':', '-' and '_'"),
                ));
            } else if tags::is_own(tag) {
                problems.push((path, format!("{tag:?} begins like a tag of the autoscaler's own")));
            } else if let Some(twin) = self.tags.iter().take(n).find(|twin| tags::same(twin, tag)) {
                problems.push((path, format!("{tag:?} and {twin:?} are one tag to DigitalOcean")));
            }
        }
        for (field, text) in [("user_data", &self.user_data), ("vpc_uuid", &self.vpc_uuid)] {
            if text.as_deref() == Some("") {
                problems.push((field.to_owned(), "is empty".to_owned()));
            }
        }
        if self
            .user_data
            .as_ref()
            .is_some_and(|data| data.len() > USER_DATA_BYTES_MAX)
        {
            problems.push((
                "user_data".to_owned(),
                format!("is larger than {USER_DATA_BYTES_MAX} bytes"),
            ));
        }
        problems
    }
}

/// Slugs of DigitalOcean's are `fra1`, `s-1vcpu-1gb`, `so1_5-2vcpu-16gb`, `ubuntu-24-04-x64`.
fn slug_problem(text: &str) -> Option<String> {
    let is_slug = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() {
        return Some("is empty".to_owned());
    }
    (!text.bytes().all(is_slug)).then(|| format!("{text:?} is not a slug: a-z, 0-9, '-', '_' and '.'"))
}

/// MD5, in hexadecimal digits with colons between.
fn is_fingerprint(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b':')
}

fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-')
}

fn is_tag(text: &str) -> bool {
    (1..=TAG_CHARS_MAX).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-' | b'_'))
}
