//! The SQL: every query and every write, as functions on a connection. No waiting, no threads, no locks.

use bytes::Bytes;
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, Type, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::domain::{
    CollectionId, CollectionName, Document, DocumentId, DocumentMeta, JsonObject, Precondition, Timestamp,
    Version, WriteStamp,
};
use crate::store::patch::PatchStep;
use crate::store::{
    AccessOpen, Collection, CollectionPut, Cursor, Delete, DocumentCreate, DocumentPatched, DocumentPut,
    KeyCreate, KeyRecord, Page, PageLimits, PatchOrder, RECENTLY_DROPPED_SECS, new_collection_id,
};

/// First byte of a cursor of this store; the last id of the page follows.
const CURSOR_TAG: u8 = b'S';

/// Documents swept from dropped collections at a time, some ms of the writer's time.
const SWEEP_MAX: u32 = 200;

/// A dropped collection is remembered for this long after its documents are gone: a write that was on its way when it
/// was dropped (15 s at most) has long come down by then.
const DROPPED_KEPT_SECS: i64 = 3600;

pub(super) fn ready(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("SELECT max(version) FROM schema_migrations")?
        .query_row([], |row| row.get::<_, Option<i64>>(0))
        .map(|_| ())
}

pub(super) fn cluster_secret(connection: &Connection) -> rusqlite::Result<[u8; 32]> {
    connection
        .prepare_cached("SELECT value FROM cluster WHERE name = 'secret'")?
        .query_row([], |row| row.get(0))
}

/// What says to which run of the log the database belongs: see `lineage`.
pub(super) fn log_mark(connection: &Connection) -> rusqlite::Result<Vec<u8>> {
    connection
        .prepare_cached("SELECT value FROM cluster WHERE name = 'log'")?
        .query_row([], |row| row.get(0))
}

pub(super) fn log_mark_set(connection: &Connection, mark: &[u8]) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO cluster (name, value) VALUES ('log', ?1)")?
        .execute([mark])
        .map(|_| ())
}

/// A copy begins a line of its own.
pub(super) fn log_mark_forget(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .execute("DELETE FROM cluster WHERE name = 'log'", [])
        .map(|_| ())
}

// --- collections ---

const COLLECTION_COLUMNS: &str = "id, name, created_at, updated_at, version";

fn collection_of(row: &Row<'_>) -> rusqlite::Result<Collection> {
    Ok(Collection {
        id: row.get::<_, Sql<CollectionId>>(0)?.0,
        name: checked(1, CollectionName::parse(row.get_ref(1)?.as_str()?))?,
        created_at: Timestamp(row.get(2)?),
        updated_at: Timestamp(row.get(3)?),
        version: row.get::<_, Sql<Version>>(4)?.0,
    })
}

pub(super) fn collection_fetch(
    connection: &Connection,
    name: &CollectionName,
) -> rusqlite::Result<Option<Collection>> {
    connection
        .prepare_cached(&format!(
            "SELECT {COLLECTION_COLUMNS} FROM collections WHERE name = ?1"
        ))?
        .query_row([name.as_str()], collection_of)
        .optional()
}

pub(super) fn collection_list(
    connection: &Connection,
    after: Option<&CollectionName>,
    limit: usize,
) -> rusqlite::Result<Vec<Collection>> {
    // No name is empty, so every one is above "".
    let after = after.map_or("", CollectionName::as_str);
    connection
        .prepare_cached(&format!(
            "SELECT {COLLECTION_COLUMNS} FROM collections WHERE name > ?1 ORDER BY name LIMIT ?2"
        ))?
        .query_map(params![after, sql_limit(limit)], collection_of)?
        .collect()
}

