//! A local cloud of one's own for a test: its own state, images and free port; gone at the end.

#![expect(dead_code, reason = "each test binary uses a part")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long anything may take; a loaded machine is slow, not wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_tidepool-local-cloud");

/// A droplet's program that serves HTTP, and one that ignores SIGTERM.
const IMAGES: [(&str, &str); 3] = [
    (
        "web",
        r#"
            slug = "web"
            name = "Web"
            [ready]
            url = "http://{ip}:9090/readyz"
            [[process]]
            name = "web"
            program = "self"
            args = ["test-host", "--listen", "{ip}:8080", "--ops-listen", "{ip}:9090", "--name", "{name}"]
            env = { ROOT = "{root}", WHO = "{id}" }
        "#,
    ),
    (
        "stubborn",
        r#"
            slug = "stubborn"
            [[process]]
            name = "one"
            program = "self"
            args = ["test-host", "--stubborn"]
            [[process]]
            name = "two"
            program = "/bin/sh"
            args = ["-c", "sleep 1000 & sleep 1000"]
        "#,
    ),
    (
        "tiny",
        r#"
            slug = "tiny"
            [[process]]
            name = "sleep"
            program = "/bin/sh"
            args = ["-c", "exec sleep 100000"]
        "#,
    ),
];

/// A running local cloud.
pub(crate) struct Cloud {
    pub(crate) dir: TempDir,
    pub(crate) url: String,
    pub(crate) child: Child,
    http: reqwest::Client,
    args: Vec<String>,
}

/// An answer: status and JSON (null without a body).
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) headers: reqwest::header::HeaderMap,
}

impl Reply {
    /// The text at a JSON pointer.
    pub(crate) fn text(&self, pointer: &str) -> String {
        self.at(pointer)
            .as_str()
            .unwrap_or_else(|| panic!("no text at {pointer}: {self:?}"))
            .to_owned()
    }

    /// The number at a JSON pointer.
    pub(crate) fn number(&self, pointer: &str) -> u64 {
        self.at(pointer)
            .as_u64()
            .unwrap_or_else(|| panic!("no number at {pointer}: {self:?}"))
    }

    /// The value at a JSON pointer.
    pub(crate) fn at(&self, pointer: &str) -> &Value {
        self.body.pointer(pointer).unwrap_or(&Value::Null)
    }

    /// A header as a number.
    pub(crate) fn header(&self, name: &str) -> Option<u64> {
        self.headers.get(name)?.to_str().ok()?.parse().ok()
    }
}

impl Cloud {
    /// Starts one with the test images.
    pub(crate) fn start(args: &[&str]) -> Self {
        Self::start_in(images(), args)
    }

    /// Starts one in a directory that an earlier one used.
    pub(crate) fn start_in(dir: TempDir, args: &[&str]) -> Self {
        let command = Command::new(PROGRAM);
        Self::start_by(command, dir, args)
    }

