//! Page tokens: a store's cursor, sealed so that it can't be forged and only fits the list it came from.
//!
//! Text: base64url without padding of `tag (32) ‖ cursor`, the tag being HMAC-SHA256 over purpose, binding and cursor
//! under the cluster's secret; so a token is good on every instance. The cursor holds a position and
//! nothing secret; it needs no hiding.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::domain::CollectionId;
use crate::store::{CURSOR_BYTES_MAX, Cursor};

const TAG_BYTES: usize = 32;

/// Longest token: (32 + 256) bytes in base64 are 384 characters; the contract allows less than 1,024.
pub(super) const PAGE_TOKEN_CHARS_MAX: usize = (TAG_BYTES + CURSOR_BYTES_MAX).div_ceil(3) * 4;

/// Separates these tags from whatever else the secret is used for.
const PURPOSE: &[u8] = b"tidepool page token 1\0";

/// The list that a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// The list of collections.
    Collections,
    /// The documents of one collection, until it is dropped.
    Documents(CollectionId),
}

/// The cursor as a token.
pub(super) fn seal(secret: &[u8; 32], binding: Binding, cursor: &Cursor) -> String {
    let mut bytes = Vec::with_capacity(TAG_BYTES + cursor.0.len());
    if let Some(mac) = mac(secret, binding, &cursor.0) {
        bytes.extend_from_slice(&mac.finalize().into_bytes());
    }
    bytes.extend_from_slice(&cursor.0);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The cursor in a token; `None` if it was not sealed by this cluster for this list.
pub(super) fn open(secret: &[u8; 32], binding: Binding, token: &str) -> Option<Cursor> {
    if token.len() > PAGE_TOKEN_CHARS_MAX {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (tag, cursor) = bytes.split_at_checked(TAG_BYTES)?;
    mac(secret, binding, cursor)?.verify_slice(tag).ok()?;
    Some(Cursor(cursor.to_vec()))
}

/// `None` never happens: HMAC takes keys of any length.
fn mac(secret: &[u8; 32], binding: Binding, cursor: &[u8]) -> Option<Hmac<Sha256>> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    mac.update(PURPOSE);
    match binding {
        Binding::Collections => mac.update(b"c"),
        // The uuid has a fixed length, so the cursor's beginning can't be taken for its end.
        Binding::Documents(id) => {
            mac.update(b"d");
            mac.update(id.0.as_bytes());
        }
    }
    mac.update(cursor);
    Some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use uuid::Uuid;

    const SECRET: [u8; 32] = [7; 32];

    fn documents(id: u128) -> Binding {
        Binding::Documents(CollectionId(Uuid::from_u128(id)))
    }

    #[test]
    fn opens_only_for_its_list_and_secret() {
        let cursor = Cursor(vec![1, 2, 3]);
        let token = seal(&SECRET, documents(1), &cursor);
        assert_eq!(open(&SECRET, documents(1), &token), Some(cursor));
        assert_eq!(open(&SECRET, documents(2), &token), None);
        assert_eq!(open(&SECRET, Binding::Collections, &token), None);
        assert_eq!(open(&[8; 32], documents(1), &token), None);
        for forged in [
            "",
            "x",
            &token.to_uppercase(),
            &format!("{token}AA"),
            &token[1..],
            &"A".repeat(5_000),
        ] {
            assert_eq!(open(&SECRET, documents(1), forged), None, "{forged}");
        }
    }

    #[test]
    fn the_longest_cursor_fits() {
        let token = seal(&SECRET, documents(1), &Cursor(vec![0xff; CURSOR_BYTES_MAX]));
        assert!(token.len() <= PAGE_TOKEN_CHARS_MAX && PAGE_TOKEN_CHARS_MAX < 1_024);
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert!(open(&SECRET, documents(1), &token).is_some());
    }

    proptest! {
        #[test]
        fn no_changed_byte_goes_unnoticed(cursor in prop::collection::vec(any::<u8>(), 0..40), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let token = seal(&SECRET, documents(1), &Cursor(cursor));
            let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(open(&SECRET, documents(1), &URL_SAFE_NO_PAD.encode(bytes)), None);
        }
    }
}