/// The dropped collection that a new one of this name has to keep its distance from.
pub(super) fn recently_dropped(
    connection: &Connection,
    name: &CollectionName,
) -> rusqlite::Result<Option<CollectionId>> {
    // A clock that was set back makes the age negative: such a drop counts as recent.
    connection
        .prepare_cached(
            "SELECT id FROM dropped_collections
             WHERE name = ?1 AND unixepoch() - dropped_at < ?2 ORDER BY dropped_at DESC, id DESC LIMIT 1",
        )?
        .query_row(params![name.as_str(), RECENTLY_DROPPED_SECS], |row| {
            row.get::<_, Sql<CollectionId>>(0)
        })
        .optional()
        .map(|found| found.map(|id| id.0))
}

/// What putting a collection came to inside the transaction.
#[derive(Debug)]
pub(super) enum CollectionPutStep {
    Done(CollectionPut),
    /// It would be new, but one of its name was dropped just now: wait first, then say so by `waited_for`.
    DroppedJustNow(CollectionId),
}

pub(super) fn collection_put(
    connection: &Connection,
    name: &CollectionName,
    precondition: &Precondition,
    stamp: WriteStamp,
    waited_for: Option<CollectionId>,
) -> rusqlite::Result<CollectionPutStep> {
    let current = collection_fetch(connection, name)?;
    if !precondition.holds(current.as_ref().map(|collection| collection.version)) {
        return Ok(CollectionPutStep::Done(CollectionPut::PreconditionFailed));
    }
    if let Some(current) = current {
        let put = current.put_again(stamp);
        connection
            .prepare_cached("UPDATE collections SET updated_at = ?2, version = ?3 WHERE name = ?1")?
            .execute(params![
                name.as_str(),
                put.updated_at.micros(),
                put.version.to_bytes()
            ])?;
        return Ok(CollectionPutStep::Done(CollectionPut::Replaced(put)));
    }
    if let Some(dropped) = recently_dropped(connection, name)?
        && waited_for != Some(dropped)
    {
        return Ok(CollectionPutStep::DroppedJustNow(dropped));
    }
    let version = Version::first(stamp);
    let made = Collection {
        id: new_collection_id(stamp),
        name: name.clone(),
        created_at: stamp.now,
        updated_at: stamp.now,
        version,
    };
    connection
        .prepare_cached(&format!(
            "INSERT INTO collections ({COLLECTION_COLUMNS}) VALUES (?1, ?2, ?3, ?3, ?4)"
        ))?
        .execute(params![
            Sql(made.id),
            name.as_str(),
            stamp.now.micros(),
            version.to_bytes()
        ])?;
    Ok(CollectionPutStep::Done(CollectionPut::Created(made)))
}

pub(super) fn collection_delete(
    connection: &Connection,
    name: &CollectionName,
    precondition: &Precondition,
) -> rusqlite::Result<Delete> {
    let Some(current) = collection_fetch(connection, name)? else {
        return Ok(Delete::Missing);
    };
    if !precondition.holds(Some(current.version)) {
        return Ok(Delete::PreconditionFailed);
    }
    atomically(connection, || {
        connection
            .prepare_cached(
                "INSERT INTO dropped_collections (id, name, dropped_at) VALUES (?1, ?2, unixepoch())",
            )?
            .execute(params![Sql(current.id), name.as_str()])?;
        connection
            .prepare_cached("DELETE FROM collections WHERE name = ?1")?
            .execute([name.as_str()])
    })?;
    Ok(Delete::Deleted)
}

