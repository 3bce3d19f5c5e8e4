#!/usr/bin/env python3
"""Consumer groups of Ottla beside those of Apache Kafka: the same members on the same machine, in turns.

usage: compare_groups.py --ottla PATH --kafka tests/compat/java/kafka [--rounds N] [--seconds S]
                         [--many GROUPS MEMBERS PARTITIONS] [--large MEMBERS PARTITIONS]
                         [--rebalances N] [--protocols classic consumer] [--only ottla|kafka]

Each case runs against a fresh server: one broker of Ottla with a coordinator in the same process
(`ottla dev`), or one of Kafka that is its own KRaft controller, with its default configuration (neither
`group.max.size` nor `group.consumer.max.size` limits anything there) and the heap of 1 GB that its
scripts give. A tenth of the load warms the server up first. `ottla bench groups` is the load for both: a connection for each
member, heartbeats as often as the protocol has them, and every 200 ms in the group that rebalances, so
that what is measured is the server and not how seldom it is asked.
"""

import argparse
import json
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time


def free_port():
    """A port that no connection is given: Kafka's controller takes the one 10,000 above it."""
    for _ in range(100):
        port = random.randrange(12000, 22000)
        with socket.socket() as first, socket.socket() as second:
            try:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 10000))
                return port
            except OSError:
                pass
    sys.exit("no free port between 12000 and 22000")


