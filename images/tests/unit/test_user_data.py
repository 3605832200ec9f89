"""host-facts' judgement of user data, by what cloud-init leaves of them in a root of the test's own."""

import base64
import email.mime.multipart
import email.mime.text
import gzip
import json
import os

import pytest

CONFIG, TEMPLATE, UNKNOWN = "cloud-config", "jinja2", "x-not-multipart"
FILES = [{"path": "/etc/tidepool-api/config.toml", "content": "store"}]
GOOD = "#cloud-config\n" + json.dumps({"write_files": FILES}) + "\n"
OWNER_ERROR = "('write-files', OSError('Unknown user or group: \"getpwnam(): name not found: deploy\"'))"
MIME = "Content-Type: multipart/mixed; boundary=X\nMIME-Version: 1.0\n\n"


@pytest.fixture(scope="module")
def program(host_facts):
    return host_facts


class Boot:
    """What cloud-init leaves."""

    def __init__(self, root, program):
        self.root, self.program = root, program
        self.instance = root / "var/lib/cloud/instance"
        (root / "run/cloud-init").mkdir(parents=True)
        self.instance.mkdir(parents=True)
        self.status()

    def status(self, errors=(), finished=7.0):
        stage = {"errors": list(errors), "start": 5.0, "finished": finished}
        v1 = {"datasource": "DataSourceDigitalOcean", "init-local": {"errors": [], "start": 1.0, "finished": 2.0}, "init": stage}
        (self.root / "run/cloud-init/status.json").write_text(json.dumps({"v1": v1}))

    def given(self, raw, *parts, merged=None, settings=None):
        """User data, the parts (type, text) that cloud-init saw, the numbers of those that it merged, and into what."""
        (self.instance / "user-data.txt").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
        whole = email.mime.multipart.MIMEMultipart()
        for number, (kind, text) in enumerate(parts, 1):
            part = email.mime.text.MIMEText(text, kind, "utf-8")
            part.add_header("Content-Disposition", "attachment", filename=f"part-{number:03}")
            whole.attach(part)
        (self.instance / "user-data.txt.i").write_text(str(whole))
        merged = range(1, len(parts) + 1) if merged is None else merged
        names = "".join(f"# part-{number:03}\n" for number in merged)
        head = f"# from {len(merged)} files\n{names}\n" if names else ""
        (self.instance / "cloud-config.txt").write_text(f"#cloud-config\n\n{head}{json.dumps({} if settings is None else settings)}\n")

    def refusal(self):
        try:
            self.program.check_cloud_init(self.root)
        except self.program.Refused as reason:
            return str(reason)
        return None


@pytest.fixture
def boot(tmp_path, program):
    return Boot(tmp_path, program)


def test_what_cloud_init_took_is_taken(boot):
    settings = {"write_files": FILES}
    for raw, *parts in [
        (GOOD, (CONFIG, GOOD)),
        ("\n\n" + GOOD, (CONFIG, "\n\n" + GOOD)),
        (GOOD.replace("#cloud", "#Cloud"), (CONFIG, GOOD)),
        (gzip.compress(GOOD.encode()), (CONFIG, GOOD)),
        ("#cloud-config-archive\n- type: text/cloud-config\n  content: ''\n- '#!/bin/sh'\n", (CONFIG, GOOD), ("x-shellscript", "#!/bin/sh")),
        (MIME, (CONFIG, GOOD), ("cloud-boothook", "#cloud-boothook"), ("part-handler", "#part-handler"), ("x-own", "own")),
    ]:
        boot.given(raw, *parts, settings=settings)
        assert boot.refusal() is None, raw
    boot.given("## template: jinja\n" + GOOD, (TEMPLATE, "## template: jinja\n" + GOOD), settings=settings)
    assert boot.refusal() is None


@pytest.mark.parametrize("raw", ["", "\n", "#cloud-config\n", "#cloud-config\n# nothing\n", "#cloud-config-archive\n[]\n"])
def test_who_asks_for_nothing_gets_the_defaults(boot, raw):
    boot.given(raw, *([(CONFIG, raw)] if raw.startswith("#cloud-config\n") else []), merged=[])
    assert boot.refusal() is None