/// Deletes some documents of dropped collections; true if there may be more.
pub(super) fn sweep(connection: &Connection) -> rusqlite::Result<bool> {
    let dropped: Vec<Sql<CollectionId>> = connection
        .prepare_cached("SELECT id FROM dropped_collections ORDER BY dropped_at LIMIT ?1")?
        .query_map([SWEEP_MAX], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for id in dropped {
        let swept = connection
            .prepare_cached(
                "DELETE FROM documents WHERE rowid IN
                 (SELECT rowid FROM documents WHERE collection = ?1 LIMIT ?2)",
            )?
            .execute(params![id, SWEEP_MAX])?;
        if swept > 0 {
            return Ok(true);
        }
        connection
            .prepare_cached(
                "DELETE FROM dropped_collections WHERE id = ?1 AND unixepoch() - dropped_at > ?2",
            )?
            .execute(params![id, DROPPED_KEPT_SECS])?;
    }
    Ok(false)
}

// --- documents ---

/// Where [`document_fetch`] has the data.
const DATA_COLUMN: usize = 3;

fn meta_of(row: &Row<'_>, first: usize) -> rusqlite::Result<DocumentMeta> {
    Ok(DocumentMeta {
        version: row.get::<_, Sql<Version>>(first)?.0,
        created_at: Timestamp(row.get(first + 1)?),
        updated_at: Timestamp(row.get(first + 2)?),
    })
}

fn data_of(row: &Row<'_>, column: usize) -> rusqlite::Result<JsonObject> {
    let text = row.get_ref(column)?.as_bytes()?;
    Ok(JsonObject::from_checked(Bytes::copy_from_slice(text)))
}

pub(super) fn document_fetch(
    connection: &Connection,
    collection: CollectionId,
    id: &DocumentId,
) -> rusqlite::Result<Option<Document>> {
    connection
        .prepare_cached(
            "SELECT version, created_at, updated_at, data FROM documents WHERE collection = ?1 AND id = ?2",
        )?
        .query_row(params![Sql(collection), id.as_str()], |row| {
            Ok(Document {
                id: id.clone(),
                meta: meta_of(row, 0)?,
                data: data_of(row, DATA_COLUMN)?,
            })
        })
        .optional()
}

fn document_meta(
    connection: &Connection,
    collection: CollectionId,
    id: &DocumentId,
) -> rusqlite::Result<Option<DocumentMeta>> {
    connection
        .prepare_cached(
            "SELECT version, created_at, updated_at FROM documents WHERE collection = ?1 AND id = ?2",
        )?
        .query_row(params![Sql(collection), id.as_str()], |row| meta_of(row, 0))
        .optional()
}

pub(super) fn document_create(
    connection: &Connection,
    collection: CollectionId,
    id: &DocumentId,
    data: &JsonObject,
    stamp: WriteStamp,
) -> rusqlite::Result<DocumentCreate> {
    let meta = DocumentMeta::first(Version::first(stamp), stamp);
    let inserted = connection
        .prepare_cached(
            "INSERT INTO documents (collection, id, version, created_at, updated_at, data)
             VALUES (?1, ?2, ?3, ?4, ?4, ?5) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            Sql(collection),
            id.as_str(),
            meta.version.to_bytes(),
            stamp.now.micros(),
            Sql(data)
        ])?;
    Ok(match inserted {
        0 => DocumentCreate::AlreadyExists,
        _ => DocumentCreate::Created(meta),
    })
}

fn document_update(
    connection: &Connection,
    collection: CollectionId,
    id: &DocumentId,
    data: &JsonObject,
    previous: DocumentMeta,
    stamp: WriteStamp,
) -> rusqlite::Result<DocumentMeta> {
    let meta = previous.next(previous.version.next(stamp), stamp);
    connection
        .prepare_cached(
            "UPDATE documents SET version = ?3, updated_at = ?4, data = ?5 WHERE collection = ?1 AND id = ?2",
        )?
        .execute(params![
            Sql(collection),
            id.as_str(),
            meta.version.to_bytes(),
            meta.updated_at.micros(),
            Sql(data)
        ])?;
    Ok(meta)
}

pub(super) fn document_put(
    connection: &Connection,
    collection: CollectionId,
    id: &DocumentId,
    data: &JsonObject,
    precondition: &Precondition,
    stamp: WriteStamp,
) -> rusqlite::Result<DocumentPut> {
    let current = document_meta(connection, collection, id)?;
    if !precondition.holds(current.map(|meta| meta.version)) {
        return Ok(DocumentPut::PreconditionFailed);
    }
    if let Some(current) = current {
        let meta = document_update(connection, collection, id, data, current, stamp)?;
        return Ok(DocumentPut::Replaced(meta));
    }
    match document_create(connection, collection, id, data, stamp)? {
        DocumentCreate::Created(meta) => Ok(DocumentPut::Created(meta)),
        // Not within one transaction that has found the id free.
        DocumentCreate::AlreadyExists => Err(rusqlite::Error::StatementChangedRows(0)),
    }
}

