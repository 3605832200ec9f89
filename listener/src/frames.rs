//! How far an HTTP/2 client has come with what it sends. h2 waits for the rest of a preface, a frame or a block of headers as
//! long as it takes; only who knows that one is unfinished can bound that.
//!
//! Nothing is checked here: what is not HTTP/2 is h2's business.

/// The client's connection preface (RFC 9113, 3.4).
const PREFACE_BYTES: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();

/// A frame's header (4.1).
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0x0;
const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;
const END_HEADERS: u8 = 0x4;

/// What a client has begun and not yet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfinished {
    Nothing,
    /// A frame with a part of a request's body.
    Data,
    /// The preface, a block of headers, or any other frame.
    Head,
}

/// Where some bytes have led.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) unfinished: Unfinished,
    /// Whether it began in these bytes.
    pub(crate) anew: bool,
}

/// Where a client is.
#[derive(Debug)]
pub(crate) struct Frames {
    header: [u8; HEADER_BYTES],
    header_len: usize,
    kind: u8,
    /// Bytes that are left of the preface, or of a frame's payload.
    left: usize,
    /// A block of headers goes on in the next frame.
    block_is_open: bool,
}

impl Frames {
    /// At the beginning of a connection.
    pub(crate) fn new() -> Self {
        Self {
            header: [0; HEADER_BYTES],
            header_len: 0,
            kind: HEADERS,
            left: PREFACE_BYTES,
            block_is_open: false,
        }
    }

    /// Takes note of bytes that came.
    pub(crate) fn read(&mut self, mut bytes: &[u8]) -> Seen {
        let mut anew = false;
        while !bytes.is_empty() {
            if self.left > 0 {
                let payload = self.left.min(bytes.len());
                self.left -= payload;
                bytes = bytes.get(payload..).unwrap_or_default();
                continue;
            }
            anew |= self.header_len == 0 && !self.block_is_open;
            let missing = self.header.iter_mut().skip(self.header_len);
            let taken = missing.zip(bytes).map(|(slot, byte)| *slot = *byte).count();
            self.header_len += taken;
            bytes = bytes.get(taken..).unwrap_or_default();
            if self.header_len == HEADER_BYTES {
                self.begin_payload();
            }
        }
        let unfinished = self.unfinished();
        Seen { unfinished, anew }
    }

    fn begin_payload(&mut self) {
        let [length_1, length_2, length_3, kind, flags, ..] = self.header;
        self.header_len = 0;
        self.kind = kind;
        self.left = u32::from_be_bytes([0, length_1, length_2, length_3]) as usize;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.block_is_open = flags & END_HEADERS == 0;
        }
    }

    fn unfinished(&self) -> Unfinished {
        if self.block_is_open || self.header_len > 0 {
            Unfinished::Head
        } else if self.left == 0 {
            Unfinished::Nothing
        } else if self.kind == DATA {
            Unfinished::Data
        } else {
            Unfinished::Head
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const SETTINGS: u8 = 0x4;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(payload).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEADER_BYTES + payload, b'x');
        bytes
    }

    fn at_a_boundary() -> Frames {
        let mut frames = Frames::new();
        frames.read(PREFACE);
        frames
    }

    #[test]
    fn whole_frames_leave_nothing_unfinished_however_they_are_cut() {
        let parts = [
            PREFACE.to_vec(),
            frame(SETTINGS, 0, 0),
            frame(HEADERS, 0, 20),
            frame(CONTINUATION, END_HEADERS, 7),
            frame(DATA, 0, 16_384),
            frame(DATA, 1, 0),
        ];
        let all = parts.concat();
        let whole = Frames::new().read(&all);
        assert_eq!(whole.unfinished, Unfinished::Nothing);
        let ends: Vec<usize> = (1..=parts.len())
            .map(|count| parts[..count].concat().len())
            .collect();
        for piece in [1, 2, 3, 8, 9, 10, 24, 25, 1_000] {
            let mut frames = Frames::new();
            let mut at = 0;
            for bytes in all.chunks(piece) {
                let seen = frames.read(bytes);
                at += bytes.len();
                // The block of headers ends with its continuation.
                let at_an_end = ends.contains(&at) && at != ends[2];
                assert_eq!(seen.unfinished == Unfinished::Nothing, at_an_end, "{piece} {at}");
            }
        }
    }

    #[test]
    fn what_is_unfinished_is_told_apart() {
        assert_eq!(Frames::new().read(&PREFACE[..3]).unfinished, Unfinished::Head);
        for (bytes, unfinished) in [
            (&frame(HEADERS, 0, 5)[..], Unfinished::Head),
            (&frame(HEADERS, END_HEADERS, 5)[..13], Unfinished::Head),
            (&frame(SETTINGS, 0, 6)[..10], Unfinished::Head),
            (&frame(DATA, 0, 6)[..8], Unfinished::Head),
            (&frame(DATA, 0, 6)[..9], Unfinished::Data),
            (&frame(DATA, 0, 6)[..14], Unfinished::Data),
            (&frame(DATA, 0, 6), Unfinished::Nothing),
        ] {
            assert_eq!(at_a_boundary().read(bytes).unfinished, unfinished, "{bytes:?}");
        }
    }

    #[test]
    fn a_block_of_headers_begins_once_and_a_frame_of_a_body_each_time() {
        let mut frames = at_a_boundary();
        assert!(frames.read(&frame(HEADERS, 0, 5)).anew);
        assert!(!frames.read(&frame(CONTINUATION, 0, 5)).anew);
        let last = frame(CONTINUATION, END_HEADERS, 5);
        assert!(!frames.read(&last[..11]).anew);
        let ended = Seen {
            unfinished: Unfinished::Nothing,
            anew: false,
        };
        assert_eq!(frames.read(&last[11..]), ended);
        let two = [frame(DATA, 0, 5), frame(DATA, 0, 5)].concat();
        assert!(frames.read(&two[..12]).anew);
        assert!(frames.read(&two[12..20]).anew, "the second one began");
        assert!(!frames.read(&two[20..]).anew);
    }
}
