//! Documents as the store holds them.

use bytes::Bytes;

use super::{DocumentId, Timestamp, Version, WriteStamp};

/// The text of a checked JSON object: valid UTF-8 and JSON, no duplicate members, no lone surrogates, within the depth
/// and size limits. It is kept as the client wrote it, so member order and numbers come back exactly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonObject(Bytes);

impl JsonObject {
    /// Takes text that was checked before: by the parser at the edge, or when it was stored.
    #[must_use]
    pub fn from_checked(text: Bytes) -> Self {
        Self(text)
    }

    /// The JSON text.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

/// What the server keeps about a document beside its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DocumentMeta {
    /// The version of the last write.
    pub version: Version,
    /// When the document was created; survives PUT and PATCH.
    pub created_at: Timestamp,
    /// When the last write happened; never before the write before it, whatever the clocks say.
    pub updated_at: Timestamp,
}

impl DocumentMeta {
    /// Of a document that is made now.
    #[must_use]
    pub fn first(version: Version, stamp: WriteStamp) -> Self {
        Self {
            version,
            created_at: stamp.now,
            updated_at: stamp.now,
        }
    }

    /// Of the write that follows. A clock that was set back, or that of another instance, takes no time back with it.
    #[must_use]
    pub fn next(self, version: Version, stamp: WriteStamp) -> Self {
        Self {
            version,
            created_at: self.created_at,
            updated_at: stamp.now.max(self.updated_at).max(self.created_at),
        }
    }
}

/// A document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its id.
    pub id: DocumentId,
    /// Version and times.
    pub meta: DocumentMeta,
    /// The client's data.
    pub data: JsonObject,
}
