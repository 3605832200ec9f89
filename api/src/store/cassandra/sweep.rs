//! Deleting the documents of dropped collections, slowly and in the background.
//!
//! Every instance does so now and then. Two that sweep the same collection do no harm: deletions can be repeated, and
//! nobody writes to a collection that was dropped an hour ago.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::cas::Failure;
use super::list::buckets;
use super::{CassandraStore, SPACE};
use crate::domain::{CollectionId, CollectionName};

/// Documents of a collection are deleted only this long after it was dropped. A write that was on its way then has come
/// down within 15 s; the rest is room for clocks that differ.
const DROPPED_AGE_MIN: Duration = Duration::from_secs(3600);

/// The first look comes soon after the start, the next ones at random between these, so that instances keep apart.
const FIRST_LOOK: Duration = Duration::from_secs(1);
const LOOK_SECS: std::ops::Range<u64> = 300..900;

/// Rows of a list read at once.
const ROWS_AT_ONCE: i32 = 500;

/// Documents deleted at once, and the pause after each [`ROWS_AT_ONCE`]: at most some 2,000 deletions a second, a small
/// part of what a node takes.
const DELETES_AT_ONCE: usize = 8;
const PAUSE: Duration = Duration::from_millis(250);

/// The task; it ends with the store.
pub(super) struct Sweeper(JoinHandle<()>);

impl Sweeper {
    #[expect(
        clippy::disallowed_methods,
        reason = "instances must not look at the same moment, and their clock is Cassandra's"
    )]
    pub(super) fn start(store: CassandraStore) -> Self {
        Self(tokio::spawn(async move {
            tokio::time::sleep(FIRST_LOOK).await;
            loop {
                if let Err(failure) = store.sweep_dropped().await {
                    tracing::warn!(error = %failure.source, "dropped collections could not be swept; trying later");
                }
                let secs = rand::random_range(LOOK_SECS);
                tokio::time::sleep(Duration::from_secs(secs)).await;
            }
        }))
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl CassandraStore {
    #[expect(
        clippy::disallowed_methods,
        reason = "instances must not look at the same moment, and their clock is Cassandra's"
    )]
    async fn sweep_dropped(&self) -> Result<(), Failure> {
        let answer = self
            .session
            .execute_unpaged(&self.statements.dropped_list, (SPACE,))
            .await;
        let rows = answer
            .map_err(Failure::of_query)?
            .into_rows_result()
            .map_err(Failure::internal)?;
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        for row in rows.rows::<(Uuid, String, i64)>().map_err(Failure::internal)? {
            let (id, name, noted_at_micros) = row.map_err(Failure::internal)?;
            let noted_at = Duration::from_micros(u64::try_from(noted_at_micros).unwrap_or(0));
            if noted_at + DROPPED_AGE_MIN > now {
                continue;
            }
            let name = CollectionName::parse(&name).map_err(Failure::internal)?;
            // An instance may have ended between noting the drop and dropping.
            let lives = self
                .fetch_collection(&name)
                .await?
                .is_some_and(|found| found.id.0 == id);
            if !lives {
                self.erase(CollectionId(id)).await?;
            }
            let removed = self
                .session
                .execute_unpaged(&self.statements.dropped_remove, (SPACE, id))
                .await;
            removed.map_err(Failure::of_query)?;
        }
        Ok(())
    }

    async fn erase(&self, collection: CollectionId) -> Result<(), Failure> {
        let mut documents = 0;
        for level in 0..=self.read_level(collection).await? {
            for bucket in 0..buckets(level) {
                documents += self.erase_bucket(collection, (level, bucket)).await?;
            }
        }
        let erased = self
            .session
            .execute_unpaged(&self.statements.levels_erase, (collection.0,))
            .await;
        erased.map_err(Failure::of_query)?;
        tracing::info!(collection = %collection, documents, "a dropped collection's documents were deleted");
        Ok(())
    }

    async fn erase_bucket(
        &self,
        collection: CollectionId,
        (level, bucket): (u8, i32),
    ) -> Result<usize, Failure> {
        let partition = (collection.0, level.cast_signed(), bucket);
        let (mut erased, mut after) = (0, (i64::MIN, String::new()));
        loop {
            let from = (partition.0, partition.1, partition.2, after.0, &after.1);
            let values = (from.0, from.1, from.2, from.3, from.4, i64::MAX, ROWS_AT_ONCE);
            let answer = self
                .session
                .execute_unpaged(&self.statements.list_page, values)
                .await;
            let rows = answer
                .map_err(Failure::of_query)?
                .into_rows_result()
                .map_err(Failure::internal)?;
            let mut places = Vec::new();
            for row in rows
                .rows::<(i64, String, Option<i64>)>()
                .map_err(Failure::internal)?
            {
                let (hash, id, _) = row.map_err(Failure::internal)?;
                places.push((hash, id));
            }
            let Some(last) = places.last().cloned() else { break };
            erased += places.len();
            after = last;
            stream::iter(places)
                .map(|(_, id): (i64, String)| async move {
                    let key = (collection.0, id);
                    let deleted = self
                        .session
                        .execute_unpaged(&self.statements.document_erase, key)
                        .await;
                    deleted.map(|_| ()).map_err(Failure::of_query)
                })
                .buffer_unordered(DELETES_AT_ONCE)
                .try_collect::<()>()
                .await?;
            tokio::time::sleep(PAUSE).await;
        }
        if erased > 0 {
            let deleted = self
                .session
                .execute_unpaged(&self.statements.list_erase, partition)
                .await;
            deleted.map_err(Failure::of_query)?;
        }
        Ok(erased)
    }
}
