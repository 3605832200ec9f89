//! A cloud of systemd hosts for a test, how its droplets are spoken to, and what there is of it on this machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::{Cloud, PATIENCE, base_images, images};

/// What the tests need beside what the program names itself.
const NEEDED: [&str; 5] = ["systemd-nspawn", "mmdebstrap", "nft", "ssh", "ssh-keygen"];
/// How long a boot may take: ten at once, with other tests beside them, share two processors.
const BOOT_PATIENCE: Duration = Duration::from_secs(180);
/// The test images' system.
pub(crate) const DEBIAN: &str = "debian";
/// What makes a droplet serve HTTP on both known ports.
pub(crate) const WEB: &str = "#cloud-config\n\
    write_files:\n\
    - {path: /srv/readyz, content: ready}\n\
    runcmd:\n\
    - systemd-run python3 -m http.server 8080 --directory /srv\n\
    - systemd-run python3 -m http.server 9090 --directory /srv\n";

/// A cloud, and the key that its droplets take.
pub(crate) struct Room {
    pub(crate) cloud: Cloud,
    key: u64,
}

impl Room {
    /// None, and a line that says why, where systemd hosts can't run.
    pub(crate) async fn open(test: &str) -> Option<Self> {
        Self::open_with(test, &[]).await
    }

