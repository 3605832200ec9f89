//! Writing documents: every write is a compare and set of one partition, with the list's row around it.

use std::time::Duration;

use bytes::Bytes;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::CassandraStore;
use super::cas::{
    Base, Cas, CasEnd, ChainKey, Failure, History, Progress, compare_and_set, first_row, version_of,
};
use super::list::{Place, SAMPLE_EVERY, document_of};
use crate::domain::{
    CollectionId, Document, DocumentId, DocumentMeta, JsonObject, Precondition, Timestamp, Version,
    WriteStamp,
};
use crate::store::patch::PatchStep;
use crate::store::{Delete, DocumentCreate, DocumentPatched, DocumentPut, PatchOrder};

/// How often an unconditional write or a patch reads again because others wrote in between. At 12 ms each this is 0.4 s
/// of losing every race; the operation's bound of 10 s stands around it.
const RACES_MAX: u32 = 32;

/// Longest pause after a lost race; the first ones are shorter.
const RACE_PAUSE_MS_MAX: u64 = 64;

/// What a write needs to know about what is there.
struct Current {
    base: Base,
    /// Both are of a live document; a deleted one's marker has neither.
    live: Option<Live>,
}

struct Live {
    meta: DocumentMeta,
    level: u8,
}

/// The key of the document that an operation works on, and its place in the list.
struct Target<'a> {
    collection: CollectionId,
    id: &'a DocumentId,
    place: Place,
}

impl<'a> Target<'a> {
    fn new(collection: CollectionId, id: &'a DocumentId) -> Self {
        Self {
            collection,
            id,
            place: Place::of(id),
        }
    }

    fn turn(&self) -> u64 {
        self.place.hash() ^ self.collection.0.as_u64_pair().1
    }
}

impl CassandraStore {
    pub(super) async fn create(
        &self,
        progress: &Progress,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        stamp: WriteStamp,
    ) -> Result<DocumentCreate, Failure> {
        let target = Target::new(collection, id);
        let _turn = self.turns.take(target.turn()).await;
        // The usual case: the id was never used, so nothing needs to be read first.
        let mut base = Base::default();
        for race in 0..RACES_MAX {
            if let Some(meta) = self.make(progress, &target, data, &base, stamp).await? {
                return Ok(DocumentCreate::Created(meta));
            }
            base = match self.current(&target).await? {
                Some(Current { live: Some(_), .. }) => return Ok(DocumentCreate::AlreadyExists),
                Some(marker) => marker.base,
                None => Base::default(),
            };
            pause_after_race(race, stamp).await;
        }
        Err(lost_all_races())
    }

    pub(super) async fn put(
        &self,
        progress: &Progress,
        collection: CollectionId,
        id: &DocumentId,
        data: &JsonObject,
        (precondition, stamp): (&Precondition, WriteStamp),
    ) -> Result<DocumentPut, Failure> {
        let target = Target::new(collection, id);
        let _turn = self.turns.take(target.turn()).await;
        for race in 0..RACES_MAX {
            let current = self.current(&target).await?;
            let live_version = current
                .as_ref()
                .and_then(|current| current.live.as_ref().and(current.base.version));
            if !precondition.holds(live_version) {
                return Ok(DocumentPut::PreconditionFailed);
            }
            match current {
                Some(Current {
                    base,
                    live: Some(live),
                }) => {
                    let known = (&base, live.meta);
                    if let Some(meta) = self.change(progress, &target, data, known, stamp).await? {
                        return Ok(DocumentPut::Replaced(meta));
                    }
                }
                absent => {
                    let base = absent.map_or_else(Base::default, |marker| marker.base);
                    if let Some(meta) = self.make(progress, &target, data, &base, stamp).await? {
                        return Ok(DocumentPut::Created(meta));
                    }
                }
            }
            pause_after_race(race, stamp).await;
        }
        Err(lost_all_races())
    }

    pub(super) async fn patch(
        &self,
        progress: &Progress,
        collection: CollectionId,
        id: &DocumentId,
        order: &PatchOrder,
        stamp: WriteStamp,
    ) -> Result<DocumentPatched, Failure> {
        let target = Target::new(collection, id);
        let _turn = self.turns.take(target.turn()).await;
        for race in 0..RACES_MAX {
            let (current, history) = self.whole(&target).await?.unzip();
            let bytes = current
                .as_ref()
                .map_or(0, |document| document.data.as_bytes().len());
            let (bytes, owned) = (bytes + order.patch.bytes(), order.clone());
            let step = self.large.run(bytes, move || owned.on(current)).await;
            let step = step.map_err(Failure::unavailable)?;
            let changed = match step.map_err(Failure::internal)? {
                PatchStep::Write(changed) => changed,
                PatchStep::Done(done) => return Ok(done),
            };
            let base = Base {
                version: Some(changed.meta.version),
                history: history.unwrap_or_default(),
            };
            let known = (&base, changed.meta);
            let written = self.change(progress, &target, &changed.data, known, stamp);
            if let Some(meta) = written.await? {
                return Ok(DocumentPatched::Patched(Document { meta, ..changed }));
            }
            pause_after_race(race, stamp).await;
        }
        Err(lost_all_races())
    }

