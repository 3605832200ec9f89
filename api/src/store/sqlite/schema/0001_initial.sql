-- Times are microseconds since the Unix epoch, UTC. Versions are 16 bytes that order as the versions do.

CREATE TABLE collections (
    name       TEXT    NOT NULL PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    version    BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

-- Collections whose documents still have to be swept. dropped_at is in seconds, by the machine's clock.
CREATE TABLE dropped_collections (
    id         BLOB    NOT NULL PRIMARY KEY,
    name       TEXT    NOT NULL,
    dropped_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX dropped_collections_by_name ON dropped_collections (name, dropped_at);

-- With a rowid: the index that finds and orders the documents stays dense, however large they are.
CREATE TABLE documents (
    collection BLOB    NOT NULL,
    id         TEXT    NOT NULL,
    version    BLOB    NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    data       TEXT    NOT NULL,
    PRIMARY KEY (collection, id)
) STRICT;

-- scopes: a JSON array of texts. hash: SHA-256 of the key; the key itself is nowhere.
CREATE TABLE keys (
    name       TEXT    NOT NULL PRIMARY KEY,
    hash       BLOB    NOT NULL UNIQUE,
    scopes     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE cluster (
    name  TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO cluster (name, value) VALUES ('secret', randomblob(32));
