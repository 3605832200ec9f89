# shellcheck shell=bash
# Sourced by packer/build and packer/sweep, at the top of the repository: who is asked for an image (CLOUD), with what credentials,
# and a local cloud where none is given.

. services/prelude.sh

EXIT_USAGE=64
# shellcheck disable=SC2034  # read by the scripts that source this file
EXIT_BUSY=75
# How long the local cloud may take to its first answer. The first one makes its base image, which takes minutes.
LOCAL_CLOUD_SECS_MAX=1200
# How long it may take to end its hosts.
LOCAL_CLOUD_STOP_SECS_MAX=90

CLOUD=${CLOUD:-local}
LOCAL_STATE=${LOCAL_CLOUD_STATE:-$CACHE/images/cloud}
LOCAL_BASES=${LOCAL_CLOUD_BASE_IMAGES:-$CACHE/base-images}
# Its manifests: what it gives where DigitalOcean gives its own images.
LOCAL_IMAGES=${LOCAL_CLOUD_IMAGES:-packer/local}

usage_error() { say "$(basename "$(dirname "$0")")/$(basename "$0"): $*"; exit "$EXIT_USAGE"; }

# Before a command that is to be asked to end when this script is killed, where the system knows how.
with_us=()
! command -v setpriv >/dev/null || with_us=(setpriv --pdeathsig TERM --)

check_cloud() {
  case $CLOUD in
    digitalocean)
      DIGITALOCEAN_TOKEN=${DIGITALOCEAN_TOKEN:-${DIGITALOCEAN_ACCESS_TOKEN:-}}
      [ -n "$DIGITALOCEAN_TOKEN" ] || usage_error 'DIGITALOCEAN_TOKEN is not set. Make a token that may read and write droplets, images, ssh keys and tags: https://cloud.digitalocean.com/account/api/tokens'
      export DIGITALOCEAN_TOKEN
      ;;
    gce)
      [ -n "${GOOGLE_PROJECT:-}" ] || usage_error 'GOOGLE_PROJECT is not set: the project that is to have the images'
      GOOGLE_ZONE=${GOOGLE_ZONE:-us-central1-a}
      GOOGLE_ACCESS_TOKEN=${GOOGLE_ACCESS_TOKEN:-${GOOGLE_OAUTH_ACCESS_TOKEN:-}}
      if [ -z "$GOOGLE_ACCESS_TOKEN" ] && command -v gcloud >/dev/null; then
        GOOGLE_ACCESS_TOKEN=$(gcloud auth print-access-token --quiet) || GOOGLE_ACCESS_TOKEN=
      fi
      [ -n "$GOOGLE_ACCESS_TOKEN" ] || usage_error "GOOGLE_ACCESS_TOKEN is not set, and gcloud gives none: GOOGLE_ACCESS_TOKEN=\$(gcloud auth print-access-token)"
      export GOOGLE_PROJECT GOOGLE_ZONE GOOGLE_ACCESS_TOKEN GOOGLE_ENDPOINT=${GOOGLE_ENDPOINT:-}
      export PKR_VAR_google_project=$GOOGLE_PROJECT PKR_VAR_google_zone=$GOOGLE_ZONE
      export PKR_VAR_google_access_token=$GOOGLE_ACCESS_TOKEN PKR_VAR_google_endpoint=$GOOGLE_ENDPOINT
      ;;
    local)
      # It speaks DigitalOcean's API; only one that was started with a token asks for that one.
      export DIGITALOCEAN_TOKEN=${LOCAL_CLOUD_TOKEN:-local} DIGITALOCEAN_API_URL=${LOCAL_CLOUD_URL:-}
      ! starts_local_cloud || [ "$(id -u)" -eq 0 ] ||
        usage_error 'CLOUD=local starts a cloud of systemd hosts, which needs root: sudo make …, or LOCAL_CLOUD_URL of one that runs'
      ;;
    *) usage_error "there is no cloud '$CLOUD'; CLOUD is digitalocean, gce or local" ;;
  esac
  command -v python3 >/dev/null || die "'python3' is missing (3.11 or newer)"
}

# Of a run that was killed its directory stays, with its key in it; one that lives holds the lock in its own.
remove_dead_runs() {
  local dead
  for dead in "${TMPDIR:-/tmp}"/tidepool-build.*/; do
    if [ -e "${dead}alive" ] && [ -O "$dead" ] && flock -n "${dead}alive" true; then rm -rf "$dead"; fi
  done
}