    pub(super) async fn delete(
        &self,
        progress: &Progress,
        collection: CollectionId,
        id: &DocumentId,
        precondition: &Precondition,
        stamp: WriteStamp,
    ) -> Result<Delete, Failure> {
        let target = Target::new(collection, id);
        let _turn = self.turns.take(target.turn()).await;
        for race in 0..RACES_MAX {
            let Some(Current {
                base,
                live: Some(live),
            }) = self.current(&target).await?
            else {
                return Ok(Delete::Missing);
            };
            if !precondition.holds(base.version) {
                return Ok(Delete::PreconditionFailed);
            }
            let marker = base.next(stamp);
            if self.mark(progress, &target, &base, marker).await? == CasEnd::Applied {
                self.list_remove(&target, live.level, marker).await;
                return Ok(Delete::Deleted);
            }
            pause_after_race(race, stamp).await;
        }
        Err(lost_all_races())
    }

    /// Removes a list row that has no document. A document that is being created writes its row first, so the row alone
    /// proves nothing: the sweeper puts a marker in the document's place, as deleting does. A creator that comes after
    /// finds the marker, and writes its row again with a greater timestamp; one that came first makes the marker fail.
    #[expect(
        clippy::disallowed_methods,
        reason = "a version must be unique among all instances"
    )]
    pub(super) fn sweep(&self, collection: CollectionId, id: DocumentId, level: u8, written_at_micros: i64) {
        let Ok(permit) = std::sync::Arc::clone(&self.sweeps).try_acquire_owned() else {
            return;
        };
        let store = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let target = Target::new(collection, &id);
            let stamp = WriteStamp {
                now: Timestamp(written_at_micros),
                nonce: rand::random(),
            };
            let swept = tokio::time::timeout(
                super::OPERATION_TIMEOUT,
                store.document_sweep(&target, level, stamp),
            );
            if let Ok(Err(failure)) = swept.await {
                // The next reader of the list meets the row again.
                tracing::debug!(error = %failure.source, "a row of a collection's list could not be swept");
            }
        });
    }

    async fn document_sweep(&self, target: &Target<'_>, level: u8, stamp: WriteStamp) -> Result<(), Failure> {
        let base = match self.current(target).await? {
            Some(Current { live: Some(_), .. }) => return Ok(()),
            Some(marker) => marker.base,
            None => Base::default(),
        };
        // Above the row's timestamp and above every version of the document.
        let marker = base.next(stamp).next(stamp);
        if self.mark(&Progress::default(), target, &base, marker).await? == CasEnd::Applied {
            self.list_remove(target, level, marker).await;
        }
        Ok(())
    }

    /// What is there now, by a plain read: it sees every write that was acknowledged.
    async fn current(&self, target: &Target<'_>) -> Result<Option<Current>, Failure> {
        type Row = (
            Option<Vec<u8>>,
            Option<Vec<u8>>,
            Option<i8>,
            Option<i64>,
            Option<i64>,
        );
        let key = (target.collection.0, target.id.as_str());
        let answer = self
            .session
            .execute_unpaged(&self.statements.document_meta, key)
            .await;
        let row = first_row::<Row>(answer.map_err(Failure::of_query)?)?;
        let Some((Some(version), previous, level, created_at, updated_at)) = row else {
            return Ok(None);
        };
        let version = version_of(&version)?;
        Ok(Some(Current {
            base: Base {
                version: Some(version),
                history: History::read(previous.as_deref()),
            },
            live: created_at.map(|created_at| Live {
                meta: DocumentMeta {
                    version,
                    created_at: Timestamp(created_at),
                    updated_at: Timestamp(updated_at.unwrap_or(created_at)),
                },
                level: level.and_then(|level| u8::try_from(level).ok()).unwrap_or(0),
            }),
        }))
    }

    /// The document itself, and the versions that it had before; by a plain read, too.
    async fn whole(&self, target: &Target<'_>) -> Result<Option<(Document, History)>, Failure> {
        type Row = (
            Option<Bytes>,
            Option<i64>,
            Option<i64>,
            Option<Bytes>,
            Option<Vec<u8>>,
        );
        let key = (target.collection.0, target.id.as_str());
        let answer = self
            .session
            .execute_unpaged(&self.statements.document_whole, key)
            .await;
        let row = first_row::<Row>(answer.map_err(Failure::of_query)?)?;
        let Some((version, created_at, updated_at, data, previous)) = row else {
            return Ok(None);
        };
        let document = document_of(target.id, (version, created_at, updated_at, data))?;
        Ok(document.map(|document| (document, History::read(previous.as_deref()))))
    }

    /// Writes a new document over nothing or over a marker; `None` if something else is there.
    async fn make(
        &self,
        progress: &Progress,
        target: &Target<'_>,
        data: &JsonObject,
        base: &Base,
        stamp: WriteStamp,
    ) -> Result<Option<DocumentMeta>, Failure> {
        let version = base.next(stamp);
        let level = match self.levels.get(target.collection) {
            Some(level) => level,
            None => self.read_level(target.collection).await?,
        };
        // First the list: a document without its row would never be listed, a row without document is only skipped.
        self.list_add(target, level, version).await?;
        let values = (
            version.to_bytes(),
            base.history_of_next(version),
            level.cast_signed(),
            stamp.now.micros(),
            stamp.now.micros(),
            data.as_bytes(),
            target.collection.0,
            target.id.as_str(),
            base.version.map(Version::to_bytes),
        );
        let statement = &self.statements.document_make;
        if self
            .cas(progress, target, statement, values, base, version)
            .await?
            == CasEnd::Changed
        {
            return Ok(None);
        }
        if stamp.nonce.is_multiple_of(SAMPLE_EVERY) {
            self.grow_list_later(target);
        }
        Ok(Some(DocumentMeta::first(version, stamp)))
    }

    /// Writes new data over a document of a known version; `None` if it has another one.
    async fn change(
        &self,
        progress: &Progress,
        target: &Target<'_>,
        data: &JsonObject,
        (base, known): (&Base, DocumentMeta),
        stamp: WriteStamp,
    ) -> Result<Option<DocumentMeta>, Failure> {
        let version = base.next(stamp);
        let meta = known.next(version, stamp);
        let values = (
            version.to_bytes(),
            base.history_of_next(version),
            meta.updated_at.micros(),
            data.as_bytes(),
            target.collection.0,
            target.id.as_str(),
            base.version.map(Version::to_bytes),
        );
        let statement = &self.statements.document_change;
        let end = self
            .cas(progress, target, statement, values, base, version)
            .await?;
        Ok((end == CasEnd::Applied).then_some(meta))
    }

    /// Puts the marker of a deleted document.
    async fn mark(
        &self,
        progress: &Progress,
        target: &Target<'_>,
        base: &Base,
        marker: Version,
    ) -> Result<CasEnd, Failure> {
        let values = (
            marker.to_bytes(),
            base.history_of_next(marker),
            target.collection.0,
            target.id.as_str(),
            base.version.map(Version::to_bytes),
        );
        let statement = &self.statements.document_drop;
        self.cas(progress, target, statement, values, base, marker).await
    }

    async fn cas<V: SerializeRow>(
        &self,
        progress: &Progress,
        target: &Target<'_>,
        statement: &PreparedStatement,
        values: V,
        base: &Base,
        ours: Version,
    ) -> Result<CasEnd, Failure> {
        let key = ChainKey::Document(target.collection.0, target.id.as_str());
        let cas = Cas {
            statement,
            values,
            base: base.version,
            ours,
            chain: (&self.statements.document_chain, key),
        };
        compare_and_set(&self.session, progress, cas).await
    }

    async fn list_add(&self, target: &Target<'_>, level: u8, version: Version) -> Result<(), Failure> {
        let values = (
            target.collection.0,
            level.cast_signed(),
            target.place.bucket(level),
            target.place.column(),
            target.id.as_str(),
            version.to_bytes(),
            version.clock_micros(),
        );
        let added = self
            .session
            .execute_unpaged(&self.statements.list_add, values)
            .await;
        added.map(|_| ()).map_err(Failure::of_query)
    }

    /// Removes the row of a document that is gone. When that fails the row stays as a hint without document, which
    /// readers skip and sweep.
    async fn list_remove(&self, target: &Target<'_>, level: u8, marker: Version) {
        let values = (
            marker.clock_micros(),
            target.collection.0,
            level.cast_signed(),
            target.place.bucket(level),
            target.place.column(),
            target.id.as_str(),
        );
        let removed = self
            .session
            .execute_unpaged(&self.statements.list_remove, values)
            .await;
        if let Err(error) = removed {
            tracing::debug!(error = %error, "the list row of a deleted document stays for the sweeper");
        }
    }

    fn grow_list_later(&self, target: &Target<'_>) {
        let Ok(permit) = std::sync::Arc::clone(&self.sweeps).try_acquire_owned() else {
            return;
        };
        let (store, collection, place) = (self.clone(), target.collection, target.place.clone());
        tokio::spawn(async move {
            let _permit = permit;
            if let Err(failure) = store.grow_list(collection, &place).await {
                // The next sample tries again.
                tracing::debug!(error = %failure.source, "a collection's list could not be measured");
            }
        });
    }
}

/// Lets the others finish: contended transactions of one row push each other back. The nonce spreads them.
async fn pause_after_race(race: u32, stamp: WriteStamp) {
    let longest = RACE_PAUSE_MS_MAX.min(2 << race.min(16));
    let millis = stamp.nonce.rotate_left(race) % longest;
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

fn lost_all_races() -> Failure {
    Failure::unavailable("others keep changing the document")
}
