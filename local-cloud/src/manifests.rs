//! Image manifests: what a machine made from an image runs. Reads `<images>/<slug>/image.toml`; starts nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::problems::Problems;

/// Largest manifest read: a page of text with room; guards against a wrong `--images`.
const MANIFEST_BYTES_MAX: u64 = 256 * 1024;
/// Longest simulated boot: one hour, so that a typing error doesn't wait for ever.
const BOOT_SECS_MAX: f64 = 3_600.0;

/// What an image may call its operating system, as clients know it.
pub(crate) const DISTRIBUTIONS: [&str; 13] = [
    "Arch Linux",
    "CentOS",
    "CoreOS",
    "Debian",
    "Fedora",
    "Fedora Atomic",
    "FreeBSD",
    "Gentoo",
    "openSUSE",
    "RancherOS",
    "Rocky Linux",
    "Ubuntu",
    "Unknown",
];
/// The distribution of an image that names none.
pub(crate) const DEFAULT_DISTRIBUTION: &str = "Unknown";

/// An image: what its machines run.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Image {
    /// How clients name it.
    pub(crate) slug: String,
    /// Shown to people.
    pub(crate) name: String,
    /// One of [`DISTRIBUTIONS`]; clients group by it.
    pub(crate) distribution: String,
    /// Simulated boot before the processes start.
    pub(crate) boot_secs: f64,
    /// Smallest disk of a size that may run it.
    pub(crate) min_disk_gb: u64,
    /// Address that answers 2xx when a machine is ready, with placeholders; shown in `/_local/state`.
    pub(crate) ready_url: Option<String>,
    /// Programs, all started at the end of the boot; what hosts that are processes run.
    pub(crate) processes: Vec<Program>,
    /// The system; what hosts that are systems boot.
    pub(crate) system: Option<System>,
}

/// A Debian system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct System {
    /// The release: `bookworm`.
    pub(crate) suite: String,
    /// What it has beside what every system has.
    pub(crate) packages: Vec<String>,
    /// Its base image is made when the cloud starts; otherwise when it is first used.
    pub(crate) at_start: bool,
}

/// One program of an image, with `{…}` still in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Program {
    /// Unique in its image; names the log file.
    pub(crate) name: String,
    /// Absolute path.
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
}

/// The images' directory, which may change at any time.
#[derive(Debug, Clone)]
pub(crate) struct Manifests(PathBuf);

impl Manifests {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    /// The images as they are now. Once for each thing that is done is enough, and all of it goes by the same images then.
    ///
    /// # Errors
    /// Every problem of every manifest.
    pub(crate) async fn read(&self) -> Result<Images, Problems> {
        let dir = self.0.clone();
        let read = tokio::task::spawn_blocking(move || Images::load(&dir, &variable)).await;
        read.unwrap_or_else(|error| {
            let mut problems = Problems::new();
            problems.add("images", error.to_string());
            Err(problems)
        })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "manifests may name variables of the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// All images of a directory, by slug.
#[derive(Debug, Clone, Default)]
pub(crate) struct Images(BTreeMap<String, Image>);

impl Images {
    /// Reads every `<dir>/<slug>/image.toml`. Directories without one are passed over.
    ///
    /// # Errors
    /// Every problem of every manifest.
    fn load(dir: &Path, vars: &dyn Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let mut problems = Problems::new();
        let mut images = BTreeMap::new();
        let entries = match std::fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) => {
                problems.add(
                    dir.display().to_string(),
                    format!("can't read the images' directory: {error}"),
                );
                return Err(problems);
            }
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path().join("image.toml")))
            .collect();
        paths.sort();
        for path in paths.into_iter().filter(|path| path.exists()) {
            match Self::load_one(&path, vars) {
                Ok(image) => {
                    if let Some(twin) = images.insert(image.slug.clone(), image) {
                        problems.add(
                            format!("{}: slug", path.display()),
                            format!("`{}` is also the slug of another image", twin.slug),
                        );
                    }
                }
                Err(found) => problems.append(found),
            }
        }
        problems.or(Self(images))
    }

    /// The image of that slug.
    pub(crate) fn get(&self, slug: &str) -> Option<&Image> {
        self.0.get(slug)
    }

    /// All images, by slug.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Image> {
        self.0.values()
    }

    fn load_one(path: &Path, vars: &dyn Fn(&str) -> Option<String>) -> Result<Image, Problems> {
        let place = path.display().to_string();
        let mut problems = Problems::new();
        let text = match tidepool_listener::read_text(path, MANIFEST_BYTES_MAX) {
            Ok(text) => text,
            Err(error) => {
                problems.add(place, format!("can't read: {error}"));
                return Err(problems);
            }
        };
        let dir = path.parent().unwrap_or(Path::new("/"));
        parse(&text, dir, vars).map_err(|found| {
            let mut problems = Problems::new();
            for problem in found.list() {
                problems.add(format!("{place}: {}", problem.path), problem.message.clone());
            }
            problems
        })
    }
}

