//! What is wrong with a body, and where: pointers into it, bounded in number and length whatever the body.

use std::fmt::Write as _;

/// Most problems reported at once; a body that is wrong all over needs no longer list. With [`POINTER_BYTES_MAX`] a
/// report has at most 20 x (1,024 + about 150) bytes, 24 KiB, whatever the body.
pub const PROBLEMS_MAX: usize = 20;

/// Longest pointer reported. A usual one has some ten characters a level, of which there are 64 at most; a member's name
/// may be as long as a body, and three times that when it is percent-encoded.
pub const POINTER_BYTES_MAX: usize = 1_024;

/// One thing that is wrong with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonProblem {
    /// Where: a JSON pointer as a URI fragment, `#/data/x` (RFC 6901, section 6); `#` is the whole body.
    pub pointer: String,
    /// What, for people.
    pub detail: String,
}

impl JsonProblem {
    /// A problem at a place.
    #[must_use]
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            pointer: pointer.into(),
            detail: detail.into(),
        }
    }

    /// A problem of a member of the outermost object.
    #[must_use]
    pub fn of_member(name: &str, detail: &str) -> Self {
        let root = Place::ROOT;
        root.member(name).problem(detail)
    }
}

/// What is wrong with a body, bounded: at most [`PROBLEMS_MAX`] are kept, and those beyond are not even made.
#[derive(Debug, Default)]
pub struct Problems(Vec<JsonProblem>);

impl Problems {
    /// Adds one, unless there are enough.
    pub fn add(&mut self, problem: impl FnOnce() -> JsonProblem) {
        if !self.is_full() {
            self.0.push(problem());
        }
    }

    /// Whether no more are kept: looking for others is of no use.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.0.len() >= PROBLEMS_MAX
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order in which they were found.
    #[must_use]
    pub fn into_vec(self) -> Vec<JsonProblem> {
        self.0
    }
}

/// Where in the text the reader is; rendered only when something is wrong there.
pub(super) struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    token: Token<'p>,
    /// Levels of nesting around it.
    pub(super) depth: usize,
}

enum Token<'p> {
    Root,
    Member(&'p str),
    Index(usize),
}

impl<'p> Place<'p> {
    pub(super) const ROOT: Self = Self {
        parent: None,
        token: Token::Root,
        depth: 0,
    };

    /// A member of the object that stands here.
    pub(super) fn member(&'p self, name: &'p str) -> Self {
        Self {
            parent: Some(self),
            token: Token::Member(name),
            depth: self.depth + 1,
        }
    }

    /// An item of the array that stands here.
    pub(super) fn item(&'p self, index: usize) -> Self {
        Self {
            parent: Some(self),
            token: Token::Index(index),
            depth: self.depth + 1,
        }
    }

    pub(super) fn problem(&self, detail: &str) -> JsonProblem {
        let mut pointer = String::new();
        match self.write_pointer(&mut pointer) {
            Written::Whole => JsonProblem::new(pointer, detail),
            Written::Shortened => JsonProblem::new(
                pointer,
                format!("{detail} (at a member inside, whose own pointer is too long to be shown)"),
            ),
        }
    }

    /// Writes the pointer of this place, or, where that is too long, of the innermost place around it that fits.
    pub(super) fn write_pointer(&self, pointer: &mut String) -> Written {
        if let Some(parent) = self.parent
            && parent.write_pointer(pointer) == Written::Shortened
        {
            return Written::Shortened;
        }
        let before = pointer.len();
        match self.token {
            Token::Root => pointer.push('#'),
            // Encoding makes no name shorter, so a name that is too long need not be encoded first.
            Token::Member(name) if name.len() > POINTER_BYTES_MAX => return Written::Shortened,
            Token::Member(name) => {
                pointer.push('/');
                push_token(pointer, name);
            }
            Token::Index(index) => {
                // Writing to a String cannot fail.
                let _ = write!(pointer, "/{index}");
            }
        }
        if pointer.len() > POINTER_BYTES_MAX {
            pointer.truncate(before);
            return Written::Shortened;
        }
        Written::Whole
    }
}

/// How much of a pointer was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    Whole,
    Shortened,
}

fn push_token(pointer: &mut String, name: &str) {
    // RFC 6901 escapes ~ and /; in a URI fragment (RFC 3986) everything outside this set is percent-encoded.
    for byte in name.bytes() {
        match byte {
            b'~' => pointer.push_str("~0"),
            b'/' => pointer.push_str("~1"),
            b'-' | b'.' | b'_' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';'
            | b'=' | b':' | b'@' | b'?' => pointer.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => pointer.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(pointer, "%{byte:02X}");
            }
        }
    }
}
