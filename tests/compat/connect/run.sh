#!/usr/bin/env bash
# Kafka Connect, standalone: a source copies a file's lines to a topic, a sink copies them to another file.
# usage: run.sh HOST:PORT
# Fetches Connect from Maven Central into $SUITES_DIR (default: target/suites). Needs a JDK (17 or later) and mvn.
set -euo pipefail
address=${1:?usage: run.sh HOST:PORT}
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../../.." && pwd)
work=${SUITES_DIR:-$top/target/suites}/connect
command -v java >/dev/null || { echo "skipped: no java on the PATH"; exit 77; }
mkdir -p "$work"
work=$(cd "$work" && pwd)
if [ ! -f "$work/lib/.complete" ] || [ "$here/pom.xml" -nt "$work/lib/.complete" ]; then
    command -v mvn >/dev/null || { echo "skipped: no mvn on the PATH"; exit 77; }
    rm -rf "$work/lib"
    mvn -q -B -f "$here/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
        -DoutputDirectory="$work/lib"
    mvn -q -B dependency:copy -Dartifact=org.apache.kafka:kafka-clients:4.4.0 -DoutputDirectory="$work/lib/first"
    touch "$work/lib/.complete"
fi
folder=$(mktemp -d -p "$work")
worker=
trap '[ -z "$worker" ] || kill "$worker" 2>/dev/null; wait; rm -rf "$folder"' EXIT
topic=connect-$RANDOM$RANDOM lines=2000
cat >"$folder/worker.properties" <<PROPERTIES
bootstrap.servers=$address
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename=$folder/offsets
offset.flush.interval.ms=500
listeners=http://127.0.0.1:0
PROPERTIES
cat >"$folder/source.properties" <<PROPERTIES
name=$topic-source
connector.class=org.apache.kafka.connect.file.FileStreamSourceConnector
file=$folder/in
topic=$topic
PROPERTIES
cat >"$folder/sink.properties" <<PROPERTIES
name=$topic-sink
connector.class=org.apache.kafka.connect.file.FileStreamSinkConnector
file=$folder/out
topics=$topic
PROPERTIES

# The client library of 4.4.0, before that of 4.3.1, which has a few classes that Connect needs besides.
start() {
    java -Xmx256m -XX:TieredStopAtLevel=1 -Dlog4j2.configurationFile="$here/../java/log4j2-tools.properties" \
        -cp "$work/lib/first/*:$work/lib/*" org.apache.kafka.connect.cli.ConnectStandalone \
        "$folder/worker.properties" "$folder/source.properties" "$folder/sink.properties" >"$folder/log" 2>&1 &
    worker=$!
}

until_copied() { # WHAT
    for _ in $(seq 240); do
        [ -f "$folder/out" ] && [ "$(wc -l <"$folder/out")" -ge "$(wc -l <"$folder/in")" ] && break
        kill -0 "$worker" 2>/dev/null || { echo "FAILED $1: Connect has ended"; tail -n 20 "$folder/log"; exit 1; }
        sleep 0.25
    done
    if ! cmp -s <(sort -u "$folder/in") <(sort -u "$folder/out"); then
        echo "FAILED $1: $(sort -u "$folder/out" | wc -l) of $(wc -l <"$folder/in") lines after 60 s"
        grep -m 20 -E 'ERROR|Exception' "$folder/log"
        exit 1
    fi
}

seq -f 'line %.0f' "$lines" >"$folder/in"
start
until_copied "lines that are there"
seq -f 'more %.0f' "$lines" >>"$folder/in"
until_copied "lines that come later"
kill "$worker"
wait "$worker" || true
seq -f 'after %.0f' "$lines" >>"$folder/in"
start
until_copied "lines after a restart"
echo "Connect: $(wc -l <"$folder/in") lines in, $(wc -l <"$folder/out") out: 3 passed, 0 failed"
