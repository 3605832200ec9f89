"""The API's image: what its clones answer from user data alone."""

import json

import pytest
from cloud import WORK, until
from conftest import cloud_config, needs

pytestmark = needs("api")


@pytest.fixture(scope="module")
def api(images):
    return images["api"]


@pytest.fixture(scope="module")
def clones(pairs):
    """One with settings of its own, one without any user data."""
    return pairs["api"]


def status(host, url, *arguments):
    line = ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", "--max-time", "20", *arguments, url]
    return host.ssh(" ".join(f"'{word}'" for word in line))


def test_settings_are_those_of_the_user_data(clones):
    own, none = clones
    assert "own.db" in own.ssh("ls /var/lib/tidepool-api")
    assert "tidepool.db" in none.ssh("ls /var/lib/tidepool-api")


def test_it_answers_on_both_ports(clones):
    for clone in clones:
        assert status(clone, f"http://{clone.public}:8080/v1/collections") == "401"
        assert status(clone, f"http://{clone.private}:9090/readyz") == "200"


def test_the_first_key_is_on_the_host_that_made_it(clones):
    for clone in clones:
        key = clone.ssh("cat /var/lib/tidepool-api/first-key")
        assert status(clone, "http://127.0.0.1:8080/v1/collections", "-H", f"Authorization: Bearer {key}") == "200"
        assert clone.ssh("stat -c '%U %a' /var/lib/tidepool-api/first-key") == "tidepool-api 600"


def test_it_stops_by_draining(clones):
    one, other = clones
    key = one.ssh("cat /var/lib/tidepool-api/first-key")
    base, authorization = f"http://{one.private}:8080/v1/collections/notes", f"Authorization: Bearer {key}"
    one.ssh(f"curl --silent --fail -X PUT {base} -H '{authorization}' -H 'Content-Type: application/json' -d '{{}}'")
    other.ssh("""python3 -c 'print("{\\"data\\": {\\"text\\": \\"" + "x" * 60000 + "\\"}}")' >/tmp/large.json""")
    sending = f"curl --silent --output /dev/null --write-out '%{{http_code}}' --limit-rate 15k --expect100-timeout 0 -X PUT {base}/documents/large"
    other.ssh(f"nohup {sending} -H '{authorization}' -H 'Content-Type: application/json' --data-binary @/tmp/large.json >/tmp/code 2>&1 </dev/null &")
    in_flight = "curl --silent http://127.0.0.1:9090/metrics | grep -qE '^tidepool_http_requests_in_flight[^ ]* [1-9]'"
    until("the request has begun", lambda: one.try_ssh(in_flight).returncode == 0 or None)
    one.ssh("systemctl stop tidepool-api")
    assert until("it was answered", lambda: other.ssh("cat /tmp/code") or None) == "201"
    assert one.ssh("systemctl show --property=Result --value tidepool-api") == "success"
    one.ssh("systemctl start tidepool-api")


OWNER_OF_LATER = {"users": [{"name": "deploy"}], "write_files": [{"path": "/etc/default/metricbeat", "owner": "deploy:deploy", "content": "x"}]}


@pytest.mark.parametrize(
    ("user_data", "reason"),
    [
        ("#cloud-config\nwrite_files:\n- path: [\n", "the user data is not YAML in line"),
        ("# cloud-config\nruncmd: []\n", "cloud-init does not recognise the user data"),
        ("## template: jinja\n#cloud-config\nwrite_files: [{{ x\n", "does not render"),
        ("#cloud-config\n" + json.dumps(OWNER_OF_LATER), "cloud-init did not carry out all of the user data"),
    ],
)
def test_user_data_that_do_not_reach_the_host_stop_the_service_and_say_so(api, user_data, reason):
    host = api.clone(user_data).wait_for_boot()
    assert host.try_ssh("systemctl is-active tidepool-api").stdout.strip() == "inactive"
    console = (WORK / "state" / "droplets" / str(host.id) / "log" / "console.log").read_text(errors="replace")
    assert "tidepool-host: failed: " in console
    assert reason in console
    host.destroy()


