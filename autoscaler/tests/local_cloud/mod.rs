//! A local cloud of a test's own: real droplets, as processes.

#![expect(clippy::disallowed_methods, reason = "tests")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidepool_autoscaler::provider::digitalocean::{
    Account, AddressKind, ApiToken, DigitalOcean, DropletTemplate, ImageRef,
};
use tidepool_autoscaler_core::observe::UnixMillis;

/// It ends its droplets within this, on a busy machine too.
const STOP_MAX: Duration = Duration::from_secs(60);

/// A running local cloud; it is stopped, its droplets with it, at the end.
pub(crate) struct LocalCloud {
    child: Child,
    /// Where its API is.
    pub(crate) url: String,
}

impl LocalCloud {
    /// Starts one that keeps its files in `folder`, with these images (slug and the manifest's processes).
    ///
    /// The program is looked for beside the one under test. `None`, and a line `tidepool-skip: <test>: <reason>`, which the
    /// runner counts, when it is not there.
    pub(crate) fn start(test: &str, folder: &Path, images: &[(&str, &str)]) -> Option<Self> {
        let program =
            Path::new(env!("CARGO_BIN_EXE_tidepool-autoscaler")).with_file_name("tidepool-local-cloud");
        if !program.is_file() {
            println!("tidepool-skip: {test}: tidepool-local-cloud is not built");
            return None;
        }
        for (slug, processes) in images {
            let image = folder.join("images").join(slug);
            std::fs::create_dir_all(&image).unwrap();
            let manifest = format!("slug = \"{slug}\"\nname = \"{slug}\"\nboot_secs = 0.2\n{processes}");
            std::fs::write(image.join("image.toml"), manifest).unwrap();
        }
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        command.args(["--hosts", "process", "--addresses", "loopback"]);
        command.args(["--rate-limit-per-minute", "100000"]);
        command.args(["--rate-limit-per-hour", "1000000"]);
        command.arg("--images").arg(folder.join("images"));
        command.arg("--state").arg(folder.join("state"));
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let url = line.trim().strip_prefix("listening on ").unwrap().to_owned();
        Some(Self { child, url })
    }

    /// The adapter under test, making members of this image.
    pub(crate) fn provider(&self, image: &str, tags: &[&str]) -> DigitalOcean {
        let clock = Arc::new(|| UnixMillis(jiff::Timestamp::now().as_millisecond()));
        let account = Account::new(Some(&self.url), ApiToken::new("any-token").unwrap(), clock).unwrap();
        let template = DropletTemplate {
            region: "fra1".to_owned(),
            size: "s-1vcpu-1gb".to_owned(),
            image: ImageRef::Slug(image.to_owned()),
            ssh_keys: vec![],
            vpc_uuid: None,
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            user_data: None,
            address: AddressKind::Private,
        };
        DigitalOcean::new(Arc::new(account), template)
    }
}

impl Drop for LocalCloud {
    fn drop(&mut self) {
        // Asked, not killed: only then does it end the droplets' processes.
        let asked = Command::new("kill")
            .arg("-TERM")
            .arg(self.child.id().to_string())
            .status();
        let deadline = Instant::now() + STOP_MAX;
        while asked.as_ref().is_ok_and(std::process::ExitStatus::success) && Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
