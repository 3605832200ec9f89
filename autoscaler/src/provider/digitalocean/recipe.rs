//! Looks up an image and a size before members are made of them, so that a mistake is said when it is made.

use reqwest::Method;
use serde::Deserialize;
use tidepool_autoscaler_core::recipe::{Image, Recipe};

use super::api::{Account, Call};
use super::refusal;
use super::template::DropletTemplate;
use crate::provider::{ProviderErrorKind, RecipeError};

const OPERATION: &str = "recipe_find";
/// DigitalOcean has some 120 sizes; a page has at most 200.
const SIZES_PATH: &str = "/v2/sizes?page=1&per_page=200";

#[derive(Deserialize)]
struct ImageAnswer {
    image: FoundImage,
}

#[derive(Deserialize)]
struct FoundImage {
    id: u64,
    slug: Option<String>,
    regions: Option<Vec<String>>,
    status: Option<String>,
    /// GB.
    min_disk_size: Option<u64>,
}

#[derive(Deserialize)]
struct SizesAnswer {
    sizes: Vec<FoundSize>,
}

#[derive(Deserialize)]
struct FoundSize {
    slug: String,
    regions: Option<Vec<String>>,
    available: Option<bool>,
    /// GB.
    disk: Option<u64>,
}

/// The image by all its names, if members of it can be made where and as large as they are wanted.
pub(super) async fn find(
    account: &Account,
    template: &DropletTemplate,
    recipe: &Recipe,
) -> Result<Image, RecipeError> {
    let region = &template.region;
    let image = image(account, &recipe.image).await?;
    let named = format!("image {}", recipe.image);
    if let Some(status) = image
        .status
        .as_ref()
        .filter(|status| !status.eq_ignore_ascii_case("available"))
    {
        return Err(not_to_be_had(format!(
            "{named} is not available yet or any more: {status}"
        )));
    }
    if let Some(regions) = elsewhere(image.regions.as_ref(), region) {
        return Err(not_to_be_had(format!(
            "{named} is not in region {region}, but in {regions}"
        )));
    }
    let size = recipe.size.as_ref().unwrap_or(&template.size);
    let found = sizes(account)
        .await?
        .into_iter()
        .find(|found| found.slug == *size);
    let Some(found) = found else {
        return Err(not_to_be_had(format!("DigitalOcean has no size {size}")));
    };
    if found.available == Some(false) {
        return Err(not_to_be_had(format!("size {size} is not available")));
    }
    if let Some(regions) = elsewhere(found.regions.as_ref(), region) {
        return Err(not_to_be_had(format!(
            "size {size} is not in region {region}, but in {regions}"
        )));
    }
    let disks = image.min_disk_size.zip(found.disk);
    if let Some((needed, disk)) = disks.filter(|(needed, disk)| needed > disk) {
        return Err(not_to_be_had(format!(
            "{named} needs a disk of {needed} GB, and size {size} has {disk} GB"
        )));
    }
    Ok(Image {
        number: Some(image.id),
        slug: image.slug.filter(|slug| !slug.is_empty()),
    })
}

fn not_to_be_had(why: String) -> RecipeError {
    RecipeError::NotToBeHad(why)
}

/// Where it is, if it isn't in this region.
fn elsewhere(regions: Option<&Vec<String>>, region: &String) -> Option<String> {
    let regions = regions.filter(|regions| !regions.contains(region))?;
    Some(match regions.as_slice() {
        [] => "none".to_owned(),
        some => some.join(", "),
    })
}

async fn image(account: &Account, image: &Image) -> Result<FoundImage, RecipeError> {
    let name = match (image.number, &image.slug) {
        (Some(number), _) => number.to_string(),
        (None, Some(slug)) => slug.clone(),
        (None, None) => return Err(not_to_be_had("the image is not known".to_owned())),
    };
    // It becomes part of an address.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.chars().all(plain) || name.starts_with('.') {
        return Err(not_to_be_had(format!(
            "{name:?} is neither an image's number nor a slug"
        )));
    }
    let call = Call {
        operation: OPERATION,
        subject: &name,
        method: Method::GET,
        path: &format!("/v2/images/{name}"),
        body: None,
    };
    let answer = match account.call(&call).await {
        Ok(answer) => answer,
        Err(error) if error.kind == ProviderErrorKind::NotFound => {
            return Err(not_to_be_had(format!("the account has no image {name}")));
        }
        Err(error) => return Err(error.into()),
    };
    let read: Result<ImageAnswer, _> = serde_json::from_slice(&answer);
    let found = read.map_err(|_| unreadable(&call, &answer))?.image;
    let other = image.number.is_some_and(|number| number != found.id);
    if other {
        return Err(unreadable(&call, &answer));
    }
    Ok(found)
}

async fn sizes(account: &Account) -> Result<Vec<FoundSize>, RecipeError> {
    let call = Call {
        operation: OPERATION,
        subject: "sizes",
        method: Method::GET,
        path: SIZES_PATH,
        body: None,
    };
    let answer = account.call(&call).await?;
    let read: Result<SizesAnswer, _> = serde_json::from_slice(&answer);
    Ok(read.map_err(|_| unreadable(&call, &answer))?.sizes)
}

fn unreadable(call: &Call<'_>, answer: &[u8]) -> RecipeError {
    let words = refusal::words(answer).text;
    let detail = format!("the answer is not the JSON that was expected: {words}");
    call.error(ProviderErrorKind::Transient, detail).into()
}