    /// Starts one that may have so many files and sockets open.
    pub(crate) fn start_with_descriptors(limit: u32, args: &[&str]) -> Self {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &format!("ulimit -n {limit} && exec \"$0\" \"$@\"")])
            .arg(PROGRAM);
        Self::start_by(command, images(), args)
    }

    /// Starts one by another command, which becomes the program.
    pub(crate) fn start_by(command: Command, dir: TempDir, args: &[&str]) -> Self {
        let (child, url) = launch(command, dir.path(), args);
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(PATIENCE)
            .build()
            .unwrap();
        Self {
            dir,
            url,
            child,
            http,
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        }
    }

    /// The state directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Stops it as Ctrl-C does; its exit code.
    pub(crate) fn stop(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.wait()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the local cloud does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Starts it again after it ended, with the same state.
    pub(crate) fn start_again(&mut self) {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        (self.child, self.url) = launch(Command::new(PROGRAM), self.dir.path(), &args);
    }

    /// The same, without one of its arguments.
    pub(crate) fn start_again_without(&mut self, argument: &str) {
        self.args.retain(|arg| arg != argument);
        self.start_again();
    }

    /// A call with a token.
    pub(crate) async fn call(&self, method: Method, path: &str, body: Value) -> Reply {
        self.call_as(Some("test"), method, path, &body).await
    }

    /// A call with this token, or none.
    pub(crate) async fn call_as(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Reply {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(body);
        }
        reply_of(request.send().await.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.call(Method::GET, path, Value::Null).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.call(Method::POST, path, body).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.call(Method::PUT, path, body).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.call(Method::DELETE, path, Value::Null).await
    }

    /// Creates a droplet; its id.
    pub(crate) async fn droplet(&self, name: &str, image: &str, tags: &[&str]) -> u64 {
        let reply = self.post("/v2/droplets", droplet_body(name, image, tags)).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        reply.number("/droplet/id")
    }

    /// The droplet's part of the state.
    pub(crate) async fn droplet_state(&self, id: u64) -> Value {
        let state = self.get("/_local/state").await.body;
        let droplets = state["droplets"].as_array().unwrap().clone();
        droplets
            .into_iter()
            .find(|droplet| droplet["id"] == json!(id))
            .unwrap_or(Value::Null)
    }

    /// The balancer's part of the state.
    pub(crate) async fn balancer_state(&self, id: &str) -> Value {
        let state = self.get("/_local/state").await.body;
        let all = state["load_balancers"].as_array().unwrap().clone();
        all.into_iter()
            .find(|balancer| balancer["id"] == json!(id))
            .unwrap_or(Value::Null)
    }

    /// Pids of a droplet's processes, once `count` of them run.
    pub(crate) async fn pids(&self, id: u64, count: usize) -> Vec<i32> {
        let mut pids: Vec<i32> = Vec::new();
        self.until("the droplet's processes run", async || {
            let state = self.droplet_state(id).await;
            let list = state["pids"].as_array().cloned().unwrap_or_default();
            pids = list
                .iter()
                .map(|pid| i32::try_from(pid.as_i64().unwrap()).unwrap())
                .collect();
            pids.len() == count
        })
        .await;
        pids
    }

    /// Waits until the droplet has this status and nothing is under way.
    pub(crate) async fn settled(&self, id: u64, status: &str) {
        self.until(&format!("droplet {id} is {status}"), async || {
            let reply = self.get(&format!("/v2/droplets/{id}")).await;
            reply.at("/droplet/status") == status && reply.at("/droplet/locked") == false
        })
        .await;
    }

    /// Waits until it is so.
    pub(crate) async fn until(&self, what: &str, mut is_so: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so().await {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A load balancer over a tag; its id and its address. `more` overrides fields of the request.
    pub(crate) async fn balancer(&self, tag: &str, more: Value) -> (String, String) {
        let port = free_port();
        let mut body = json!({
            "name": format!("lb-{port}"), "region": "nyc3", "tag": tag,
            "forwarding_rules": [{"entry_protocol": "http", "entry_port": port,
                "target_protocol": "http", "target_port": 8080}],
            "health_check": {"protocol": "http", "port": 9090, "path": "/readyz",
                "check_interval_seconds": 1, "response_timeout_seconds": 1,
                "healthy_threshold": 1, "unhealthy_threshold": 2},
        });
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().cloned().unwrap_or_default());
        let reply = self.post("/v2/load_balancers", body).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let id = reply.text("/load_balancer/id");
        let ip = self
            .get(&format!("/v2/load_balancers/{id}"))
            .await
            .text("/load_balancer/ip");
        (id, format!("http://{ip}:{port}"))
    }

    /// Waits until that many members get traffic.
    pub(crate) async fn members_ready(&self, balancer: &str, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.balancer_state(balancer).await;
            let members = state["members"].as_array().cloned().unwrap_or_default();
            let healthy = members.iter().filter(|member| member["state"] == "healthy");
            if healthy.count() == count {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not within {PATIENCE:?}: {count} members are healthy: {state:#}\n{}",
                self.logs()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What it and the processes of its droplets have said.
    fn logs(&self) -> String {
        let droplets = std::fs::read_dir(self.state_dir().join("droplets")).into_iter();
        let of_droplets = droplets
            .flatten()
            .flatten()
            .map(|droplet| droplet.path().join("log"));
        let files = of_droplets
            .filter_map(|logs| std::fs::read_dir(logs).ok())
            .flatten();
        let files = files.flatten().map(|file| file.path());
        [self.dir.path().join("log")]
            .into_iter()
            .chain(files)
            .map(|file| std::fs::read_to_string(&file).unwrap_or_default())
            .collect()
    }

    /// Runs the program with arguments; what it printed.
    pub(crate) fn command(&self, args: &[&str]) -> Output {
        run(args, &[("TIDEPOOL_LOCAL_CLOUD_ENDPOINT", self.url.as_str())])
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.signal(Signal::SIGTERM);
            // Twice: the second one cuts the power at once.
            self.signal(Signal::SIGTERM);
            let _ended = self.child.wait();
        }
    }
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(PROGRAM)
        .args(args)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// A create's body.
pub(crate) fn droplet_body(name: &str, image: &str, tags: &[&str]) -> Value {
    let mut body = json!({"name": name, "image": image, "region": "nyc3", "size": "s-1vcpu-1gb", "tags": tags,
        "ssh_keys": null, "backups": false, "ipv6": false, "something_new": {"ignored": true}});
    if by_systemd() && image == "web" {
        body["user_data"] = json!(web_user_data(""));
    }
    body
}

/// What a droplet of the image `web` is told, with these items of `write_files`: one that is a system has to be made to do what that
/// image's program does.
pub(crate) fn web_user_data(files: &str) -> String {
    let user_data = format!("#cloud-config\nwrite_files:\n{files}");
    if !by_systemd() {
        return user_data;
    }
    let program = include_str!("test_host.py").lines();
    let program: String = program.map(|line| format!("    {line}\n")).collect();
    format!(
        "{user_data}- path: /opt/test-host\n  permissions: '0755'\n  content: |\n{program}runcmd:\n- [systemd-run, /opt/test-host]\n"
    )
}

/// A whole answer.
pub(crate) async fn reply_of(answer: reqwest::Response) -> Reply {
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    let text = answer.text().await.unwrap();
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Reply {
        status,
        body,
        headers,
    }
}

/// A client for load balancers, with connections of its own.
pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .timeout(PATIENCE)
        .build()
        .unwrap()
}

/// A port over 1024 that nobody has on 127.0.0.1; on a balancer's own address it is free in any case.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// Whether a process lives (and is not just waiting to be reaped).
pub(crate) fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'))
}

/// Waits until none of the processes lives.
pub(crate) fn all_gone(pids: &[i32]) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(pid) = pids.iter().find(|pid| is_alive(**pid)) {
        assert!(Instant::now() < deadline, "process {pid} is still there");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Pids of living processes that belong to a state directory's cloud.
pub(crate) fn marked(state: &Path) -> Vec<i32> {
    let instance = std::fs::read_to_string(state.join("instance")).unwrap();
    let mark = format!("TIDEPOOL_LOCAL_CLOUD_INSTANCE={instance}");
    let pids = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let environment = std::fs::read(entry.path().join("environ")).ok()?;
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == mark.as_bytes())
            .then_some(pid)
    });
    pids.filter(|pid| is_alive(*pid)).collect()
}

/// Whether droplets are to be systemd hosts (`TIDEPOOL_TEST_HOSTS=systemd`) in tests that are meant for both kinds.
#[expect(clippy::disallowed_methods, reason = "how tests are run")]
pub(crate) fn by_systemd() -> bool {
    std::env::var("TIDEPOOL_TEST_HOSTS").is_ok_and(|kind| kind == "systemd")
}

/// Where base images of systemd hosts are kept: in the repository's cache.
#[expect(clippy::disallowed_methods, reason = "how tests are run")]
pub(crate) fn base_images() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let cache = std::env::var_os("TIDEPOOL_CACHE").map_or_else(|| root.join(".cache"), PathBuf::from);
    cache.join("base-images")
}

