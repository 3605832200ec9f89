//! Request ids: made by the server for every request, never taken from the client.

use std::fmt;

use http::HeaderValue;

use crate::domain::hex_digits;

/// 32 lower-case hexadecimal digits, the same in `X-Request-Id`, in a problem's `request_id` and in the log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// A new one, from two draws of 64 random bits.
    #[must_use]
    pub fn new(nonce: fn() -> u64) -> Self {
        let bits = (u128::from(nonce()) << 64) | u128::from(nonce());
        Self(hex_digits(bits.to_be_bytes()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only hexadecimal digits are ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as a header's value.
    #[must_use]
    pub fn header_value(&self) -> HeaderValue {
        HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_all_bits_in_order() {
        assert_eq!(
            RequestId::new(|| 0x0123_4567_89ab_cdef).as_str(),
            "0123456789abcdef0123456789abcdef"
        );
    }
}
