#!/usr/bin/env bash
# `ottla coordinator import` from an Apache ZooKeeper that is started for it, into a coordinator that is
# started, too: nodes, data and access lists must be the same. Needs a JDK, mvn the first time, and the
# Python environment of the kazoo suite.
# usage: SERVER_COMMAND="/path/of/ottla-coordinator serve --zoo-cfg" run.sh OTTLA
set -uo pipefail
ottla=$(readlink -f "${1:?usage: run.sh OTTLA}")
: "${SERVER_COMMAND:?the command that serves a coordinator, to which a zoo.cfg is appended}"
here=$(cd "$(dirname "$0")" && pwd)
zookeeper=$here/../zookeeper
python=${SUITES_DIR:-$here/../../../../target/suites}/kazoo/venv/bin/python
[ -x "$python" ] || { echo "run the suite kazoo first: it makes $python" >&2; exit 1; }
work=$(mktemp -d)
trap '"$zookeeper" stop "$work/from"; "$zookeeper" stop "$work/to"; rm -rf "$work"' EXIT

# The one who may do everything is super:secret on both.
super=-Dzookeeper.DigestAuthenticationProvider.superDigest=super:lK75jTNcA+U9vtVEw5vB51mj/w4=
from=$(env -u SERVER_COMMAND ZOOKEEPER_FLAGS="$super -Dzookeeper.extendedTypesEnabled=true" \
    "$zookeeper" start 1 "$work/from" | tail -n 1) || exit $?
to=$(ZOOKEEPER_FLAGS=$super "$zookeeper" start 1 "$work/to" | tail -n 1) || exit $?
timeout 120 "$python" "$here/check.py" "$ottla" "$from" "$to"
