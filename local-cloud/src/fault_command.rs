//! The commands that talk to a running local cloud.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};
use tidepool_logging::Secret;

#[derive(Debug, Args)]
pub(crate) struct EndpointArgs {
    /// Where the local cloud listens.
    #[arg(
        long,
        value_name = "URL",
        default_value = "http://127.0.0.1:7780",
        env = "TIDEPOOL_LOCAL_CLOUD_ENDPOINT",
        global = true
    )]
    pub(crate) endpoint: String,
    /// The token of a local cloud that takes only one.
    #[arg(
        long,
        value_name = "TOKEN",
        env = "TIDEPOOL_LOCAL_CLOUD_TOKEN",
        hide_env_values = true,
        global = true
    )]
    pub(crate) token: Option<Secret>,
}

#[derive(Debug, Args)]
pub(crate) struct FaultArgs {
    #[command(flatten)]
    pub(crate) endpoint: EndpointArgs,
    #[command(subcommand)]
    pub(crate) fault: Fault,
}

/// A fault on demand.
#[derive(Debug, Subcommand)]
pub(crate) enum Fault {
    /// Kill every process of a droplet at once (SIGKILL). It stays in the list, `off`.
    PowerCut {
        /// Id or name of the droplet.
        droplet: String,
    },
    /// Let every process of a droplet stand still, with its connections open (systemd hosts).
    Freeze {
        /// Id or name of the droplet.
        droplet: String,
    },
    /// Cut a droplet off from every network (systemd hosts).
    Partition {
        /// Id or name of the droplet.
        droplet: String,
    },
    /// Let a droplet's disk be slow (systemd hosts).
    SlowDisk {
        /// Id or name of the droplet.
        droplet: String,
        /// What it reads, and writes, in a second.
        #[arg(long, value_name = "N", default_value_t = 1024 * 1024)]
        bytes_per_sec: u64,
    },
    /// End what `freeze`, `partition` and `slow-disk` did to a droplet.
    Heal {
        /// Id or name of the droplet.
        droplet: String,
    },
    /// Let the next droplets take long to boot.
    SlowBoot {
        /// Seconds from creation to the start of their programs.
        #[arg(long, value_name = "SECS")]
        secs: f64,
        /// How many boots.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u64,
    },
    /// Let the next droplets hang while they boot: they are active, and nothing of them answers.
    HangBoot {
        /// How many boots.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u64,
    },
    /// Let the metadata service answer late, or with a failure (systemd hosts).
    Metadata {
        /// Seconds that an answer takes.
        #[arg(long, value_name = "SECS", default_value_t = 0.0)]
        secs: f64,
        /// The status of the answer.
        #[arg(long, value_name = "STATUS")]
        status: Option<u16>,
        /// How many answers; a boot asks four times.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u64,
    },
    /// Let the next creates of droplets fail.
    FailCreates {
        /// How many creates.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u64,
        /// The status of the answer.
        #[arg(long, value_name = "STATUS", default_value_t = 503)]
        status: u16,
        /// Make the droplet all the same: only the answer is lost.
        #[arg(long)]
        after_effect: bool,
    },
    /// Answer the next calls with 429.
    RateLimit {
        /// How many calls.
        #[arg(long, value_name = "N", default_value_t = 1)]
        count: u64,
        /// The `retry-after` of the answers.
        #[arg(long, value_name = "SECS", default_value_t = 1)]
        retry_after_secs: u64,
    },
    /// Print what is armed.
    List,
    /// Disarm everything.
    Clear,
}

