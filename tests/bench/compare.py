#!/usr/bin/env python3
"""Ottla beside Apache Kafka: the same load, on the same machine, one after the other in turns.

usage: compare.py --ottla PATH --kafka "START COMMAND" [--rounds N] [--seconds S] [--only NAME…]

Each round runs every case against a fresh server of each kind, Ottla first in even rounds and Kafka
first in odd ones; the table has the median of the rounds and their ratio. The load comes from
`ottla bench` for both. The time of an `fdatasync` of 4 KiB is printed beside it, since the disks of
shared machines drift.

`--kafka` is a command that runs a Kafka broker in the foreground; `{port}` and `{dir}` in it are
filled in. With the Kafka that tests/compat/java/kafka fetches:

    compare.py --ottla target/release/ottla --kafka "tests/compat/java/kafka serve {port} {dir}"
"""

import argparse
import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from ports import free_port

KB = 1000


def produce(size, acks, **more):
    return {"kind": "produce", "size": size, "acks": acks, "durability": "disk", **more}


CASES = {
    "produce 1 kB, acks=1": produce(KB, "1"),
    "produce 1 kB, acks=all, page-cache": produce(KB, "all", durability="page-cache"),
    "produce 1 kB, acks=all, disk": produce(KB, "all"),
    "produce 16 kB, acks=1": produce(16 * KB, "1"),
    "produce 16 kB, acks=all, page-cache": produce(16 * KB, "all", durability="page-cache"),
    "produce 16 kB, acks=all, disk": produce(16 * KB, "all"),
    "consume 1 kB": {"kind": "consume", "size": KB},
    "latency 1 kB, acks=all, page-cache": {
        "kind": "latency", "size": KB, "acks": "all", "durability": "page-cache",
    },
    "latency 1 kB, acks=all, disk": {
        "kind": "latency", "size": KB, "acks": "all", "durability": "disk",
    },
}


def wait_for_port(port, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"the server ended at once, with status {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit(f"nobody listens on port {port} after {seconds} s")


class Server:
    """A server in a folder of its own, ended with all its children."""

    def __init__(self, kind, arguments):
        self.folder = tempfile.TemporaryDirectory(prefix="compare-")
        self.port = free_port()
        if kind == "ottla":
            command = [
                arguments.ottla, "dev", "--dir", self.folder.name, "--port", str(self.port),
                "--coordinator-port", str(free_port()),
            ]
        else:
            filled = arguments.kafka.format(port=self.port, dir=self.folder.name)
            command = shlex.split(filled)
        self.log = open(os.path.join(self.folder.name, "server.out"), "w")
        self.process = subprocess.Popen(
            command, stdout=self.log, stderr=self.log, start_new_session=True)
        wait_for_port(self.port, self.process)

    def wait_until_it_answers(self, arguments, command):
        """Kafka's port is open before its broker may serve and before a new topic has leaders."""
        deadline = time.monotonic() + 60
        while subprocess.run([arguments.ottla, *command], capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                sys.exit("the server does not answer")
            time.sleep(0.5)

    def memory_mb(self):
        total = 0
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                if os.getpgid(int(entry)) != self.process.pid:
                    continue
                with open(f"/proc/{entry}/status") as status:
                    rss = [line for line in status if line.startswith("VmRSS:")]
                total += int(rss[0].split()[1]) if rss else 0
            except (OSError, IndexError):
                pass
        return total / 1024

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.log.close()
        self.folder.cleanup()


def run(arguments, command):
    full = [arguments.ottla, *command, "--json"]
    done = subprocess.run(full, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        sys.exit(f"{' '.join(full)}\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(arguments, kind, case):
    server = Server(kind, arguments)
    try:
        at = ["--bootstrap-server", f"127.0.0.1:{server.port}"]
        load = ["bench-topic", "--record-size", str(case["size"])]
        if kind == "ottla" and case.get("durability") == "page-cache":
            load += ["--config", "acks.all.durability=page-cache"]
        acks = ["--acks", case.get("acks", "1")]
        warm_up, measured = ["--duration", "3s"], ["--duration", f"{arguments.seconds}s"]
        server.wait_until_it_answers(arguments, ["bench", "produce", *at, *load, "-n", "100"])
        if case["kind"] == "consume":
            run(arguments, ["bench", "produce", *at, *load, *measured, *acks])
            result = run(arguments, ["bench", "consume", *at, "bench-topic"])
        else:
            run(arguments, ["bench", case["kind"], *at, *load, *warm_up, *acks])
            result = run(arguments, ["bench", case["kind"], *at, *load, *measured, *acks])
        result["memory_mb"] = server.memory_mb()
        return result
    finally:
        server.stop()


def fdatasync_ms():
    with tempfile.NamedTemporaryFile(prefix="compare-") as file:
        times = []
        for _ in range(200):
            os.write(file.fileno(), b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return times[100], times[198]


def figure_of(case, result):
    if case["kind"] == "latency":
        return result["acknowledged_after"]["p99_ms"]
    return result["megabytes_per_second"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ottla", required=True)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=[])
    arguments = parser.parse_args()
    cases = {n: c for n, c in CASES.items() if all(word in n for word in arguments.only)}
    figures = {name: {"ottla": [], "kafka": []} for name in cases}
    memory = {"ottla": [], "kafka": []}
    for number in range(arguments.rounds):
        p50, p99 = fdatasync_ms()
        print(f"round {number + 1}: fdatasync p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
        order = ["ottla", "kafka"] if number % 2 == 0 else ["kafka", "ottla"]
        for name, case in cases.items():
            for kind in order:
                result = measure(arguments, kind, case)
                figures[name][kind].append(figure_of(case, result))
                memory[kind].append(result["memory_mb"])
                print(f"  {name}: {kind} {figures[name][kind][-1]:.2f}", flush=True)
    print("\n| case | unit | Ottla | Kafka | Ottla : Kafka |\n|---|---|---|---|---|")
    for name, case in cases.items():
        ours, theirs = (statistics.median(figures[name][kind]) for kind in ("ottla", "kafka"))
        unit = "p99 ms" if case["kind"] == "latency" else "MB/s"
        print(f"| {name} | {unit} | {ours:.2f} | {theirs:.2f} | {ours / theirs:.2f} |")
    ours, theirs = (max(memory[kind]) for kind in ("ottla", "kafka"))
    print(f"| largest resident memory | MB | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} |")


main()
