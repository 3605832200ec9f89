//! Lightweight transactions (LWT): compare and set by version, and finding out what became of one whose answer was lost.
//!
//! Every such write carries a version of its own, unique by its nonce, and the condition that the row still has the
//! version it is based on. So the same statement may be sent again without harm: once it was applied, its condition
//! never holds again. What a lost answer hides is therefore found out by a serial read of the row:
//! - the row has our version: applied;
//! - the row has our base still: not applied yet. It may be later, by a coordinator that is still at work, so this is
//!   no proof that it never will be: the same statement is sent again, which settles it either way;
//! - the row has another version, and ours is among its predecessors: applied, and overwritten since;
//! - the row has another version, and our base is among its predecessors, but ours is not: not applied, and never
//!   will be;
//! - anything else: too many writes came after, nobody can tell: the outcome is unknown.
//!
//! For that a row keeps its predecessors: those of the last [`HISTORY_KEPT`], which a lost answer may still be asked
//! about, within [`HISTORY_MIN`] and [`HISTORY_MAX`].
//!
//! The driver must never repeat such a statement by itself: it would take "not applied" of its second attempt for the
//! answer, when the first one was applied. So these statements run without a retry policy and without speculation.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use scylla::client::session::Session;
use scylla::deserialize::row::{ColumnIterator, DeserializeRow};
use scylla::deserialize::value::DeserializeValue;
use scylla::deserialize::{DeserializationError, TypeCheckError};
use scylla::errors::{DbError, ExecutionError, RequestAttemptError};
use scylla::frame::response::result::ColumnSpec;
use scylla::response::query_result::QueryResult;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use crate::domain::{Version, WriteStamp};
use crate::store::StoreErrorKind;

/// How often one write is sent, and asked for, before its outcome counts as unknown. At 3 s each the operation's own
/// bound of 10 s comes first; the count is for errors that come at once.
const ATTEMPTS_MAX: u32 = 5;

/// Predecessors that a row keeps however old they are, 128 bytes: what is left when the clocks of instances differ by more
/// than [`HISTORY_KEPT`].
const HISTORY_MIN: usize = 8;

/// Most predecessors that a row keeps: 2 KiB. An answer takes up to 3 s to count as lost, and in that time the other
/// instances may write a row a hundred times; writes of one instance go one after the other.
const HISTORY_MAX: usize = 128;

/// How long a predecessor is kept after it was written over: longer than an operation may take. So only rows that are
/// written all the time have long histories.
const HISTORY_KEPT: Duration = super::OPERATION_TIMEOUT.saturating_add(Duration::from_secs(5));

/// Pause before asking what became of a write: a coordinator that just lost a replica needs a moment.
const PAUSE: Duration = Duration::from_millis(100);

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why an operation has no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: StoreErrorKind,
    pub(super) source: Source,
}

impl Failure {
    pub(super) fn internal(source: impl Into<Source>) -> Self {
        Self {
            kind: StoreErrorKind::Internal,
            source: source.into(),
        }
    }

    pub(super) fn unavailable(source: impl Into<Source>) -> Self {
        Self {
            kind: StoreErrorKind::Unavailable,
            source: source.into(),
        }
    }

    pub(super) fn unknown(source: impl Into<Source>) -> Self {
        Self {
            kind: StoreErrorKind::UnknownOutcome,
            source: source.into(),
        }
    }

    /// A query that failed, and that wrote nothing a caller could see.
    pub(super) fn of_query(error: ExecutionError) -> Self {
        match is_refusal(&error) {
            true => Self::internal(error),
            false => Self::unavailable(error),
        }
    }
}

/// Whether the statement itself is at fault: it would fail again.
fn is_refusal(error: &ExecutionError) -> bool {
    match error {
        ExecutionError::BadQuery(_) | ExecutionError::PrepareError(_) => true,
        ExecutionError::LastAttemptError(RequestAttemptError::DbError(error, _)) => matches!(
            error,
            DbError::SyntaxError | DbError::Invalid | DbError::Unauthorized | DbError::ConfigError
        ),
        ExecutionError::LastAttemptError(
            RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_),
        ) => true,
        _ => false,
    }
}

/// Whether the statement certainly never reached a coordinator.
fn is_unsent(error: &ExecutionError) -> bool {
    matches!(
        error,
        ExecutionError::EmptyPlan
            | ExecutionError::ConnectionPoolError(_)
            | ExecutionError::LastAttemptError(RequestAttemptError::UnableToAllocStreamId)
    )
}

