//! The story of a run: start the servers, measure each operation in rounds, report.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context;
use tidepool_load::closed::{self, Call, ClosedConfig, Script};

use crate::RunArgs;
use crate::process::{ServerProcess, free_address};
use crate::report::{self, Figures, Row};

/// tidepool-api may use so many times the minimal server's CPU for a read and for a create.
const AIM: f64 = 1.5;
/// Documents on Cassandra: its nodes are processes of their own, and their memory is not what is measured.
const CASSANDRA_DOCUMENTS: u64 = 1_000;
/// Documents that are on their way at once while a server is filled.
const SEED_LANES: usize = 32;

/// A server under measurement.
struct Server {
    name: &'static str,
    process: Option<ServerProcess>,
    key: Option<String>,
}

pub(crate) async fn run(args: &RunArgs) -> anyhow::Result<()> {
    let scratch = tempdir()?;
    let mut rows = Vec::new();
    let outcome = stores(args, &scratch, &mut rows).await;
    std::fs::remove_dir_all(&scratch).with_context(|| format!("removing {}", scratch.display()))?;
    outcome?;
    report::print_table(&rows);
    report::print_yardstick(&rows);
    report::write_json(&args.json, &rows)?;
    println!(
        "\nWritten to {}. How to read it: docs/benchmarks.md",
        args.json.display()
    );
    anyhow::ensure!(
        rows.iter().all(|row| row.median.failed == 0),
        "some requests failed, see above"
    );
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "runs must not meet in one folder")]
fn tempdir() -> anyhow::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("tidepool-bench-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

async fn stores(args: &RunArgs, scratch: &Path, rows: &mut Vec<Row>) -> anyhow::Result<()> {
    let file = scratch.join("minimal.db");
    let minimal = minimal_server(&format!("sqlite:{}", file.display()), scratch, "minimal-sqlite").await?;
    let api_store = format!("sqlite:{}", scratch.join("api.db").display());
    measure(args, scratch, "sqlite", minimal, &api_store, rows).await?;
    let Some(hosts) = &args.cassandra else {
        eprintln!("SKIPPED: the Cassandra rows, for --cassandra (TIDEPOOL_BENCH_CASSANDRA) is not given");
        return Ok(());
    };
    let minimal = minimal_server(&format!("cassandra:{hosts}"), scratch, "minimal-cassandra").await?;
    measure(
        args,
        scratch,
        "cassandra",
        minimal,
        &format!("cassandra://{hosts}/tidepool_bench"),
        rows,
    )
    .await
}

async fn minimal_server(kind: &str, scratch: &Path, log: &str) -> anyhow::Result<ServerProcess> {
    let address = free_address()?;
    let arguments = [
        "serve".to_owned(),
        kind.to_owned(),
        "--listen".to_owned(),
        address.to_string(),
    ];
    let program = std::env::current_exe()?;
    ServerProcess::start(&program, &arguments, address, &scratch.join(format!("{log}.log"))).await
}

async fn api_server(
    args: &RunArgs,
    scratch: &Path,
    store: &str,
    log: &str,
) -> anyhow::Result<(ServerProcess, String)> {
    let program = match &args.api {
        Some(program) => program.clone(),
        None => std::env::current_exe()?.with_file_name("tidepool-api"),
    };
    let created = Command::new(&program)
        .args([
            "keys", "create", "--store", store, "--name", "bench", "--scope", "admin:*",
        ])
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    anyhow::ensure!(
        created.status.success(),
        "keys create: {}",
        String::from_utf8_lossy(&created.stderr)
    );
    let key = String::from_utf8(created.stdout)?.trim().to_owned();
    let (address, operations) = (free_address()?, free_address()?);
    let arguments: Vec<String> = [
        "serve",
        "--store",
        store,
        "--listen",
        &address.to_string(),
        "--ops-listen",
        &operations.to_string(),
    ]
    .map(str::to_owned)
    .to_vec();
    let server =
        ServerProcess::start(&program, &arguments, address, &scratch.join(format!("{log}.log"))).await?;
    let collection = Call {
        method: "PUT",
        path: "/v1/collections/bench".into(),
        if_match: None,
        body: b"{}".to_vec(),
    };
    closed::once(address, Some(&key), collection).await?;
    Ok((server, key))
}

async fn measure(
    args: &RunArgs,
    scratch: &Path,
    store: &'static str,
    minimal: ServerProcess,
    api_store: &str,
    rows: &mut Vec<Row>,
) -> anyhow::Result<()> {
    let bare = minimal_server("bare", scratch, "bare").await?;
    let (api, key) = api_server(args, scratch, api_store, &format!("api-{store}")).await?;
    let mut servers = vec![
        Server {
            name: "bare",
            process: Some(bare),
            key: None,
        },
        Server {
            name: "minimal",
            process: Some(minimal),
            key: None,
        },
        Server {
            name: "tidepool",
            process: Some(api),
            key: Some(key),
        },
    ];
    if store == "cassandra" {
        servers.push(Server {
            name: "raw",
            process: None,
            key: None,
        });
    }
    let documents = match store {
        "cassandra" => CASSANDRA_DOCUMENTS,
        _ => args.documents,
    };
    // A conditional update has a document for each connection.
    let documents = documents.max(args.connections as u64);
    seed(store, &servers, documents).await?;
    // Reads first: what the writes leave behind (SSTables, a long WAL) would slow them.
    for operation in [
        "read",
        "list",
        "create",
        "create-lwt",
        "update",
        "update-conditional",
    ] {
        if args
            .only
            .as_ref()
            .is_some_and(|only| !operation.starts_with(only.as_str()))
        {
            continue;
        }
        eprintln!("measuring {store} {operation} …");
        let mut rounds: Vec<Vec<Figures>> = vec![Vec::new(); servers.len()];
        for _ in 0..args.rounds {
            for (server, rounds) in servers.iter().zip(&mut rounds) {
                if let Some(figures) = one(args, store, server, operation, documents).await? {
                    rounds.push(figures);
                }
            }
        }
        rows.extend(operation_rows(store, operation, &servers, &rounds));
    }
    Ok(())
}

fn operation_rows(
    store: &'static str,
    operation: &'static str,
    servers: &[Server],
    rounds: &[Vec<Figures>],
) -> Vec<Row> {
    let medians: Vec<Option<Figures>> = rounds
        .iter()
        .map(|rounds| (!rounds.is_empty()).then(|| report::median(rounds)))
        .collect();
    let minimal = servers
        .iter()
        .position(|server| server.name == "minimal")
        .and_then(|place| medians[place]);
    let mut rows = Vec::new();
    for ((server, median), rounds) in servers.iter().zip(&medians).zip(rounds) {
        let Some(median) = *median else { continue };
        let to_minimal = minimal.map(|minimal| median.cpu_us_per_request / minimal.cpu_us_per_request);
        let aimed = server.name == "tidepool" && (operation == "read" || operation.starts_with("create"));
        let aim = to_minimal
            .filter(|_| aimed)
            .map(|ratio| if ratio <= AIM { "held" } else { "missed" });
        let cpu_us_rounds = rounds.iter().map(|round| round.cpu_us_per_request).collect();
        rows.push(Row {
            store,
            operation,
            server: server.name,
            median,
            cpu_us_rounds,
            to_minimal,
            aim,
        });
    }
    rows
}

/// Writes the documents that are read, listed and updated.
async fn seed(store: &str, servers: &[Server], documents: u64) -> anyhow::Result<()> {
    for server in servers {
        let Some(process) = &server.process else { continue };
        if server.name == "bare" {
            continue;
        }
        eprintln!("filling {store} of {} with {documents} documents …", server.name);
        let mut tasks = tokio::task::JoinSet::new();
        for lane in 0..SEED_LANES as u64 {
            let (address, key, name) = (process.address, server.key.clone(), server.name);
            let numbers = (lane..documents).step_by(SEED_LANES);
            let calls = numbers.map(move |number| create_call(name, &seeded_id(number), number, "/doc"));
            tasks.spawn(async move { closed::all(address, key.as_deref(), calls).await });
        }
        while let Some(task) = tasks.join_next().await {
            task??;
        }
    }
    Ok(())
}

fn envelope(body: &[u8]) -> Vec<u8> {
    [b"{\"data\":", body, b"}"].concat()
}

fn create_call(server: &str, id: &str, number: u64, minimal_route: &str) -> Call {
    let data = closed::body(number);
    if server == "tidepool" {
        let body = [format!("{{\"id\":\"{id}\",\"data\":").as_bytes(), &data, b"}"].concat();
        Call {
            method: "POST",
            path: "/v1/collections/bench/documents".into(),
            if_match: None,
            body,
        }
    } else {
        Call {
            method: "POST",
            path: format!("{minimal_route}/{id}"),
            if_match: None,
            body: data,
        }
    }
}

/// The id of a document: hashed, so that what is written one after the other lies all over a table's order, as ids that
/// clients choose do. YCSB's workloads do the same (`insertorder=hashed`, its default).
fn hashed_id(of: impl Hash) -> String {
    format!("{:016x}", hashed(of))
}

/// The same in every run and on every machine.
fn hashed(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

fn seeded_id(number: u64) -> String {
    hashed_id(("seed", number))
}

/// What a server is asked in an operation; `None` where it has no such operation.
fn script(store: &str, server: &Server, operation: &str, documents: u64) -> Option<Script> {
    static RUN: AtomicU64 = AtomicU64::new(0);
    let run = RUN.fetch_add(1, Ordering::Relaxed);
    let name = server.name;
    if name == "bare" {
        let call = Call {
            method: "GET",
            path: "/bare".into(),
            if_match: None,
            body: Vec::new(),
        };
        return (operation == "read").then(|| -> Script { Arc::new(move |_, _, _| call.clone()) });
    }
    let get = |path: String| Call {
        method: "GET",
        path,
        if_match: None,
        body: Vec::new(),
    };
    let document = move |id: &str| {
        if name == "tidepool" {
            format!("/v1/collections/bench/documents/{id}")
        } else {
            format!("/doc/{id}")
        }
    };
    let any = move |connection, number| seeded_id(hashed(("any", connection, number)) % documents);
    Some(match operation {
        "read" => Arc::new(move |connection, number, _| get(document(&any(connection, number)))),
        "list" if name == "tidepool" => {
            Arc::new(move |_, _, _| get("/v1/collections/bench/documents?limit=100".into()))
        }
        "list" => Arc::new(move |_, _, _| get("/list".into())),
        // On Cassandra every create of tidepool-api is an LWT: it stands beside the minimal server's LWT.
        "create" if store == "cassandra" && name == "tidepool" => return None,
        "create" => Arc::new(move |connection, number, _| {
            create_call(name, &hashed_id((run, connection, number)), number, "/doc")
        }),
        "create-lwt" if store != "cassandra" => return None,
        "create-lwt" => Arc::new(move |connection, number, _| {
            create_call(name, &hashed_id((run, connection, number)), number, "/lwt")
        }),
        "update" if name == "tidepool" => Arc::new(move |connection, number, _| Call {
            method: "PUT",
            path: document(&any(connection, number)),
            if_match: None,
            body: envelope(&closed::body(number)),
        }),
        "update" if store == "sqlite" => Arc::new(move |connection, number, _| Call {
            method: "PUT",
            path: document(&any(connection, number)),
            if_match: None,
            body: closed::body(number),
        }),
        "update" => return None,
        "update-conditional" if name == "tidepool" => Arc::new(move |connection, number, etag| match etag {
            // The first request of a connection has no version yet: it reads one.
            None => get(document(&seeded_id(connection as u64))),
            Some(etag) => Call {
                method: "PUT",
                path: document(&seeded_id(connection as u64)),
                if_match: Some(etag.to_owned()),
                body: envelope(&closed::body(number)),
            },
        }),
        _ => Arc::new(move |connection, number, _| minimal_conditional(run, connection, number)),
    })
}

/// The minimal server's versions count from 1, so a connection knows them without asking.
fn minimal_conditional(run: u64, connection: usize, number: u64) -> Call {
    let id = format!("cas-{run}-{connection}");
    if number == 0 {
        return Call {
            method: "POST",
            path: format!("/doc/{id}"),
            if_match: None,
            body: closed::body(number),
        };
    }
    Call {
        method: "PUT",
        path: format!("/cas/{id}/{number}"),
        if_match: None,
        body: closed::body(number),
    }
}

async fn one(
    args: &RunArgs,
    store: &str,
    server: &Server,
    operation: &str,
    documents: u64,
) -> anyhow::Result<Option<Figures>> {
    let Some(process) = &server.process else {
        return raw(args, operation).await;
    };
    let Some(script) = script(store, server, operation, documents) else {
        return Ok(None);
    };
    let config = ClosedConfig {
        address: process.address,
        key: server.key.clone(),
        connections: args.connections,
        seconds: args.seconds,
    };
    let (seen, before, after) = closed::drive(&config, script, || process.cpu_micros()).await?;
    let resident = process.resident_mib()?;
    Ok(Some(Figures::new(
        seen.requests,
        seen.failed,
        args.seconds,
        &seen.histogram,
        after - before,
        resident,
    )))
}

async fn raw(args: &RunArgs, operation: &str) -> anyhow::Result<Option<Figures>> {
    let Some(hosts) = args
        .cassandra
        .as_deref()
        .filter(|_| matches!(operation, "read" | "create" | "create-lwt"))
    else {
        return Ok(None);
    };
    let output = tokio::process::Command::new(std::env::current_exe()?)
        .args(["raw", "--cassandra", hosts, "--operation", operation])
        .args([
            "--seconds",
            &args.seconds.to_string(),
            "--connections",
            &args.connections.to_string(),
        ])
        .output()
        .await?;
    anyhow::ensure!(
        output.status.success(),
        "the raw driver: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(Some(serde_json::from_slice(&output.stdout)?))
}
