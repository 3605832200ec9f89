//! Which store a URL names, and opening it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::Store;
use super::cassandra::CassandraStore;
use super::cassandra::tls::ClusterTls;
use super::sqlite::SqliteStore;
use super::sqlite::beside::suffix_of;

/// CQL's port, where the URL names none.
const CQL_PORT: u16 = 9042;

/// Longest keyspace name that Cassandra takes.
const KEYSPACE_CHARS_MAX: usize = 48;

/// Where the documents are: `sqlite:FILE` or `cassandra://HOST[:PORT],HOST/KEYSPACE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// An SQLite file; made when it is missing.
    Sqlite {
        /// Path of the file; its folder must exist.
        file: PathBuf,
    },
    /// A keyspace of a Cassandra or ScyllaDB cluster; made when it is missing.
    Cassandra {
        /// `host:port` of at least one node; the driver finds the others.
        contact_points: Vec<String>,
        /// The keyspace: a letter, then letters, digits and `_`; lower case.
        keyspace: String,
    },
}

/// Why a text is not a store's URL. `Display` is fit to be shown to the operator; it quotes nothing of the text, which may
/// hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStoreUrl {
    /// Neither of the two schemes.
    #[error("must be sqlite:FILE or cassandra://HOST[:PORT],HOST/KEYSPACE")]
    Scheme,
    /// `sqlite:` alone, or a database that lives in memory only.
    #[error("sqlite: needs the path of a file")]
    NoFile,
    /// `sqlite://`: where a path begins is anybody's guess.
    #[error(
        "sqlite: takes a path, without // before it: sqlite:/data/tide.db for an absolute path, sqlite:tide.db for one from the \
         working directory"
    )]
    SqliteUrl,
    /// SQLite's own kind of URI, or parameters.
    #[error(
        "sqlite: takes the path of a file, not a URI of SQLite: without file: before it and without ? and parameters after it"
    )]
    SqliteUri,
    /// The name of another database's log.
    #[error(
        "sqlite: must not name a file that ends with -wal, -shm or -journal: SQLite keeps its own beside a database"
    )]
    SqliteLog,
    /// A path with a line break or the like.
    #[error("must not hold control characters")]
    Control,
    /// No host, or an empty one between commas.
    #[error("cassandra:// needs at least one host, separated by commas")]
    NoHost,
    /// A port that is not one.
    #[error("a port must be a number from 1 to 65535")]
    Port,
    /// A user or password before the hosts, where they would be shown.
    #[error(
        "must not hold a user or a password: give them as cassandra.username and cassandra.password_file"
    )]
    UserInfo,
    /// The part after the slash.
    #[error(
        "the keyspace must be 1 to {KEYSPACE_CHARS_MAX} characters of a-z 0-9 _, beginning with a letter"
    )]
    Keyspace,
}

impl FromStr for StoreUrl {
    type Err = InvalidStoreUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().any(char::is_control) {
            return Err(InvalidStoreUrl::Control);
        }
        if let Some(file) = text.strip_prefix("sqlite:") {
            // SQLite gives "" and ":memory:" meanings of their own; both would lose every document.
            if file.is_empty() || file == ":memory:" {
                return Err(InvalidStoreUrl::NoFile);
            }
            return checked_path(file).map(|file| Self::Sqlite { file });
        }
        let rest = text.strip_prefix("cassandra://").ok_or(InvalidStoreUrl::Scheme)?;
        if rest.contains('@') {
            return Err(InvalidStoreUrl::UserInfo);
        }
        let (hosts, keyspace) = rest.split_once('/').unwrap_or((rest, ""));
        Ok(Self::Cassandra {
            contact_points: hosts.split(',').map(contact_point).collect::<Result<_, _>>()?,
            keyspace: checked_keyspace(keyspace)?,
        })
    }
}

/// The path of a database, unless it looks like something else that would be taken for one.
fn checked_path(text: &str) -> Result<PathBuf, InvalidStoreUrl> {
    if text.starts_with("//") {
        return Err(InvalidStoreUrl::SqliteUrl);
    }
    if text.starts_with("file:") || text.contains('?') {
        return Err(InvalidStoreUrl::SqliteUri);
    }
    let file = PathBuf::from(text);
    match suffix_of(&file) {
        Some(_) => Err(InvalidStoreUrl::SqliteLog),
        None => Ok(file),
    }
}

