#!/usr/bin/env bash
# zkCli's commands against a server; what it prints must be what it prints with Apache ZooKeeper, but for
# times and ids. usage: run.sh HOST:PORT      run.sh record    (asks an Apache ZooKeeper, writes *.expected)
# The server must be a fresh one, alone or of an ensemble.
set -uo pipefail
address=${1:?usage: run.sh HOST:PORT | record}
here=$(cd "$(dirname "$0")" && pwd)
zookeeper=$here/../zookeeper
work=$(mktemp -d)
trap '[ "$address" = record ] && "$zookeeper" stop "$work/server"; rm -rf "$work"' EXIT

"$zookeeper" fetch >/dev/null || exit $?
jars=$("$zookeeper" libs "$here/../server-pom.xml")
javac -d "$work" -cp "$jars/*" "$here/Transcript.java" || exit 1

transcript() { # SCRIPT
    TZ=UTC timeout 120 java -XX:TieredStopAtLevel=1 -Dlogback.configurationFile="$here/../logback-client.xml" \
        -cp "$work:$jars/*" Transcript "$1" "$here/$2.txt" | python3 "$here/normalize.py"
}

if [ "$address" = record ]; then
    # A ZooKeeper as it is shipped has neither TTL nodes nor the scheme "sasl"; ours always has.
    export ZOOKEEPER_FLAGS="-Dzookeeper.extendedTypesEnabled=true
        -Dzookeeper.authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
    server=$("$zookeeper" start 1 "$work/server") || exit 1
    for script in "$here"/*.txt; do
        transcript "$server" "$(basename "$script" .txt)" >"${script%.txt}.expected"
    done
    exit
fi
passed=0 failed=0
for script in "$here"/*.txt; do
    name=$(basename "$script" .txt)
    transcript "$address" "$name" >"$work/$name.got"
    if diff -u "${script%.txt}.expected" "$work/$name.got" >"$work/diff"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED $name:"
        head -60 "$work/diff"
    fi
done
echo "zkCli: $passed passed, $failed failed"
[ "$failed" = 0 ]