/// Runs `fault …` and prints the answer.
pub(crate) async fn run(args: &FaultArgs) -> anyhow::Result<()> {
    let (method, path, body) = match &args.fault {
        Fault::PowerCut { droplet } => of_droplet(args, droplet, "faults/power-cut").await?,
        Fault::Freeze { droplet } => of_droplet(args, droplet, "faults/freeze").await?,
        Fault::Partition { droplet } => of_droplet(args, droplet, "faults/partition").await?,
        Fault::Heal { droplet } => of_droplet(args, droplet, "faults/heal").await?,
        Fault::SlowDisk {
            droplet,
            bytes_per_sec,
        } => {
            let id = droplet_id(&args.endpoint, droplet).await?;
            let body = json!({"droplet_id": id, "bytes_per_sec": bytes_per_sec});
            (Method::POST, "faults/slow-disk", body)
        }
        Fault::HangBoot { count } => (Method::POST, "faults/hang-boot", json!({"count": count})),
        Fault::Metadata { secs, status, count } => (
            Method::POST,
            "faults/metadata",
            json!({"secs": secs, "status": status, "count": count}),
        ),
        Fault::SlowBoot { secs, count } => (
            Method::POST,
            "faults/slow-boot",
            json!({"secs": secs, "count": count}),
        ),
        Fault::FailCreates {
            count,
            status,
            after_effect,
        } => (
            Method::POST,
            "faults/fail-creates",
            json!({"count": count, "status": status, "after_effect": after_effect}),
        ),
        Fault::RateLimit {
            count,
            retry_after_secs,
        } => (
            Method::POST,
            "faults/rate-limit",
            json!({"count": count, "retry_after_secs": retry_after_secs}),
        ),
        Fault::List => (Method::GET, "faults", Value::Null),
        Fault::Clear => (Method::DELETE, "faults", Value::Null),
    };
    print(&call(&args.endpoint, method, path, &body).await?)
}

/// The call that does something to one droplet.
async fn of_droplet<'a>(
    args: &FaultArgs,
    droplet: &str,
    path: &'a str,
) -> anyhow::Result<(Method, &'a str, Value)> {
    let id = droplet_id(&args.endpoint, droplet).await?;
    Ok((Method::POST, path, json!({"droplet_id": id})))
}

/// Runs `state`.
pub(crate) async fn state(endpoint: &EndpointArgs) -> anyhow::Result<()> {
    print(&call(endpoint, Method::GET, "state", &Value::Null).await?)
}

/// A droplet by id, or by a name that only one has.
async fn droplet_id(endpoint: &EndpointArgs, wanted: &str) -> anyhow::Result<u64> {
    if let Ok(id) = wanted.parse() {
        return Ok(id);
    }
    let state = call(endpoint, Method::GET, "state", &Value::Null).await?;
    let droplets = state
        .get("droplets")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let named = droplets
        .iter()
        .filter(|droplet| droplet.get("name").and_then(Value::as_str) == Some(wanted));
    let ids: Vec<u64> = named.filter_map(|droplet| droplet.get("id")?.as_u64()).collect();
    match ids.as_slice() {
        [id] => Ok(*id),
        [] => bail!("there is no droplet `{wanted}`"),
        several => bail!("`{wanted}` is the name of several droplets; give an id: {several:?}"),
    }
}

async fn call(endpoint: &EndpointArgs, method: Method, path: &str, body: &Value) -> anyhow::Result<Value> {
    let url = format!("{}/_local/{path}", endpoint.endpoint.trim_end_matches('/'));
    // A local cloud is never behind a proxy.
    let client = reqwest::Client::builder().no_proxy().build()?;
    let mut request = client.request(method, &url);
    if let Some(token) = &endpoint.token {
        request = request.bearer_auth(token.reveal());
    }
    if !body.is_null() {
        request = request.json(body);
    }
    let answer = request
        .send()
        .await
        .with_context(|| format!("no local cloud answers at {url}"))?;
    let status = answer.status();
    let text = answer
        .text()
        .await
        .with_context(|| format!("the answer of {url} broke off"))?;
    let body: Value = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text)?
    };
    if !status.is_success() {
        bail!("{}", body.get("message").and_then(Value::as_str).unwrap_or(&text));
    }
    Ok(body)
}

fn print(value: &Value) -> anyhow::Result<()> {
    if !value.is_null() {
        tidepool_logging::print(&format!("{}\n", serde_json::to_string_pretty(value)?))?;
    }
    Ok(())
}