fn contact_point(text: &str) -> Result<String, InvalidStoreUrl> {
    // An IPv6 address has colons of its own, so its port needs the brackets.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    if host.is_empty() || host.contains(['?', ' ']) {
        return Err(InvalidStoreUrl::NoHost);
    }
    let port = match port {
        None => CQL_PORT,
        Some(port) => match port.parse() {
            Ok(port) if port != 0 => port,
            _ => return Err(InvalidStoreUrl::Port),
        },
    };
    let host = match host.contains(':') && !host.starts_with('[') {
        true => format!("[{host}]"),
        false => host.to_owned(),
    };
    Ok(format!("{host}:{port}"))
}

fn checked_keyspace(text: &str) -> Result<String, InvalidStoreUrl> {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let good = text.len() <= KEYSPACE_CHARS_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(letters);
    match good {
        true => Ok(text.to_owned()),
        false => Err(InvalidStoreUrl::Keyspace),
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite { file } => write!(f, "sqlite:{}", file.display()),
            Self::Cassandra {
                contact_points,
                keyspace,
            } => write!(f, "cassandra://{}/{keyspace}", contact_points.join(",")),
        }
    }
}

/// How SQLite makes a commit durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SqliteSynchronous {
    /// Every commit is on the disk before it is acknowledged: it survives a power cut.
    #[default]
    Full,
    /// A commit survives the process's end; a power cut may take the last ones, never a part of one.
    Normal,
}

/// A database's user and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The user.
    pub username: String,
    /// The password; never shown.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("username", &self.username)
            .field("password", &"[redacted]")
            .finish()
    }
}

/// What whoever opens a store is going to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OpenMode {
    /// Everything: what is missing is made, and the schema is brought up to date.
    #[default]
    Create,
    /// Change what is there: a store that does not exist is refused; the schema is brought up to date.
    Change,
    /// Look only: nothing is made and nothing is changed.
    Read,
}

/// What the operator may choose about a store; the defaults are fit for production.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// SQLite: how commits are made durable.
    pub sqlite_synchronous: SqliteSynchronous,
    /// Cassandra: replicas in each datacentre of a keyspace that is made now; `None` is min(3, nodes).
    pub replication_factor: Option<u32>,
    /// Cassandra: the datacentre to talk to; `None` is that of the first contact point.
    pub datacenter: Option<String>,
    /// Cassandra: who to log in as, where the cluster asks for it.
    pub credentials: Option<Credentials>,
    /// Cassandra: TLS to the nodes, where the cluster asks for it.
    pub cluster_tls: Option<ClusterTls>,
    /// How long to wait for a database that is down at the start.
    pub startup_wait: Duration,
    /// What is going to be done with it.
    pub mode: OpenMode,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            sqlite_synchronous: SqliteSynchronous::Full,
            replication_factor: None,
            datacenter: None,
            credentials: None,
            cluster_tls: None,
            startup_wait: Duration::from_secs(60),
            mode: OpenMode::Create,
        }
    }
}

/// Why a store could not be opened. `Display` leaves the source out.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file can't be opened or made, or is not a database of ours.
    #[error("can't open {store}: {detail}")]
    Refused {
        /// The store's URL.
        store: String,
        /// What is wrong with it.
        detail: String,
        /// What the driver said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The database did not answer within [`OpenOptions::startup_wait`].
    #[error("{store} did not become usable within {waited_secs} s")]
    Unreachable {
        /// The store's URL.
        store: String,
        /// How long was waited.
        waited_secs: u64,
        /// The error of the last attempt that came to an end.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A newer program has migrated the schema already.
    #[error(
        "{store} has schema version {found}, this program knows versions up to {known}: use a newer program"
    )]
    SchemaTooNew {
        /// The store's URL.
        store: String,
        /// Version in the database.
        found: u32,
        /// Newest version of this program.
        known: u32,
    },
}

