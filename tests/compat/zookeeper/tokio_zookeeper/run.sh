#!/usr/bin/env bash
# The tests of the crate tokio-zookeeper 0.4.0 against a running server. usage: run.sh HOST:PORT
# They name a fixed address, which is replaced in a copy of the crate's source.
set -uo pipefail
address=${1:?usage: run.sh HOST:PORT}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${SUITES_DIR:-$here/../../../../target/suites}/tokio_zookeeper/fetch/src"
work=$(cd "${SUITES_DIR:-$here/../../../../target/suites}/tokio_zookeeper" && pwd)

cd "$work/fetch" || exit 1
printf '%s\n' '[package]' 'name = "fetch"' 'version = "0.0.0"' 'edition = "2021"' '[workspace]' \
    '[dependencies]' 'tokio-zookeeper = "=0.4.0"' >Cargo.toml
: >src/lib.rs
manifest=$(cargo metadata --quiet --format-version 1 |
    grep -o '"manifest_path":"[^"]*/tokio-zookeeper-0.4.0/Cargo.toml"' | cut -d'"' -f4)
[ -f "$manifest" ] || { echo "the crate tokio-zookeeper 0.4.0 could not be fetched"; exit 1; }

rm -rf "$work/crate/src"
mkdir -p "$work/crate"
cp -r "$(dirname "$manifest")"/{Cargo.toml,src} "$work/crate"
chmod -R u+w "$work/crate"
grep -q '^\[workspace\]' "$work/crate/Cargo.toml" || echo '[workspace]' >>"$work/crate/Cargo.toml"
grep -rl 127.0.0.1:2181 "$work/crate/src" | xargs sed -i "s/127\.0\.0\.1:2181/$address/g"
cd "$work/crate" || exit 1
CARGO_TARGET_DIR=$work/target timeout 300 cargo test --lib --quiet -- --test-threads=2 >"$work/out" 2>&1
status=$?
[ $status = 0 ] || tail -40 "$work/out"
grep '^test result' "$work/out" || exit 1
grep -q 'ok. 7 passed; 0 failed' "$work/out"
