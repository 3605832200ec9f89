//! Keys and the cluster's secret: rows that are made once, by a lightweight transaction.

use std::time::Duration;

use rand::RngCore;
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;

use super::cas::{Failure, LwtError, Progress, execute_lwt, first_row};
use super::{CassandraStore, SPACE};
use crate::domain::Timestamp;
use crate::store::{AccessOpen, KeyCreate, KeyRecord};

/// How often a write is sent whose answer was lost. At 3 s each the operation's bound of 10 s comes first.
const ATTEMPTS_MAX: u32 = 5;

/// Pause before such a write is asked for.
const PAUSE: Duration = Duration::from_millis(100);

impl CassandraStore {
    /// Reads the secret; makes it if nobody has.
    #[expect(clippy::disallowed_methods, reason = "the cluster's secret is random")]
    pub(super) async fn secret(&self) -> Result<[u8; 32], Failure> {
        for _ in 0..ATTEMPTS_MAX {
            let answer = self
                .session
                .execute_unpaged(&self.statements.secret_read, ())
                .await;
            let row = first_row::<(Option<Vec<u8>>,)>(answer.map_err(Failure::of_query)?)?;
            if let Some((Some(secret),)) = row {
                return <[u8; 32]>::try_from(secret)
                    .map_err(|_| Failure::internal("the cluster's secret is not 32 bytes long"));
            }
            let mut secret = [0; 32];
            rand::rng().fill_bytes(&mut secret);
            // Whoever wins, the next read shows it.
            match execute_lwt(&self.session, &self.statements.secret_make, (secret,)).await {
                Ok(_) => {}
                Err(LwtError::NotSent(error)) => return Err(Failure::of_query(error)),
                Err(LwtError::Lost(_)) => tokio::time::sleep(PAUSE).await,
            }
        }
        Err(Failure::unavailable("the cluster's secret can't be made"))
    }

    /// Keys that there are count as well: a program from before the marker has made them without it.
    pub(super) async fn is_closed(&self) -> Result<bool, Failure> {
        let answer = self
            .session
            .execute_unpaged(&self.statements.closed_read, ())
            .await;
        let row = first_row::<(String,)>(answer.map_err(Failure::of_query)?)?;
        Ok(row.is_some() || !self.list_keys().await?.is_empty())
    }

    pub(super) async fn close_access(&self, progress: &Progress) -> Result<(), Failure> {
        let made = self
            .settle(progress, &self.statements.closed_make, (vec![1_u8],))
            .await;
        made.map(|_| ())
    }

    pub(super) async fn open_access(&self, progress: &Progress) -> Result<AccessOpen, Failure> {
        if !self.list_keys().await?.is_empty() {
            return Ok(AccessOpen::HasKeys);
        }
        let dropped = self.settle(progress, &self.statements.closed_drop, ()).await?;
        // A key that was made meanwhile must not lose its marker.
        if !self.list_keys().await?.is_empty() {
            self.close_access(progress).await?;
            return Ok(AccessOpen::HasKeys);
        }
        Ok(match dropped {
            true => AccessOpen::Opened,
            false => AccessOpen::WasOpen,
        })
    }

