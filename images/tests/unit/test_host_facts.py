"""host-facts against a metadata service of the test's own, in a root of the test's own."""

import http.server
import json
import threading

import pytest

MAC = "02:00:c6:12:00:04"
DROPLET = {
    "droplet_id": 10000001,
    "hostname": "web-1",
    "region": "nyc3",
    "interfaces": {
        "public": [{"ipv4": {"ip_address": "198.18.0.4", "netmask": "255.255.255.0"}, "mac": MAC, "type": "public"}],
        "private": [{"ipv4": {"ip_address": "10.108.0.2", "netmask": "255.255.240.0"}, "mac": MAC, "type": "private"}],
    },
}
INSTANCE = {
    "id": 4711,
    "name": "web-1",
    "zone": "projects/1/zones/europe-west3-a",
    "networkInterfaces": [
        {"ip": "10.0.0.3", "subnetmask": "255.255.255.0", "mac": MAC, "accessConfigs": [{"externalIp": "203.0.113.9"}]}
    ],
}


@pytest.fixture(scope="module")
def program(host_facts):
    return host_facts


class Metadata:
    """Answers each path with the next of its answers, the last one again and again: (status, body)."""

    def __init__(self):
        self.answers, self.headers = {}, {}
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.split("?")[0]
                outer.headers[path] = dict(self.headers)
                waiting = outer.answers.get(path, [(404, b"not found")])
                status, body = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def digitalocean(self, *answers):
        self.answers["/metadata/v1.json"] = [as_answer(answer) for answer in answers]

    def google(self, *answers):
        self.answers["/computeMetadata/v1/instance/"] = [as_answer(answer) for answer in answers]


def as_answer(answer):
    return (answer, b"broken") if isinstance(answer, int) else (200, json.dumps(answer).encode())


@pytest.fixture
def metadata():
    service = Metadata()
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.fixture
def root(tmp_path):
    put(tmp_path / "run/cloud-init/status.json", {"v1": {"datasource": "DataSourceDigitalOcean"}})
    interface = tmp_path / "sys/class/net/eth0"
    interface.mkdir(parents=True)
    (interface / "address").write_text(MAC + "\n")
    return tmp_path


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def run(program, root, metadata, wait_secs="5"):
    url = metadata if isinstance(metadata, str) else metadata.url
    return program.main(["--root", str(root), "--metadata", url, "--wait-secs", wait_secs])


def facts(root):
    return json.loads((root / "run/tidepool/host.json").read_text())


def test_a_droplet_knows_who_it_is(program, root, metadata, capsys):
    metadata.digitalocean(DROPLET)
    assert run(program, root, metadata) == 0
    assert facts(root) == {
        "HOST_PROVIDER": "digitalocean",
        "HOST_ID": "10000001",
        "HOST_NAME": "web-1",
        "HOST_REGION": "nyc3",
        "HOST_PUBLIC_IP": "198.18.0.4",
        "HOST_PRIVATE_IP": "10.108.0.2",
        "HOST_PRIVATE_NETMASK": "255.255.240.0",
    }
    assert "HOST_NAME=web-1\n" in (root / "run/tidepool/host.env").read_text()
    assert capsys.readouterr().out == "tidepool-host: ready: web-1 (10000001) at digitalocean nyc3\n"


def test_an_instance_of_google_knows_who_it_is(program, root, metadata):
    metadata.google(INSTANCE)
    assert run(program, root, metadata) == 0
    assert facts(root) == {
        "HOST_PROVIDER": "google",
        "HOST_ID": "4711",
        "HOST_NAME": "web-1",
        "HOST_REGION": "europe-west3-a",
        "HOST_PUBLIC_IP": "203.0.113.9",
        "HOST_PRIVATE_IP": "10.0.0.3",
        "HOST_PRIVATE_NETMASK": "255.255.255.0",
    }
    assert metadata.headers["/computeMetadata/v1/instance/"]["Metadata-Flavor"] == "Google"


def test_a_droplet_without_a_private_network_has_no_private_address(program, root, metadata):
    metadata.digitalocean({**DROPLET, "interfaces": {"public": DROPLET["interfaces"]["public"]}})
    assert run(program, root, metadata) == 0
    assert facts(root)["HOST_PRIVATE_IP"] == ""


def test_metadata_that_fail_at_first_are_waited_for(program, root, metadata):
    metadata.digitalocean(500, 500, DROPLET)
    assert run(program, root, metadata) == 0


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (404, "404"),
        (500, "500"),
        ([], "no attribute"),
        ({"hostname": "web-1"}, "droplet_id"),
        ({**DROPLET, "interfaces": {"public": "none"}}, "'str' object has no attribute"),
    ],
)
def test_metadata_that_never_come_right_are_reported(program, root, metadata, capsys, answer, reason):
    metadata.digitalocean(answer)
    assert run(program, root, metadata, wait_secs="0.1") == 1
    said = capsys.readouterr().out
    assert said.startswith("tidepool-host: failed: no metadata after 0.1 s") and reason in said
    assert not (root / "run/tidepool/host.env").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"hostname": "web\nLD_PRELOAD=/tmp/x"},
        {"hostname": ""},
        {"hostname": "-web"},
        {"region": "a b"},
        {"interfaces": {"private": [{"ipv4": {"ip_address": "10.0.0"}}]}},
    ],
)
def test_facts_that_cannot_be_are_refused(program, root, metadata, capsys, change):
    metadata.digitalocean({**DROPLET, **change})
    assert run(program, root, metadata, wait_secs="0.1") == 1
    assert "the metadata service says" in capsys.readouterr().out
    assert not (root / "run/tidepool/host.env").exists()


def test_a_reboot_without_metadata_goes_by_the_last_one(program, root, metadata, capsys):
    metadata.digitalocean(DROPLET, 500)
    assert run(program, root, metadata) == 0
    assert run(program, root, metadata, wait_secs="0.1") == 0
    assert facts(root)["HOST_ID"] == "10000001"
    assert "going by what was said at an earlier boot" in capsys.readouterr().out


def test_a_copy_of_the_disk_does_not_go_by_what_the_original_was_told(program, root, metadata):
    metadata.digitalocean(DROPLET, 500)
    assert run(program, root, metadata) == 0
    (root / "sys/class/net/eth0/address").write_text("02:00:c6:12:00:05\n")
    assert run(program, root, metadata, wait_secs="0.1") == 1


def test_a_host_that_cloud_init_did_not_recognise_says_so(program, root, metadata, capsys):
    metadata.digitalocean(DROPLET)
    (root / "run/cloud-init/status.json").unlink()
    assert run(program, root, metadata) == 1
    assert "it recognised no provider" in capsys.readouterr().out
    for source in [None, "", "DataSourceNone"]:
        put(root / "run/cloud-init/status.json", {"v1": {"datasource": source}})
        assert run(program, root, metadata) == 1
        assert "found no settings for this host" in capsys.readouterr().out


def test_user_data_that_cloud_init_did_not_take_stop_the_boot(program, root, metadata, capsys):
    metadata.digitalocean(DROPLET)
    put(root / "var/lib/cloud/instance/user-data.txt", "# cloud-config\nruncmd: []\n")
    assert run(program, root, metadata) == 1
    assert capsys.readouterr().out.startswith("tidepool-host: failed: cloud-init found nothing in the user data")
    assert not (root / "run/tidepool/host.env").exists()
