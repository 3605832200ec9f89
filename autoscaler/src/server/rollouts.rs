//! The status port's routes about rollouts: an order is checked with the provider before anything is kept or made.

use poem::http::StatusCode;
use poem::web::{Data, Json, Path};
use poem::{IntoResponse, Response, handler};

use super::{Shared, failure, pool_named};
use crate::provider::digitalocean::ImageRef;
use crate::provider::{RecipeError, UserData};
use crate::record;
use crate::state::StateError;
use crate::status::RolloutRequest;
use crate::tick::Pool;
use crate::versions::{Order, OrderError, Versions};

/// A body is at most so large: 64 KiB of user data, of which each byte may take six as JSON, and the rest.
const BODY_BYTES_MAX: usize = 400 << 10;
/// A name that people give an image has at most so many characters.
const NAME_CHARS_MAX: usize = 100;

/// `POST /api/pools/{name}/rollout`
#[handler]
pub(super) async fn order_route(
    Path(name): Path<String>,
    Data(shared): Data<&Shared>,
    body: poem::Body,
) -> Response {
    let pool = match pool_named(shared, &name) {
        Ok(pool) => pool,
        Err(refusal) => return refusal,
    };
    let Ok(body) = body.into_bytes_limit(BODY_BYTES_MAX).await else {
        return failure(StatusCode::BAD_REQUEST, "the body is too large");
    };
    let request = match serde_json::from_slice::<RolloutRequest>(&body) {
        Ok(request) => request,
        // Without what stands in the body: it may be a secret.
        Err(error) => {
            let at = format!("line {}, column {}", error.line(), error.column());
            let words = "the body must be an object with image, name, size and user_data as texts, each if it is to change";
            return failure(StatusCode::BAD_REQUEST, &format!("{words}; {at} is not"));
        }
    };
    let mut order = match order_of(request) {
        Ok(order) => order,
        Err(problem) => return failure(StatusCode::BAD_REQUEST, &problem),
    };
    let wanted = pool.applier.versions.lock().wanted(&order);
    let problems = pool.config.droplets.made_of(&wanted).problems();
    if !problems.is_empty() {
        let problems: Vec<String> = problems
            .iter()
            .map(|(field, problem)| format!("{field} {problem}"))
            .collect();
        return failure(StatusCode::BAD_REQUEST, &problems.join("; "));
    }
    match pool.applier.provider.recipe_find(&wanted.recipe).await {
        // By all its names, so that members that are listed by another one are known to be of it.
        Ok(image) => order.image = Some(image),
        Err(error @ RecipeError::NotToBeHad(_)) => {
            return failure(StatusCode::BAD_REQUEST, &format!("{error}; nothing was changed"));
        }
        Err(error @ RecipeError::Provider(_)) => {
            return failure(
                StatusCode::BAD_GATEWAY,
                &format!("{}; nothing was changed", crate::chain(&error)),
            );
        }
    }
    let now = (shared.clock)();
    changed(shared, pool, |versions| {
        versions.order(order, now);
        Ok(())
    })
}

/// `POST /api/pools/{name}/rollout/{pause, resume or undo}`
#[handler]
pub(super) fn word_route(
    Path((name, word)): Path<(String, String)>,
    Data(shared): Data<&Shared>,
) -> Response {
    let pool = match pool_named(shared, &name) {
        Ok(pool) => pool,
        Err(refusal) => return refusal,
    };
    let change = match word.as_str() {
        "pause" => Versions::pause,
        "resume" => Versions::resume,
        "undo" => Versions::undo,
        _ => {
            let words = "a rollout can be changed by pause, resume and undo";
            return failure(StatusCode::NOT_FOUND, words);
        }
    };
    changed(shared, pool, change)
}

/// What is ordered, in the pool's terms. Whether members can be made of it is checked by [`DropletTemplate::problems`].
///
/// [`DropletTemplate::problems`]: crate::provider::digitalocean::DropletTemplate::problems
fn order_of(request: RolloutRequest) -> Result<Order, String> {
    let RolloutRequest {
        image,
        name,
        size,
        user_data,
    } = request;
    if image.is_none() && size.is_none() && user_data.is_none() {
        return Err("a rollout changes the image, the size or the user data; none is given".to_owned());
    }
    if name.is_some() && image.is_none() {
        return Err("name is what the image is called, and there is no image".to_owned());
    }
    let long = |name: &String| name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control);
    if name.as_ref().is_some_and(long) {
        return Err(format!(
            "name has more than {NAME_CHARS_MAX} characters, or is not one line"
        ));
    }
    Ok(Order {
        image: image.map(|text| ImageRef::from(text).image()),
        name,
        size,
        user_data: user_data.map(UserData),
    })
}

/// Changes what is ordered, keeps it, and shows it.
fn changed(
    shared: &Shared,
    pool: &Pool,
    change: impl FnOnce(&mut Versions) -> Result<(), OrderError>,
) -> Response {
    let versions = &pool.applier.versions;
    let kept: Result<Result<(), OrderError>, StateError> =
        versions.change(&shared.state, pool.name(), change);
    match kept {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return failure(StatusCode::CONFLICT, &error.to_string()),
        Err(error) => return failure(StatusCode::INTERNAL_SERVER_ERROR, &crate::chain(&error)),
    }
    let now = versions.lock();
    pool.recorder.rollout_set(now.rollout());
    let shown = now.rollout().map(|rollout| record::rollout_shown(rollout, None));
    if let Some(rollout) = now.rollout() {
        tracing::info!(pool = %pool.name(), to = %rollout.to, stage = ?rollout.stage, back = rollout.back,
            "the operator orders a rollout");
    }
    Json(shown).into_response()
}