class Server:
    """A server in a folder of its own, ended with all its children."""

    def __init__(self, kind, arguments):
        self.kind, self.arguments = kind, arguments
        self.folder = tempfile.TemporaryDirectory(prefix="compare-groups-")
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        if kind == "ottla":
            self.launch([
                arguments.ottla, "dev", "--dir", self.folder.name, "--port", str(self.port),
                "--coordinator-port", str(free_port()),
                # All members come from one address, which may have 4,096 connections otherwise.
                "--config", "max.connections.per.ip.overrides=127.0.0.1:16000"])
        else:
            self.launch([arguments.kafka, "serve", str(self.port), self.folder.name])
        self.wait_until_it_answers()

    def launch(self, command):
        log = open(os.path.join(self.folder.name, "server.out"), "w")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    def ottla(self, *command):
        full = [self.arguments.ottla, *command, "-b", self.bootstrap, "--json"]
        return subprocess.run(full, capture_output=True, text=True, timeout=1500)

    def wait_until_it_answers(self):
        """Until a group of one member works: the port is open long before that."""
        deadline = time.monotonic() + 240
        group = ["bench", "groups", "ready", "--groups", "1", "--members", "1", "--seconds", "0"]
        while True:
            done = self.ottla(*group, "--replication-factor", "1", "--rebalances", "0")
            if done.returncode == 0:
                return
            if time.monotonic() > deadline:
                self.give_up(f"{self.kind}: no group works after 240 s: {done.stderr}")
            time.sleep(0.5)

    def give_up(self, reason):
        self.stop()
        sys.exit(reason)

    def bench(self, groups, members, partitions, *more):
        done = self.ottla(
            "bench", "groups", f"groups-{partitions}", "--groups", str(groups),
            "--members", str(members), "--partitions", str(partitions),
            "--replication-factor", "1", *more)
        if done.returncode != 0:
            self.give_up(f"{self.kind}: {done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def pids(self):
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.getpgid(int(entry)) == self.process.pid:
                    found.append(entry)
            except OSError:
                pass
        return found

    def memory_mb(self):
        """The most that each process had resident, together."""
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as status:
                    total += sum(int(l.split()[1]) for l in status if l.startswith("VmHWM:"))
            except OSError:
                pass
        return total / 1024

    def cpu_seconds(self):
        ticks = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/stat") as stat:
                    fields = stat.read().rsplit(")", 1)[1].split()
                ticks += int(fields[11]) + int(fields[12])
            except OSError:
                pass
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.folder.cleanup()


def measure(kind, arguments, case):
    groups, members, partitions, protocol = case
    server = Server(kind, arguments)
    try:
        common = ["--protocol", protocol]
        warm_up = (max(groups // 10, 1), members if groups > 1 else max(members // 10, 1))
        server.bench(*warm_up, partitions, *common, "--seconds", "3", "--rebalances", "1")
        before = server.cpu_seconds()
        figures = server.bench(
            groups, members, partitions, *common, "--seconds", str(arguments.seconds),
            "--rebalances", str(arguments.rebalances))
        figures["cpu"] = server.cpu_seconds() - before
        figures["memory"] = server.memory_mb()
        return figures
    finally:
        server.stop()


def rows(figures):
    """What of it is written down: name, unit, value."""
    yield "all stable after", "ms", figures["stable_ms"]
    for name in ("heartbeat", "commit"):
        if figures[f"{name}s"] == 0:
            continue
        for key, text in (("p50_ms", "p50"), ("p99_ms", "p99"), ("p999_ms", "p99.9"), ("max_ms", "max")):
            if name == "heartbeat" or key == "p99_ms":
                yield f"{name} {text}", "ms", figures[name][key]
    for name in ("leave", "join"):
        if figures[f"{name}_ms"]:
            yield f"rebalance after one {name}s", "ms", statistics.median(figures[f"{name}_ms"])
    yield "CPU of the server", "s", figures["cpu"]
    yield "largest resident memory", "MB", figures["memory"]
    yield "errors", "", sum(figures["errors"].values())


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


def cases(arguments):
    many, large = arguments.many, arguments.large
    for protocol in arguments.protocols:
        if large[0] > 0:
            text = f"1 group of {large[0]:,} on {large[1]:,} partitions, {protocol}"
            yield text, (1, *large, protocol)
    for protocol in arguments.protocols:
        if many[0] > 0:
            yield f"{many[0]:,} groups of {many[1]}, {protocol}", (*many, protocol)


def parsed():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ottla", required=True)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rebalances", type=int, default=3)
    parser.add_argument("--many", type=int, nargs=3, default=[1000, 10, 10])
    parser.add_argument("--large", type=int, nargs=2, default=[1000, 1000])
    parser.add_argument("--protocols", nargs="+", default=["classic", "consumer"])
    parser.add_argument("--only", choices=["ottla", "kafka"])
    return parser.parse_args()


def table(figures):
    print("\n| case | unit | Ottla | Kafka | Ottla : Kafka |\n|---|---|---|---|---|")
    for (case, name, unit), values in figures.items():
        median = {kind: statistics.median(found) for kind, found in values.items()}
        ours, theirs = median.get("ottla"), median.get("kafka")
        text = ["-" if value is None else f"{value:,.2f}" for value in (ours, theirs)]
        ratio = f"{ours / theirs:.2f}" if ours is not None and theirs else "-"
        print(f"| {name}, {case} | {unit} | {text[0]} | {text[1]} | {ratio} |")


def one_round(arguments, number, figures):
    p50, p99 = fdatasync_ms()
    load = os.getloadavg()[0]
    print(f"round {number + 1}: fdatasync p50 {p50:.2f} ms, p99 {p99:.2f} ms, load {load:.1f}",
          flush=True)
    order = ["ottla", "kafka"] if number % 2 == 0 else ["kafka", "ottla"]
    for name, case in cases(arguments):
        for kind in [kind for kind in order if arguments.only in (None, kind)]:
            measured = measure(kind, arguments, case)
            for what, unit, value in rows(measured):
                found = figures.setdefault((name, what, unit), {})
                found.setdefault(kind, []).append(value)
                print(f"  {name}: {kind} {what} {value:.2f} {unit}", flush=True)
            if measured["errors"]:
                print(f"  {name}: {kind} errors {measured['errors']}", flush=True)


def main():
    arguments = parsed()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    # Whoever ends it early gets the table of what there is.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    figures = {}
    try:
        for number in range(arguments.rounds):
            one_round(arguments, number, figures)
    finally:
        table(figures)


main()
