#!/usr/bin/env bash
# Apache Curator's framework and recipes against a server or an ensemble.
# usage: run.sh HOST:PORT[,HOST:PORT...]     run.sh zookeeper    (starts an Apache ZooKeeper for it)
set -uo pipefail
address=${1:?usage: run.sh HOST:PORT[,...] | zookeeper}
here=$(cd "$(dirname "$0")" && pwd)
zookeeper=$here/../zookeeper
work=$(mktemp -d)
trap '[ "$1" = zookeeper ] && "$zookeeper" stop "$work/server"; rm -rf "$work"' EXIT

jars=$("$zookeeper" libs "$here/../curator-pom.xml") || exit $?
javac -d "$work" -cp "$jars/*" "$here/CuratorCheck.java" || exit 1
if [ "$address" = zookeeper ]; then
    # TTL nodes are off in a ZooKeeper as it is shipped.
    address=$(ZOOKEEPER_FLAGS=-Dzookeeper.extendedTypesEnabled=true "$zookeeper" start 1 "$work/server") || exit 1
fi
timeout 240 java -Xmx256m -XX:TieredStopAtLevel=1 -cp "$work:$jars/*" CuratorCheck "$address"
