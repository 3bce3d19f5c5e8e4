#!/usr/bin/env bash
# The tests of the crate rdkafka 0.39.0 (Rust's client on librdkafka), each in a process of its own, against
# a broker that is started for them, with the number 0, which they count on. Fails when one fails that
# waiting.tsv does not name, and when one passes that it names.
# usage: run.sh OTTLA [NAME]   OTTLA: the binary; NAME: only the tests with it in their name
set -uo pipefail
ottla=$(realpath "${1:?usage: run.sh OTTLA [NAME]}")
only=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
suites=${SUITES_DIR:-$here/../../../target/suites}
mkdir -p "$suites/rdkafka/fetch/src"
work=$(cd "$suites/rdkafka" && pwd)
data=$(mktemp -d)
pid=
stop() { [ -z "$pid" ] || { kill "$pid" && wait "$pid"; } 2>/dev/null; rm -rf "$data"; }
trap stop EXIT

cd "$work/fetch" || exit 1
printf '%s\n' '[package]' 'name = "fetch"' 'version = "0.0.0"' 'edition = "2021"' '[workspace]' \
    '[dependencies]' 'rdkafka = "=0.39.0"' >Cargo.toml
: >src/lib.rs
manifest=$(cargo metadata --quiet --format-version 1 |
    grep -o '"manifest_path":"[^"]*/rdkafka-0.39.0/Cargo.toml"' | cut -d'"' -f4)
[ -f "$manifest" ] || { echo "the crate rdkafka 0.39.0 could not be fetched"; exit 1; }
if [ ! -d "$work/crate" ]; then
    cp -r "$(dirname "$manifest")" "$work/crate"
    chmod -R u+w "$work/crate"
fi
grep -q '^\[workspace\]' "$work/crate/Cargo.toml" || echo '[workspace]' >>"$work/crate/Cargo.toml"
cd "$work/crate" || exit 1
# Some name a fixed address or port.
sed -i 's/"bootstrap.servers", "localhost"/"bootstrap.servers", std::env::var("KAFKA_HOST").unwrap()/' tests/*.rs
sed -i 's/, 9092)/, std::env::var("KAFKA_PORT").unwrap().parse::<i32>().unwrap())/' tests/test_metadata.rs
CARGO_TARGET_DIR=$work/target cargo test --no-run --tests >"$work/build" 2>&1 ||
    { tail -30 "$work/build"; exit 1; }

"$ottla" dev --json --dir "$data/ottla" --port 0 --coordinator-port 0 \
    --config num.partitions=3 --config node.id=0 >"$data/ready" 2>"$work/ottla.log" &
pid=$!
for _ in $(seq 100); do [ -s "$data/ready" ] && break; sleep 0.2; done
KAFKA_HOST=$(sed -n 's/.*"0": *"\([^"]*\)".*/\1/p' "$data/ready" | head -1)
[ -n "$KAFKA_HOST" ] || { echo "ottla dev was not ready within 20 seconds"; exit 1; }
export KAFKA_HOST KAFKA_PORT=${KAFKA_HOST##*:} RUST_LOG=off

passed=0 known=0 wrong=0
for program in $(sed -n 's/.*Executable tests\/test_.*(\(.*\))/\1/p' "$work/build"); do
    file=$(basename "$program" | sed 's/-[0-9a-f]*$//')
    for entry in $("$program" --list 2>/dev/null | sed -n 's/: test$//p'); do
        case "$file::$entry" in *"$only"*) ;; *) continue ;; esac
        code=0
        timeout 120 "$program" --exact "$entry" >"$data/out" 2>&1 || code=$?
        if grep -qP "^\Q$file::$entry\E\t" "$here/waiting.tsv"; then
            known=$((known + 1))
            [ "$code" != 0 ] || { echo "passes now: $file::$entry"; wrong=$((wrong + 1)); }
        elif [ "$code" = 0 ]; then
            passed=$((passed + 1))
        else
            echo "FAILED ($code): $file::$entry"
            tail -25 "$data/out" | sed 's/^/    /'
            wrong=$((wrong + 1))
        fi
    done
done
echo "$passed passed, $known failed as waiting.tsv tells, $wrong went wrong"
[ "$wrong" = 0 ]
