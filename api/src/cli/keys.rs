//! `keys create`, `list`, `revoke` and `open`.

use std::sync::Arc;

use serde::Serialize;

use tidepool_logging::chain;

use super::{Failure, KeysCommand, block_on, flags, install_logging, load, print};
use crate::config::{Problem, StoreConfig};
use crate::domain::{Scope, Timestamp, redact};
use crate::keys::{key_hash, key_text};
use crate::run::{now, open_store};
use crate::store::{AccessOpen, KeyCreate, KeyRecord, OpenMode, Store, StoreErrorKind};

/// Longest name of a key, in characters.
const NAME_CHARS_MAX: usize = 128;

/// Most scopes of one key: each is tried on each request.
const SCOPES_MAX: usize = 64;

#[expect(
    clippy::disallowed_methods,
    reason = "a key is made of random bits, and nothing about it is tested by value"
)]
pub(super) fn run(command: KeysCommand) -> Result<(), Failure> {
    match command {
        KeysCommand::Create {
            store,
            name,
            scopes,
            expires_at,
        } => {
            let text = key_text(rand::random());
            let record = checked_record(&text, &name, &scopes, expires_at.as_deref());
            // A bad scope and a bad store are reported together.
            let (record, config) = match (record, load(&store.0)) {
                (Ok(record), Ok(config)) => (record, config),
                (Err(mut problems), Err(Failure::Usage(more))) => {
                    problems.extend(more);
                    return Err(Failure::Usage(problems));
                }
                (Err(problems), _) => return Err(Failure::Usage(problems)),
                (_, Err(failure)) => return Err(failure),
            };
            install_logging(&config)?;
            check_output()?;
            in_store(&config.store, OpenMode::Create, async |store| {
                create(&*store, &record, &text).await
            })?;
            tracing::info!(name = %record.name, "key made; it is not shown again");
            Ok(())
        }
        KeysCommand::List { store, json } => {
            let keys = with_store(&store.0, OpenMode::Read, async |store| {
                store.key_list().await.map_err(|error| Failure::failed(&error))
            })?;
            print(&if json { as_json(&keys)? } else { as_table(&keys) })
        }
        KeysCommand::Revoke { store, name } => with_store(&store.0, OpenMode::Change, async |store| {
            match store.key_delete(&name).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::Failed(format!("there is no key named {name:?}"))),
                Err(error) => Err(Failure::failed(&error)),
            }
        }),
        KeysCommand::Open { store } => {
            with_store(&store.0, OpenMode::Change, async |store| open(&*store).await)
        }
    }
}

