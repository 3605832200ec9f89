//! The machine's own Debian mirror: where it is, by the machine's apt, and which of apt's settings it needs. What stands here never
//! enters a host: an address may have a password in it.

use std::io;
use std::path::Path;

use percent_encoding::percent_decode_str;

use super::command::{self, CommandError};
use crate::private_files;

/// Settings of the machine's apt without which its mirror may not answer, or its packages not be taken.
const APT_SETTINGS: [&str; 6] = [
    "Acquire::http",
    "Acquire::Check-",
    "Acquire::Max-ValidTime",
    "Acquire::Retries",
    "Acquire::ForceIPv",
    "Acquire::https",
];

/// What downloads a file as apt does; no program for people, so in no search path.
const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
/// What it says of a file that the mirror doesn't have.
const NOT_THERE: &str = " 404 ";

/// Where one release of Debian is had from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// Ends with a slash.
    pub(super) uri: String,
    /// `bookworm-updates`
    pub(super) release: String,
}

impl Source {
    /// As a line of apt's list of sources.
    pub(super) fn line(&self) -> String {
        format!("deb {} {} main\n", self.uri, self.release)
    }
}

/// Why the machine's mirror is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MirrorError {
    #[error("this machine's apt names no Debian mirror; `apt-get update` and its sources are where to look")]
    NoMirror,
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// Why a file can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum DownloadError {
    #[error("the mirror doesn't have it")]
    NotThere,
    #[error("this machine's mirror")]
    Mirror(#[source] CommandError),
    #[error("the directory of kept packages")]
    Disk(#[from] io::Error),
}

/// Sources of a suite: those of the suite that the machine itself has, else the suite of the machine's mirror.
///
/// # Errors
/// When the machine has no mirror of Debian.
pub(super) fn sources(suite: &str) -> Result<Vec<Source>, MirrorError> {
    let format = "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)";
    let targets = command::run(
        "apt-get",
        &["indextargets", "--format", format, "Created-By: Packages"],
    )?;
    let sources = sources_of(&targets, suite);
    if sources.is_empty() {
        return Err(MirrorError::NoMirror);
    }
    Ok(sources)
}

/// The machine's settings that are needed to speak to its mirror, as a file of apt's.
///
/// # Errors
/// When apt doesn't say.
pub(super) fn settings() -> Result<String, MirrorError> {
    Ok(settings_of(&command::run("apt-config", &["dump", "Acquire"])?))
}

/// What the machine's apt does not look at, as options of a line in a list of sources: a mirror that stands still is no use to a host that does.
///
/// # Errors
/// When apt doesn't say.
pub(super) fn lenient() -> Result<String, MirrorError> {
    Ok(lenient_of(&settings()?))
}

/// Fetches a file by the machine's apt, with all of its settings.
///
/// # Errors
/// When the mirror doesn't have it, or doesn't give it.
pub(super) fn download(source: &Source, path: &str, to: &Path) -> Result<(), DownloadError> {
    let (uri, login) = without_login(&source.uri);
    // It ends with this process.
    let mut command = command::command("setpriv");
    command.args(["--pdeathsig", "KILL", "--", APT_HELPER, "-qq"]);
    // The cache is root's alone.
    command.args(["-o", "APT::Sandbox::User=root"]);
    let netrc = to.with_extension("login");
    if let Some(login) = &login {
        // Not among the arguments, which everybody on the machine may read.
        private_files::write(&netrc, login)?;
        command
            .arg("-o")
            .arg(format!("Dir::Etc::netrc={}", netrc.display()));
    }
    command.arg("download-file").arg(format!("{uri}{path}")).arg(to);
    let fetched = command::finish(command, "");
    if login.is_some() {
        std::fs::remove_file(&netrc)?;
    }
    match fetched {
        Ok(_) => Ok(()),
        Err(CommandError::Failed { complaint, .. }) if complaint.contains(NOT_THERE) => {
            Err(DownloadError::NotThere)
        }
        Err(error) => Err(DownloadError::Mirror(error)),
    }
}

/// An address without the name and password in it, and these as a line of apt's `auth.conf`.
fn without_login(uri: &str) -> (String, Option<String>) {
    let plain = (uri.to_owned(), None);
    let Some((scheme, rest)) = uri.split_once("://") else {
        return plain;
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let Some((login, host)) = authority.rsplit_once('@') else {
        return plain;
    };
    let (name, password) = login.split_once(':').unwrap_or((login, ""));
    let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (name, password) = (decoded(name), decoded(password));
    let line = format!("machine {scheme}://{host} login {name} password {password}\n");
    (format!("{scheme}://{host}/{path}"), Some(line))
}

fn lenient_of(settings: &str) -> String {
    let checks = [("Valid-Until", "check-valid-until"), ("Date", "check-date")];
    let off = |name: &str| {
        ["false", "no", "0"]
            .iter()
            .any(|off| settings.contains(&format!("Acquire::Check-{name} \"{off}\";")))
    };
    let options = checks.iter().filter(|(name, _)| off(name));
    options.map(|(_, option)| format!(" {option}=no")).collect()
}

fn sources_of(targets: &str, suite: &str) -> Vec<Source> {
    let wanted = [
        suite.to_owned(),
        format!("{suite}-updates"),
        format!("{suite}-security"),
    ];
    let debian: Vec<(&str, &str)> = targets
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (uri, release, component) = (fields.next()?, fields.next()?, fields.next()?);
            (component == "main" && fields.next() == Some("Debian")).then_some((uri, release))
        })
        .collect();
    let source = |uri: &str, release: &str| Source {
        uri: format!("{}/", uri.trim_end_matches('/')),
        release: release.to_owned(),
    };
    if debian.iter().any(|(_, release)| *release == suite) {
        let own = debian
            .iter()
            .filter(|(_, release)| wanted.iter().any(|wanted| wanted == release));
        return own.map(|(uri, release)| source(uri, release)).collect();
    }
    let mirror = debian
        .iter()
        .find(|(_, release)| !release.ends_with("-security") && !release.ends_with("-updates"));
    mirror.map(|(uri, _)| source(uri, suite)).into_iter().collect()
}

