//! The servers to compare with: a bare poem handler, and poem with one prepared statement and no features.
//!
//! They are written to be as fast as they can be with the same durability: SQLite with `synchronous=FULL` and grouped
//! commits, Cassandra at `LOCAL_QUORUM`, conditional writes as LWT.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;

use anyhow::Context;
use poem::http::StatusCode;
use poem::listener::TcpListener;
use poem::web::{Data, Path};
use poem::{Body, EndpointExt, Response, Route, Server, get, handler};
use rusqlite::{Connection, OptionalExtension, params};
use scylla::client::session::Session;
use scylla::statement::prepared::PreparedStatement;
use tokio::sync::oneshot;

/// Most writes that share one commit: bounds the delay that the last of a group waits for.
const GROUP_MAX: usize = 256;
/// Rows of a list.
const LIST_ROWS: i64 = 100;

pub(crate) async fn serve(kind: &str, listen: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen);
    if kind == "bare" {
        let app = Route::new().at("/bare", get(bare));
        return Server::new(listener).run(app).await.context("serving");
    }
    if let Some(file) = kind.strip_prefix("sqlite:") {
        let app = sqlite_routes(file.into())?;
        return Server::new(listener).run(app).await.context("serving");
    }
    if let Some(hosts) = kind.strip_prefix("cassandra:") {
        let app = cassandra_routes(hosts).await?;
        return Server::new(listener).run(app).await.context("serving");
    }
    anyhow::bail!("unknown server {kind:?}: bare, sqlite:FILE or cassandra:HOSTS")
}

fn json(body: impl Into<Body>) -> Response {
    Response::builder()
        .content_type("application/json")
        .body(body.into())
}

fn status(status: StatusCode) -> Response {
    Response::builder().status(status).finish()
}

#[handler]
fn bare() -> Response {
    json(&b"{\"hello\":\"world\"}"[..])
}

// ---------------------------------------------------------------------------------------------- SQLite

struct Write {
    id: String,
    body: Vec<u8>,
    version: Option<i64>,
    answer: oneshot::Sender<bool>,
}

struct SqliteState {
    file: PathBuf,
    writer: mpsc::Sender<Write>,
}

thread_local! {
    static READER: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

fn sqlite_open(file: &PathBuf) -> anyhow::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

fn sqlite_routes(file: PathBuf) -> anyhow::Result<impl poem::Endpoint> {
    let connection = sqlite_open(&file)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS doc (id TEXT PRIMARY KEY, body BLOB NOT NULL, version INTEGER NOT NULL) WITHOUT ROWID",
    )?;
    let (writer, writes) = mpsc::channel();
    std::thread::spawn(move || sqlite_writer(connection, &writes));
    let state = Arc::new(SqliteState { file, writer });
    Ok(Route::new()
        .at(
            "/doc/:id",
            get(sqlite_read).post(sqlite_create).put(sqlite_update),
        )
        .at("/cas/:id/:version", poem::put(sqlite_cas))
        .at("/list", get(sqlite_list))
        .data(state))
}

fn sqlite_writer(mut connection: Connection, writes: &mpsc::Receiver<Write>) {
    while let Ok(first) = writes.recv() {
        let mut answers = Vec::new();
        let transaction = connection
            .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
            .unwrap();
        for write in std::iter::once(first).chain(writes.try_iter()).take(GROUP_MAX) {
            let changed = match write.version {
                None => transaction
                    .prepare_cached("INSERT OR IGNORE INTO doc (id, body, version) VALUES (?1, ?2, 1)")
                    .unwrap()
                    .execute(params![write.id, write.body]),
                Some(-1) => transaction
                    .prepare_cached("UPDATE doc SET body = ?2, version = version + 1 WHERE id = ?1")
                    .unwrap()
                    .execute(params![write.id, write.body]),
                Some(version) => transaction
                    .prepare_cached(
                        "UPDATE doc SET body = ?2, version = version + 1 WHERE id = ?1 AND version = ?3",
                    )
                    .unwrap()
                    .execute(params![write.id, write.body, version]),
            };
            answers.push((write.answer, changed.unwrap() == 1));
        }
        transaction.commit().unwrap();
        for (answer, done) in answers {
            let _ = answer.send(done);
        }
    }
}

fn with_reader<T>(state: &SqliteState, read: impl FnOnce(&Connection) -> T) -> T {
    READER.with_borrow_mut(|slot| read(slot.get_or_insert_with(|| sqlite_open(&state.file).unwrap())))
}