    /// Sends a transaction that does no harm when it is repeated until it is answered: whether it changed something.
    async fn settle<V: SerializeRow>(
        &self,
        progress: &Progress,
        statement: &PreparedStatement,
        values: V,
    ) -> Result<bool, Failure> {
        let mut lost = None;
        for _ in 0..ATTEMPTS_MAX {
            progress.open();
            match execute_lwt(&self.session, statement, &values).await {
                Ok(applied) => {
                    progress.close();
                    return Ok(applied || lost.is_some());
                }
                Err(LwtError::NotSent(error)) if lost.is_none() => {
                    progress.close();
                    return Err(Failure::of_query(error));
                }
                Err(LwtError::NotSent(error) | LwtError::Lost(error)) => {
                    lost = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
        Err(lost.map_or_else(|| Failure::unavailable("no answer"), Failure::unknown))
    }

    pub(super) async fn create_key(
        &self,
        progress: &Progress,
        key: &KeyRecord,
    ) -> Result<KeyCreate, Failure> {
        // First the marker: a key without one would leave the door open when it is removed.
        self.close_access(progress).await?;
        let values = (
            SPACE,
            &key.name,
            key.hash,
            &key.scopes,
            key.created_at.micros(),
            key.expires_at.map(Timestamp::micros),
        );
        let mut lost = None;
        for _ in 0..ATTEMPTS_MAX {
            progress.open();
            match execute_lwt(&self.session, &self.statements.key_make, values).await {
                Ok(true) => return Ok(KeyCreate::Created),
                Ok(false) => {}
                Err(LwtError::NotSent(error)) if lost.is_none() => {
                    progress.close();
                    return Err(Failure::of_query(error));
                }
                Err(LwtError::NotSent(error) | LwtError::Lost(error)) => {
                    lost = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
            // A key's hash is its own: nobody else can have written it.
            match self.key_hash(&key.name).await {
                Ok(Some(hash)) if hash == key.hash => return Ok(KeyCreate::Created),
                Ok(Some(_)) => return Ok(KeyCreate::NameTaken),
                Ok(None) => {}
                Err(failure) => tracing::debug!(error = %failure.source, "a serial read of a key failed"),
            }
        }
        Err(match lost {
            Some(error) => Failure::unknown(error),
            None => Failure::unavailable("others keep making and removing a key of this name"),
        })
    }

    pub(super) async fn list_keys(&self) -> Result<Vec<KeyRecord>, Failure> {
        type Row = (String, Vec<u8>, Option<Vec<String>>, i64, Option<i64>);
        let answer = self
            .session
            .execute_unpaged(&self.statements.key_list, (SPACE,))
            .await;
        let rows = answer
            .map_err(Failure::of_query)?
            .into_rows_result()
            .map_err(Failure::internal)?;
        rows.rows::<Row>()
            .map_err(Failure::internal)?
            .map(|row| {
                let (name, hash, scopes, created_at, expires_at) = row.map_err(Failure::internal)?;
                Ok(KeyRecord {
                    name,
                    hash: <[u8; 32]>::try_from(hash)
                        .map_err(|_| Failure::internal("a key's hash is not 32 bytes long"))?,
                    scopes: scopes.unwrap_or_default(),
                    created_at: Timestamp(created_at),
                    expires_at: expires_at.map(Timestamp),
                })
            })
            .collect()
    }

    pub(super) async fn delete_key(&self, progress: &Progress, name: &str) -> Result<bool, Failure> {
        let Some(hash) = self.key_hash(name).await? else {
            return Ok(false);
        };
        self.close_access(progress).await?;
        let mut lost = None;
        for _ in 0..ATTEMPTS_MAX {
            progress.open();
            match execute_lwt(
                &self.session,
                &self.statements.key_drop,
                (SPACE, name, hash.as_slice()),
            )
            .await
            {
                // Not applied: somebody else has removed this very key meanwhile, or an earlier attempt of ours did.
                Ok(_) => return Ok(true),
                Err(LwtError::NotSent(error)) if lost.is_none() => {
                    progress.close();
                    return Err(Failure::of_query(error));
                }
                Err(LwtError::NotSent(error) | LwtError::Lost(error)) => {
                    lost = Some(error);
                    tokio::time::sleep(PAUSE).await;
                }
            }
            match self.key_hash(name).await {
                Ok(Some(found)) if found == hash => {}
                Ok(_) => return Ok(true),
                Err(failure) => tracing::debug!(error = %failure.source, "a serial read of a key failed"),
            }
        }
        Err(match lost {
            Some(error) => Failure::unknown(error),
            None => Failure::unavailable("the key could not be removed"),
        })
    }

    async fn key_hash(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        let answer = self
            .session
            .execute_unpaged(&self.statements.key_read, (SPACE, name))
            .await;
        let row = first_row::<(Option<Vec<u8>>,)>(answer.map_err(Failure::of_query)?)?;
        Ok(row.and_then(|(hash,)| hash))
    }
}