fn settings_of(dump: &str) -> String {
    let needed = dump
        .lines()
        .filter(|line| APT_SETTINGS.iter().any(|name| line.starts_with(name)) && !line.ends_with(" \"\";"));
    needed.map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "http://mirror.example/debian/ bookworm main Debian\n\
        http://mirror.example/debian/ bookworm-updates main Debian\n\
        http://mirror.example/debian/ bookworm contrib Debian\n\
        http://user:secret@security.example:8080/ bookworm-security main Debian\n\
        https://other.example/ bookworm main Other\n";

    fn lines(targets: &str, suite: &str) -> String {
        sources_of(targets, suite).iter().map(Source::line).collect()
    }

    #[test]
    fn sources_are_the_machines_own_and_only_debians() {
        assert_eq!(
            lines(TARGETS, "bookworm"),
            "deb http://mirror.example/debian/ bookworm main\n\
             deb http://mirror.example/debian/ bookworm-updates main\n\
             deb http://user:secret@security.example:8080/ bookworm-security main\n"
        );
        assert_eq!(
            lines(TARGETS, "trixie"),
            "deb http://mirror.example/debian/ trixie main\n"
        );
        assert_eq!(
            lines("https://other.example/ bookworm main Other\n", "bookworm"),
            ""
        );
    }

    #[test]
    fn of_the_settings_only_what_a_mirror_needs_is_passed_on() {
        let dump = "Acquire \"\";\nAcquire::Languages \"none\";\nAcquire::http::Proxy \"http://u:p@proxy:3128\";\n\
                    Acquire::Check-Valid-Until \"false\";\nAcquire::cdrom::mount \"/media\";\nAcquire::https \"\";\n";
        assert_eq!(
            settings_of(dump),
            "Acquire::http::Proxy \"http://u:p@proxy:3128\";\nAcquire::Check-Valid-Until \"false\";\n"
        );
    }

    #[test]
    fn a_password_is_taken_out_of_an_address() {
        let (uri, login) = without_login("http://user:s%40cret@mirror.example:8080/debian/");
        assert_eq!(uri, "http://mirror.example:8080/debian/");
        let line = "machine http://mirror.example:8080 login user password s@cret\n";
        assert_eq!(login.as_deref(), Some(line));
        let plain = "http://mirror.example/debian/";
        assert_eq!(without_login(plain), (plain.to_owned(), None));
    }

    #[test]
    fn hosts_pass_over_what_the_machine_passes_over() {
        assert_eq!(lenient_of(""), "");
        let both = "Acquire::Check-Valid-Until \"false\";\nAcquire::Check-Date \"0\";\n";
        assert_eq!(lenient_of(both), " check-valid-until=no check-date=no");
        assert_eq!(lenient_of("Acquire::Check-Date \"true\";\n"), "");
    }
}
