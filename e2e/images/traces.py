"""What a build leaves on its host: canaries planted where people and programs leave things, and what of it is in a snapshot."""

import pathlib
import re
import subprocess

CANARY = "canary-5f1c2e"
# The builder's own user data.
USER_DATA = f"#cloud-config\nwrite_files:\n- path: /root/secret\n  content: {CANARY}\n"

# For bash, on the builder.
PLANT = f"""
set -e
for path in /root/{{.bash_history,.netrc,.ssh/id_ed25519,.python_history,.config/token,notes}} /tmp/t /var/tmp/t /var/log/app/app.log \\
  /home/dev/.ssh/authorized_keys /var/backups/t /etc/hostname /etc/sudoers.d/dev /var/spool/cron/crontabs/dev /var/mail/root \
  /var/lib/dhcp/duid /var/lib/dhcpcd/{{duid,secret}} /var/lib/NetworkManager/secret_key /etc/iscsi/initiatorname.iscsi /etc/ssl/private/ssl-cert-snakeoil.key; do
  install -D -m 600 /dev/stdin "$path" <<<{CANARY}
done
id dev >/dev/null 2>&1 || useradd --home-dir /home/dev dev
chown -R dev: /home/dev
# A rule that sudo can't read would keep Ansible out.
echo '# {CANARY}' >/etc/sudoers.d/dev
logger {CANARY}
systemd-cat echo {CANARY}
"""
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
    problems += [f"{name} has a password" for name, word in shadow.items() if word[:1] not in ("*", "!")]
    return problems


def on_host(run):
    """The files of a clone with a canary; `run` gives what a command prints there."""
    return run(f"ls /root/secret 2>/dev/null; grep -rlF {CANARY} /etc /root /home /var /tmp || true").split()
