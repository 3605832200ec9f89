//! Collections: rows of one partition, changed by compare and set.

use std::hash::{DefaultHasher, Hash, Hasher};

use uuid::Uuid;

use super::cas::{
    Base, Cas, CasEnd, ChainKey, Failure, History, Progress, compare_and_set, first_row, version_of,
};
use super::statements::MARKER_SECS;
use super::{CassandraStore, SPACE};
use crate::domain::{CollectionId, CollectionName, Precondition, Timestamp, Version, WriteStamp};
use crate::store::{
    COLLECTION_STALE_MAX, Collection, CollectionPut, Delete, RECENTLY_DROPPED_SECS, new_collection_id,
};

/// How often a write reads again because others changed the same collection in between.
const RACES_MAX: u32 = 16;

/// Rows asked for at least when collections are listed, so that a run of dropped ones costs few queries.
const LIST_ROWS_MIN: usize = 100;

/// What stands in a collection's row.
struct Current {
    base: Base,
    state: State,
}

enum State {
    Live(Collection),
    Dropped { id: Uuid, recently: bool },
}

fn turn_of(name: &CollectionName) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

impl CassandraStore {
    pub(super) async fn put_collection(
        &self,
        progress: &Progress,
        name: &CollectionName,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<CollectionPut, Failure> {
        let _turn = self.turns.take(turn_of(name)).await;
        let mut waited_for = None;
        for _ in 0..RACES_MAX {
            let current = self.current_collection(name).await?;
            let live = match &current {
                Some(Current {
                    base,
                    state: State::Live(collection),
                }) => Some((base, collection)),
                _ => None,
            };
            if !precondition.holds(live.map(|(_, collection)| collection.version)) {
                return Ok(CollectionPut::PreconditionFailed);
            }
            if let Some((base, live)) = live {
                let put = live.put_again(stamp);
                if self.change_collection(progress, &put, base).await? == CasEnd::Applied {
                    return Ok(CollectionPut::Replaced(put));
                }
                continue;
            }
            if let Some(Current {
                state: State::Dropped { id, recently: true },
                ..
            }) = current
                && waited_for != Some(id)
            {
                tokio::time::sleep(COLLECTION_STALE_MAX).await;
                waited_for = Some(id);
                continue;
            }
            let base = current.map_or_else(Base::default, |marker| marker.base);
            let made = Collection {
                id: new_collection_id(stamp),
                name: name.clone(),
                created_at: stamp.now,
                updated_at: stamp.now,
                version: base.next(stamp),
            };
            if self.make_collection(progress, &made, &base).await? == CasEnd::Applied {
                return Ok(CollectionPut::Created(made));
            }
        }
        Err(Failure::unavailable("others keep changing the collection"))
    }

    pub(super) async fn fetch_collection(
        &self,
        name: &CollectionName,
    ) -> Result<Option<Collection>, Failure> {
        Ok(match self.current_collection(name).await? {
            Some(Current {
                state: State::Live(collection),
                ..
            }) => Some(collection),
            _ => None,
        })
    }

    pub(super) async fn list_collections(
        &self,
        after: Option<&CollectionName>,
        limit: usize,
    ) -> Result<Vec<Collection>, Failure> {
        type Row = (String, Option<Uuid>, Option<i64>, Option<i64>, Option<Vec<u8>>);
        let rows_wanted = i32::try_from(limit.max(LIST_ROWS_MIN)).unwrap_or(i32::MAX);
        let mut after = after.map_or_else(String::new, |name| name.as_str().to_owned());
        let mut found = Vec::new();
        loop {
            let answer = self
                .session
                .execute_unpaged(&self.statements.collection_list, (SPACE, &after, rows_wanted))
                .await;
            let rows = answer
                .map_err(Failure::of_query)?
                .into_rows_result()
                .map_err(Failure::internal)?;
            let ended = rows.rows_num() < usize::try_from(rows_wanted).unwrap_or(usize::MAX);
            for row in rows.rows::<Row>().map_err(Failure::internal)? {
                let (name, id, created_at, updated_at, version) = row.map_err(Failure::internal)?;
                if let (Some(id), Some(created_at), Some(updated_at), Some(version)) =
                    (id, created_at, updated_at, version)
                {
                    found.push(Collection {
                        id: CollectionId(id),
                        name: CollectionName::parse(&name).map_err(Failure::internal)?,
                        created_at: Timestamp(created_at),
                        updated_at: Timestamp(updated_at),
                        version: version_of(&version)?,
                    });
                }
                after = name;
                if found.len() >= limit {
                    return Ok(found);
                }
            }
            if ended {
                return Ok(found);
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a version must be unique among all instances"
    )]
    pub(super) async fn delete_collection(
        &self,
        progress: &Progress,
        name: &CollectionName,
        precondition: &Precondition,
    ) -> Result<Delete, Failure> {
        let _turn = self.turns.take(turn_of(name)).await;
        for _ in 0..RACES_MAX {
            let Some(Current {
                base,
                state: State::Live(live),
            }) = self.current_collection(name).await?
            else {
                return Ok(Delete::Missing);
            };
            if !precondition.holds(Some(live.version)) {
                return Ok(Delete::PreconditionFailed);
            }
            // Before the drop, so that a crash in between leaves an entry too many rather than documents that nobody
            // would ever sweep.
            let noted = (SPACE, live.id.0, name.as_str());
            let noted = self
                .session
                .execute_unpaged(&self.statements.dropped_add, noted)
                .await;
            noted.map_err(Failure::of_query)?;
            let marker = live.version.next(WriteStamp {
                now: Timestamp(0),
                nonce: rand::random(),
            });
            let values = (
                live.id.0,
                marker.to_bytes(),
                base.history_of_next(marker),
                SPACE,
                name.as_str(),
                live.version.to_bytes(),
            );
            let statement = &self.statements.collection_drop;
            let cas = self.collection_cas(name, statement, values, &base, marker);
            if compare_and_set(&self.session, progress, cas).await? == CasEnd::Applied {
                return Ok(Delete::Deleted);
            }
        }
        Err(Failure::unavailable("others keep changing the collection"))
    }

    async fn current_collection(&self, name: &CollectionName) -> Result<Option<Current>, Failure> {
        type Row = (
            Option<Uuid>,
            Option<Uuid>,
            Option<i32>,
            Option<i64>,
            Option<i64>,
            Option<Vec<u8>>,
            Option<Vec<u8>>,
        );
        let key = (SPACE, name.as_str());
        let answer = self
            .session
            .execute_unpaged(&self.statements.collection_fetch, key)
            .await;
        let row = first_row::<Row>(answer.map_err(Failure::of_query)?)?;
        let Some((id, dropped, secs_left, created_at, updated_at, Some(version), previous)) = row else {
            return Ok(None);
        };
        let version = version_of(&version)?;
        let state = match (id, dropped, created_at, updated_at) {
            (Some(id), _, Some(created_at), Some(updated_at)) => State::Live(Collection {
                id: CollectionId(id),
                name: name.clone(),
                created_at: Timestamp(created_at),
                updated_at: Timestamp(updated_at),
                version,
            }),
            (None, Some(id), ..) => State::Dropped {
                id,
                // How long the marker still lives shows its age by the servers' clocks alone.
                recently: i64::from(MARKER_SECS) - i64::from(secs_left.unwrap_or(0)) < RECENTLY_DROPPED_SECS,
            },
            _ => return Err(Failure::internal("a collection's row is incomplete")),
        };
        let base = Base {
            version: Some(version),
            history: History::read(previous.as_deref()),
        };
        Ok(Some(Current { base, state }))
    }

    async fn make_collection(
        &self,
        progress: &Progress,
        made: &Collection,
        base: &Base,
    ) -> Result<CasEnd, Failure> {
        let values = (
            made.id.0,
            made.created_at.micros(),
            made.updated_at.micros(),
            made.version.to_bytes(),
            base.history_of_next(made.version),
            SPACE,
            made.name.as_str(),
            base.version.map(Version::to_bytes),
        );
        let statement = &self.statements.collection_make;
        let cas = self.collection_cas(&made.name, statement, values, base, made.version);
        compare_and_set(&self.session, progress, cas).await
    }

    async fn change_collection(
        &self,
        progress: &Progress,
        put: &Collection,
        base: &Base,
    ) -> Result<CasEnd, Failure> {
        let values = (
            put.updated_at.micros(),
            put.version.to_bytes(),
            base.history_of_next(put.version),
            SPACE,
            put.name.as_str(),
            base.version.map(Version::to_bytes),
        );
        let statement = &self.statements.collection_change;
        let cas = self.collection_cas(&put.name, statement, values, base, put.version);
        compare_and_set(&self.session, progress, cas).await
    }

    fn collection_cas<'a, V>(
        &'a self,
        name: &'a CollectionName,
        statement: &'a scylla::statement::prepared::PreparedStatement,
        values: V,
        base: &Base,
        ours: Version,
    ) -> Cas<'a, V> {
        let key = ChainKey::Collection(SPACE, name.as_str());
        Cas {
            statement,
            values,
            base: base.version,
            ours,
            chain: (&self.statements.collection_chain, key),
        }
    }
}
