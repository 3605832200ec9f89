"""traces.py by itself: of a folder that holds one thing of a build, it says that one; of one that holds none, nothing. Ends with
`N passed, N failed, N skipped`."""

import pathlib
import sys
import tempfile
import unittest

import traces

SHADOW = "root:*:20000:0:99999:7:::\nsshd:!:20000::::::\ndev:!*:20000:0:99999:7:::\n"
PASSWD = "root:x:0:0::/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
# A file, what it holds, and what is said of it.
LEFT = [
    ("root/notes", f"a {traces.CANARY} in it\n", "a canary is in {path}"),
    ("etc/environment", f"DIGITALOCEAN_TOKEN={traces.TOKEN}\n", "a canary is in {path}"),
    ("etc/shadow-", f"root:$6${traces.CANARY}$root:20000::::::\n", "a canary is in {path}"),
    ("etc/shadow", SHADOW.replace("root:*", "root:$6$salt$hash"), "root has a password"),
    ("etc/shadow", SHADOW.replace("root:*", "root:"), "root has a password"),
    ("etc/shadow", SHADOW.replace("dev:!*", "dev:!$6$salt$hash"), "dev has a password"),
    ("etc/passwd", PASSWD + "dev:x:1000:1000::/home/dev:/bin/bash\n", "the account dev is there"),
    ("etc/machine-id", "0123456789abcdef0123456789abcdef\n", "the machine-id is not empty"),
    ("etc/ssh/ssh_host_ed25519_key", "a key\n", "etc/ssh/ssh_host_ed25519_key is there"),
    ("root/.ssh/authorized_keys", "", "root/.ssh/authorized_keys is there"),
    ("home/dev/.python_history", "import os\n", "home/dev/.python_history is there"),
    ("var/lib/systemd/random-seed", "seed\n", "var/lib/systemd/random-seed is there"),
    ("var/log/journal/0123/system.journal", "log\n", "var/log/journal/0123/system.journal is there"),
    ("var/lib/cloud/instances/1/obj.pkl", "state\n", "var/lib/cloud is not empty"),
    ("var/lib/apt/lists/deb.debian.org_Packages", "list\n", "var/lib/apt/lists is not empty"),
    ("etc/apt/auth.conf.d/build.conf", "machine m login l password p\n", "etc/apt/auth.conf.d is not empty"),
    ("var/tmp/left", "left\n", "var/tmp is not empty"),
]


class Found(unittest.TestCase):
    def snapshot(self, *more):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for name, text in [("etc/machine-id", ""), ("etc/shadow", SHADOW), ("etc/passwd", PASSWD), *more]:
            path = pathlib.Path(folder.name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return pathlib.Path(folder.name)

    def test_a_clean_image_has_no_traces(self):
        self.assertEqual(traces.found(self.snapshot()), [])

    def test_each_trace_is_found(self):
        for name, text, said in LEFT:
            with self.subTest(name, text=text):
                files = self.snapshot((name, text))
                self.assertEqual(traces.found(files), [said.format(path=files / name)])


if __name__ == "__main__":
    result = unittest.main(exit=False, verbosity=2).result
    failed = len(result.failures) + len(result.errors)
    print(f"{result.testsRun - failed} passed, {failed} failed, 0 skipped", flush=True)
    sys.exit(failed > 0)
