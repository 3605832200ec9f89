//! The list of a collection's documents: where a document stands in it, and reading a page.
//!
//! The order is by hash of the id, then by id, whatever partitions hold the rows. A list has levels; level `n` has
//! 16^n partitions, by the top 4n bits of the hash. A new document is written to the highest level; a page merges all
//! levels. When the partitions of the highest level grow full, the next level is added: nothing moves, so a listing
//! under way stays as it is. The arithmetic stands in ADR 0011.
//!
//! Rows are hints: written before the document, removed after it, and checked against the document by every reader.
//! They carry the document's version as their timestamp, so a late removal can't take away a newer row.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::CassandraStore;
use super::cas::{Failure, first_row, version_of};
use crate::domain::{CollectionId, Document, DocumentId, DocumentMeta, JsonObject, Timestamp};
use crate::store::{Cursor, Page, PageLimits};

/// Bits of the hash that one more level takes.
const BITS_PER_LEVEL: u32 = 4;

/// The highest level: 65,536 partitions, for 65,536 × 100,000 documents.
pub(super) const LEVEL_MAX: u8 = 4;

/// A level is added when a partition of the highest one seems to hold this many rows: half of the 100,000 that a
/// partition should have at most, because the number is an estimate and instances learn of the new level later.
const PARTITION_ROWS_FULL: f64 = 50_000.0;

/// Rows looked at for an estimate. Hashes are spread evenly, so the part of the partition's range that 1,000 of them
/// cover shows how many there are, within about 3 % (1/√1000).
const SAMPLE_ROWS: i32 = 1000;

/// One create in this many looks whether the list grows full. An instance adds at most this many rows, times its
/// documents under way, before it notices.
pub(super) const SAMPLE_EVERY: u64 = 512;

/// Documents that one query reads. A query of its own for each costs this program some 35 µs a document, most of it the
/// driver's. More than a few would make one node gather what many hold: 16 documents are 16 MiB at most.
const FETCH_IDS_MAX: usize = 16;

/// Such queries of a page under way at once: while one is looked through, the next is on its way.
const FETCHES_AT_ONCE: usize = 2;

/// Ranges of the list looked into for one page. A page that found less by then ends early, with a cursor: else a large
/// collection that was emptied could take a page's time for each of its 65,536 partitions.
const RANGES_PER_PAGE_MAX: usize = 32;

/// A row without document is swept when it is older than this. Not needed for correctness (see `document_sweep`); it
/// only keeps sweepers out of the way of documents that are being created.
const SWEEP_AGE: Duration = Duration::from_secs(60);

/// First byte of a cursor of this store; 8 bytes of hash and the id follow.
const CURSOR_TAG: u8 = b'C';

/// Where a document stands in the list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    hash: u64,
    id: String,
}

impl Place {
    const BEGIN: Self = Self {
        hash: 0,
        id: String::new(),
    };

    pub(super) fn of(id: &DocumentId) -> Self {
        let digest = Sha256::digest(id.as_str());
        let mut hash = [0; 8];
        hash.copy_from_slice(digest.get(..8).unwrap_or(&[0; 8]));
        Self {
            hash: u64::from_be_bytes(hash),
            id: id.as_str().to_owned(),
        }
    }

    /// The hash as a CQL bigint of the same order.
    pub(super) fn column(&self) -> i64 {
        column_of(self.hash)
    }

    pub(super) fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn bucket(&self, level: u8) -> i32 {
        bucket_of(self.hash, level)
    }

    fn cursor(&self) -> Cursor {
        let mut bytes = vec![CURSOR_TAG];
        bytes.extend_from_slice(&self.hash.to_be_bytes());
        bytes.extend_from_slice(self.id.as_bytes());
        Cursor(bytes)
    }

    fn from_cursor(cursor: &Cursor) -> Option<Self> {
        let (tag, rest) = cursor.0.split_first()?;
        let (hash, id) = rest.split_first_chunk::<8>()?;
        let id = std::str::from_utf8(id).ok()?;
        // A cursor between two ranges has no id.
        let good = *tag == CURSOR_TAG && (id.is_empty() || DocumentId::parse(id).is_ok());
        good.then(|| Self {
            hash: u64::from_be_bytes(*hash),
            id: id.to_owned(),
        })
    }
}

/// Flipping the top bit maps the order of unsigned numbers to that of signed ones.
fn column_of(hash: u64) -> i64 {
    (hash ^ (1 << 63)).cast_signed()
}

fn hash_of(column: i64) -> u64 {
    column.cast_unsigned() ^ (1 << 63)
}

