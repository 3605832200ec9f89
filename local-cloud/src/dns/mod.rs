//! A name server: the zones that it is given, answered over UDP and TCP. It asks nobody else: a name in no zone is refused at
//! once. Knows no cloud's API.

mod answer;
mod lookup;
mod server;
mod zone;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use hickory_proto::rr::LowerName;

pub(crate) use self::server::{Server, Sockets};
pub(crate) use self::zone::{Authority, Data, Entry, Zone};

/// Zones by their name.
type ByName = BTreeMap<LowerName, Arc<Zone>>;

/// The zones that are answered; every copy shows the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Zones(Arc<RwLock<Arc<ByName>>>);

impl Zones {
    /// From now on these are answered, and no others.
    pub(crate) fn set(&self, zones: impl IntoIterator<Item = Arc<Zone>>) {
        let by_name = zones.into_iter().map(|zone| (zone.origin().clone(), zone));
        let by_name = Arc::new(by_name.collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = by_name;
    }

    fn current(&self) -> Arc<ByName> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
