"""What cloud-init made of a host's user data, by its own account. It goes on with a warning where it leaves a part out, and whatever
starts after it would serve with the image's settings.

Its account: /run/cloud-init/status.json has the errors of its stages; below /var/lib/cloud/instance, user-data.txt is what was given,
user-data.txt.i the parts that it saw in it, each with its type, and cloud-config.txt what it merged of these, with their names.
"""

import base64
import binascii
import collections
import email
import gzip
import json
import os
import re
import subprocess
import tempfile

# What it runs or keeps by itself, and whose failures show when it runs them.
RUN_TYPES = {
    "text/cloud-boothook",
    "text/part-handler",
    "text/x-shellscript",
    "text/x-shellscript-per-boot",
    "text/x-shellscript-per-instance",
    "text/x-shellscript-per-once",
}
MERGED_TYPES = {"text/cloud-config", "text/cloud-config-jsonp"}
TEMPLATE_TYPE = "text/jinja2"
# A variable that a template named and the metadata did not have.
MISSING = re.compile(r"CI_MISSING_JINJA_VAR/([\w.-]+)")
RENDER_SECS_MAX = 30
SHOWN_CHARS_MAX = 24

# Settings of what we start.
OURS = re.compile(r"/etc/(tidepool|metricbeat/|default/(tidepool|metricbeat))")
# A module's error is written as Python writes a pair: `('write-files', OSError(...))`.
OF_A_MODULE = re.compile(r"\('[\w-]+', ")
STAGES = ("init-local", "init")


class Lost(Exception):
    """Which of the user data did not reach the host, and why; a sentence for people."""


def check(root, status):
    """Raises Lost if anything of the user data did not reach the host. `status` is `v1` of status.json."""
    instance = root / "var/lib/cloud/instance"
    given = read(instance / "user-data.txt")
    check_stages(status)
    if not given.strip():
        return
    check_archives(given)
    parts = parts_of(email.message_from_bytes(read(instance / "user-data.txt.i")))
    merged = read(instance / "cloud-config.txt").decode("utf-8", "replace")
    check_recognised(parts, given)
    check_merged(parts, merged, instance)
    check_files(parts, merged)
    check_modules(status, instance)


