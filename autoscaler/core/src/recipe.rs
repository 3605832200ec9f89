//! What a member is made of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An image, by each of its names that is known: a provider gives it a number, and to some a slug, too. A configuration says
/// one of them, and a member may be listed with both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Image {
    /// Its number.
    pub number: Option<u64>,
    /// Its slug.
    pub slug: Option<String>,
}

impl Image {
    /// The image of this number.
    pub const fn numbered(number: u64) -> Image {
        Image {
            number: Some(number),
            slug: None,
        }
    }

    /// Nothing is known of it.
    pub const fn is_unknown(&self) -> bool {
        self.number.is_none() && self.slug.is_none()
    }

    /// Whether both are one image. Numbers decide where both have one: a slug may be given to a newer image. What has no name
    /// in common is not known to be the same.
    pub fn is(&self, other: &Image) -> bool {
        match (self.number, other.number) {
            (Some(one), Some(another)) => one == another,
            _ => self.slug.is_some() && self.slug == other.slug,
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.slug, self.number) {
            (Some(slug), Some(number)) => write!(f, "{slug} ({number})"),
            (Some(slug), None) => f.write_str(slug),
            (None, Some(number)) => write!(f, "{number}"),
            (None, None) => Ok(()),
        }
    }
}

impl From<Image> for String {
    fn from(image: Image) -> String {
        image.to_string()
    }
}

impl From<&str> for Image {
    fn from(text: &str) -> Image {
        if let Ok(number) = text.parse() {
            return Image::numbered(number);
        }
        let both = text.strip_suffix(')').and_then(|text| text.split_once(" ("));
        let both = both.and_then(|(slug, number)| Some((slug, number.parse().ok()?)));
        let (slug, number) = both.map_or((text, None), |(slug, number)| (slug, Some(number)));
        Image {
            number,
            slug: (!slug.is_empty()).then(|| slug.to_owned()),
        }
    }
}

impl From<String> for Image {
    fn from(text: String) -> Image {
        Image::from(text.as_str())
    }
}

/// A name for everything that a member is made of, its user data among it, which a provider doesn't read back. Members carry it
/// as a tag from their create on; those that were made before there was an order to change anything have none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub String);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a member is made of, as far as the core needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Recipe {
    /// Its generation; `None` for the first one.
    #[serde(default)]
    pub generation: Option<Generation>,
    /// What people call it, such as `api 0.3.2`.
    #[serde(default)]
    pub name: Option<String>,
    /// Its image.
    pub image: Image,
    /// Its size, such as `s-1vcpu-1gb`; `None` where an older version did not write it.
    #[serde(default)]
    pub size: Option<String>,
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Recipe {
            name, image, size, ..
        } = self;
        let size = size.as_ref().map_or_else(String::new, |size| format!(", {size}"));
        match name {
            Some(name) => write!(f, "{name} (image {image}{size})"),
            None => write!(f, "image {image}{size}"),
        }
    }
}