/// A directory with the test images.
pub(crate) fn images() -> TempDir {
    let dir = TempDir::new().unwrap();
    for (slug, manifest) in IMAGES {
        std::fs::create_dir_all(dir.path().join("images").join(slug)).unwrap();
        let manifest = if by_systemd() {
            format!("{manifest}\n[system]\nsuite = \"bookworm\"\n")
        } else {
            manifest.to_owned()
        };
        std::fs::write(dir.path().join("images").join(slug).join("image.toml"), manifest).unwrap();
    }
    dir
}

fn hosts_args() -> Vec<String> {
    if !by_systemd() {
        return Vec::new();
    }
    let bases = base_images().display().to_string();
    vec![
        "--hosts".to_owned(),
        "systemd".to_owned(),
        "--base-images".to_owned(),
        bases,
    ]
}

fn launch(mut command: Command, dir: &Path, args: &[&str]) -> (Child, String) {
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"));
    let log = log.unwrap();
    let mut child = command
        .args(["serve", "--listen", "127.0.0.1:0", "--images"])
        .arg(dir.join("images"))
        .arg("--state")
        .arg(dir.join("state"))
        .args([
            "--rate-limit-per-minute",
            "100000",
            "--rate-limit-per-hour",
            "100000",
        ])
        .args(hosts_args())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let url = line
        .trim()
        .strip_prefix("listening on ")
        .unwrap_or_else(|| panic!("it said {line:?}"))
        .to_owned();
    (child, url)
}