pub(super) fn document_patch(
    connection: &Connection,
    collection: CollectionId,
    id: &DocumentId,
    order: &PatchOrder,
    stamp: WriteStamp,
) -> rusqlite::Result<DocumentPatched> {
    let current = document_fetch(connection, collection, id)?;
    match checked(DATA_COLUMN, order.on(current))? {
        PatchStep::Done(done) => Ok(done),
        PatchStep::Write(changed) => {
            let meta = document_update(connection, collection, id, &changed.data, changed.meta, stamp)?;
            Ok(DocumentPatched::Patched(Document { meta, ..changed }))
        }
    }
}

pub(super) fn document_delete(
    connection: &Connection,
    collection: CollectionId,
    id: &DocumentId,
    precondition: &Precondition,
) -> rusqlite::Result<Delete> {
    let Some(current) = document_meta(connection, collection, id)? else {
        return Ok(Delete::Missing);
    };
    if !precondition.holds(Some(current.version)) {
        return Ok(Delete::PreconditionFailed);
    }
    connection
        .prepare_cached("DELETE FROM documents WHERE collection = ?1 AND id = ?2")?
        .execute(params![Sql(collection), id.as_str()])?;
    Ok(Delete::Deleted)
}

/// Where a cursor of ours points; `None` for one that isn't.
pub(super) fn cursor_id(cursor: &Cursor) -> Option<DocumentId> {
    let (tag, id) = cursor.0.split_first()?;
    if *tag != CURSOR_TAG {
        return None;
    }
    DocumentId::parse(std::str::from_utf8(id).ok()?).ok()
}

fn cursor_after(id: &DocumentId) -> Cursor {
    let mut bytes = Vec::with_capacity(1 + id.as_str().len());
    bytes.push(CURSOR_TAG);
    bytes.extend_from_slice(id.as_str().as_bytes());
    Cursor(bytes)
}

/// Documents ordered by id, after the given one: one seek, however deep the page.
pub(super) fn document_page(
    connection: &Connection,
    collection: CollectionId,
    after: Option<&DocumentId>,
    limits: PageLimits,
) -> rusqlite::Result<Page> {
    let after = after.map_or("", DocumentId::as_str);
    let mut statement = connection.prepare_cached(
        "SELECT id, version, created_at, updated_at, data FROM documents
         WHERE collection = ?1 AND id > ?2 ORDER BY id LIMIT ?3",
    )?;
    // One more than fits shows whether this page is the last.
    let limit = sql_limit(limits.items_max.saturating_add(1));
    let mut rows = statement.query(params![Sql(collection), after, limit])?;
    let mut documents: Vec<Document> = Vec::new();
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let size = row.get_ref(4)?.as_bytes()?.len();
        let full = documents.len() >= limits.items_max || bytes + size > limits.bytes_max;
        if let Some(last) = documents.last()
            && full
        {
            let next = Some(cursor_after(&last.id));
            return Ok(Page { documents, next });
        }
        bytes += size;
        documents.push(Document {
            id: checked(0, DocumentId::parse(row.get_ref(0)?.as_str()?))?,
            meta: meta_of(row, 1)?,
            data: data_of(row, 4)?,
        });
    }
    Ok(Page {
        documents,
        next: None,
    })
}

/// Writes something to see whether that can be done. Large enough (16 pages) that it doesn't just fit into the last gap of
/// a full disk, where the next document would not; the row stays, and the next such write takes its place.
pub(super) fn probe_write(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO cluster (name, value) VALUES ('probe', randomblob(65536))")?
        .execute([])
        .map(|_| ())
}

// --- keys ---