# A repository that calls itself Debian's own for security, with a newer version of two packages that are installed.
UPGRADES = r"""
set -e
cd "$(mktemp -d)"
chmod 755 .
pack() { # NAME VERSION
  mkdir -p "$1/DEBIAN"
  printf 'Package: %s\nVersion: %s\nArchitecture: all\nMaintainer: Test <test@localhost>\nDescription: test\n' "$1" "$2" >"$1/DEBIAN/control"
  # A conffile that changes with each version.
  mkdir -p "$1/etc"
  echo "$2" >"$1/etc/$1.conf"
  echo "/etc/$1.conf" >"$1/DEBIAN/conffiles"
  dpkg-deb --build --root-owner-group "$1" "$1.deb"
}
for name in base-canary cassandra-canary; do
  pack "$name" 1
  dpkg --install "$name.deb"
  echo own >"/etc/$name.conf"
  pack "$name" 2
  dpkg-deb --field "$name.deb"
  printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$name.deb" "$(stat -c %s "$name.deb")" "$(sha256sum "$name.deb" | cut -d' ' -f1)"
done >all
sed -n '/^Package:/,/^$/p' all >Packages
. /etc/os-release
printf 'Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nCodename: %s-security\nSHA256:\n %s %s Packages\n' \
  "$VERSION_CODENAME" "$(sha256sum Packages | cut -d' ' -f1)" "$(stat -c %s Packages)" >Release
echo "deb [trusted=yes] file:$PWD ./" >/etc/apt/sources.list.d/test.list
apt-get update
unattended-upgrade --verbose
"""


@pytest.mark.long
def test_upgrades_by_themselves_leave_the_database_alone(clones):
    host = clones[1]
    said = host.ssh(f"bash <<'END' 2>&1\n{UPGRADES}\nEND")
    versions = host.ssh("dpkg-query --show --showformat='${Package} ${Version}\\n' base-canary cassandra-canary")
    assert versions.splitlines() == ["base-canary 2", "cassandra-canary 1"], said
    # Settings that somebody changed neither hold it back nor are lost.
    assert host.ssh("cat /etc/base-canary.conf") == "own"


# Stands in for the monitoring host: it has no index template until the file is there, and keeps what it is sent.
ELASTICSEARCH = r'''
import gzip, http.server, pathlib
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
    def do_HEAD(self):
        self.answer(200 if pathlib.Path("/tmp/template").exists() else 404, b"")
    def do_GET(self):
        self.answer(200, b'{"version": {"number": "8.4.3"}, "license": {"status": "active"}}')
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with open("/tmp/documents", "ab") as file:
            file.write(body)
        count = body.count(b"\n") // 2
        self.answer(200, ('{"errors": false, "items": [' + ",".join(['{"create": {"status": 201}}'] * count) + "]}").encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 9200), Handler).serve_forever()
'''


@pytest.mark.long
def test_metricbeat_waits_for_the_template_and_says_who_it_is(api, clones):
    monitor = clones[1]
    monitor.ssh(f"cat >/tmp/elasticsearch.py <<'END'\n{ELASTICSEARCH}\nEND")
    monitor.ssh("systemd-run --quiet python3 /tmp/elasticsearch.py && nft add element inet host tcp_private '{ 9200 }'")
    destination = cloud_config({"/etc/default/metricbeat": ("0600", f"ELASTICSEARCH_URL=http://{monitor.private}:9200\n")})
    hosts = [api.clone(destination), api.clone(destination)]
    for host in hosts:
        host.wait_for_boot()
        until("it waits", lambda: "waiting for the index template" in host.ssh("journalctl --no-pager --unit=metricbeat") or None)
    assert monitor.try_ssh("test -e /tmp/documents").returncode == 1
    monitor.ssh("touch /tmp/template")

    def documents():
        lines = monitor.ssh("cat /tmp/documents 2>/dev/null || true").splitlines()[1::2]
        found = [json.loads(line) for line in lines]
        return found if len({document["host"]["name"] for document in found}) == 2 else None

    sent = until("both have sent", documents)
    assert {(document["host"]["name"], document["tidepool"]["host"]["id"]) for document in sent} == {(host.name, str(host.id)) for host in hosts}
    assert {document["tidepool"]["image"] for document in sent} == {"api"}
    assert len({document["agent"]["id"] for document in sent}) == 2
    for host in hosts:
        host.destroy()