    /// The same, with more of the command line.
    pub(crate) async fn open_with(test: &str, more: &[&str]) -> Option<Self> {
        if let Some(missing) = missing() {
            println!("tidepool-skip: {test}: {missing}");
            return None;
        }
        let dir = images();
        let debian = dir.path().join("images").join(DEBIAN);
        std::fs::create_dir_all(&debian).unwrap();
        let manifest = "slug = \"debian\"\ndistribution = \"Debian\"\n[system]\nsuite = \"bookworm\"\n";
        std::fs::write(debian.join("image.toml"), manifest).unwrap();
        let key = dir.path().join("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key)
            .status()
            .unwrap();
        assert!(made.success());
        let bases = base_images();
        let args = ["--hosts", "systemd", "--base-images", bases.to_str().unwrap()];
        let args = [&args, more].concat();
        let cloud = Cloud::start_in(dir, &args);
        let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
        let reply = cloud
            .post("/v2/account/keys", json!({"name": "test", "public_key": public}))
            .await;
        let key = reply.number("/ssh_key/id");
        Some(Self { cloud, key })
    }

    /// Creates a droplet, of an image's slug or a snapshot's id; its id.
    pub(crate) async fn droplet(&self, name: &str, image: Value, user_data: &str) -> u64 {
        self.droplet_of(name, json!({"image": image, "user_data": user_data}))
            .await
    }

    /// Creates a droplet with these fields beside what all have; its id.
    pub(crate) async fn droplet_of(&self, name: &str, fields: Value) -> u64 {
        let reply = self.cloud.post("/v2/droplets", self.body(name, &fields)).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        let id = reply.number("/droplet/id");
        self.cloud.settled(id, "active").await;
        id
    }

    /// A create's body with these fields beside what all have.
    pub(crate) fn body(&self, name: &str, fields: &Value) -> Value {
        let mut body = json!({"name": name, "image": DEBIAN, "region": "nyc3", "size": "s-1vcpu-1gb",
            "ssh_keys": [self.key], "tags": ["serving:web"]});
        for (field, value) in fields.as_object().unwrap() {
            body[field] = value.clone();
        }
        body
    }

    /// Does an action to its end; the action's status.
    pub(crate) async fn act(&self, droplet: u64, body: Value) -> String {
        let path = format!("/v2/droplets/{droplet}/actions");
        let reply = self.cloud.post(&path, body).await;
        assert_eq!(reply.status, 201, "{reply:?}");
        let action = format!("/v2/actions/{}", reply.number("/action/id"));
        let mut status = String::new();
        self.cloud
            .until("the action ends", async || {
                status = self.cloud.get(&action).await.text("/action/status");
                status != "in-progress"
            })
            .await;
        status
    }

    /// A droplet's address of that kind.
    pub(crate) async fn address(&self, droplet: u64, kind: &str) -> String {
        let reply = self.cloud.get(&format!("/v2/droplets/{droplet}")).await;
        let networks = reply.at("/droplet/networks/v4").as_array().unwrap().clone();
        let network = networks.iter().find(|network| network["type"] == kind).unwrap();
        network["ip_address"].as_str().unwrap().to_owned()
    }

    /// What a command in a droplet prints, once the droplet takes ssh.
    pub(crate) async fn ssh(&self, droplet: u64, command: &str) -> String {
        let ip = self.address(droplet, "public").await;
        self.ssh_at(&ip, command).await
    }

    pub(crate) async fn ssh_at(&self, ip: &str, command: &str) -> String {
        let mut last = None;
        let deadline = Instant::now() + BOOT_PATIENCE;
        while Instant::now() < deadline {
            let output = self.ssh_once(ip, command);
            // 255 is ssh's own: it did not come in.
            if output.status.code() != Some(255) {
                return String::from_utf8(output.stdout).unwrap().trim().to_owned();
            }
            last = Some(output);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no ssh to {ip}: {last:?}");
    }

    /// Has a droplet do what ends the connection, too.
    pub(crate) async fn order(&self, droplet: u64, command: &str) {
        self.ssh(droplet, "true").await;
        let ip = self.address(droplet, "public").await;
        let _cut_short = self.ssh_once(&ip, command);
    }

    /// Waits until cloud-init has done what the user data says.
    pub(crate) async fn initialised(&self, droplet: u64) {
        let said = self.ssh(droplet, "cloud-init status --wait").await;
        assert!(said.contains("status: done"), "{said}");
    }

    /// Those of these addresses to which a droplet can connect.
    pub(crate) async fn reached(&self, droplet: u64, addresses: &[SocketAddr]) -> Vec<SocketAddr> {
        let attempts = addresses.iter().map(|address| {
            let (ip, port) = (address.ip(), address.port());
            format!("timeout 2 bash -c ': </dev/tcp/{ip}/{port}' 2>/dev/null && echo {address}; ")
        });
        let said = self.ssh(droplet, &(attempts.collect::<String>() + "true")).await;
        said.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// What there is of a droplet's console.
    pub(crate) fn console(&self, droplet: u64) -> String {
        let log = self.cloud.state_dir().join(format!("droplets/{droplet}/log"));
        ["console.log.1", "console.log"]
            .map(|part| std::fs::read(log.join(part)).unwrap_or_default())
            .map(|part| String::from_utf8_lossy(&part).into_owned())
            .concat()
    }

    fn ssh_once(&self, ip: &str, command: &str) -> Output {
        Command::new("ssh")
            .arg("-i")
            .arg(self.cloud.dir.path().join("key"))
            .args([
                "-o",
                "BatchMode=yes",
                "-o",
                "StrictHostKeyChecking=no",
                "-o",
                "ConnectTimeout=2",
            ])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"])
            .arg(format!("root@{ip}"))
            .arg(command)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What this cloud's things are named after on this machine.
    pub(crate) fn traces(&self) -> Traces {
        let machines = self.cloud.state_dir().join("droplets").canonicalize().unwrap();
        let claims = std::fs::read_dir("/run/tidepool-local-cloud").unwrap();
        let block = claims.flatten().find(|claim| {
            let text = std::fs::read_to_string(claim.path()).unwrap_or_default();
            text.contains(machines.to_str().unwrap())
        });
        Traces {
            block: block.unwrap().file_name().into_string().unwrap(),
            machines,
        }
    }
}

/// What a cloud may leave on this machine.
#[derive(Debug)]
pub(crate) struct Traces {
    block: String,
    machines: PathBuf,
}

impl Traces {
    /// Everything that is there now.
    pub(crate) fn found(&self) -> Vec<String> {
        let name = format!("tpc{}", self.block);
        let host = format!("{name}-");
        let own = |entry: &str| entry == name || entry.starts_with(&host);
        let mut found = Vec::new();
        for directory in ["/run/netns", "/sys/class/net", "/run/systemd/nspawn/propagate"] {
            let entries = names(Path::new(directory)).into_iter().filter(|entry| own(entry));
            found.extend(entries.map(|entry| format!("{directory}/{entry}")));
        }
        let group = format!("tidepool-{}", self.block);
        let hierarchies = names(Path::new("/sys/fs/cgroup"));
        let groups = hierarchies
            .iter()
            .map(|hierarchy| format!("/sys/fs/cgroup/{hierarchy}/{group}"));
        let groups = groups.chain([format!("/sys/fs/cgroup/{group}")]);
        found.extend(groups.filter(|group| Path::new(group).exists()));
        let claim = format!("/run/tidepool-local-cloud/{}", self.block);
        found.extend(Some(claim).filter(|claim| Path::new(claim).exists()));
        let machines = self.machines.to_str().unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(machines));
        found.extend(mounts.map(str::to_owned));
        let state = self.machines.parent().unwrap().to_str().unwrap();
        found.extend(loop_devices().filter(|file| file.contains(state)));
        found.extend(processes().filter(|line| {
            let is_ours = |word: &str| own(word.trim_start_matches("--machine="));
            line.contains(machines) || line.split('\0').any(is_ours)
        }));
        found
    }

    /// What a host takes of this machine's memory, in bytes, without copies of files, which the kernel drops when it needs the room.
    pub(crate) fn memory(&self, droplet: u64) -> u64 {
        let group = |hierarchy: &str| format!("/sys/fs/cgroup/{hierarchy}tidepool-{}/{droplet}", self.block);
        let (each, one) = (group("memory/"), group(""));
        let read = |file: String| std::fs::read_to_string(file).unwrap();
        let (usage, stat, prefix) = if Path::new(&each).exists() {
            (
                format!("{each}/memory.usage_in_bytes"),
                format!("{each}/memory.stat"),
                "total_",
            )
        } else {
            (format!("{one}/memory.current"), format!("{one}/memory.stat"), "")
        };
        let stat = read(stat);
        let files = ["inactive_file", "active_file"].map(|name| {
            let line = stat
                .lines()
                .find_map(|line| line.strip_prefix(&format!("{prefix}{name} ")));
            line.unwrap().parse::<u64>().unwrap()
        });
        let usage: u64 = read(usage).trim().parse().unwrap();
        usage.saturating_sub(files.iter().sum())
    }

    /// Waits until nothing is there any more.
    pub(crate) fn all_gone(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = self.found();
            if found.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "left: {found:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Something that listens on this machine, and never answers.
pub(crate) struct Listening(TcpListener);

impl Listening {
    pub(crate) fn on(address: Ipv4Addr) -> Self {
        Self(TcpListener::bind((address, 0)).unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.local_addr().unwrap().port()
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.0.local_addr().unwrap().ip()
    }

    /// Where it is met by another address of the machine.
    pub(crate) fn at(&self, address: impl Into<IpAddr>) -> SocketAddr {
        SocketAddr::new(address.into(), self.port())
    }
}

/// An address of this machine's own that has nothing to do with local clouds.
pub(crate) fn own_address() -> Option<Ipv4Addr> {
    let output = Command::new("ip")
        .args(["-4", "-o", "addr", "show", "up", "scope", "global"])
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let addresses = lines.lines().filter_map(|line| {
        let (_, rest) = line.split_once(" inet ")?;
        rest.split(['/', ' ']).next()?.parse().ok()
    });
    let mut addresses =
        addresses.filter(|address: &Ipv4Addr| !matches!(address.octets(), [198, 18 | 19, ..]));
    addresses.next()
}

/// The files behind this machine's loop devices.
fn loop_devices() -> impl Iterator<Item = String> {
    let devices = names(Path::new("/sys/block")).into_iter();
    devices
        .filter_map(|device| std::fs::read_to_string(format!("/sys/block/{device}/loop/backing_file")).ok())
}

/// The command lines of all processes.
fn processes() -> impl Iterator<Item = String> {
    let lines = names(Path::new("/proc")).into_iter();
    lines.filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok())
}

/// What there is of blocks that no cloud has claimed, once those that are just being given back are.
pub(crate) fn orphans() -> Vec<String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let links = [
            ("/run/netns", "tpc"),
            ("/sys/class/net", "tpc"),
            ("/sys/fs/cgroup/memory", "tidepool-"),
        ];
        let found = links.iter().flat_map(|(directory, prefix)| {
            let entries = names(Path::new(directory)).into_iter();
            entries.filter(move |entry| {
                let block = entry.strip_prefix(prefix).and_then(|rest| rest.split('-').next());
                block.is_some_and(|block| !Path::new("/run/tidepool-local-cloud").join(block).exists())
            })
        });
        let found: Vec<String> = found.collect();
        if found.is_empty() || Instant::now() > deadline {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// The number of a disk of this machine that root can open, if it has one: a machine may keep its disks from everybody.
pub(crate) fn disk_of_machine() -> Option<(u32, u32)> {
    let devices = Path::new("/sys/class/block");
    let disk = names(devices)
        .into_iter()
        .find(|name| !name.starts_with("loop") && std::fs::File::open(Path::new("/dev").join(name)).is_ok());
    let number = std::fs::read_to_string(devices.join(disk?).join("dev")).ok()?;
    let (major, minor) = number.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// What is missing on this machine.
pub(crate) fn missing() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some("not run as root".to_owned());
    }
    let there = |program: &str| {
        ["/usr/sbin", "/usr/bin", "/sbin", "/bin"]
            .iter()
            .any(|directory| Path::new(directory).join(program).exists())
    };
    if let Some(program) = NEEDED.iter().find(|program| !there(program)) {
        return Some(format!("{program} is not installed"));
    }
    let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
    let is_debian = release.lines().any(|line| line == "ID=debian");
    (!is_debian).then(|| "not Debian".to_owned())
}
