//! Page tokens: a store's cursor, sealed so that it can't be read or forged and only fits the list it came from.
//!
//! A cursor names the last collection or document that was looked at, which the token's holder may not be allowed to
//! know of. So it is encrypted: base64url without padding of `nonce (12) ‖ ciphertext ‖ tag (16)` by ChaCha20-Poly1305
//! under a key made from the cluster's secret, and so good on every instance. The nonce is a keyed hash of binding and
//! cursor: it recurs only where the whole token does, and needs no randomness. See `docs/adr/0083-page-tokens-hide-names.md`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::Sha256;

use crate::domain::CollectionId;
use crate::store::{CURSOR_BYTES_MAX, Cursor};

/// Bytes of the authentication tag.
const TAG_BYTES: usize = 16;

/// A cursor is filled up to a multiple of this, so that its length says little about the name in it.
const BLOCK_BYTES: usize = 64;

/// Bytes of the cursor's length in front of it.
const LENGTH_BYTES: usize = 2;

/// Longest filled cursor: 2 + 256 bytes are five blocks.
const FILLED_BYTES_MAX: usize = (LENGTH_BYTES + CURSOR_BYTES_MAX).div_ceil(BLOCK_BYTES) * BLOCK_BYTES;

/// Longest token: 12 + 320 + 16 bytes in base64 are 464 characters; the contract allows less than 1,024.
pub(super) const PAGE_TOKEN_CHARS_MAX: usize = (NONCE_LEN + FILLED_BYTES_MAX + TAG_BYTES).div_ceil(3) * 4;

/// Separate the keys made here from each other and from whatever else the secret is used for.
const SEALING: &[u8] = b"tidepool page token 2, sealing\0";
const NONCES: &[u8] = b"tidepool page token 2, nonces\0";

/// The list that a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binding {
    /// The list of collections.
    Collections,
    /// The documents of one collection, until it is dropped.
    Documents(CollectionId),
}

impl Binding {
    /// One letter, and for documents the collection's identity: neither is the beginning of the other.
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Collections => b"c".to_vec(),
            Self::Documents(id) => [b"d", id.0.as_bytes().as_slice()].concat(),
        }
    }
}

/// The cursor as a token; `None` if it is longer than a cursor may be, which no store's is.
pub(super) fn seal(secret: &[u8; 32], binding: Binding, cursor: &Cursor) -> Option<String> {
    let length = u16::try_from(cursor.0.len()).ok()?;
    if cursor.0.len() > CURSOR_BYTES_MAX {
        return None;
    }
    let mut filled = Vec::with_capacity(FILLED_BYTES_MAX + TAG_BYTES);
    filled.extend_from_slice(&length.to_be_bytes());
    filled.extend_from_slice(&cursor.0);
    filled.resize(filled.len().div_ceil(BLOCK_BYTES) * BLOCK_BYTES, 0);
    let nonce = nonce_of(secret, binding, &filled)?;
    let nonce_once = Nonce::assume_unique_for_key(nonce);
    key(secret)?
        .seal_in_place_append_tag(nonce_once, Aad::from(binding.bytes()), &mut filled)
        .ok()?;
    let mut token = Vec::with_capacity(NONCE_LEN + filled.len());
    token.extend_from_slice(&nonce);
    token.extend_from_slice(&filled);
    Some(URL_SAFE_NO_PAD.encode(token))
}

/// The cursor in a token; `None` if it was not sealed by this cluster for this list.
pub(super) fn open(secret: &[u8; 32], binding: Binding, token: &str) -> Option<Cursor> {
    if token.len() > PAGE_TOKEN_CHARS_MAX {
        return None;
    }
    let mut bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (nonce, sealed) = bytes.split_first_chunk_mut::<NONCE_LEN>()?;
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let filled = key(secret)?
        .open_in_place(nonce, Aad::from(binding.bytes()), sealed)
        .ok()?;
    let (length, cursor) = filled.split_first_chunk::<LENGTH_BYTES>()?;
    let cursor = cursor.get(..usize::from(u16::from_be_bytes(*length)))?;
    Some(Cursor(cursor.to_vec()))
}

/// `None` never happens: the digest is as long as this cipher's keys.
fn key(secret: &[u8; 32]) -> Option<LessSafeKey> {
    let key = mac(secret, &[SEALING])?;
    Some(LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).ok()?))
}

fn nonce_of(secret: &[u8; 32], binding: Binding, filled: &[u8]) -> Option<[u8; NONCE_LEN]> {
    let digest = mac(secret, &[NONCES, &binding.bytes(), filled])?;
    digest.first_chunk().copied()
}

/// `None` never happens: HMAC takes keys of any length.
fn mac(secret: &[u8; 32], parts: &[&[u8]]) -> Option<[u8; 32]> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).ok()?;
    for part in parts {
        mac.update(part);
    }
    Some(mac.finalize().into_bytes().into())
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

    fn sealed(binding: Binding, cursor: &[u8]) -> String {
        seal(&SECRET, binding, &Cursor(cursor.to_vec())).unwrap()
    }

    #[test]
    fn opens_only_for_its_list_and_secret() {
        let cursor = Cursor(vec![1, 2, 3]);
        let token = sealed(documents(1), &cursor.0);
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

    /// A key that sees one collection gets a token that has passed another one's name.
    #[test]
    fn a_token_shows_neither_the_name_in_it_nor_its_length() {
        let name = b"secret-merger-2027";
        let token = sealed(Binding::Collections, name);
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for part in name.windows(4) {
            assert!(!bytes.windows(4).any(|shown| shown == part));
        }
        assert_eq!(token.len(), sealed(Binding::Collections, b"a").len());
        assert_ne!(token, sealed(documents(1), name), "each list has its own");
        assert_eq!(
            token,
            sealed(Binding::Collections, name),
            "on every instance the same"
        );
    }

    #[test]
    fn the_longest_cursor_fits() {
        let token = sealed(documents(1), &[0xff; CURSOR_BYTES_MAX]);
        assert!(token.len() <= PAGE_TOKEN_CHARS_MAX && PAGE_TOKEN_CHARS_MAX < 1_024);
        assert!(
            token
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        );
        assert!(open(&SECRET, documents(1), &token).is_some());
        assert_eq!(
            seal(&SECRET, documents(1), &Cursor(vec![0; CURSOR_BYTES_MAX + 1])),
            None
        );
    }

    proptest! {
        #[test]
        fn no_changed_byte_goes_unnoticed(cursor in prop::collection::vec(any::<u8>(), 0..140), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let token = sealed(documents(1), &cursor);
            prop_assert_eq!(open(&SECRET, documents(1), &token), Some(Cursor(cursor)));
            let mut bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(open(&SECRET, documents(1), &URL_SAFE_NO_PAD.encode(bytes)), None);
        }
    }
}
