//! The rules of documents, versions, names and keys: pure values and functions.
//!
//! No poem, no database driver, no clock, no async, no environment here.

pub mod conditions;
mod document;
mod envelope;
pub mod json;
pub mod merge_patch;
mod name;
mod precondition;
mod redact;
mod scope;
mod time;
mod version;

pub use document::{Document, DocumentMeta, JsonObject};
pub use envelope::{DocumentPatch, NewDocument, PatchError, check_collection_settings};
pub use name::{CollectionId, CollectionName, DocumentId, InvalidName, NAME_CHARS_MAX};
pub use precondition::{EntityTag, EntityTags, Precondition};
pub use redact::{KEY_PREFIX, redact};
pub use scope::{InvalidScope, Level, PATTERN_CHARS_MAX, Scope};
pub use time::Timestamp;
pub use version::{Version, WriteStamp, hex_digits};