#[handler]
fn sqlite_read(Path(id): Path<String>, Data(state): Data<&Arc<SqliteState>>) -> Response {
    let row: Option<Vec<u8>> = with_reader(state, |connection| {
        let mut statement = connection
            .prepare_cached("SELECT body FROM doc WHERE id = ?1")
            .unwrap();
        statement.query_row([id], |row| row.get(0)).optional().unwrap()
    });
    row.map_or_else(|| status(StatusCode::NOT_FOUND), json)
}

#[handler]
fn sqlite_list(Data(state): Data<&Arc<SqliteState>>) -> Response {
    let body = with_reader(state, |connection| {
        let mut statement = connection
            .prepare_cached("SELECT body FROM doc WHERE id > '' ORDER BY id LIMIT ?1")
            .unwrap();
        let mut rows = statement.query([LIST_ROWS]).unwrap();
        let mut body = vec![b'['];
        while let Some(row) = rows.next().unwrap() {
            body.extend_from_slice(row.get_ref(0).unwrap().as_blob().unwrap());
            body.push(b',');
        }
        body.push(b']');
        body
    });
    json(body)
}

async fn sqlite_write(state: &SqliteState, id: String, body: Vec<u8>, version: Option<i64>) -> bool {
    let (answer, answered) = oneshot::channel();
    state
        .writer
        .send(Write {
            id,
            body,
            version,
            answer,
        })
        .unwrap();
    answered.await.unwrap()
}

#[handler]
async fn sqlite_create(
    Path(id): Path<String>,
    body: Vec<u8>,
    Data(state): Data<&Arc<SqliteState>>,
) -> Response {
    let done = sqlite_write(state, id, body.clone(), None).await;
    if done {
        json(body)
    } else {
        status(StatusCode::CONFLICT)
    }
}

#[handler]
async fn sqlite_update(
    Path(id): Path<String>,
    body: Vec<u8>,
    Data(state): Data<&Arc<SqliteState>>,
) -> Response {
    let done = sqlite_write(state, id, body.clone(), Some(-1)).await;
    if done {
        json(body)
    } else {
        status(StatusCode::NOT_FOUND)
    }
}

#[handler]
async fn sqlite_cas(
    Path((id, version)): Path<(String, i64)>,
    body: Vec<u8>,
    Data(state): Data<&Arc<SqliteState>>,
) -> Response {
    let done = sqlite_write(state, id, body.clone(), Some(version)).await;
    if done {
        json(body)
    } else {
        status(StatusCode::PRECONDITION_FAILED)
    }
}

// ------------------------------------------------------------------------------------------- Cassandra

pub(crate) const KEYSPACE: &str = "tidepool_bench_minimal";

/// The statements that the minimal server and the raw driver share.
pub(crate) struct CassandraState {
    pub(crate) session: Session,
    pub(crate) read: PreparedStatement,
    pub(crate) insert: PreparedStatement,
    pub(crate) insert_lwt: PreparedStatement,
    pub(crate) cas: PreparedStatement,
    list: PreparedStatement,
    list_insert: PreparedStatement,
}

pub(crate) async fn cassandra_open(hosts: &str) -> anyhow::Result<CassandraState> {
    use scylla::statement::{Consistency, SerialConsistency};
    let hosts: Vec<&str> = hosts.split(',').collect();
    let session = scylla::client::session_builder::SessionBuilder::new()
        .known_nodes(&hosts)
        .build()
        .await?;
    let nodes = session.get_cluster_state().get_nodes_info().len().min(3);
    session
        .query_unpaged(
            format!(
                "CREATE KEYSPACE IF NOT EXISTS {KEYSPACE} WITH replication = \
                 {{'class': 'NetworkTopologyStrategy', 'replication_factor': {nodes}}}"
            ),
            (),
        )
        .await?;
    for table in [
        "doc (id text PRIMARY KEY, body blob, version bigint)",
        "list (part int, id text, body blob, PRIMARY KEY (part, id))",
    ] {
        session
            .query_unpaged(format!("CREATE TABLE IF NOT EXISTS {KEYSPACE}.{table}"), ())
            .await?;
    }
    session.await_schema_agreement().await?;
    let prepare = async |text: &str| -> anyhow::Result<PreparedStatement> {
        let mut statement = session.prepare(text.replace("KS", KEYSPACE)).await?;
        statement.set_consistency(Consistency::LocalQuorum);
        statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        statement.set_use_cached_result_metadata(true);
        Ok(statement)
    };
    Ok(CassandraState {
        read: prepare("SELECT body FROM KS.doc WHERE id = ?").await?,
        insert: prepare("INSERT INTO KS.doc (id, body, version) VALUES (?, ?, 1)").await?,
        insert_lwt: prepare("INSERT INTO KS.doc (id, body, version) VALUES (?, ?, 1) IF NOT EXISTS").await?,
        cas: prepare("UPDATE KS.doc SET body = ?, version = ? WHERE id = ? IF version = ?").await?,
        list: prepare("SELECT body FROM KS.list WHERE part = 0 LIMIT 100").await?,
        list_insert: prepare("INSERT INTO KS.list (part, id, body) VALUES (0, ?, ?)").await?,
        session,
    })
}

