# shellcheck shell=bash
# Sourced by every script of this folder: where things are kept, which Java runs them, and the one way to
# start and stop a server, by a recorded pid that is checked before it is signalled.

SERVICES=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${TIDEPOOL_CACHE:-$(dirname "$SERVICES")/.cache}
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd)

# How long one server may take from its start to its first answer; a busy two-core machine needs about 40 s.
# shellcheck disable=SC2034  # read by the scripts that source this file
START_SECS_MAX=180

say() { printf '%s\n' "$*" >&2; }
die() { say "$(basename "$(dirname "$0")")/$(basename "$0"): $*"; exit 1; }

# service_dir [DIR]: the absolute folder that one set of servers lives in. It is made if it is missing.
service_dir() {
  local dir=${1:-${SERVICE_DIR:-$CACHE/services}}
  mkdir -p "$dir"
  (cd "$dir" && pwd)
}

# Seconds since boot: a wall clock that is set while a server starts must not end the wait.
uptime_secs() { cut -d. -f1 /proc/uptime; }

# wait_until SECONDS COMMAND…: runs COMMAND until it succeeds. Fails after SECONDS, or at once when COMMAND returns 2.
wait_until() {
  local deadline status
  deadline=$(($(uptime_secs) + $1))
  shift
  while status=0 && { "$@" || status=$?; } && [ "$status" -ne 0 ]; do
    if [ "$status" -eq 2 ] || [ "$(uptime_secs)" -ge "$deadline" ]; then return 1; fi
    sleep 0.2
  done
}

need() {
  local program=$1 hint=$2
  command -v "$program" >/dev/null || die "'$program' is missing. $hint"
}

# under_lock NAME: waits until no other run holds NAME; it is let go when this script ends.
under_lock() {
  mkdir -p "$CACHE/locks"
  exec 9>"$CACHE/locks/$1"
  flock 9
}

# inputs_id FILE…: a short name for what the files say, so that a changed pin is fetched again.
inputs_id() { cat "$@" | cksum | cut -d' ' -f1; }

# Both servers still install a SecurityManager, which Java 24 took away: 17 is what is tested, up to 23 is let through.
usable_jdk() {
  local home=$1 major
  [ -x "$home/bin/java" ] && [ -x "$home/bin/javac" ] || return 1
  major=$("$home/bin/javac" -version 2>&1 | sed -E 's/^javac ([0-9]+).*/\1/')
  [[ $major =~ ^[0-9]+$ ]] && [ "$major" -ge 17 ] && [ "$major" -le 23 ]
}

find_jdk() {
  local home
  for home in "${JAVA_HOME:-}" /usr/lib/jvm/*17* /usr/lib/jvm/*21* /usr/lib/jvm/*; do
    if [ -n "$home" ] && usable_jdk "$home"; then
      printf '%s\n' "$home"
      return
    fi
  done
  if home=$(command -v javac) && home=$(dirname "$(dirname "$(readlink -f "$home")")") && usable_jdk "$home"; then
    printf '%s\n' "$home"
    return
  fi
  die "no JDK from 17 to 23 was found. Debian: apt-get install openjdk-17-jdk-headless; elsewhere: https://adoptium.net, then set JAVA_HOME"
}

# copy_jars POM DIR: the runtime jars that POM asks for, from Maven Central.
copy_jars() {
  need mvn "Debian: apt-get install maven; elsewhere: https://maven.apache.org/download.cgi"
  mvn --quiet --batch-mode -Dstyle.color=never --file "$1" -Dmaven.repo.local="$CACHE/maven" \
    org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$2" >&2
}

port_open() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# running PIDFILE MARK: whether the recorded process lives and is the one that was started: its command line holds MARK.
running() {
  local pid
  [ -f "$1" ] || return 1
  pid=$(<"$1")
  [ -n "$pid" ] && [ -r "/proc/$pid/cmdline" ] && tr '\0' '\n' <"/proc/$pid/cmdline" 2>/dev/null | grep -qxF -- "$2"
}

stopped() { ! running "$1" "$2"; }

# stop PIDFILE MARK [SIGNAL]: ends the recorded process, asking first unless told KILL.
stop() {
  if running "$1" "$2"; then
    kill -s "${3:-TERM}" "$(<"$1")"
    wait_until 15 stopped "$1" "$2" || { kill -s KILL "$(<"$1")" && wait_until 5 stopped "$1" "$2"; }
  fi
  rm -f "$1"
}

# took_over PID: whether the forked shell PID has become the command that it is to run, or is gone.
took_over() {
  local line
  line=$({ tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null) || return 0
  if grep -q '^State:[[:space:]]*Z' "/proc/$1/status" 2>/dev/null; then return 0; fi
  [ -n "$line" ] && [ "$line" != "$(tr '\0' ' ' <"/proc/$$/cmdline")" ]
}

# spawn PIDFILE LOG COMMAND…: starts a server that outlives this script and the terminal it was called from. It must not
# take the locks (8, 9) along. When this returns the server can be recognised by its command line.
spawn() {
  local pidfile=$1 log=$2
  shift 2
  setsid nohup "$@" >>"$log" 2>&1 </dev/null 8>&- 9>&- &
  printf '%s\n' $! >"$pidfile"
  wait_until 20 took_over $! || die "$1 could not be run within 20 s"
}

# publish_endpoints DIR: gathers what each server of DIR wrote about itself into DIR/endpoints.env.
publish_endpoints() {
  local file
  for file in "$1"/*/endpoints.env; do
    if [ -f "$file" ]; then cat "$file"; fi
  done >"$1/endpoints.env.$$"
  mv "$1/endpoints.env.$$" "$1/endpoints.env"
}