def read(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def check_stages(status):
    """A stage that broke off has applied nothing. The next boot tries it again, so this is judged anew each time."""
    for name in STAGES:
        stage = status.get(name) or {}
        errors = [error for error in stage.get("errors") or [] if not OF_A_MODULE.match(error)]
        if errors:
            raise Lost(f"cloud-init did not get through its stage {name}: {'; '.join(errors)}")
        if stage.get("start") and not stage.get("finished"):
            raise Lost(f"cloud-init broke off in its stage {name}")


def check_modules(status, instance):
    """A module that failed does not run again at the next boot, and the next status has no error of it: its failure is kept where
    cloud-init keeps what has run, and goes with it."""
    kept = instance / "tidepool-failed-modules.json"
    try:
        failed = json.loads(kept.read_text())
    except (FileNotFoundError, ValueError):
        failed = [error for name in STAGES for error in (status.get(name) or {}).get("errors") or []]
        kept.parent.mkdir(parents=True, exist_ok=True)
        draft = kept.with_suffix(".new")
        draft.write_text(json.dumps(failed))
        draft.replace(kept)
    if failed:
        raise Lost(f"cloud-init did not carry out all of the user data: {'; '.join(failed)}")


class Part:
    def __init__(self, message):
        self.type = message.get_content_type()
        self.name = (message.get_filename() or "?").strip()
        self.for_some_hosts = "Launch-Index" in message
        self.text = (message.get_payload(decode=True) or b"").decode("utf-8", "replace")


def parts_of(message):
    """The parts with something in them."""
    leaves = [Part(leaf) for leaf in message.walk() if leaf.get_content_maintype() != "multipart"]
    return [part for part in leaves if part.text.strip()]


def check_recognised(parts, given):
    if not parts:
        if as_text(given).lstrip().lower().startswith("#cloud-config-archive"):
            return  # An empty one: see check_archives.
        raise Lost("cloud-init found nothing in the user data that it could use")
    if any(part.type == "text/part-handler" for part in parts):
        return  # Other types are its business.
    for part in parts:
        if part.type in RUN_TYPES | MERGED_TYPES | {TEMPLATE_TYPE} or part.for_some_hosts:
            continue
        alone = part.type == "text/x-not-multipart"
        text = as_text(given) if alone and len(parts) == 1 else part.text
        what = "the user data" if alone else f"the part {part.name} of the user data ({part.type})"
        begins = text.strip().split("\n", 1)[0][:SHOWN_CHARS_MAX]
        raise Lost(
            f"cloud-init does not recognise {what}: the first line must be '#cloud-config', exactly, or another of its headers,"
            f" and begins with {begins!r}{hint(text)}"
        )


def as_text(given):
    """What was given, unpacked. cloud-init unpacks it likewise."""
    try:
        return (gzip.decompress(given) if given.startswith(b"\x1f\x8b") else given).decode("utf-8", "replace")
    except (OSError, EOFError):
        return ""


def hint(text):
    if text.startswith("\ufeff"):
        return " (a byte order mark)"
    try:
        decoded = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return " (base64, which nobody decodes here)" if decoded.startswith((b"\x1f\x8b", b"#", b"Content-Type", b"MIME-Version")) else ""


def check_archives(given):
    """cloud-init leaves out, without a word, an archive that it can't read and entries without content."""
    text = as_text(given)
    texts = [text]
    if "mime-version:" in text[:4096].lower():
        texts = [part.text for part in parts_of(email.message_from_string(text))]
    for text in texts:
        if not text.lstrip().lower().startswith("#cloud-config-archive"):
            continue
        entries = load(text) or []
        if not isinstance(entries, list):
            raise Lost("the archive in the user data is YAML, but not a list of parts")
        for number, entry in enumerate(entries, 1):
            if not isinstance(entry, str) and not (isinstance(entry, dict) and "content" in entry):
                raise Lost(f"part {number} of the archive in the user data has no `content`")


def load(text):
    """YAML of a text that people wrote. Raises Lost with the line."""
    import yaml  # cloud-init brings it.

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        line = f" in line {place.line + 1}" if place else ""
        raise Lost(f"the user data is not YAML{line}: {getattr(error, 'problem', error)}") from None


def check_merged(parts, merged, instance):
    """Each part that has settings must be among those that cloud-init names as merged."""
    if unknown := MISSING.search(merged):
        raise Lost(f"a template in the user data names {unknown[1]}, which the metadata do not have")
    count = collections.Counter(re.findall(r"^# (.+)$", merged.partition("# from ")[2].partition("\n\n")[0], re.MULTILINE))
    named = collections.defaultdict(list)
    for part in parts:
        script = part.type == TEMPLATE_TYPE and (instance / "scripts" / part.name).exists()
        if part.type in MERGED_TYPES | {TEMPLATE_TYPE} and not script:
            named[part.name].append(part)
    for name, same in named.items():
        # Each is looked at only where one is missing: what cloud-init took is well.
        if len(same) > count[name]:
            wanted = [part for part in same if has_settings(part) and not part.for_some_hosts]
            if len(wanted) > count[name]:
                # Of a MIME part it takes them only where an encoding is named.
                odd = "" if all(part.text.isascii() for part in wanted) else " (it has letters outside of ASCII: send it as base64)"
                raise Lost(f"cloud-init did not take the part {name} of the user data{odd}: /var/log/cloud-init.log says why")


def has_settings(part):
    """Whether there is anything in a part that was not merged; raises Lost if it can't be read."""
    if part.type == "text/cloud-config-jsonp":
        return True
    settings = load(rendered(part) if part.type == TEMPLATE_TYPE else part.text)
    if settings is not None and not isinstance(settings, dict):
        raise Lost("the user data is YAML, but not a mapping of cloud-init's modules")
    return settings is not None


def rendered(part):
    """What cloud-init makes of a template."""
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(part.text)
        file.flush()
        line = ["cloud-init", "devel", "render", file.name]
        done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=RENDER_SECS_MAX, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["it does not say why"])[-1]
        raise Lost(f"the template {part.name} of the user data does not render: {reason.replace(file.name, part.name)}")
    return done.stdout


def check_files(parts, merged):
    """Files of ours must be written, and before anything of ours starts."""
    settings = load(merged) or {}
    for key in settings:
        if key != "write_files" and re.fullmatch(r"write[-_ ]?files?", str(key), re.IGNORECASE):
            raise Lost(f"the user data say {key!r}, which cloud-init does not read: it is `write_files`")
    files = settings.get("write_files") or []
    if not isinstance(files, list):
        raise Lost("`write_files` in the user data is not a list")
    written = {}
    for number, file in enumerate(files, 1):
        if not isinstance(file, dict) or not file.get("path"):
            raise Lost(f"entry {number} of `write_files` in the user data has no `path`")
        written[os.path.abspath(file["path"])] = file
    for path, file in written.items():
        if OURS.match(path) and str(file.get("defer", "")).lower() in ("true", "1", "on", "yes"):
            raise Lost(f"the user data defer {path}, so that it would come after what reads it has started: leave `defer` out")
    for part in parts:
        for path in [] if part.for_some_hosts else paths_of(part):
            if OURS.match(path) and path not in written:
                raise Lost(f"{path} of the user data was replaced by another `write_files`: each replaces the one before, without `merge_how`")


def paths_of(part):
    """Which files a part has written."""
    import yaml

    if part.type != "text/cloud-config":
        return []
    node = yaml.compose(part.text, Loader=yaml.SafeLoader)
    if not isinstance(node, yaml.MappingNode):
        return []
    lists = [value.value for key, value in node.value if key.value == "write_files" and isinstance(value, yaml.SequenceNode)]
    entries = [entry.value for files in lists for entry in files if isinstance(entry, yaml.MappingNode)]
    return [os.path.abspath(value.value) for entry in entries for key, value in entry if key.value == "path" and isinstance(value.value, str)]