/// Parses one manifest that stands in `dir`.
fn parse(text: &str, dir: &Path, vars: &dyn Fn(&str) -> Option<String>) -> Result<Image, Problems> {
    let mut problems = Problems::new();
    let table: Table = match toml::from_str(text) {
        Ok(table) => table,
        Err(error) => {
            problems.add(place_of(&error, text), error.message().to_owned());
            return Err(problems);
        }
    };
    let mut fields = Fields {
        table,
        path: String::new(),
        problems: &mut problems,
    };
    let slug = fields.text("slug").unwrap_or_default();
    let name = fields.optional_text("name").unwrap_or_else(|| slug.clone());
    let distribution = fields
        .optional_text("distribution")
        .unwrap_or_else(|| DEFAULT_DISTRIBUTION.to_owned());
    let boot_secs = fields.number("boot_secs").unwrap_or(0.0);
    let min_disk_gb = fields.number("min_disk_gb").unwrap_or(1.0);
    let ready = fields.take("ready");
    let processes = fields.take("process");
    let system = fields.take("system");
    fields.refuse_rest();
    if !slug.is_empty() && !is_slug(&slug) {
        problems.add("slug", "only a-z, 0-9, `-`, `_` and `.`, at most 100 characters");
    }
    if !DISTRIBUTIONS.contains(&distribution.as_str()) {
        let known = DISTRIBUTIONS.join(", ");
        problems.add("distribution", format!("one of these: {known}"));
    }
    if !(0.0..=BOOT_SECS_MAX).contains(&boot_secs) {
        problems.add("boot_secs", format!("0 to {BOOT_SECS_MAX}"));
    }
    if !(1.0..=10_000.0).contains(&min_disk_gb) {
        problems.add("min_disk_gb", "1 to 10000");
    }
    let ready_url = parse_ready(ready, &mut problems);
    let system = parse_system(system, &mut problems);
    let processes = match (processes, &system) {
        (None, Some(_)) => Vec::new(),
        (processes, _) => parse_processes(processes, dir, vars, &mut problems),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be 1 to 10000"
    )]
    let min_disk_gb = min_disk_gb as u64;
    problems.or(Image {
        slug,
        name,
        distribution,
        boot_secs,
        min_disk_gb,
        ready_url,
        processes,
        system,
    })
}

/// Line and column of what is not TOML. The line itself is not shown: it may hold a secret.
fn place_of(error: &toml::de::Error, text: &str) -> String {
    let Some(before) = error.span().and_then(|span| text.get(..span.start)) else {
        return "toml".to_owned();
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|char| *char != '\n').count() + 1;
    format!("toml, line {line}, column {column}")
}

fn is_slug(slug: &str) -> bool {
    slug.len() <= 100
        && slug
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
}

fn parse_ready(value: Option<Value>, problems: &mut Problems) -> Option<String> {
    match value? {
        Value::Table(table) => {
            let mut fields = Fields {
                table,
                path: "ready.".to_owned(),
                problems,
            };
            let url = fields.optional_text("url");
            fields.refuse_rest();
            url
        }
        _ => {
            problems.add(
                "ready",
                "a table, such as [ready] with url = \"http://{ip}:9090/readyz\"",
            );
            None
        }
    }
}

fn parse_system(value: Option<Value>, problems: &mut Problems) -> Option<System> {
    let Value::Table(table) = value? else {
        problems.add("system", "a table, such as [system] with suite = \"bookworm\"");
        return None;
    };
    let mut fields = Fields {
        table,
        path: "system.".to_owned(),
        problems,
    };
    let suite = fields.text("suite").unwrap_or_default();
    let packages = fields.texts("packages");
    let at_start = fields.flag("at_start").unwrap_or(true);
    fields.refuse_rest();
    if !suite.is_empty() && !suite.bytes().all(|byte| byte.is_ascii_lowercase()) {
        problems.add("system.suite", "the name of a Debian release, such as bookworm");
    }
    for (nth, package) in packages.iter().enumerate() {
        if !is_package(package) {
            problems.add(
                format!("system.packages[{nth}]"),
                "the name of a Debian package: a-z, 0-9, `+`, `-` and `.`",
            );
        }
    }
    Some(System {
        suite,
        packages,
        at_start,
    })
}

/// As Debian's policy has it.
fn is_package(name: &str) -> bool {
    name.len() >= 2
        && name.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.".contains(&byte))
}

