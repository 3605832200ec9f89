"""What a build leaves on its host: canaries planted where people and programs leave things, and what of it is in a snapshot."""

import pathlib
import re
import subprocess

CANARY = "canary-5f1c2e"
# What the build shows the provider. Only the machine that builds has it.
TOKEN = f"token-{CANARY}"
# The builder's own user data.
USER_DATA = f"#cloud-config\nwrite_files:\n- path: /root/secret\n  content: {CANARY}\n"

# For bash, on the builder. Its user data came before: without these there would be nothing of them to find.
PLANT = f"""
set -e
grep -qF {CANARY} /root/secret || {{ echo 'the builder was given no user data' >&2; exit 1; }}
for path in /root/{{.bash_history,.netrc,.ssh/id_ed25519,.python_history,.config/token,notes}} /tmp/t /var/tmp/t /var/log/app/app.log \\
  /home/dev/.ssh/authorized_keys /var/backups/t /etc/hostname /etc/tidepool/token /etc/sudoers.d/dev /var/spool/cron/crontabs/dev /var/mail/root \
  /var/lib/dhcp/duid /var/lib/dhcpcd/{{duid,secret}} /var/lib/NetworkManager/secret_key /etc/iscsi/initiatorname.iscsi /etc/ssl/private/ssl-cert-snakeoil.key; do
  install -D -m 600 /dev/stdin "$path" <<<{CANARY}
done
id dev >/dev/null 2>&1 || useradd --home-dir /home/dev dev
chown -R dev: /home/dev
# A rule that sudo can't read would keep Ansible out.
echo '# {CANARY}' >/etc/sudoers.d/dev
# Hashes of passwords, one of an account that is locked, and one for the machine's archive of packages.
usermod --password '$6${CANARY}$root' root
usermod --password '!$6${CANARY}$dev' dev
install -D -m 600 /dev/stdin /etc/apt/auth.conf.d/build.conf <<<'machine archive.example login build password {CANARY}'
install -m 600 /dev/stdin /etc/apt/auth.conf <<<'machine other.example login build password {CANARY}'
logger {CANARY}
systemd-cat echo {CANARY}
"""
# Ways to say in /etc/shadow that nobody logs in by a password.
NO_PASSWORD = ("*", "!", "!!", "!*")
EMPTY = ("var/lib/cloud", "var/lib/apt/lists", "etc/apt/auth.conf.d", "tmp", "var/tmp")
PRIVATE = re.compile(r"(^|/)(ssh_host_.*|authorized_keys|id_[a-z0-9]+|\..*_history|random-seed|.*\.journal)$")


def found(files):
    """What of the build is left in a snapshot, whose layer is the folder `files`; a sentence each."""
    canaries = subprocess.run(["grep", "-raFl", "--", CANARY, files], capture_output=True, text=True, check=False).stdout.splitlines()
    problems = [f"a canary is in {path}" for path in canaries]
    names = (path.relative_to(files).as_posix() for path in files.rglob("*") if path.is_file() and not path.is_symlink())
    problems += [f"{name} is there" for name in names if PRIVATE.search(name)]
    if (files / "etc/machine-id").read_bytes() != b"":
        problems.append("the machine-id is not empty")
    ids = [line.split(":")[:3:2] for line in (files / "etc/passwd").read_text().splitlines()]
    problems += [f"the account {name} is there" for name, number in ids if 1000 <= int(number) < 60000]
    shadow = dict(line.split(":")[:2] for line in (files / "etc/shadow").read_text().splitlines())
    problems += [f"{name} has a password" for name, word in shadow.items() if word not in NO_PASSWORD]
    problems += [f"{name} is not empty" for name in EMPTY if any(path.is_file() for path in (files / name).rglob("*"))]
    return problems


def on_host(run):
    """The files of a clone with a canary; `run` gives what a command prints there."""
    return run(f"ls /root/secret 2>/dev/null; grep -rlF {CANARY} /etc /root /home /var /tmp || true").split()
