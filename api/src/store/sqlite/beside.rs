//! The files that SQLite looks for beside a database: its write-ahead log, the log's index, and a rollback journal.
//!
//! SQLite takes up whatever has these names, as its documentation warns
//! (<https://www.sqlite.org/howtocorrupt.html>, 1.3 and 1.4). Only their bytes are looked at here; whether a log belongs to its
//! database is decided in `lineage`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::header::opened;

/// What follows a database's name in theirs.
pub(crate) const SUFFIXES: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Length of a log's header (<https://www.sqlite.org/fileformat.html#walformat>).
const LOG_HEADER_BYTES: usize = 32;

/// Length of a header before each page in a log.
const FRAME_HEADER_BYTES: usize = 24;

/// What a log begins with; the last bit says in which order of bytes its checksums are.
const LOG_MAGIC: u32 = 0x377f_0682;

/// What a rollback journal begins with (<https://www.sqlite.org/fileformat.html#the_rollback_journal>).
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];

/// SQLite's smallest and largest page.
const PAGE_BYTES: std::ops::RangeInclusive<usize> = 512..=65_536;

/// What tells a run of a log from every other: two numbers, of which SQLite takes new ones when the log begins anew.
pub(super) type Salts = [u8; 8];

/// The file beside a database with this suffix.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut path = file.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Which suffix a path ends with, if that of a file beside a database.
pub(crate) fn suffix_of(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_string_lossy();
    SUFFIXES.into_iter().find(|suffix| name.ends_with(suffix))
}

/// The salts in a log's header, whatever follows; `None` if it is too short for one.
pub(super) fn salts(log: &File) -> Option<Salts> {
    let mut salts = [0; 8];
    log.read_exact_at(&mut salts, 16).ok().map(|()| salts)
}

/// The salts of the log at that path if there is a page in it that SQLite would read. No file, an empty one, and one whose
/// checksums are wrong hold none.
pub(super) fn salts_of_a_log_in_use(path: &Path) -> io::Result<Option<Salts>> {
    let log = match File::open(path) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut header = [0; LOG_HEADER_BYTES];
    if !is_whole(log.read_exact_at(&mut header, 0))? {
        return Ok(None);
    }
    let order = match number(&header, 0) {
        LOG_MAGIC => u32::from_le_bytes,
        magic if magic == LOG_MAGIC | 1 => u32::from_be_bytes,
        _ => return Ok(None),
    };
    let Some(page_bytes) = page_bytes(number(&header, 8)) else {
        return Ok(None);
    };
    let (covered, _) = header.split_at(24);
    let sum = checksum(order, (0, 0), covered);
    if sum != (number(&header, 24), number(&header, 28)) {
        return Ok(None);
    }
    let mut frame = vec![0; FRAME_HEADER_BYTES + page_bytes];
    if !is_whole(log.read_exact_at(&mut frame, LOG_HEADER_BYTES as u64))? {
        return Ok(None);
    }
    let (head, page) = frame.split_at(FRAME_HEADER_BYTES);
    let sum = checksum(
        order,
        checksum(order, sum, head.get(..8).unwrap_or_default()),
        page,
    );
    let is_valid = head.get(8..16) == header.get(16..24) && sum == (number(head, 16), number(head, 20));
    Ok(is_valid.then(|| salts(&log)).flatten())
}

/// Whether all that was to be read was there.
fn is_whole(read: io::Result<()>) -> io::Result<bool> {
    match read {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The sum over a log's bytes that the format defines.
fn checksum(order: fn([u8; 4]) -> u32, start: (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let mut words = bytes
        .chunks_exact(4)
        .map(|word| order(word.try_into().unwrap_or_default()));
    let (mut a, mut b) = start;
    while let (Some(even), Some(odd)) = (words.next(), words.next()) {
        a = a.wrapping_add(even).wrapping_add(b);
        b = b.wrapping_add(odd).wrapping_add(a);
    }
    (a, b)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let field = bytes.get(at..at + 4).and_then(|field| field.try_into().ok());
    field.map_or(0, u32::from_be_bytes)
}

fn page_bytes(number: u32) -> Option<usize> {
    let bytes = usize::try_from(number).ok()?;
    (PAGE_BYTES.contains(&bytes) && bytes.is_power_of_two()).then_some(bytes)
}

/// Whether the rollback journal beside a database, if there is one that SQLite would play back, can be one of this program's
/// making. It makes them only when it switches a database to the write-ahead log: such a journal holds the first page alone, as
/// it is but for the mode and the counters.
pub(super) fn journal_is_ours(file: &Path) -> io::Result<bool> {
    let journal = match File::open(beside(file, "-journal")) {
        Ok(journal) => journal,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut header = [0; 28];
    if !is_whole(journal.read_exact_at(&mut header, 0))? || !header.starts_with(&JOURNAL_MAGIC) {
        // SQLite plays nothing back from it.
        return Ok(true);
    }
    let (pages_before, sector_bytes) = (number(&header, 16), u64::from(number(&header, 20)));
    let Some(page_bytes) = page_bytes(number(&header, 24)) else {
        return Ok(true);
    };
    let database = match opened(file) {
        Ok(database) => database,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let (database_bytes, record_bytes) = (database.metadata()?.len(), page_bytes as u64 + 8);
    let records = journal.metadata()?.len().saturating_sub(sector_bytes) / record_bytes;
    if records == 0 {
        // The making of a new database: it had no page before, and has at most its first one now.
        return Ok(pages_before > 0 || database_bytes <= page_bytes as u64);
    }
    let (mut record, mut page) = (vec![0; page_bytes + 4], vec![0; page_bytes]);
    journal.read_exact_at(&mut record, sector_bytes)?;
    let is_same = is_whole(database.read_exact_at(&mut page, 0))?
        && number(&record, 0) == 1
        && first_pages_match(record.get(4..).unwrap_or_default(), &page);
    Ok(records == 1 && is_same && u64::from(pages_before) == database_bytes / page_bytes as u64)
}

/// Whether two first pages differ in nothing but the mode and what changes with every transaction.
fn first_pages_match(one: &[u8], other: &[u8]) -> bool {
    let may_differ = |at: usize| matches!(at, 18..20 | 24..28 | 92..100);
    one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .enumerate()
            .all(|(at, (one, other))| one == other || may_differ(at))
}