async fn cassandra_routes(hosts: &str) -> anyhow::Result<impl poem::Endpoint + use<>> {
    let state = cassandra_open(hosts).await?;
    for row in 0..LIST_ROWS {
        state
            .session
            .execute_unpaged(
                &state.list_insert,
                (format!("row-{row}"), tidepool_load::closed::body(0)),
            )
            .await?;
    }
    Ok(Route::new()
        .at("/doc/:id", get(cassandra_read).post(cassandra_insert))
        .at("/lwt/:id", poem::post(cassandra_insert_lwt))
        .at("/cas/:id/:version", poem::put(cassandra_cas))
        .at("/list", get(cassandra_list))
        .data(Arc::new(state)))
}

fn server_error(error: anyhow::Error) -> poem::Error {
    poem::Error::from_string(format!("{error:#}"), StatusCode::INTERNAL_SERVER_ERROR)
}

/// Whether a conditional statement was applied: the first column of its only row.
pub(crate) fn applied(result: &scylla::response::query_result::QueryResult) -> anyhow::Result<bool> {
    let rows = result.clone().into_rows_result()?;
    let row = rows.first_row::<scylla::value::Row>()?;
    Ok(row
        .columns
        .first()
        .and_then(Option::as_ref)
        .and_then(scylla::value::CqlValue::as_boolean)
        .unwrap_or(false))
}

#[handler]
async fn cassandra_read(
    Path(id): Path<String>,
    Data(state): Data<&Arc<CassandraState>>,
) -> poem::Result<Response> {
    let result = state
        .session
        .execute_unpaged(&state.read, (id,))
        .await
        .map_err(poem::error::InternalServerError)?;
    let rows = result
        .into_rows_result()
        .map_err(poem::error::InternalServerError)?;
    let row = rows
        .maybe_first_row::<(&[u8],)>()
        .map_err(poem::error::InternalServerError)?;
    Ok(row.map_or_else(|| status(StatusCode::NOT_FOUND), |(body,)| json(body.to_vec())))
}

#[handler]
async fn cassandra_list(Data(state): Data<&Arc<CassandraState>>) -> poem::Result<Response> {
    let result = state
        .session
        .execute_unpaged(&state.list, ())
        .await
        .map_err(poem::error::InternalServerError)?;
    let rows = result
        .into_rows_result()
        .map_err(poem::error::InternalServerError)?;
    let mut body = vec![b'['];
    for row in rows
        .rows::<(&[u8],)>()
        .map_err(poem::error::InternalServerError)?
    {
        body.extend_from_slice(row.map_err(poem::error::InternalServerError)?.0);
        body.push(b',');
    }
    body.push(b']');
    Ok(json(body))
}

#[handler]
async fn cassandra_insert(
    Path(id): Path<String>,
    body: Vec<u8>,
    Data(state): Data<&Arc<CassandraState>>,
) -> poem::Result<Response> {
    let values = (id, body);
    state
        .session
        .execute_unpaged(&state.insert, &values)
        .await
        .map_err(poem::error::InternalServerError)?;
    Ok(json(values.1))
}

#[handler]
async fn cassandra_insert_lwt(
    Path(id): Path<String>,
    body: Vec<u8>,
    Data(state): Data<&Arc<CassandraState>>,
) -> poem::Result<Response> {
    let values = (id, body);
    let result = state
        .session
        .execute_unpaged(&state.insert_lwt, &values)
        .await
        .map_err(poem::error::InternalServerError)?;
    if applied(&result).map_err(server_error)? {
        Ok(json(values.1))
    } else {
        Ok(status(StatusCode::CONFLICT))
    }
}

#[handler]
async fn cassandra_cas(
    Path((id, version)): Path<(String, i64)>,
    body: Vec<u8>,
    Data(state): Data<&Arc<CassandraState>>,
) -> poem::Result<Response> {
    let values = (body, version + 1, id, version);
    let result = state
        .session
        .execute_unpaged(&state.cas, &values)
        .await
        .map_err(poem::error::InternalServerError)?;
    if applied(&result).map_err(server_error)? {
        Ok(json(values.0))
    } else {
        Ok(status(StatusCode::PRECONDITION_FAILED))
    }
}
