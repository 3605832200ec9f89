"""Cassandra's files out of settings and facts. Pure: texts in, texts out.

They are written anew at each start, so that the user data and this file are the only places where a value stands.
"""

import json
import re

SEED_NAMES = ("seed-1", "seed-2")
MEBIBYTE = 1 << 20


def yaml(settings, address, datacenter_ready):
    """cassandra.yaml. Until the first host has its own superuser and no default one, it is `datacenter_ready` for nobody else:
    the port for clients is open to this host alone."""
    lines = [
        f"cluster_name: {json.dumps(settings.name)}",
        "partitioner: org.apache.cassandra.dht.Murmur3Partitioner",
        "endpoint_snitch: GossipingPropertyFileSnitch",
        "num_tokens: 16",
        f"allocate_tokens_for_local_replication_factor: {settings.replication}",
        "auto_bootstrap: true",
        "seed_provider:",
        "  - class_name: org.apache.cassandra.locator.SimpleSeedProvider",
        "    parameters:",
        f"      - seeds: {json.dumps(','.join(SEED_NAMES))}",
        f"listen_address: {address}",
        f"broadcast_address: {address}",
        f"rpc_address: {address if datacenter_ready else '127.0.0.1'}",
        f"broadcast_rpc_address: {address}",
        "storage_port: 7000",
        "native_transport_port: 9042",
        "start_native_transport: true",
        "storage_compatibility_mode: NONE",
        "authenticator: PasswordAuthenticator",
        "authorizer: CassandraAuthorizer",
        "role_manager: CassandraRoleManager",
        "data_file_directories: [/var/lib/cassandra/data]",
        "commitlog_directory: /var/lib/cassandra/commitlog",
        "saved_caches_directory: /var/lib/cassandra/saved_caches",
        "hints_directory: /var/lib/cassandra/hints",
        "cdc_raw_directory: /var/lib/cassandra/cdc_raw",
        # What is acknowledged is on the disk: docs/adr/0126.
        "commitlog_sync: batch",
        "commit_failure_policy: die",
        "disk_failure_policy: die",
        "disk_access_mode: mmap_index_only",
        "hinted_handoff_enabled: true",
        "auto_snapshot: true",
    ]
    return "\n".join(lines + _tls("server", settings) + _tls("client", settings)) + "\n"


def spread_for(text, copies):
    """cassandra.yaml in `text` for a host that chooses its tokens for other than `replication` copies."""
    return re.sub(r"(?m)^(allocate_tokens_for_local_replication_factor): .*$", rf"\1: {copies}", text)


def _tls(side, settings):
    own = {
        "server": [
            "internode_encryption: all",
            "legacy_ssl_storage_port_enabled: false",
            "require_client_auth: true",
            # One certificate may serve all hosts, whose addresses aren't known when it is made.
            "require_endpoint_verification: false",
        ],
        "client": ["enabled: true", "optional: false", f"require_client_auth: {str(settings.client_certificates).lower()}"],
    }[side]
    shared = [
        "accepted_protocols: [TLSv1.2, TLSv1.3]",
        "ssl_context_factory: {class_name: org.apache.cassandra.security.PEMBasedSslContextFactory}",
        "keystore: /etc/cassandra/tls/node.pem",
        "truststore: /etc/cassandra/tls/ca.pem",
    ]
    return [f"{side}_encryption_options:"] + [f"  {line}" for line in own + shared]


def rackdc(datacenter, rack):
    return f"dc={datacenter}\nrack={rack}\nprefer_local=false\n"


def hosts(seeds, address, host):
    """The names that Cassandra's Java looks up, and the only ones: a seed is in it once it is a member, whatever DNS says."""
    lines = ["127.0.0.1 localhost", f"{address} {host}"]
    return "\n".join(lines + [f"{seeds[name]} {name}" for name in SEED_NAMES if name in seeds]) + "\n"


def heap_mebibytes(memory_bytes, given):
    """A quarter of the memory, from 256 to 8192; the page cache and what is off the heap share the rest."""
    if given != "auto":
        return int(given[:-1])
    return max(256, min(8192, memory_bytes // MEBIBYTE // 4))


def java_options(settings, memory_bytes):
    """Options that depend on the host; those that don't are in jvm.options."""
    heap = heap_mebibytes(memory_bytes, settings.heap)
    # The serial collector has the smallest footprint; G1 pays from about 2 GiB on.
    collector = ["-XX:+UseSerialGC"] if heap < 2048 else ["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=300"]
    options = [
        f"-Xms{heap}m",
        f"-Xmx{heap}m",
        f"-XX:MaxDirectMemorySize={max(128, heap // 2)}m",
        *collector,
        f"-Dcassandra.ring_delay_ms={settings.ring_delay_secs * 1000}",
    ]
    return "\n".join(options) + "\n"