starts_local_cloud() { [ "$CLOUD" = local ] && [ -z "${LOCAL_CLOUD_URL:-}" ]; }

# Of all scripts that start a cloud there, one at a time; let go when this one ends.
lock_local_state() {
  mkdir -p "$(dirname "$LOCAL_STATE")"
  exec 9>"$LOCAL_STATE.lock"
  flock -n 9
}

# The program of the local cloud: TIDEPOOL_BIN_DIR's, or what cargo has built last.
local_cloud_program() {
  local target=${CARGO_TARGET_DIR:-target} newest='' program
  if [ -n "${TIDEPOOL_BIN_DIR:-}" ]; then
    newest=$TIDEPOOL_BIN_DIR/tidepool-local-cloud
  else
    for program in "$target"/{dist,release,debug}/tidepool-local-cloud; do
      if [ -x "$program" ] && { [ -z "$newest" ] || [ "$program" -nt "$newest" ]; }; then newest=$program; fi
    done
    [ -n "$newest" ] || newest=$(command -v tidepool-local-cloud || true)
  fi
  [ -x "$newest" ] || die "tidepool-local-cloud is not built: cargo build --release --locked -p tidepool-local-cloud, or LOCAL_CLOUD_URL of one that runs"
  printf '%s\n' "$newest"
}

local_cloud_answers() {
  if ! kill -0 "$local_cloud" 2>/dev/null; then return 2; fi
  LOCAL_CLOUD_URL=$(sed -n 's/^listening on //p' "$local_cloud_out" 2>/dev/null)
  [ -n "$LOCAL_CLOUD_URL" ]
}

local_cloud=''
# local_cloud_prepare: makes the base image of the system that is built on, if it is not there: its failure would be a droplet that Packer waits for in
# vain. A snapshot has one already, and the cloud refuses what it doesn't know.
local_cloud_prepare() {
  local program status=0 slug=${PKR_VAR_digitalocean_image:-debian-12-x64}
  grep -qsxF "slug = \"$slug\"" "$LOCAL_IMAGES"/*/image.toml || return 0
  program=$(local_cloud_program) || exit 1
  "${with_us[@]}" setsid "$program" prepare --images "$LOCAL_IMAGES" --base-images "$LOCAL_BASES" "$slug" >/dev/null </dev/null 7>&- 8>&- 9>&- &
  local_cloud=$!
  wait "$local_cloud" || status=$?
  local_cloud=''
  [ "$status" -eq 0 ] || die "the base image of $slug was not made, for the reason above"
}

# local_cloud_start DIR: starts a local cloud of our own, with its output in DIR. Its images stay in LOCAL_STATE.
local_cloud_start() {
  local program status=0
  program=$(local_cloud_program) || exit 1
  mkdir -p "$LOCAL_STATE"
  local_cloud_out=$1/local-cloud.out local_cloud_log=$1/local-cloud.log
  # A process group of its own: Ctrl-C is for us, and we end it when Packer is done with it.
  "${with_us[@]}" setsid "$program" serve --hosts systemd --packages --listen 127.0.0.1:0 --images "$LOCAL_IMAGES" --base-images "$LOCAL_BASES" \
    --state "$LOCAL_STATE" >"$local_cloud_out" 2>"$local_cloud_log" </dev/null 7>&- 8>&- 9>&- &
  local_cloud=$!
  wait_until "$LOCAL_CLOUD_SECS_MAX" local_cloud_answers || status=$?
  if [ "$status" -ne 0 ]; then
    tail -n 20 "$local_cloud_log" >&2
    die 'the local cloud did not start, for the reason above'
  fi
  export DIGITALOCEAN_API_URL=$LOCAL_CLOUD_URL
  # Nobody else builds here: what there is of builders was left by a run that was killed.
  python3 packer/cloud.py sweep --older-than-secs 0
}

local_cloud_gone() { ! kill -0 "$local_cloud" 2>/dev/null; }

local_cloud_stop() {
  [ -n "$local_cloud" ] || return 0
  kill -TERM "$local_cloud" 2>/dev/null || true
  wait_until "$LOCAL_CLOUD_STOP_SECS_MAX" local_cloud_gone || kill -KILL "$local_cloud" 2>/dev/null || true
  wait "$local_cloud" 2>/dev/null || true
  local_cloud=''
}
