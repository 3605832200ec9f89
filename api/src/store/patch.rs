//! What a PATCH asks of a store, and what becomes of the document that is there: decided here for every store, so that
//! a store only has to read, ask and write as one.

use crate::domain::{Document, DocumentPatch, PatchError, Precondition};

/// One PATCH. A clone copies no text.
#[derive(Debug, Clone)]
pub struct PatchOrder {
    /// What to change.
    pub patch: DocumentPatch,
    /// What must hold.
    pub precondition: Precondition,
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
}

/// What a store is to do next.
#[derive(Debug)]
pub(super) enum PatchStep {
    /// Write this one's data over the version that it still has.
    Write(Document),
    /// Nothing: this is what became of it.
    Done(DocumentPatched),
}

impl PatchOrder {
    /// What is to be done about the document that is there, if there is one.
    ///
    /// # Errors
    /// [`PatchError::StoredTextBroken`].
    pub(super) fn on(&self, current: Option<Document>) -> Result<PatchStep, PatchError> {
        let Some(current) = current else {
            return Ok(PatchStep::Done(DocumentPatched::Missing));
        };
        if !self.precondition.holds(Some(current.meta.version)) {
            return Ok(PatchStep::Done(DocumentPatched::PreconditionFailed));
        }
        match self.patch.apply(&current.data) {
            Ok(data) => Ok(PatchStep::Write(Document { data, ..current })),
            Err(PatchError::TooLarge) => Ok(PatchStep::Done(DocumentPatched::TooLarge)),
            Err(error @ PatchError::StoredTextBroken(_)) => Err(error),
        }
    }
}
