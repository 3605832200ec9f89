# shellcheck shell=bash
# Sourced by the scripts of this folder, at the top of the repository: how they count, and what they all need.

TARGET=${CARGO_TARGET_DIR:-$PWD/target}
# What was started for a test carries this in its environment.
MARK=tidepool-e2e-images-$$
export TIDEPOOL_CACHE=${TIDEPOOL_CACHE:-$PWD/.cache} TIDEPOOL_BIN_DIR=${TIDEPOOL_BIN_DIR:-$TARGET/debug}
export PYTHONDONTWRITEBYTECODE=1

missing() {
  echo "SKIPPED: $*"
  exit 77
}
# What a local cloud of systemd hosts takes. Each host has some seven inotify instances, and Debian allows 128 in all.
INOTIFY_INSTANCES=1024
need_hosts() {
  local program
  [ "$(id -u)" -eq 0 ] || missing 'root'
  for program in systemd-nspawn mmdebstrap nft ssh; do
    command -v "$program" >/dev/null || missing "$program (Debian: apt-get install systemd-container mmdebstrap nftables openssh-client)"
  done
  [ "$(sysctl -n fs.inotify.max_user_instances)" -ge "$INOTIFY_INSTANCES" ] || sysctl -qw "fs.inotify.max_user_instances=$INOTIFY_INSTANCES"
}

passed=0 failed=0 skipped=0 check_began=$SECONDS
check() { # WHAT COMMAND…
  local what=$1 said
  shift
  if said=$("$@" 2>&1); then
    echo "passed: $what ($((SECONDS - check_began)) s)"
    passed=$((passed + 1))
  else
    printf 'FAILED: %s\n%s\n' "$what" "$said"
    failed=$((failed + 1))
  fi
  check_began=$SECONDS
}
skip() {
  echo "SKIPPED: $1"
  skipped=$((skipped + 1))
}
summary() {
  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" -eq 0 ]
}

# expect STATUS TEXT COMMAND…: it ends so, and says that.
expect() {
  local status=$1 text=$2 got=0 said
  shift 2
  said=$("$@" 2>&1) || got=$?
  echo "$said"
  [ "$got" -eq "$status" ] || { echo "status $got, not $status"; return 1; }
  grep -qF -- "$text" <<<"$said" || { echo "it does not say: $text"; return 1; }
}

within() { # SECONDS COMMAND…
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# Processes come and go while grep looks, and it says so by its status.
marked() { { grep -lsaxz "E2E_MARK=$MARK" /proc/[0-9]*/environ 2>/dev/null || true; } | cut -d/ -f3; }
nobody_marked() { [ -z "$(marked)" ]; }
end_marked() { marked | while read -r pid; do kill -KILL "$pid" 2>/dev/null || true; done; }
marked_like() { # PATTERN: those with such a command line
  marked | while read -r pid; do
    if tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -qE -- "$1"; then echo "$pid"; fi
  done
}

# How long processes may take to end once nobody needs them.
GONE_SECS_MAX=60
# A build's directories are in $WORK/tmp, and its cloud in $STATE.
state_holds() { # KEY NUMBER: so many of that kind are in the cloud's state
  python3 -c 'import json, sys; found = json.load(open(sys.argv[1])); found = found.get("records", found)[sys.argv[2]]; print(found); sys.exit(len(found) != int(sys.argv[3]))' "$STATE/cloud.json" "$1" "$2"
}
# nothing_left IMAGES: no process, mount, directory, droplet or key, and so many images.
nothing_left() {
  within "$GONE_SECS_MAX" nobody_marked || { echo 'these still run:'; ps -fp "$(marked | paste -sd,)"; return 1; }
  ! grep -F " $STATE/" /proc/self/mountinfo || { echo 'these are still mounted'; return 1; }
  [ -z "$(ls -A "$WORK/tmp")" ] || { ls -lA "$WORK/tmp"; return 1; }
  state_holds droplets 0 && state_holds keys 0 && state_holds snapshots "$1"
}
