//! The long texts of `--help`. clap wraps lines at the terminal's width, without an indent: a paragraph is one line here (its
//! source is folded by backslashes), and what is indented has at most 78 columns.

pub(super) const LONG_ABOUT: &str = "\
tidepool-api serves JSON documents over HTTP: collections, documents, conditional writes with ETags, stable pages, and \
keys with scopes. It keeps them in one SQLite file or in a Cassandra or ScyllaDB cluster, with the same behaviour, so \
that an application moves from one to the other without a change.

Any number of instances may serve the same store.";

pub(super) const AFTER: &str = "\
Exit status:
  0   done; for serve: stopped by a signal, and everything in flight was
      answered or its time was over
  1   failed: a port is taken, the database did not come up, a key's name is
      unknown or taken, a second signal
  64  wrong arguments, environment or configuration file; every problem is
      listed at once, with its place

Configuration:
  Each setting is a flag, an environment variable and a field of the TOML
  file that --config names. A flag wins over the environment, the environment
  over the file, the file over the default. `tidepool-api serve --help` lists
  all.

Examples:
  tidepool-api serve
      Serve ./tidepool.db on 127.0.0.1:8080, open to this machine until the
      first key is made.
  tidepool-api keys create --name web --scope 'write:shop-*'
      Make a key and print it.
  tidepool-api serve --store cassandra://10.0.0.1/shop --listen 0.0.0.0:8080
      Serve a Cassandra keyspace to the network; needs a key first.";

pub(super) const SERVE_ABOUT: &str = "\
Serve the REST interface until SIGTERM or SIGINT.

The public listener has the interface itself, its OpenAPI document at /openapi.json and Swagger UI at /docs. The \
operations listener has /livez, /readyz, /metrics (Prometheus), /deploy/ready and POST /drain; it asks for no key and \
belongs on a private address.

On a signal the server is not ready at once, accepts nothing new, finishes what is in flight (within --drain-secs), and \
exits with 0. A second signal ends it at once with 1. POST /drain only makes it not ready; /deploy/ready then answers \
200 as soon as nothing is in flight. SIGHUP reads the TLS files of the public listener again, for connections that \
come after it; if they can't be used, the log says so and the files read before stay in use. All other files are read \
at the start.";

pub(super) const SERVE_AFTER: &str = "\
File, with the names of its fields (all optional):
  store = \"sqlite:/var/lib/tidepool/tidepool.db\"
  listen = \"0.0.0.0:8080\"
  ops_listen = \"10.0.0.9:9090\"
  drain_secs = 10
  startup_wait_secs = 60
  [tls]        cert_file, key_file
  [limits]     connections_max, reads_in_flight_max, writes_in_flight_max,
               header_timeout_secs, body_timeout_secs, idle_timeout_secs,
               header_bytes_max, body_bytes_held_max, answer_bytes_held_max
  [log]        format, level
  [sqlite]     synchronous
  [cassandra]  replication_factor, datacenter, username, password_file
  [cassandra.tls]
               ca_file, cert_file, key_file, verify_host

Exit status:
  0   stopped by a signal
  1   a port is taken, the database did not come up in time, no key exists and
      --listen is not loopback, or a second signal came
  64  wrong arguments, environment, file or TLS files

Examples:
  tidepool-api serve --store sqlite:notes.db --listen 127.0.0.1:8080
  tidepool-api serve --config /etc/tidepool/api.toml --log-format json
  TIDEPOOL_STORE=cassandra://db-1,db-2/notes tidepool-api serve";

pub(super) const BACKUP_ABOUT: &str = "\
Copy the SQLite file of --store to FILE: a whole database, as it was at one moment, in one file without a -wal beside it.

Servers may serve and write meanwhile. The copy is checked, made readable for its owner alone, and gets its name only \
when it is complete. With --force it takes the place of an existing file, also of a stopped database, which restores a \
backup: what a crash has left beside that is put in order first. Copying the file with cp while a server runs gives less: the last writes are in its -wal.";

pub(super) const BACKUP_AFTER: &str = "\
Exit status:
  0   FILE is a whole and checked copy
  1   failed: FILE exists, is open in another process or isn't a regular
      file, a -wal or -journal waits beside it, the database can't be read or
      is damaged, there is no room, or a signal came; FILE holds what it did
  64  wrong arguments, environment or configuration file, or a store that
      is not SQLite

Examples:
  tidepool-api backup --store sqlite:/var/lib/tidepool/tidepool.db \\
      /backup/tidepool-$(date +%F).db
  tidepool-api backup --force latest.db
  tidepool-api backup --force --store sqlite:/backup/tidepool-2026-11-29.db \\
      /var/lib/tidepool/tidepool.db
      Restore, with the servers stopped.";

pub(super) const KEYS_ABOUT: &str = "\
Make, list and revoke keys. A client sends its key as `Authorization: Bearer tp_…`; the store keeps only a hash of it.

A scope is a level and a pattern of collection names: read sees documents, write also changes them, admin also makes \
and drops collections. New, revoked and expired keys count on every instance within 10 seconds. The first key closes a \
server that was open, and the store stays closed: when its last key is revoked or has expired, every request is \
refused, also after a restart, until a key is made or `keys open` opens the store.";

pub(super) const KEYS_AFTER: &str = "\
Exit status:
  0   done
  1   failed: the name is taken or unknown, there are keys (open), the key
      can't be printed, or the store does not exist or did not answer
  64  wrong arguments, environment or file

Examples:
  KEY=$(tidepool-api keys create --name ci --scope 'write:test-*')
  tidepool-api keys create --name guest --scope 'read:*' \\
      --expires-at 2030-01-01T00:00:00Z
  tidepool-api keys list
  tidepool-api keys revoke --name guest
  tidepool-api keys open --store sqlite:notes.db
      Let everybody on this machine in again, now that there are no keys.";

pub(super) const COMPLETIONS_AFTER: &str = "\
Examples:
  tidepool-api completions bash \\
      > ~/.local/share/bash-completion/completions/tidepool-api
  tidepool-api completions fish \\
      > ~/.config/fish/completions/tidepool-api.fish";

pub(super) const MANUAL_AFTER: &str = "\
Example:
  mkdir -p ~/.local/share/man/man1
  tidepool-api manual ~/.local/share/man/man1
  man tidepool-api-serve";
