//! Read, change, replace: the loop that a PATCH is, beside the port, so that no handler retries.

use super::{DocumentReplace, Store, StoreError, StoreErrorKind};
use crate::domain::{
    CollectionId, Document, DocumentId, DocumentPatch, PatchError, Precondition, WriteStamp,
};

/// How often a PATCH is tried when others write the same document in between. With 16 writers at once the unluckiest
/// of them needs 16 attempts, for every round lets one through.
pub const PATCH_ATTEMPTS_MAX: usize = 16;

/// One PATCH.
#[derive(Debug, Clone, Copy)]
pub struct PatchOrder<'a> {
    /// The document's collection.
    pub collection: CollectionId,
    /// The document's id.
    pub id: &'a DocumentId,
    /// What to change.
    pub patch: &'a DocumentPatch,
    /// What must hold; evaluated again for every attempt.
    pub precondition: &'a Precondition,
}

/// What became of patching a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentPatched {
    /// Written; the document as it is now.
    Patched(Document),
    /// There is none, and a PATCH makes none.
    Missing,
    /// The precondition does not hold; nothing was written.
    PreconditionFailed,
    /// The result would be too large; nothing was written.
    TooLarge,
    /// Others wrote in between, [`PATCH_ATTEMPTS_MAX`] times; nothing was written.
    Contended,
}

/// Patches a document. `stamp` is asked once for every attempt.
///
/// # Errors
/// The store's.
pub async fn document_patch(
    store: &dyn Store,
    order: PatchOrder<'_>,
    stamp: impl Fn() -> WriteStamp + Send + Sync,
) -> Result<DocumentPatched, StoreError> {
    for _ in 0..PATCH_ATTEMPTS_MAX {
        let Some(base) = store.document_fetch(order.collection, order.id).await? else {
            return Ok(DocumentPatched::Missing);
        };
        if !order.precondition.holds(Some(base.meta.version)) {
            return Ok(DocumentPatched::PreconditionFailed);
        }
        let data = match order.patch.apply(&base.data) {
            Ok(data) => data,
            Err(PatchError::TooLarge) => return Ok(DocumentPatched::TooLarge),
            Err(error @ PatchError::StoredTextBroken(_)) => {
                return Err(StoreError::new(
                    StoreErrorKind::Internal,
                    "document_patch",
                    order.id,
                    error,
                ));
            }
        };
        match store
            .document_replace(order.collection, &base, &data, stamp())
            .await?
        {
            DocumentReplace::Replaced(meta) => {
                return Ok(DocumentPatched::Patched(Document {
                    id: base.id,
                    meta,
                    data,
                }));
            }
            DocumentReplace::Changed => {}
        }
    }
    Ok(DocumentPatched::Contended)
}