fn bucket_of(hash: u64, level: u8) -> i32 {
    let bits = BITS_PER_LEVEL * u32::from(level);
    // At most 16 bits, so it always fits.
    hash.checked_shr(64 - bits)
        .and_then(|bucket| i32::try_from(bucket).ok())
        .unwrap_or(0)
}

/// How many partitions a level has.
pub(super) fn buckets(level: u8) -> i32 {
    1 << (BITS_PER_LEVEL * u32::from(level.min(LEVEL_MAX)))
}

/// The last hash in the same partition of that level.
fn range_end(hash: u64, level: u8) -> u64 {
    hash | u64::MAX
        .checked_shr(BITS_PER_LEVEL * u32::from(level))
        .unwrap_or(0)
}

/// A row of the list: a document that may be there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Hint {
    place: Place,
    level: u8,
    written_at_micros: i64,
}

/// Hints of one range, in order.
struct Range {
    hints: Vec<Hint>,
    /// The hints are complete up to here, inclusive.
    complete_to: Place,
    /// Whether nothing of this range comes after `complete_to`.
    ended: bool,
}

impl CassandraStore {
    /// One page; see [`crate::store::Store::document_page`].
    pub(super) async fn page(
        &self,
        collection: CollectionId,
        cursor: Option<&Cursor>,
        limits: PageLimits,
    ) -> Result<Page, Failure> {
        let mut page = Page {
            documents: Vec::new(),
            next: None,
        };
        let mut position = match cursor.map(Place::from_cursor) {
            None => Place::BEGIN,
            Some(Some(place)) => place,
            Some(None) => return Ok(page),
        };
        // Read each time: a document that was acknowledged before this page began may stand on a level that another
        // instance has just added.
        let level = self.read_level(collection).await?;
        let mut bytes = 0;
        for _ in 0..RANGES_PER_PAGE_MAX {
            let range = self.range(collection, level, &position, limits.items_max).await?;
            if let Some(next) = self
                .fill(collection, range.hints, limits, &mut page, &mut bytes)
                .await?
            {
                page.next = Some(next.cursor());
                return Ok(page);
            }
            position = match range.ended {
                false => range.complete_to,
                true => match range.complete_to.hash.checked_add(1) {
                    // The end of the last range is the end of the list.
                    None => return Ok(page),
                    Some(hash) => Place {
                        hash,
                        id: String::new(),
                    },
                },
            };
        }
        page.next = Some(position.cursor());
        Ok(page)
    }

    /// Adds the documents behind the hints. Tells the last place taken when the page is full before the hints are
    /// used up.
    async fn fill(
        &self,
        collection: CollectionId,
        hints: Vec<Hint>,
        limits: PageLimits,
        page: &mut Page,
        bytes: &mut usize,
    ) -> Result<Option<Place>, Failure> {
        let mut hints = hints.into_iter();
        let chunks = std::iter::from_fn(|| {
            let chunk: Vec<Hint> = hints.by_ref().take(FETCH_IDS_MAX).collect();
            (!chunk.is_empty()).then_some(chunk)
        });
        let mut fetches = stream::iter(chunks)
            .map(|chunk| self.fetch_hinted(collection, chunk))
            .buffered(FETCHES_AT_ONCE);
        let mut taken: Option<Place> = None;
        while let Some(chunk) = fetches.try_next().await? {
            for (hint, id, found) in chunk {
                let Some(document) = found else {
                    self.sweep_later(collection, id, &hint);
                    continue;
                };
                let size = document.data.as_bytes().len();
                let full = page.documents.len() >= limits.items_max || *bytes + size > limits.bytes_max;
                if full && !page.documents.is_empty() {
                    let last = page.documents.last().map(|last| Place::of(&last.id));
                    return Ok(taken.or(last));
                }
                *bytes += size;
                page.documents.push(document);
                taken = Some(hint.place);
            }
        }
        Ok(None)
    }