/// Keys that there are count as well: a program from before the marker has made them without it.
pub(super) fn access_is_closed(connection: &Connection) -> rusqlite::Result<bool> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM cluster WHERE name = 'closed') OR EXISTS (SELECT 1 FROM keys)",
        )?
        .query_row([], |row| row.get(0))
}

pub(super) fn access_close(connection: &Connection) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT INTO cluster (name, value) VALUES ('closed', x'01') ON CONFLICT DO NOTHING")?
        .execute([])
        .map(|_| ())
}

pub(super) fn access_open(connection: &Connection) -> rusqlite::Result<AccessOpen> {
    let keys: bool = connection
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM keys)")?
        .query_row([], |row| row.get(0))?;
    if keys {
        return Ok(AccessOpen::HasKeys);
    }
    let deleted = connection
        .prepare_cached("DELETE FROM cluster WHERE name = 'closed'")?
        .execute([])?;
    Ok(match deleted {
        0 => AccessOpen::WasOpen,
        _ => AccessOpen::Opened,
    })
}

pub(super) fn key_create(connection: &Connection, key: &KeyRecord) -> rusqlite::Result<KeyCreate> {
    atomically(connection, || {
        access_close(connection)?;
        key_insert(connection, key)
    })
}

fn key_insert(connection: &Connection, key: &KeyRecord) -> rusqlite::Result<KeyCreate> {
    let scopes = serde_json::to_string(&key.scopes)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let inserted = connection
        .prepare_cached(
            "INSERT INTO keys (name, hash, scopes, created_at, expires_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (name) DO NOTHING",
        )?
        .execute(params![
            key.name,
            key.hash,
            scopes,
            key.created_at.micros(),
            key.expires_at.map(Timestamp::micros)
        ])?;
    Ok(match inserted {
        0 => KeyCreate::NameTaken,
        _ => KeyCreate::Created,
    })
}

pub(super) fn key_list(connection: &Connection) -> rusqlite::Result<Vec<KeyRecord>> {
    connection
        .prepare_cached("SELECT name, hash, scopes, created_at, expires_at FROM keys ORDER BY name")?
        .query_map([], |row| {
            Ok(KeyRecord {
                name: row.get(0)?,
                hash: row.get(1)?,
                scopes: checked(2, serde_json::from_str(row.get_ref(2)?.as_str()?))?,
                created_at: Timestamp(row.get(3)?),
                expires_at: row.get::<_, Option<i64>>(4)?.map(Timestamp),
            })
        })?
        .collect()
}

pub(super) fn key_delete(connection: &Connection, name: &str) -> rusqlite::Result<bool> {
    atomically(connection, || {
        let deleted = connection
            .prepare_cached("DELETE FROM keys WHERE name = ?1")?
            .execute([name])?;
        if deleted > 0 {
            access_close(connection)?;
        }
        Ok(deleted > 0)
    })
}

// --- values ---

/// Our types as SQLite's.
struct Sql<T>(T);

impl FromSql for Sql<Version> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(|bytes| Self(Version::from_bytes(bytes)))
    }
}

impl ToSql for Sql<CollectionId> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Blob(self.0.0.as_bytes())))
    }
}

impl FromSql for Sql<CollectionId> {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        <[u8; 16]>::column_result(value).map(|bytes| Self(CollectionId(Uuid::from_bytes(bytes))))
    }
}

impl ToSql for Sql<&JsonObject> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        // A JsonObject is valid UTF-8, so it may be stored as text without another check.
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(self.0.as_bytes())))
    }
}

fn checked<T, E>(column: usize, parsed: Result<T, E>) -> rusqlite::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    parsed.map_err(|error| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error)))
}

fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Runs several statements as one: all of them, or none.
fn atomically<T>(
    connection: &Connection,
    statements: impl FnOnce() -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let execute = |sql: &str| connection.prepare_cached(sql)?.execute([]);
    execute("SAVEPOINT one")?;
    let answer = statements();
    if answer.is_err() {
        execute("ROLLBACK TO one")?;
    }
    execute("RELEASE one")?;
    answer
}