/// Remembers whether an operation has sent a write whose outcome is open; it decides what a cut-off means.
#[derive(Default)]
pub(super) struct Progress(AtomicBool);

impl Progress {
    pub(super) fn open(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn close(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_open(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The versions that a row had before the present one, newest first; where there was none, [`NO_VERSION`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct History(Vec<[u8; 16]>);

/// Stands for "there was no row". No write has this version: its clock would have to stand at 1970.
const NO_VERSION: [u8; 16] = [0; 16];

impl History {
    /// The history of a row whose present version is `version`; that of a missing row is empty.
    pub(super) fn read(previous: Option<&[u8]>) -> Self {
        let (versions, _) = previous.unwrap_or_default().as_chunks::<16>();
        Self(versions.to_vec())
    }

    /// What the write `next` on top of `base` stores as its history, as bytes.
    fn after(&self, base: Option<Version>, next: Version) -> Vec<u8> {
        let base = base.map_or(NO_VERSION, Version::to_bytes);
        let all = || std::iter::once(&base).chain(&self.0);
        let next_bytes = next.to_bytes();
        // Each was written over by the one before it, the first one by `next`; clocks only grow from version to version.
        let written_over_by = std::iter::once(&next_bytes).chain(all());
        let kept_micros = i64::try_from(HISTORY_KEPT.as_micros()).unwrap_or(i64::MAX);
        let recently = written_over_by.map_while(|by| {
            let age_micros = next.clock_micros() - Version::from_bytes(*by).clock_micros();
            (age_micros <= kept_micros).then_some(())
        });
        let kept = recently.take(HISTORY_MAX).count().max(HISTORY_MIN);
        all().take(kept).flatten().copied().collect()
    }

    fn holds(&self, version: Option<Version>) -> bool {
        self.0.contains(&version.map_or(NO_VERSION, Version::to_bytes))
    }
}

/// What a write goes on top of; the default is no row.
#[derive(Debug, Clone, Default)]
pub(super) struct Base {
    /// `None`: there is no row.
    pub(super) version: Option<Version>,
    pub(super) history: History,
}

impl Base {
    /// The version of a write on top.
    pub(super) fn next(&self, stamp: WriteStamp) -> Version {
        self.version
            .map_or_else(|| Version::first(stamp), |version| version.next(stamp))
    }

    /// What the write `next` on top stores as its history, as bytes.
    pub(super) fn history_of_next(&self, next: Version) -> Vec<u8> {
        self.history.after(self.version, next)
    }
}

/// A row that changes by compare and set, as far as this module cares.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub(super) version: Version,
    pub(super) history: History,
}

/// What became of a compare and set.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CasEnd {
    /// Ours was written.
    Applied,
    /// The row had another version; ours was not written and never will be. Read it again.
    Changed,
}

/// One compare and set: the statement's condition is that the row's version is `base` (`None`: there is none).
pub(super) struct Cas<'a, V> {
    pub(super) statement: &'a PreparedStatement,
    pub(super) values: V,
    pub(super) base: Option<Version>,
    pub(super) ours: Version,
    /// A serial read of `version, previous`, with its values.
    pub(super) chain: (&'a PreparedStatement, ChainKey<'a>),
}

/// The key of a row that changes by compare and set.
#[derive(Debug, Clone, Copy)]
pub(super) enum ChainKey<'a> {
    Document(uuid::Uuid, &'a str),
    Collection(&'a str, &'a str),
}

/// Runs one compare and set until its outcome is known, or can't be found out.
pub(super) async fn compare_and_set<V: SerializeRow>(
    session: &Session,
    progress: &Progress,
    cas: Cas<'_, V>,
) -> Result<CasEnd, Failure> {
    let mut open: Option<Failure> = None;
    for _ in 0..ATTEMPTS_MAX {
        progress.open();
        match execute_lwt(session, cas.statement, &cas.values).await {
            Ok(true) => return Ok(CasEnd::Applied),
            Ok(false) => {
                // Not necessarily somebody else's version: a coordinator may have lost its own proposal to another
                // one that finished it, and then found its own value there.
            }
            Err(LwtError::NotSent(error)) if open.is_none() => {
                progress.close();
                return Err(Failure::of_query(error));
            }
            Err(LwtError::NotSent(error)) => open = Some(Failure::unknown(error)),
            Err(LwtError::Lost(error)) => {
                tracing::debug!(error = %error, "the answer of a conditional write was lost; asking for it");
                open = Some(Failure::unknown(error));
                tokio::time::sleep(PAUSE).await;
            }
        }
        let chain = match read_chain(session, cas.chain).await {
            Ok(chain) => chain,
            Err(failure) => {
                tracing::debug!(error = %failure.source, "a serial read for a conditional write failed");
                if open.is_none() {
                    // Refused by its condition, and by the protocol that is final.
                    progress.close();
                    return Ok(CasEnd::Changed);
                }
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let answer = if open.is_some() {
            Answer::Lost
        } else {
            Answer::Refused
        };
        match settle(chain, cas.base, cas.ours, answer) {
            Settled::Applied => return Ok(CasEnd::Applied),
            Settled::Changed => {
                progress.close();
                return Ok(CasEnd::Changed);
            }
            Settled::SendAgain => {}
            Settled::Unknown => break,
        }
    }
    Err(open.unwrap_or_else(|| Failure::unavailable("the row keeps changing")))
}

#[derive(Debug, PartialEq, Eq)]
enum Settled {
    Applied,
    Changed,
    SendAgain,
    Unknown,
}

/// What became of the answers to our write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// One was lost: the write may have been carried out.
    Lost,
    /// None was lost, and the last one says that the condition did not hold.
    Refused,
}

/// What a serial read shows about our write; the cases stand at the module's top.
fn settle(row: Option<Chain>, base: Option<Version>, ours: Version, answer: Answer) -> Settled {
    let (current, history) = match row {
        Some(row) => (Some(row.version), row.history),
        None => (None, History::default()),
    };
    if current == Some(ours) || history.holds(Some(ours)) {
        return Settled::Applied;
    }
    if current == base {
        return Settled::SendAgain;
    }
    if answer == Answer::Refused || history.holds(base) {
        return Settled::Changed;
    }
    Settled::Unknown
}

async fn read_chain(
    session: &Session,
    (statement, key): (&PreparedStatement, ChainKey<'_>),
) -> Result<Option<Chain>, Failure> {
    let answer = match key {
        ChainKey::Document(collection, id) => session.execute_unpaged(statement, (collection, id)).await,
        ChainKey::Collection(space, name) => session.execute_unpaged(statement, (space, name)).await,
    };
    let row = first_row::<(Option<Vec<u8>>, Option<Vec<u8>>)>(answer.map_err(Failure::of_query)?)?;
    let Some((Some(version), previous)) = row else {
        return Ok(None);
    };
    Ok(Some(Chain {
        version: version_of(&version)?,
        history: History::read(previous.as_deref()),
    }))
}

/// Why a lightweight transaction has no answer.
pub(super) enum LwtError {
    /// It certainly did not happen.
    NotSent(ExecutionError),
    /// It may have happened.
    Lost(ExecutionError),
}

/// Sends one lightweight transaction once; true if it was applied.
pub(super) async fn execute_lwt(
    session: &Session,
    statement: &PreparedStatement,
    values: impl SerializeRow,
) -> Result<bool, LwtError> {
    let result = session.execute_unpaged(statement, values).await;
    let result = result.map_err(|error| match is_unsent(&error) || is_refusal(&error) {
        true => LwtError::NotSent(error),
        false => LwtError::Lost(error),
    })?;
    // An answer that can't be read is not an answer.
    let applied = first_row::<Applied>(result).ok().flatten();
    applied.map(|applied| applied.0).ok_or_else(|| {
        let unreadable =
            RequestAttemptError::UnexpectedResponse(scylla::frame::response::CqlResponseKind::Result);
        LwtError::Lost(unreadable.into())
    })
}

/// The first row of an answer, if it has one.
pub(super) fn first_row<R>(result: QueryResult) -> Result<Option<R>, Failure>
where
    R: for<'frame, 'metadata> DeserializeRow<'frame, 'metadata>,
{
    result
        .into_rows_result()
        .map_err(Failure::internal)?
        .maybe_first_row::<R>()
        .map_err(Failure::internal)
}

/// Reads 16 bytes as a version.
pub(super) fn version_of(bytes: &[u8]) -> Result<Version, Failure> {
    let bytes = <[u8; 16]>::try_from(bytes)
        .map_err(|_| Failure::internal("a stored version is not 16 bytes long"))?;
    Ok(Version::from_bytes(bytes))
}

/// The column `[applied]`, which comes first; the others depend on the outcome and on the database.
struct Applied(bool);

impl<'frame, 'metadata> DeserializeRow<'frame, 'metadata> for Applied {
    fn type_check(_: &[ColumnSpec<'_>]) -> Result<(), TypeCheckError> {
        Ok(())
    }

    fn deserialize(mut row: ColumnIterator<'frame, 'metadata>) -> Result<Self, DeserializationError> {
        let column = row
            .next()
            .ok_or_else(|| DeserializationError::new(std::io::Error::other("no [applied] column")))??;
        <bool as DeserializeValue<'_, '_>>::deserialize(column.spec.typ(), column.slice).map(Applied)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn version(nonce: u64) -> Version {
        Version::first(WriteStamp {
            now: Timestamp(1),
            nonce,
        })
    }

    fn row(version_nonce: u64, previous: &[Option<u64>]) -> Option<Chain> {
        let mut history = History::default();
        for nonce in previous.iter().rev() {
            history = History::read(Some(&history.after(nonce.map(version), version(version_nonce))));
        }
        Some(Chain {
            version: version(version_nonce),
            history,
        })
    }

    /// Versions: 1 the base, 2 ours, 3 and above others'.
    #[test]
    fn settles_a_lost_update() {
        let settle = |row| settle(row, Some(version(1)), version(2), Answer::Lost);
        assert_eq!(settle(row(2, &[Some(1), None])), Settled::Applied);
        assert_eq!(settle(row(4, &[Some(3), Some(2), Some(1)])), Settled::Applied);
        assert_eq!(settle(row(1, &[None])), Settled::SendAgain);
        assert_eq!(settle(row(4, &[Some(3), Some(1)])), Settled::Changed);
        assert_eq!(settle(row(5, &[Some(4), Some(3)])), Settled::Unknown);
        assert_eq!(settle(None), Settled::Unknown);
    }

    #[test]
    fn settles_a_lost_create() {
        let settle = |row| settle(row, None, version(2), Answer::Lost);
        assert_eq!(settle(row(2, &[None])), Settled::Applied);
        assert_eq!(settle(row(3, &[Some(2), None])), Settled::Applied);
        assert_eq!(settle(None), Settled::SendAgain);
        assert_eq!(settle(row(4, &[Some(3), None])), Settled::Changed);
        assert_eq!(settle(row(4, &[Some(3)])), Settled::Unknown);
    }

    /// The history after so many writes, one every `apart_micros`; nonces count from 0.
    fn history_of(writes: u64, apart_micros: u64) -> History {
        let at = |n: u64| {
            Version::first(WriteStamp {
                now: Timestamp(i64::try_from(1_000_000_000 + n * apart_micros).unwrap()),
                nonce: n,
            })
        };
        let mut history = History::default();
        for n in 0..writes {
            history = History::read(Some(&history.after(n.checked_sub(1).map(at), at(n))));
        }
        history
    }

    fn nonces(history: &History) -> Vec<u64> {
        let nonce = |bytes: &[u8; 16]| u64::from_be_bytes(*bytes.last_chunk().unwrap());
        history.0.iter().map(nonce).collect()
    }

    #[test]
    fn a_row_written_rarely_keeps_a_few_predecessors() {
        assert_eq!(
            nonces(&history_of(20, 60_000_000)),
            [18, 17, 16, 15, 14, 13, 12, 11]
        );
        assert_eq!(history_of(2, 60_000_000).0.last(), Some(&NO_VERSION));
    }

    #[test]
    fn a_row_written_all_the_time_keeps_what_was_written_over_of_late() {
        // A write a second: number 99 wrote over 98; 15 s before it, 84 wrote over 83.
        let kept: Vec<u64> = (83..=98).rev().collect();
        assert_eq!(nonces(&history_of(100, 1_000_000)), kept);
    }

    #[test]
    fn a_history_is_bounded() {
        assert_eq!(history_of(500, 1_000).0.len(), HISTORY_MAX);
        assert_eq!(nonces(&history_of(500, 1_000)).first(), Some(&498));
    }

    #[test]
    fn a_predecessor_that_was_old_when_it_was_written_over_is_kept() {
        let an_hour_later = |nonce| WriteStamp {
            now: Timestamp(3_600_000_000),
            nonce,
        };
        let old = version(1);
        let mut history = History::default();
        let mut base = old;
        for nonce in 2..32 {
            let next = base.next(an_hour_later(nonce));
            history = History::read(Some(&history.after(Some(base), next)));
            base = next;
        }
        assert!(history.holds(Some(old)));
    }

    #[test]
    fn believes_a_refusal_except_of_its_own_version() {
        let settle = |row| settle(row, Some(version(1)), version(2), Answer::Refused);
        assert_eq!(settle(row(2, &[Some(1)])), Settled::Applied);
        assert_eq!(settle(row(4, &[Some(3)])), Settled::Changed);
        assert_eq!(settle(None), Settled::Changed);
    }
}