fn parse_processes(
    value: Option<Value>,
    dir: &Path,
    vars: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Vec<Program> {
    let Some(Value::Array(list)) = value else {
        problems.add(
            "process",
            "at least one [[process]] table is needed, or a [system] table",
        );
        return Vec::new();
    };
    let mut programs: Vec<Program> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    for (nth, entry) in list.into_iter().enumerate() {
        let path = format!("process[{nth}].");
        let Value::Table(table) = entry else {
            problems.add(path.trim_end_matches('.'), "a [[process]] table");
            continue;
        };
        let mut fields = Fields {
            table,
            path: path.clone(),
            problems,
        };
        let name = fields.text("name").unwrap_or_default();
        let program = fields.text("program").unwrap_or_default();
        let args = fields.texts("args");
        let env = fields.text_map("env");
        fields.refuse_rest();
        if !name.is_empty() && !is_slug(&name) {
            problems.add(
                format!("{path}name"),
                "only a-z, 0-9, `-`, `_` and `.`, at most 100 characters",
            );
        }
        if names.contains(&name) {
            problems.add(
                format!("{path}name"),
                format!("`{name}` is also the name of another process"),
            );
        }
        names.push(name.clone());
        let mut expand = |text: &str, field: String| match expand_vars(text, vars) {
            Ok(text) => text,
            Err(message) => {
                problems.add(format!("{path}{field}"), message);
                String::new()
            }
        };
        let program = expand(&program, "program".to_owned());
        let args = args
            .iter()
            .enumerate()
            .map(|(nth, arg)| expand(arg, format!("args[{nth}]")))
            .collect::<Vec<_>>();
        let env: BTreeMap<String, String> = env
            .iter()
            .map(|(key, text)| (key.clone(), expand(text, format!("env.{key}"))))
            .collect();
        if program.is_empty() {
            continue;
        }
        let program = if program == SELF_PROGRAM {
            own_program()
        } else {
            dir.join(program)
        };
        if !program.is_file() {
            problems.add(
                format!("{path}program"),
                format!("no such file: {}", program.display()),
            );
        }
        programs.push(Program {
            name,
            program,
            args,
            env,
        });
    }
    programs
}

/// As a `program`: tidepool-local-cloud itself, for the small server that its tests use as an image.
const SELF_PROGRAM: &str = "self";

fn own_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from(SELF_PROGRAM))
}

/// Replaces `${NAME}` by the variable's value.
fn expand_vars(text: &str, vars: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let (name, tail) = after.split_once('}').ok_or("`${` without `}`")?;
        out.push_str(&vars(name).ok_or_else(|| format!("the environment has no variable `{name}`"))?);
        rest = tail;
    }
    out.push_str(rest);
    Ok(out)
}

/// A table whose fields are taken one by one, so that the rest is known to be unknown.
struct Fields<'a> {
    table: Table,
    path: String,
    problems: &'a mut Problems,
}