/// Opens the store that `url` names, waits for a database that is down, and, unless it is only to be read, brings its
/// schema up to date.
///
/// Any number of instances may do so at the same time.
///
/// # Errors
/// [`OpenError`] says whether the database or its schema is at fault.
pub async fn open(url: &StoreUrl, options: OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    match url {
        StoreUrl::Sqlite { file } => Ok(Arc::new(SqliteStore::open(file, &options).await?)),
        StoreUrl::Cassandra {
            contact_points,
            keyspace,
        } => Ok(Arc::new(
            CassandraStore::open(&url.to_string(), contact_points, keyspace, &options).await?,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_schemes() {
        let url: StoreUrl = "sqlite:data/tide.db".parse().unwrap();
        assert_eq!(
            url,
            StoreUrl::Sqlite {
                file: "data/tide.db".into()
            }
        );
        let url: StoreUrl = "cassandra://10.0.0.1,db-2:9142,[::1]:9043/tide_1"
            .parse()
            .unwrap();
        let expected = ["10.0.0.1:9042", "db-2:9142", "[::1]:9043"];
        assert_eq!(
            url,
            StoreUrl::Cassandra {
                contact_points: expected.map(str::to_owned).to_vec(),
                keyspace: "tide_1".to_owned()
            }
        );
        assert_eq!(url.to_string().parse::<StoreUrl>().unwrap(), url);
    }

    #[test]
    fn a_password_is_never_shown() {
        let options = OpenOptions {
            credentials: Some(Credentials {
                username: "tide".to_owned(),
                password: "sesame".to_owned(),
            }),
            ..OpenOptions::default()
        };
        let shown = format!("{options:?}");
        assert!(shown.contains("tide") && shown.contains("[redacted]") && !shown.contains("sesame"));
    }

    #[test]
    fn refuses_what_does_not_name_a_store() {
        let error = |text: &str| text.parse::<StoreUrl>().unwrap_err();
        for text in ["", "tide.db", "postgres://x/y", "sqlite", "SQLITE:x"] {
            assert_eq!(error(text), InvalidStoreUrl::Scheme, "{text}");
        }
        for text in ["sqlite:", "sqlite::memory:"] {
            assert_eq!(error(text), InvalidStoreUrl::NoFile, "{text}");
        }
        for (texts, expected) in [
            (
                &["sqlite://tide.db", "sqlite:///data/tide.db", "sqlite:////x"][..],
                InvalidStoreUrl::SqliteUrl,
            ),
            (
                &[
                    "sqlite:file:tide.db",
                    "sqlite:file:x?mode=memory",
                    "sqlite:tide.db?mode=ro",
                ],
                InvalidStoreUrl::SqliteUri,
            ),
            (
                &["sqlite:tide.db-wal", "sqlite:a/x-shm", "sqlite:x-journal"],
                InvalidStoreUrl::SqliteLog,
            ),
            (
                &["sqlite:a\nb.db", "sqlite:\u{1b}[31m.db", "cassandra://h/k\n"],
                InvalidStoreUrl::Control,
            ),
        ] {
            for text in texts {
                assert_eq!(error(text), expected, "{text:?}");
            }
        }
        for text in [
            "sqlite:./file:x",
            "sqlite:a/file:x",
            "sqlite:wal",
            "sqlite:x.db-wal.db",
        ] {
            assert!(text.parse::<StoreUrl>().is_ok(), "{text}");
        }
        for text in [
            "cassandra://u@h/k",
            "cassandra://u:p@h/k",
            "cassandra://u:p/w@h/k",
        ] {
            assert_eq!(error(text), InvalidStoreUrl::UserInfo, "{text}");
        }
        for text in ["cassandra:///k", "cassandra://a,,b/k", "cassandra://a?b/k"] {
            assert_eq!(error(text), InvalidStoreUrl::NoHost, "{text}");
        }
        for text in ["cassandra://a:0/k", "cassandra://a:x/k", "cassandra://a:99999/k"] {
            assert_eq!(error(text), InvalidStoreUrl::Port, "{text}");
        }
        for text in [
            "cassandra://a",
            "cassandra://a/",
            "cassandra://a/K",
            "cassandra://a/1k",
            "cassandra://a/k/l",
        ] {
            assert_eq!(error(text), InvalidStoreUrl::Keyspace, "{text}");
        }
    }
}