fn with_store<T>(
    flags: &flags::Given,
    mode: OpenMode,
    work: impl AsyncFnOnce(Arc<dyn Store>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let config = load(flags)?;
    install_logging(&config)?;
    in_store(&config.store, mode, work)
}

fn in_store<T>(
    config: &StoreConfig,
    mode: OpenMode,
    work: impl AsyncFnOnce(Arc<dyn Store>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut config = config.clone();
    config.options.mode = mode;
    block_on(async {
        let store = open_store(&config)
            .await
            .map_err(|error| Failure::failed(&error))?;
        let done = work(Arc::clone(&store)).await?;
        if mode != OpenMode::Read {
            store.close().await.map_err(|error| Failure::failed(&error))?;
        }
        Ok(done)
    })
}

async fn open(store: &dyn Store) -> Result<(), Failure> {
    match store.access_open().await {
        Ok(AccessOpen::Opened) => {
            tracing::warn!("opened by `keys open`: the next server to start on this store needs no key");
            Ok(())
        }
        Ok(AccessOpen::WasOpen) => {
            tracing::info!("the store was open already");
            Ok(())
        }
        Ok(AccessOpen::HasKeys) => Err(Failure::Failed(
            "the store has keys, expired ones included: revoke them first (see keys list)".to_owned(),
        )),
        Err(error) => Err(Failure::failed(&error)),
    }
}

/// The key is printed before it is stored: one that nobody has would close the store, and can't be shown again.
async fn create(store: &dyn Store, record: &KeyRecord, text: &str) -> Result<(), Failure> {
    let taken = format!(
        "there is already a key named {:?}: revoke it first, or choose another name",
        record.name
    );
    let keys = store.key_list().await.map_err(|error| Failure::failed(&error))?;
    if keys.iter().any(|key| key.name == record.name) {
        return Err(Failure::Failed(taken));
    }
    tidepool_logging::print_to_somebody(&format!("{text}\n")).map_err(|error| {
        Failure::Failed(format!(
            "no key was made: it can't be shown, for standard output can't be written: {error}"
        ))
    })?;
    let not_counting = "the key that was printed does not count";
    match store.key_create(record).await {
        Ok(KeyCreate::Created) => Ok(()),
        Ok(KeyCreate::NameTaken) => Err(Failure::Failed(format!("{not_counting}: {taken}"))),
        Err(error) if error.kind == StoreErrorKind::UnknownOutcome => Err(Failure::Failed(format!(
            "whether the key that was printed counts is unknown (see keys list): {}",
            chain(&error)
        ))),
        Err(error) => Err(Failure::Failed(format!("{not_counting}: {}", chain(&error)))),
    }
}

/// Refuses to make a key where it would go to nobody: into `/dev/null`, which is also what a standard output is that was closed.
fn check_output() -> Result<(), Failure> {
    match tidepool_logging::stdout_goes_nowhere() {
        true => Err(Failure::Failed(
            "no key was made: standard output is closed or /dev/null, and a key can be shown only once"
                .to_owned(),
        )),
        false => Ok(()),
    }
}

/// The key as it will be stored, or everything that is wrong with the arguments.
fn checked_record(
    text: &str,
    name: &str,
    scopes: &[String],
    expires_at: Option<&str>,
) -> Result<KeyRecord, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut problem = |place: &str, detail: String| {
        problems.push(Problem {
            place: place.to_owned(),
            detail,
        });
    };
    let chars = name.chars().count();
    if chars == 0 || chars > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        problem(
            "--name",
            format!("must be 1 to {NAME_CHARS_MAX} printable characters, is {name:?}"),
        );
    }
    if redact(name) != name {
        problem("--name", "must not be a key's own text".to_owned());
    }
    if scopes.len() > SCOPES_MAX {
        problem(
            "--scope",
            format!("may be given at most {SCOPES_MAX} times, is {}", scopes.len()),
        );
    }
    for scope in scopes {
        if let Err(error) = Scope::parse(scope) {
            problem("--scope", format!("{scope:?} {error}"));
        }
    }
    let created_at = now();
    let expires_at = expires_at.map(|text| (text, Timestamp::parse(text)));
    let expires_at = match expires_at {
        None => None,
        Some((_, Some(time))) if time > created_at => Some(time),
        Some((text, Some(_))) => {
            problem("--expires-at", format!("{text} is past"));
            None
        }
        Some((text, None)) => {
            problem(
                "--expires-at",
                format!("must be a time such as 2030-01-01T00:00:00Z, is {text:?}"),
            );
            None
        }
    };
    if !problems.is_empty() {
        return Err(problems);
    }
    Ok(KeyRecord {
        name: name.to_owned(),
        hash: key_hash(text),
        scopes: scopes.to_vec(),
        created_at,
        expires_at,
    })
}

#[derive(Serialize)]
struct KeyJson<'a> {
    name: &'a str,
    scopes: &'a [String],
    created_at: String,
    expires_at: Option<String>,
}

fn as_json(keys: &[KeyRecord]) -> Result<String, Failure> {
    let keys: Vec<_> = keys
        .iter()
        .map(|key| KeyJson {
            name: &key.name,
            scopes: &key.scopes,
            created_at: key.created_at.to_string(),
            expires_at: key.expires_at.map(|at| at.to_string()),
        })
        .collect();
    let mut text = serde_json::to_string_pretty(&keys).map_err(|error| Failure::failed(&error))?;
    text.push('\n');
    Ok(text)
}

fn as_table(keys: &[KeyRecord]) -> String {
    let time_now = now();
    let rows = keys.iter().map(|key| {
        let expires = match key.expires_at {
            None => "never".to_owned(),
            Some(at) if at <= time_now => format!("{at} (expired)"),
            Some(at) => at.to_string(),
        };
        [
            key.name.clone(),
            key.scopes.join(" "),
            key.created_at.to_string(),
            expires,
        ]
    });
    let head = ["NAME", "SCOPES", "CREATED", "EXPIRES"].map(str::to_owned);
    let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
    let widths: [usize; 4] = std::array::from_fn(|column| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    });
    let mut text = String::new();
    for row in &rows {
        let cells = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}