impl Fields<'_> {
    fn take(&mut self, key: &str) -> Option<Value> {
        self.table.remove(key)
    }

    fn text(&mut self, key: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.problems.add(format!("{}{key}", self.path), "missing");
        }
        self.optional_text(key).filter(|text| {
            let empty = text.is_empty();
            if empty {
                self.problems.add(format!("{}{key}", self.path), "is empty");
            }
            !empty
        })
    }

    fn optional_text(&mut self, key: &str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => {
                self.problems.add(
                    format!("{}{key}", self.path),
                    format!("a text, not {}", other.type_str()),
                );
                None
            }
        }
    }

    fn number(&mut self, key: &str) -> Option<f64> {
        match self.take(key)? {
            #[expect(
                clippy::cast_precision_loss,
                reason = "bounds below 2^53 are checked by the caller"
            )]
            Value::Integer(number) => Some(number as f64),
            Value::Float(number) => Some(number),
            other => {
                self.problems.add(
                    format!("{}{key}", self.path),
                    format!("a number, not {}", other.type_str()),
                );
                None
            }
        }
    }

    fn flag(&mut self, key: &str) -> Option<bool> {
        match self.take(key)? {
            Value::Boolean(flag) => Some(flag),
            other => {
                self.problems.add(
                    format!("{}{key}", self.path),
                    format!("true or false, not {}", other.type_str()),
                );
                None
            }
        }
    }

    fn texts(&mut self, key: &str) -> Vec<String> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let list: Option<Vec<String>> = value
            .as_array()
            .and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        list.unwrap_or_else(|| {
            self.problems
                .add(format!("{}{key}", self.path), "a list of texts");
            Vec::new()
        })
    }

    fn text_map(&mut self, key: &str) -> BTreeMap<String, String> {
        let Some(value) = self.take(key) else {
            return BTreeMap::new();
        };
        let map: Option<BTreeMap<String, String>> = value.as_table().and_then(|table| {
            table
                .iter()
                .map(|(key, item)| item.as_str().map(|text| (key.clone(), text.to_owned())))
                .collect()
        });
        map.unwrap_or_else(|| {
            self.problems
                .add(format!("{}{key}", self.path), "a table of texts");
            BTreeMap::new()
        })
    }

    fn refuse_rest(self) {
        for key in self.table.keys() {
            self.problems.add(format!("{}{key}", self.path), "unknown field");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_vars(_: &str) -> Option<String> {
        None
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let vars = |name: &str| (name == "BIN_DIR").then(|| "/bin".to_owned());
        let text = r#"
            slug = "tidepool-api"
            name = "Tidepool API"
            distribution = "Debian"
            boot_secs = 2.0
            [ready]
            url = "http://{ip}:9090/readyz"
            [[process]]
            name = "api"
            program = "${BIN_DIR}/sh"
            args = ["-c", "{ip}:8080 ${BIN_DIR}"]
            env = { NAME = "value" }
        "#;
        let image = parse(text, Path::new("/images/x"), &vars).unwrap();
        assert_eq!(image.boot_secs, 2.0);
        assert_eq!(image.ready_url.as_deref(), Some("http://{ip}:9090/readyz"));
        let program = image.processes.first().unwrap();
        assert_eq!(program.program, Path::new("/bin/sh"));
        assert_eq!(program.args, ["-c", "{ip}:8080 /bin"]);
        assert_eq!(program.env.get("NAME").map(String::as_str), Some("value"));
    }

    #[test]
    fn every_mistake_is_reported_with_its_place() {
        let text = r#"
            slug = "Tide Pool"
            boot_secs = -1
            distribution = "Tidepool"
            colour = "red"
            [[process]]
            name = "a"
            program = "${NOWHERE}/x"
            args = [1]
            [[process]]
            name = "a"
            program = "missing-file"
            shell = true
        "#;
        let problems = parse(text, Path::new("/images/x"), &no_vars).unwrap_err();
        let paths: Vec<&str> = problems
            .list()
            .iter()
            .map(|problem| problem.path.as_str())
            .collect();
        assert_eq!(
            paths,
            [
                "colour",
                "slug",
                "distribution",
                "boot_secs",
                "process[0].args",
                "process[0].program",
                "process[1].shell",
                "process[1].name",
                "process[1].program"
            ]
        );
    }

    #[test]
    fn an_image_is_of_an_unknown_distribution_until_it_says_which() {
        let text = "slug = \"x\"\n[[process]]\nname = \"a\"\nprogram = \"/bin/sh\"\n";
        let image = parse(text, Path::new("/"), &no_vars).unwrap();
        assert_eq!(image.distribution, "Unknown");
        assert_eq!((image.name.as_str(), image.min_disk_gb), ("x", 1));
    }

    #[test]
    fn what_is_not_toml_is_reported_by_its_place_alone() {
        let text = "slug = \"x\"\n[[process]]\nenv = { PASSWORD = \"hunter2\" \"oops\" }\n";
        let problems = parse(text, Path::new("/"), &no_vars).unwrap_err().to_string();
        assert!(
            problems.contains("line 3") && !problems.contains("hunter2"),
            "{problems}"
        );
    }

    /// If one hung, the whole test would.
    #[test]
    fn a_manifest_that_is_not_a_file_or_too_large_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let place = |slug: &str| {
            let image = dir.path().join(slug);
            std::fs::create_dir(&image).unwrap();
            image.join("image.toml")
        };
        nix::unistd::mkfifo(&place("a"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/dev/zero", place("b")).unwrap();
        std::fs::write(place("c"), "#".repeat(300_000)).unwrap();
        place("without-one");
        let problems = Images::load(dir.path(), &no_vars).unwrap_err();
        let messages: Vec<&str> = problems
            .list()
            .iter()
            .map(|problem| problem.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "can't read: not a regular file",
                "can't read: not a regular file",
                "can't read: it has more than 262144 bytes"
            ]
        );
    }

    #[test]
    fn a_systems_base_image_is_made_at_the_start_unless_it_says_otherwise() {
        let system = |more: &str| {
            let text = format!("slug = \"x\"\n[system]\nsuite = \"sid\"\n{more}");
            parse(&text, Path::new("/"), &no_vars)
        };
        for (more, at_start) in [("", true), ("at_start = true", true), ("at_start = false", false)] {
            let found = system(more).unwrap().system.unwrap();
            assert_eq!(found.at_start, at_start, "{more}");
        }
        let problems = system("at_start = \"no\"").unwrap_err();
        let problem = problems.list().first().unwrap();
        assert_eq!(problem.path, "system.at_start");
        assert_eq!(problem.message, "true or false, not string");
    }

    #[test]
    fn without_a_process_there_is_no_image() {
        let problems = parse("slug = \"x\"", Path::new("/"), &no_vars).unwrap_err();
        assert_eq!(
            problems.list().first().map(|problem| problem.path.as_str()),
            Some("process")
        );
    }
}
