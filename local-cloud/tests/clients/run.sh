#!/usr/bin/env bash
# run.sh: DigitalOcean's own clients, unchanged, against a local cloud: doctl (built by Go) and pydo (from PyPI).
# The last line says how many tests passed, failed and were skipped. A client that can't be had here is said and skipped.
# TIDEPOOL_BIN_DIR (default: target/debug) is where tidepool-local-cloud is, TIDEPOOL_CACHE (default: .cache) where the
# clients are kept once they are built.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../../.." && pwd)
CACHE=${TIDEPOOL_CACHE:-$top/.cache}
mkdir -p "$CACHE/locks"
CACHE=$(cd "$CACHE" && pwd)

say() { printf '%s\n' "$*" >&2; }

# inputs_id FILE…: a short name for what the files say, so that a changed pin is built again.
inputs_id() { cat "$@" | cksum | cut -d' ' -f1; }

# build_doctl: prints the path of doctl, built once from doctl/go.mod.
build_doctl() {
  local program
  program=$CACHE/doctl/doctl-$(inputs_id "$here/doctl/go.mod" "$here/doctl/go.sum")
  if [ ! -x "$program" ]; then
    command -v go >/dev/null || { say "Go is missing (1.25 or newer: https://go.dev/dl)"; return 1; }
    say "building doctl (a minute or two) into $CACHE"
    mkdir -p "$CACHE/doctl"
    # modcacherw: Go's module cache is read-only otherwise, and removing the cache would fail.
    (
      cd "$here/doctl"
      CGO_ENABLED=0 GOMODCACHE=$CACHE/go/modules GOCACHE=$CACHE/go/build GOWORK=off GOFLAGS='' \
        go build -mod=readonly -modcacherw -trimpath -buildvcs=false -ldflags='-s -w' -o "$program.part" \
        github.com/digitalocean/doctl/cmd/doctl >&2
    ) || return 1
    mv "$program.part" "$program"
  fi
  printf '%s\n' "$program"
}

# python_with_pydo: prints the path of a Python that has pydo, set up once.
python_with_pydo() {
  local venv
  venv=$CACHE/venv/clients-$(inputs_id "$here/requirements.txt")
  if [ ! -f "$venv/complete" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv" >&2 || return 1
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2 || return 1
    touch "$venv/complete"
  fi
  printf '%s\n' "$venv/bin/python"
}

# One set-up at a time: several runs may share the cache.
exec 9>"$CACHE/locks/clients"
flock 9
DOCTL=$(build_doctl) || { say "SKIPPED: doctl could not be built"; DOCTL=''; }
PYTHON=$(python_with_pydo) || { say "SKIPPED: pydo could not be installed"; PYTHON=''; }
flock -u 9
# `run.sh set-up` only fetches, so that this can be done beside something else.
[ "${1:-}" != set-up ] || exit 0

if [ -z "$PYTHON" ] && ! command -v python3 >/dev/null; then
  say "SKIPPED: python3 is missing (3.11 or newer), and with it every test of this folder"
  echo "0 passed, 0 failed, $(grep -c '^    def test_' "$here"/test_*.py | awk -F: '{ sum += $2 } END { print sum }') skipped"
  exit 0
fi

export DOCTL
export LOCAL_CLOUD=${TIDEPOOL_BIN_DIR:-${CARGO_TARGET_DIR:-$top/target}/debug}/tidepool-local-cloud
[ -x "$LOCAL_CLOUD" ] || { say "$LOCAL_CLOUD is missing: cargo build -p tidepool-local-cloud"; exit 1; }
export BASE_IMAGES=$CACHE/base-images
cd "$here"
PYTHONDONTWRITEBYTECODE=1 exec "${PYTHON:-python3}" run.py