    /// What all levels hold after `position`, up to the end of its partition on the highest level.
    async fn range(
        &self,
        collection: CollectionId,
        level: u8,
        position: &Place,
        items_max: usize,
    ) -> Result<Range, Failure> {
        let end = range_end(position.hash, level);
        // One more than fits, so that a full page knows whether something follows.
        let limit = i32::try_from(items_max.saturating_add(1)).unwrap_or(i32::MAX);
        let mut hints = BTreeSet::new();
        let mut complete_to = Place {
            hash: end,
            id: String::new(),
        };
        let mut ended = true;
        for level in 0..=level {
            let bucket = position.bucket(level);
            let key = (collection.0, level.cast_signed(), bucket);
            let values = (
                key.0,
                key.1,
                key.2,
                position.column(),
                &position.id,
                column_of(end),
                limit,
            );
            let answer = self
                .session
                .execute_unpaged(&self.statements.list_page, values)
                .await;
            let rows = answer
                .map_err(Failure::of_query)?
                .into_rows_result()
                .map_err(Failure::internal)?;
            let cut = rows.rows_num() >= usize::try_from(limit).unwrap_or(usize::MAX);
            let mut last = None;
            for row in rows
                .rows::<(i64, String, Option<i64>)>()
                .map_err(Failure::internal)?
            {
                let (hash, id, written_at) = row.map_err(Failure::internal)?;
                let hash = hash_of(hash);
                let place = Place { hash, id };
                last = Some(place.clone());
                hints.insert(Hint {
                    place,
                    level,
                    written_at_micros: written_at.unwrap_or(0),
                });
            }
            if let Some(last) = last
                && cut
                && (ended || last < complete_to)
            {
                complete_to = last;
                ended = false;
            }
        }
        // The same document on two levels is one document.
        let mut hints: Vec<Hint> = hints
            .into_iter()
            .filter(|hint| ended || hint.place <= complete_to)
            .collect();
        hints.dedup_by(|later, earlier| later.place == earlier.place);
        Ok(Range {
            hints,
            complete_to,
            ended,
        })
    }

    /// The list's highest level, asked for now.
    pub(super) async fn read_level(&self, collection: CollectionId) -> Result<u8, Failure> {
        let answer = self
            .session
            .execute_unpaged(&self.statements.levels_read, (collection.0,))
            .await;
        let rows = answer
            .map_err(Failure::of_query)?
            .into_rows_result()
            .map_err(Failure::internal)?;
        let mut highest = 0;
        for row in rows.rows::<(i8,)>().map_err(Failure::internal)? {
            let (level,) = row.map_err(Failure::internal)?;
            highest = highest.max(u8::try_from(level).unwrap_or(0).min(LEVEL_MAX));
        }
        self.levels.set(collection, highest);
        Ok(highest)
    }

    /// Whether the partition that `place` belongs to is about full; adds the next level if so.
    pub(super) async fn grow_list(&self, collection: CollectionId, place: &Place) -> Result<(), Failure> {
        let level = self.read_level(collection).await?;
        if level >= LEVEL_MAX {
            return Ok(());
        }
        let key = (
            collection.0,
            level.cast_signed(),
            place.bucket(level),
            SAMPLE_ROWS,
        );
        let answer = self
            .session
            .execute_unpaged(&self.statements.list_sample, key)
            .await;
        let rows = answer
            .map_err(Failure::of_query)?
            .into_rows_result()
            .map_err(Failure::internal)?;
        let sampled = rows.rows_num();
        if sampled < usize::try_from(SAMPLE_ROWS).unwrap_or(usize::MAX) {
            return Ok(());
        }
        let mut last = 0;
        for row in rows.rows::<(i64,)>().map_err(Failure::internal)? {
            last = hash_of(row.map_err(Failure::internal)?.0);
        }
        if estimated_rows(sampled, last, level) < PARTITION_ROWS_FULL {
            return Ok(());
        }
        let next = level + 1;
        let added = self
            .session
            .execute_unpaged(&self.statements.level_add, (collection.0, next.cast_signed()))
            .await;
        added.map_err(Failure::of_query)?;
        self.levels.set(collection, next);
        tracing::info!(collection = %collection, level = next, "the collection's list has got another level");
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the age of a row is measured by the clock that wrote it"
    )]
    fn sweep_later(&self, collection: CollectionId, id: DocumentId, hint: &Hint) {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let age_max = i64::try_from(SWEEP_AGE.as_micros()).unwrap_or(i64::MAX);
        if now.saturating_sub(hint.written_at_micros) < age_max {
            return;
        }
        self.sweep(collection, id, hint.level, hint.written_at_micros);
    }

    /// One document, by a plain read.
    pub(super) async fn fetch(
        &self,
        collection: CollectionId,
        id: &DocumentId,
    ) -> Result<Option<Document>, Failure> {
        let answer = self
            .session
            .execute_unpaged(&self.statements.document_fetch, (collection.0, id.as_str()))
            .await;
        let row = first_row::<StoredDocument>(answer.map_err(Failure::of_query)?)?;
        row.map_or(Ok(None), |row| document_of(id, row))
    }

    /// The documents that the hints point to, by one plain read; in the hints' order.
    async fn fetch_hinted(
        &self,
        collection: CollectionId,
        hints: Vec<Hint>,
    ) -> Result<Vec<(Hint, DocumentId, Option<Document>)>, Failure> {
        let ids: Vec<&str> = hints.iter().map(|hint| hint.place.id.as_str()).collect();
        let answer = self
            .session
            .execute_unpaged(&self.statements.documents_fetch, (collection.0, ids))
            .await;
        let rows = answer
            .map_err(Failure::of_query)?
            .into_rows_result()
            .map_err(Failure::internal)?;
        let mut found = HashMap::with_capacity(hints.len());
        for row in rows
            .rows::<(String, Option<Bytes>, Option<i64>, Option<i64>, Option<Bytes>)>()
            .map_err(Failure::internal)?
        {
            let (id, version, created_at, updated_at, data) = row.map_err(Failure::internal)?;
            found.insert(id, (version, created_at, updated_at, data));
        }
        hints
            .into_iter()
            .map(|hint| {
                let id = DocumentId::parse(&hint.place.id).map_err(Failure::internal)?;
                let row = found.remove(id.as_str());
                let document = row.map_or(Ok(None), |row| document_of(&id, row))?;
                Ok((hint, id, document))
            })
            .collect()
    }
}

