#!/usr/bin/env bash
# digitalocean/deploy.sh COMMAND ENV …: brings a whole environment up, changes it, promotes it, takes it down. --help says all; what
# it does is in digitalocean/deploy.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v python3 >/dev/null || { echo "deploy.sh: python3 3.11 or later is missing (Debian: apt-get install python3)" >&2; exit 65; }
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "deploy.sh: python3 3.11 or later is needed; this is $(python3 --version)" >&2; exit 65; }
# Paths that were given stay what they were: the working directory is the user's.
export PYTHONPATH=$here${PYTHONPATH:+:$PYTHONPATH} PYTHONDONTWRITEBYTECODE=1
exec python3 -m deploy "$@"
