#!/usr/bin/env bash
# kazoo's own tests against ensembles of ours.  usage: run.sh COORDINATOR [pytest arguments]
# COORDINATOR is the binary ottla-coordinator. kazoo's harness starts, stops and restarts three servers
# itself, by the command `java ... QuorumPeerMain zoo.cfg`; the script `java` beside this one answers
# to that name and starts the coordinator with the same zoo.cfg. Needs python3 with venv and pip.
# Environment: SUITES_DIR (where things are downloaded to), QUICK=1 (leave out the two files that run the
# tests of another once more, over gevent and over eventlet: a third of the time).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
COORDINATOR=$(realpath "${1:?usage: run.sh COORDINATOR [pytest arguments]}")
shift
version=2.11.0
work=${SUITES_DIR:-$here/../../../target/suites}/kazoo
mkdir -p "$work"
cd "$work"
if [ ! -e venv/ready ]; then
    python3 -m venv venv
    venv/bin/pip install --quiet "kazoo==$version" 'pyopenssl<24.3' pyjks pure-sasl gevent eventlet \
        objgraph pytest pytest-timeout mock setuptools wheel
    venv/bin/pip download --quiet --no-deps --no-binary :all: "kazoo==$version"
    tar xzf "kazoo-$version.tar.gz"
    touch venv/ready
fi
cd "kazoo-$version"
export COORDINATOR SERVERS_LOG=$work/servers.log PATH="$here:$PATH"
# The version that our `srvr` answers; with CI set the tests compare it, here as on a build machine.
export CI=1 ZOOKEEPER_VERSION=3.9.5 ZOOKEEPER_CLASSPATH=unused
: >"$SERVERS_LOG"
if [ $# = 0 ]; then
    set -- kazoo/tests
    if [ "${QUICK:-0}" = 1 ]; then
        set -- "$@" --ignore kazoo/tests/test_gevent_handler.py --ignore kazoo/tests/test_eventlet_handler.py
    fi
fi
# The harness says what it does on the standard error, thousands of lines.
status=0
../venv/bin/python -m pytest -p no:cacheprovider --timeout 120 -o log_cli=false -o addopts= \
    -W ignore -q -rfE --tb=short "$@" 2>"$work/harness.log" || status=$?
if grep -aE 'panicked|ERROR' "$SERVERS_LOG"; then
    echo "the servers' log $SERVERS_LOG has errors"
    [ "$status" != 0 ] || status=1
fi
exit "$status"
