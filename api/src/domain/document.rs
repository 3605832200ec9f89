//! Documents as the store holds them.

use bytes::Bytes;

use super::{DocumentId, Timestamp, Version};

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
    /// When the last write happened.
    pub updated_at: Timestamp,
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
