# shellcheck shell=bash
# Sourced after prelude.sh: one cluster, in DIR/cassandra. What it was made with stands in cluster.env, so that a node
# started again is the node that was killed.

CQL_PORT=9042

cluster_open() {
  CLUSTER=$(service_dir "${1:-}")/cassandra
  mkdir -p "$CLUSTER"
}

cluster_load() {
  [ -f "$CLUSTER/cluster.env" ] || return 1
  # shellcheck source=/dev/null
  . "$CLUSTER/cluster.env"
}

node_dir() { printf '%s/node%s' "$CLUSTER" "$1"; }
node_ip() { printf '%s.%s' "$PREFIX" "$1"; }
node_pidfile() { printf '%s/pid' "$(node_dir "$1")"; }
node_mark() { printf -- '-Dtidepool.node=%s' "$(node_dir "$1")"; }
node_running() { running "$(node_pidfile "$1")" "$(node_mark "$1")"; }

# The third part of the address prefix tells clusters apart, so it makes the JMX ports differ too: 127.0.5.1 has 20051.
# All of them stay under 32768, where Linux begins to hand out ports for outgoing connections.
node_jmx_port() { printf '%s' $((20000 + 10 * ${PREFIX##*.} + $1)); }

nodes() { seq "$NODES"; }

# The tokens cut the ring of 2^64 into equal parts; the sum is meant to wrap around.
node_token() { printf '%s' $((-9223372036854775807 - 1 + ($1 - 1) * 2 * (9223372036854775807 / NODES))); }

node_answers() {
  node_running "$1" || return 2
  port_open "$(node_ip "$1")" "$CQL_PORT"
}

nodetool() {
  local node=$1
  shift
  "$JAVA_HOME/bin/java" "@$SERVICES/cassandra/jvm.options" -Xmx96m -Duser.home="$CLUSTER" \
    -Dlogback.configurationFile="$SERVICES/cassandra/logback-tools.xml" \
    -Dcassandra.config="file://$(node_dir "$node")/conf/cassandra.yaml" -Dcassandra.storagedir="$(node_dir "$node")/data" \
    -cp "$JARS/*" org.apache.cassandra.tools.NodeTool -h 127.0.0.1 -p "$(node_jmx_port "$node")" "$@"
}

# sees_up NODE ADDRESS…: whether NODE holds every ADDRESS for up and a normal member of the ring.
sees_up() {
  local node=$1 ring address
  shift
  ring=$(nodetool "$node" status 2>/dev/null) || return 1
  for address in "$@"; do
    grep -qE "^UN +${address//./\\.} " <<<"$ring" || return 1
  done
}

node_spawn() {
  local node=$1 dir ip seeds
  dir=$(node_dir "$node") ip=$(node_ip "$node")
  seeds=$(for seed in $(nodes); do node_ip "$seed"; echo; done | paste -sd,)
  mkdir -p "$dir"/{conf,data,logs,tmp}
  sed -e "s|@DIR@|$dir|g; s|@IP@|$ip|g; s|@SEEDS@|$seeds|g; s|@TOKEN@|$(node_token "$node")|g" \
    "$SERVICES/cassandra/cassandra.yaml" >"$dir/conf/cassandra.yaml"
  [ ! -f "$CLUSTER/settings.yaml" ] || cat "$CLUSTER/settings.yaml" >>"$dir/conf/cassandra.yaml"
  sed -e "s|@DIR@|$dir|g" "$SERVICES/cassandra/logback.xml" >"$dir/conf/logback.xml"
  (
    cd "$dir" || exit
    spawn "$(node_pidfile "$node")" "$dir/logs/stdout.log" \
      "$JAVA_HOME/bin/java" "$(node_mark "$node")" "@$SERVICES/cassandra/jvm.options" \
      -Xms128m -Xmx"$HEAP" -XX:MaxDirectMemorySize=256m -javaagent:"$(echo "$JARS"/jamm-*.jar)" \
      -Djava.io.tmpdir="$dir/tmp" -Djna.tmpdir="$dir/tmp" -Duser.home="$dir" \
      -Dcassandra.config="file://$dir/conf/cassandra.yaml" -Dlogback.configurationFile="$dir/conf/logback.xml" \
      -Dcassandra.logdir="$dir/logs" -Dcassandra.storagedir="$dir/data" \
      -Dcassandra.jmx.local.port="$(node_jmx_port "$node")" -Dcassandra-foreground=yes \
      -cp "$dir/conf:$JARS/*" org.apache.cassandra.service.CassandraDaemon
  )
}

node_wait() {
  wait_until "$START_SECS_MAX" node_answers "$1" && return
  tail -n 30 "$(node_dir "$1")/logs/stdout.log" >&2
  die "node $1 ($(node_ip "$1")) did not open its CQL port; its log is $(node_dir "$1")/logs/system.log"
}

cluster_publish() {
  {
    printf 'CASSANDRA_HOSTS=%s\n' "$(for node in $(nodes); do node_ip "$node"; echo; done | paste -sd,)"
    printf 'CASSANDRA_PORT=%s\n' "$CQL_PORT"
    printf 'CASSANDRA_PIDS=%s\n' "$(for node in $(nodes); do cat "$(node_pidfile "$node")" 2>/dev/null || echo; done | paste -sd,)"
  } >"$CLUSTER/endpoints.env"
  publish_endpoints "$(dirname "$CLUSTER")"
}
