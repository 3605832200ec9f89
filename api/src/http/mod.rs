//! The public REST interface: from a request to domain values, to the store, to a response.
//!
//! No SQL, no CQL, no retries, no clock or randomness of its own. Error statuses stand in `error.rs` alone.

pub mod access;
mod route;

use std::sync::Arc;

use poem::{Endpoint, Request, Response};

use crate::domain::{Timestamp, WriteStamp};
use crate::store::Store;
use access::Access;

pub use route::Route;

/// What every request may use. Made once, by `main`.
pub struct AppState {
    /// The database.
    pub store: Arc<dyn Store>,
    /// Keys and what they may do.
    pub access: Arc<Access>,
    /// The time.
    pub clock: fn() -> Timestamp,
    /// 64 random bits; unpredictability is not needed, uniqueness is.
    pub nonce: fn() -> u64,
    /// [`Store::cluster_secret`]: page tokens are sealed with it.
    pub cluster_secret: [u8; 32],
}

impl AppState {
    /// What a write takes along.
    #[must_use]
    pub fn stamp(&self) -> WriteStamp {
        WriteStamp {
            now: (self.clock)(),
            nonce: (self.nonce)(),
        }
    }
}

/// The whole public interface as one endpoint.
///
/// Every response carries its [`Route`] as an extension, for metrics: its template is the `route` label.
pub fn routes(state: Arc<AppState>) -> impl Endpoint<Output = Response> {
    poem::endpoint::make(move |_request: Request| {
        let _state = Arc::clone(&state);
        async move {
            Response::builder()
                .status(poem::http::StatusCode::NOT_FOUND)
                .finish()
        }
    })
}
