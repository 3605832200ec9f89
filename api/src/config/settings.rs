//! The table of settings. No parsing here.

/// The variable that names the TOML file, as `--config` does.
pub const CONFIG_ENV: &str = "TIDEPOOL_CONFIG";

/// Which commands take a setting as a flag. Variables and the file may always hold all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// Every command that opens the store.
    Store,
    /// `serve` alone.
    Serve,
    /// A secret: only by environment, for flags are seen by everybody on the machine.
    Secret,
}

/// One setting. Its flag is the path with dashes: `limits.connections_max` is `--limits-connections-max`.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Place in the TOML file.
    pub path: &'static str,
    /// Name of the flag, without dashes in front.
    pub flag: &'static str,
    /// Name of the environment variable.
    pub env: &'static str,
    /// What stands for the value in the help.
    pub value: &'static str,
    /// The default; `None`: there is none.
    pub default: Option<&'static str>,
    /// One or two sentences.
    pub help: &'static str,
    /// Who takes it.
    pub usage: Use,
}

/// Every setting, in the order of the help.
pub const SETTINGS: &[Setting] = &[
    Setting {
        path: "store",
        flag: "store",
        env: "TIDEPOOL_STORE",
        value: "STORE",
        default: Some("sqlite:tidepool.db"),
        help: "Where the documents are: sqlite:FILE or cassandra://HOST[:PORT],HOST/KEYSPACE. A file or keyspace \
               that does not exist is made",
        usage: Use::Store,
    },
    Setting {
        path: "startup_wait_secs",
        flag: "startup-wait-secs",
        env: "TIDEPOOL_STARTUP_WAIT_SECS",
        value: "SECS",
        default: Some("60"),
        help: "How long to wait for a database that is down at the start",
        usage: Use::Store,
    },
    Setting {
        path: "sqlite.synchronous",
        flag: "sqlite-synchronous",
        env: "TIDEPOOL_SQLITE_SYNCHRONOUS",
        value: "full|normal",
        default: Some("full"),
        help: "full: an acknowledged write survives a power cut. normal: it survives the end of the process; a power \
               cut may take the last ones, for some 8 % less CPU",
        usage: Use::Store,
    },
    Setting {
        path: "cassandra.replication_factor",
        flag: "cassandra-replication-factor",
        env: "TIDEPOOL_CASSANDRA_REPLICATION_FACTOR",
        value: "N",
        default: None,
        help: "Replicas in each datacentre of a keyspace that is made now. Without it: 3, or as many as there are nodes",
        usage: Use::Store,
    },
    Setting {
        path: "cassandra.datacenter",
        flag: "cassandra-datacenter",
        env: "TIDEPOOL_CASSANDRA_DATACENTER",
        value: "NAME",
        default: None,
        help: "The datacentre to talk to. Without it: that of the first host that answers",
        usage: Use::Store,
    },
    Setting {
        path: "cassandra.username",
        flag: "cassandra-username",
        env: "TIDEPOOL_CASSANDRA_USERNAME",
        value: "NAME",
        default: None,
        help: "Who to log in as, where the cluster asks for it",
        usage: Use::Store,
    },
    Setting {
        path: "cassandra.password_file",
        flag: "cassandra-password-file",
        env: "TIDEPOOL_CASSANDRA_PASSWORD_FILE",
        value: "FILE",
        default: None,
        help: "File that holds the user's password, and nothing else. Or give the password itself in \
               TIDEPOOL_CASSANDRA_PASSWORD",
        usage: Use::Store,
    },
    Setting {
        path: "cassandra.password",
        flag: "cassandra-password",
        env: "TIDEPOOL_CASSANDRA_PASSWORD",
        value: "PASSWORD",
        default: None,
        help: "The user's password",
        usage: Use::Secret,
    },
    Setting {
        path: "cassandra.tls.ca_file",
        flag: "cassandra-tls-ca-file",
        env: "TIDEPOOL_CASSANDRA_TLS_CA_FILE",
        value: "FILE",
        default: None,
        help: "PEM file with the certificates of the authorities that sign those of the cluster's nodes. With it, every \
               connection to the cluster is by TLS",
        usage: Use::Store,
    },
    Setting {
        path: "cassandra.tls.cert_file",
        flag: "cassandra-tls-cert-file",
        env: "TIDEPOOL_CASSANDRA_TLS_CERT_FILE",
        value: "FILE",
        default: None,
        help: "PEM file with the certificate chain, leaf first, that is shown to nodes that ask for one",
        usage: Use::Store,
    },
    Setting {
        path: "cassandra.tls.key_file",
        flag: "cassandra-tls-key-file",
        env: "TIDEPOOL_CASSANDRA_TLS_KEY_FILE",
        value: "FILE",
        default: None,
        help: "PEM file with the private key of that certificate",
        usage: Use::Store,
    },
    Setting {
        path: "cassandra.tls.verify_host",
        flag: "cassandra-tls-verify-host",
        env: "TIDEPOOL_CASSANDRA_TLS_VERIFY_HOST",
        value: "true|false",
        default: Some("true"),
        help: "true: a node's certificate must name the IP address that is connected to. false: any certificate of the \
               authorities is taken from any node",
        usage: Use::Store,
    },
    Setting {
        path: "listen",
        flag: "listen",
        env: "TIDEPOOL_LISTEN",
        value: "ADDR",
        default: Some("127.0.0.1:8080"),
        help: "Address of the public listener, IP:PORT. One that is not loopback needs a key first (see keys create)",
        usage: Use::Serve,
    },
    Setting {
        path: "ops_listen",
        flag: "ops-listen",
        env: "TIDEPOOL_OPS_LISTEN",
        value: "ADDR",
        default: Some("127.0.0.1:9090"),
        help: "Address of the private operations listener (/livez, /readyz, /metrics, /deploy/ready, POST /drain). It \
               asks for no key: keep it where clients can't reach it",
        usage: Use::Serve,
    },
    Setting {
        path: "allowed_hosts",
        flag: "allowed-hosts",
        env: "TIDEPOOL_ALLOWED_HOSTS",
        value: "NAMES",
        default: None,
        help: "Names of this machine, separated by commas, that are served where no credential is asked for: by the \
               public listener while there is no key, by /metrics and /drain of the operations listener. localhost, \
               the host name and the addresses that are called are always served; other names could be a web page's",
        usage: Use::Serve,
    },
    Setting {
        path: "tls.cert_file",
        flag: "tls-cert-file",
        env: "TIDEPOOL_TLS_CERT_FILE",
        value: "FILE",
        default: None,
        help: "PEM file with the certificate chain, leaf first. With the key file, the public listener speaks TLS, and \
               HTTP/2 to those who offer it",
        usage: Use::Serve,
    },
    Setting {
        path: "tls.key_file",
        flag: "tls-key-file",
        env: "TIDEPOOL_TLS_KEY_FILE",
        value: "FILE",
        default: None,
        help: "PEM file with the private key of the certificate",
        usage: Use::Serve,
    },
    Setting {
        path: "drain_secs",
        flag: "drain-secs",
        env: "TIDEPOOL_DRAIN_SECS",
        value: "SECS",
        default: Some("10"),
        help: "How long requests in flight may take to finish after SIGTERM, before they are cut",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.connections_max",
        flag: "limits-connections-max",
        env: "TIDEPOOL_LIMITS_CONNECTIONS_MAX",
        value: "N",
        default: Some("10000"),
        help: "Most connections at a time; more wait until one is free. The process needs that many file descriptors",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.reads_in_flight_max",
        flag: "limits-reads-in-flight-max",
        env: "TIDEPOOL_LIMITS_READS_IN_FLIGHT_MAX",
        value: "N",
        default: Some("2048"),
        help: "Most GET, HEAD and OPTIONS requests at a time; more are answered 503 with Retry-After at once",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.writes_in_flight_max",
        flag: "limits-writes-in-flight-max",
        env: "TIDEPOOL_LIMITS_WRITES_IN_FLIGHT_MAX",
        value: "N",
        default: Some("1024"),
        help: "Most other requests at a time. Counted apart, so that a store that can't write leaves room for reads",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.header_timeout_secs",
        flag: "limits-header-timeout-secs",
        env: "TIDEPOOL_LIMITS_HEADER_TIMEOUT_SECS",
        value: "SECS",
        default: Some("10"),
        help: "Longest time from a request's first byte to the end of its headers, and for a TLS handshake",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.body_timeout_secs",
        flag: "limits-body-timeout-secs",
        env: "TIDEPOOL_LIMITS_BODY_TIMEOUT_SECS",
        value: "SECS",
        default: Some("20"),
        help: "Longest time from the end of a request's headers to the end of its body",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.idle_timeout_secs",
        flag: "limits-idle-timeout-secs",
        env: "TIDEPOOL_LIMITS_IDLE_TIMEOUT_SECS",
        value: "SECS",
        default: Some("75"),
        help: "Longest time that a kept-alive connection may stay without a request. Keep it above that of a load \
               balancer in front, else the balancer sends requests into connections that are being closed",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.header_bytes_max",
        flag: "limits-header-bytes-max",
        env: "TIDEPOOL_LIMITS_HEADER_BYTES_MAX",
        value: "BYTES",
        default: Some("32768"),
        help: "Most bytes of a request line and its headers together; at most 100 headers in any case",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.body_bytes_held_max",
        flag: "limits-body-bytes-held-max",
        env: "TIDEPOOL_LIMITS_BODY_BYTES_HELD_MAX",
        value: "BYTES",
        default: Some("134217728"),
        help: "Most bytes of request bodies that are held for all clients together; bodies up to 16 KiB don't count. A \
               request that finds no room waits 5 s and is then answered 503 with Retry-After",
        usage: Use::Serve,
    },
    Setting {
        path: "limits.answer_bytes_held_max",
        flag: "limits-answer-bytes-held-max",
        env: "TIDEPOOL_LIMITS_ANSWER_BYTES_HELD_MAX",
        value: "BYTES",
        default: Some("134217728"),
        help: "The same for answers that clients have not taken yet; reading pages from the store may take as much again",
        usage: Use::Serve,
    },
    Setting {
        path: "log.format",
        flag: "log-format",
        env: "TIDEPOOL_LOG_FORMAT",
        value: "human|json",
        default: Some("human"),
        help: "Form of the log lines, which go to standard error",
        usage: Use::Serve,
    },
    Setting {
        path: "log.level",
        flag: "log-level",
        env: "TIDEPOOL_LOG_LEVEL",
        value: "LEVEL",
        default: Some("info"),
        help: "error, warn, info, debug (a line for each request) or trace; or directives by module, such as \
               info,tidepool_api=debug",
        usage: Use::Serve,
    },
];

/// The setting of that path in the file.
pub(super) fn by_path(path: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.path == path)
}