/// A row of the documents' table: version, times of creation and of the last change, data.
pub(super) type StoredDocument = (Option<Bytes>, Option<i64>, Option<i64>, Option<Bytes>);

/// The document of a row; `None` if it is the marker of a deleted one, which has a version only.
pub(super) fn document_of(id: &DocumentId, row: StoredDocument) -> Result<Option<Document>, Failure> {
    let (Some(version), Some(created_at), Some(updated_at), Some(data)) = row else {
        return Ok(None);
    };
    Ok(Some(Document {
        id: id.clone(),
        meta: DocumentMeta {
            version: version_of(&version)?,
            created_at: Timestamp(created_at),
            updated_at: Timestamp(updated_at),
        },
        data: JsonObject::from_checked(data),
    }))
}

/// How many rows a partition has, if its first `sampled` ones end at the hash `last`.
fn estimated_rows(sampled: usize, last: u64, level: u8) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let (covered, whole, sampled) = {
        let begin = range_end(last, level) - range_end(0, level);
        ((last - begin) as f64, range_end(0, level) as f64, sampled as f64)
    };
    sampled * whole / covered.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_column_keeps_the_order_of_hashes() {
        let hashes = [0, 1, 1 << 62, (1 << 63) - 1, 1 << 63, u64::MAX - 1, u64::MAX];
        for pair in hashes.windows(2) {
            assert!(column_of(pair[0]) < column_of(pair[1]));
        }
        for hash in hashes {
            assert_eq!(hash_of(column_of(hash)), hash);
        }
    }

    #[test]
    fn a_bucket_is_the_top_bits() {
        let hash = 0xabcd_ef01_2345_6789;
        assert_eq!(bucket_of(hash, 0), 0);
        assert_eq!(bucket_of(hash, 1), 0xa);
        assert_eq!(bucket_of(hash, 4), 0xabcd);
        assert_eq!(range_end(hash, 0), u64::MAX);
        assert_eq!(range_end(hash, 1), 0xafff_ffff_ffff_ffff);
        assert_eq!(range_end(hash, 4), 0xabcd_ffff_ffff_ffff);
    }

    #[test]
    fn a_sample_gives_the_size() {
        // 1,000 rows in a fiftieth of the range: 50,000 in all.
        let whole = estimated_rows(1000, u64::MAX / 50, 0);
        assert!((whole - 50_000.0).abs() < 1.0, "{whole}");
        let begin = 0xa000_0000_0000_0000_u64;
        let part = estimated_rows(1000, begin + (u64::MAX >> 4) / 50, 1);
        assert!((part - 50_000.0).abs() < 1.0, "{part}");
    }

    #[test]
    fn a_cursor_comes_back_and_garbage_does_not() {
        let place = Place::of(&DocumentId::parse("some~id").unwrap());
        assert_eq!(Place::from_cursor(&place.cursor()), Some(place));
        for bytes in [
            &b""[..],
            b"C",
            b"C1234567",
            b"S12345678id",
            b"C12345678/",
            b"C12345678\xff",
        ] {
            assert_eq!(Place::from_cursor(&Cursor(bytes.to_vec())), None);
        }
    }
}