@pytest.mark.parametrize(
    ("raw", "begins"),
    [
        (GOOD.removeprefix("#cloud-config\n"), "'{\"write_files\""),
        (GOOD.replace("#cloud", "# cloud"), "'# cloud-config'"),
        ("\ufeff" + GOOD, "(a byte order mark)"),
        (base64.b64encode(GOOD.encode()).decode(), "(base64, which nobody decodes here)"),
        (base64.b64encode(gzip.compress(GOOD.encode())).decode(), "(base64, which nobody decodes here)"),
        (GOOD.encode("utf-16"), "the first line must be '#cloud-config'"),
    ],
)
def test_what_cloud_init_does_not_recognise_is_refused(boot, raw, begins):
    boot.given(raw, (UNKNOWN, raw if isinstance(raw, str) else "?"), merged=[])
    assert boot.refusal().startswith("cloud-init does not recognise the user data")
    assert begins in boot.refusal()


@pytest.mark.parametrize(
    ("raw", "parts", "reason"),
    [
        ("\n#cloud-config\nwrite_files:\n- path: [\n", [(CONFIG, "\n#cloud-config\nwrite_files:\n- path: [\n")], "is not YAML in line 5"),
        ("#Cloud-Config\na: [\n", [(CONFIG, "#Cloud-Config\na: [\n")], "is not YAML in line 3"),
        ("#cloud-config\n- a list\n", [(CONFIG, "#cloud-config\n- a list\n")], "not a mapping"),
        (MIME, [("x-shellscript", "#!/bin/sh"), (CONFIG, "#cloud-config\na: [\n")], "is not YAML in line 3"),
        (MIME, [(CONFIG, GOOD), ("plain", "write_files: []")], "the part part-002 of the user data (text/plain)"),
        (MIME, [("cloud-config-jsonp", "#cloud-config-jsonp\n[{}]")], "did not take the part part-001"),
        (MIME, [(CONFIG, GOOD.replace("store", "störe"))], "it has letters outside of ASCII"),
        ("#cloud-config-archive\n- content: [\n", [], "is not YAML in line"),
        ("#cloud-config-archive\na: b\n", [], "not a list of parts"),
        ("#cloud-config-archive\n- write_files: []\n", [(CONFIG, "")], "part 1 of the archive in the user data has no `content`"),
        ("#include\n", [], "found nothing in the user data"),
    ],
)
def test_a_part_that_cloud_init_left_out_is_refused(boot, raw, parts, reason):
    merged = [1] if len(parts) == 2 and parts[0][0] == CONFIG else []
    boot.given(raw, *parts, merged=merged, settings={"write_files": FILES} if merged else None)
    assert reason in boot.refusal()


FAKE_RENDERER = """#!/bin/sh
# cloud-init devel render FILE
if grep -q BROKEN "$3"; then echo "$3: expected token 'end of print statement'" >&2; exit 1; fi
grep -v 'template: jinja' "$3"
"""


def test_a_template_that_came_to_nothing_is_rendered_again(boot, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    renderer = tmp_path / "bin/cloud-init"
    renderer.write_text(FAKE_RENDERER)
    renderer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def refusal(text):
        text = "## template: jinja\n" + text
        boot.given(text, (TEMPLATE, text), merged=[])
        return boot.refusal()

    assert refusal("#cloud-config\nBROKEN {{ x\n") == "the template part-001 of the user data does not render: part-001: expected token 'end of print statement'"
    assert "is not YAML" in refusal("#cloud-config\na: [\n")
    assert "did not take the part part-001" in refusal(GOOD)
    # A condition that does not hold here.
    assert refusal("#cloud-config\n\n") is None
    (boot.instance / "scripts").mkdir()
    (boot.instance / "scripts/part-001").write_text("#!/bin/sh\n")
    assert refusal("#!/bin/sh\n") is None


def test_a_template_with_a_variable_that_is_not_there_is_refused(boot):
    boot.given("## template: jinja\n", (TEMPLATE, "## template: jinja\n"), settings={"a": "CI_MISSING_JINJA_VAR/ds.meta_data.regoin"})
    assert "names ds.meta_data.regoin, which the metadata do not have" in boot.refusal()


def test_a_part_for_another_host_is_not_missed(boot):
    boot.given(MIME, (CONFIG, GOOD), merged=[])
    parts = (boot.instance / "user-data.txt.i").read_text()
    (boot.instance / "user-data.txt.i").write_text(parts.replace("Content-Disposition", "Launch-Index: 1\nContent-Disposition"))
    assert boot.refusal() is None


def test_files_that_no_module_could_write_are_refused_also_after_a_reboot(boot):
    boot.given(GOOD, (CONFIG, GOOD), settings={"write_files": FILES})
    boot.status(errors=[OWNER_ERROR])
    assert "did not carry out all of the user data: ('write-files'" in boot.refusal()
    # The module does not run again.
    boot.status()
    assert "name not found: deploy" in boot.refusal()
    # `cloud-init clean` has it run again.
    for path in boot.instance.iterdir():
        path.unlink()
    boot.given(GOOD, (CONFIG, GOOD), settings={"write_files": FILES})
    assert boot.refusal() is None


def test_a_module_that_fails_at_a_later_boot_does_not_keep_a_database_down(boot):
    boot.given(GOOD, (CONFIG, GOOD), settings={"write_files": FILES})
    assert boot.refusal() is None
    boot.status(errors=["('resizefs', ProcessExecutionError('no space'))"])
    assert boot.refusal() is None


def test_a_host_without_user_data_has_nothing_to_lose_by_a_module(boot):
    boot.status(errors=["('growpart', RuntimeError())"])
    assert boot.refusal() is None


def test_a_stage_that_broke_off_is_refused_and_tried_again_at_the_next_boot(boot):
    boot.given("#include\nhttp://x/\n")
    boot.status(errors=["Fetching from http://x/ resulted in timeout"])
    assert boot.refusal() == "cloud-init did not get through its stage init: Fetching from http://x/ resulted in timeout"
    boot.status(finished=None)
    assert boot.refusal() == "cloud-init broke off in its stage init"
    boot.given("#include\nhttp://x/\n", (CONFIG, GOOD), settings={"write_files": FILES})
    boot.status()
    assert boot.refusal() is None


@pytest.mark.parametrize("defer", [True, "true", "yes"])
@pytest.mark.parametrize("path", ["/etc/tidepool-api/config.toml", "/etc/tidepool/db.conf", "/etc/default/metricbeat", "/etc//tidepool/../tidepool/db.conf"])
def test_files_of_ours_must_not_come_after_the_services(boot, path, defer):
    settings = {"write_files": [{"path": path, "content": "x", "defer": defer}]}
    boot.given(GOOD, (CONFIG, GOOD), settings=settings)
    assert "leave `defer` out" in boot.refusal()
    boot.given("#cloud-config\n", (CONFIG, "#cloud-config\na: 1"), settings={"write_files": [settings["write_files"][0] | {"defer": False}]})
    assert boot.refusal() is None
    boot.given("#cloud-config\n", (CONFIG, "#cloud-config\na: 1"), settings={"write_files": [{"path": "/etc/postfix/main.cf", "defer": True}]})
    assert boot.refusal() is None


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"write-files": FILES}, "'write-files', which cloud-init does not read"),
        ({"write_file": FILES}, "'write_file', which cloud-init does not read"),
        ({"write_files": FILES[0]}, "not a list"),
        ({"write_files": [{"content": "x"}]}, "entry 1 of `write_files` in the user data has no `path`"),
    ],
)
def test_files_that_cloud_init_passes_over_are_refused(boot, settings, reason):
    boot.given("#cloud-config\n", (CONFIG, "#cloud-config\na: 1"), settings=settings)
    assert reason in boot.refusal()


def test_files_of_ours_that_a_later_part_replaced_are_refused(boot):
    other = [{"path": "/root/other", "content": "x"}]
    later = "#cloud-config\n" + json.dumps({"write_files": other})
    boot.given(MIME, (CONFIG, GOOD), (CONFIG, later), settings={"write_files": other})
    assert boot.refusal().startswith("/etc/tidepool-api/config.toml of the user data was replaced by another `write_files`")
    boot.given(MIME, (CONFIG, later), (CONFIG, GOOD), settings={"write_files": FILES})
    assert boot.refusal() is None
    twice = "#cloud-config\nwrite_files:\n- {path: /etc/tidepool/db.conf, content: x}\nwrite_files:\n- {path: /root/other, content: x}\n"
    boot.given(twice, (CONFIG, twice), settings={"write_files": other})
    assert boot.refusal().startswith("/etc/tidepool/db.conf of the user data was replaced")
