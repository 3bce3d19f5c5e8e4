#!/usr/bin/env python3
"""Three brokers of Ottla beside three of Apache Kafka: the same load on the same machine, in turns.

usage: compare_replication.py --binaries FOLDER --kafka tests/compat/java/kafka
                              [--rounds N] [--seconds S] [--partitions N…] [--failover N…]

FOLDER holds `ottla`, `ottla-broker`, `ottla-coordinator` and `failover-probe` (a target folder). Ottla
runs with three members of its coordinator besides; Kafka's three brokers are KRaft controllers too,
with the heap of 1 GB that its scripts give. Topics have three replicas and min.insync.replicas=2, and
the load is sent with acks=all: throughput with 1 kB records, latency at 1,000 records a second. For
the failover a broker that leads is killed with SIGKILL, and every partition is written to until the
last has taken a record. CPU is what all processes of a cluster used, for each MB that they were sent.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from ports import free_ports

NODES = (1, 2, 3)


class Cluster:
    """Three brokers and what they need, each process in a group of its own."""

    def __init__(self, kind, arguments, durability):
        self.kind, self.arguments = kind, arguments
        self.folder = tempfile.TemporaryDirectory(prefix="compare-replication-")
        self.processes, self.brokers = [], {}
        self.ports = dict(zip(NODES, free_ports(3)))
        if kind == "ottla":
            self.start_ottla(durability)
        else:
            self.start_kafka()
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        deadline = time.monotonic() + 120
        while self.live_brokers() < 3:
            if time.monotonic() > deadline:
                sys.exit(f"{kind}: the brokers do not find each other")
            time.sleep(0.2)

    def launch(self, name, command, environment=None):
        log = open(os.path.join(self.folder.name, f"{name}.out"), "w")
        process = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, **(environment or {})})
        self.processes.append(process)
        return process

    def start_ottla(self, durability):
        at = self.arguments.binaries
        clients, peers = free_ports(3), free_ports(3)
        members = ",".join(f"{node}=127.0.0.1:{port}" for node, port in zip(NODES, peers))
        coordinators = ",".join(f"127.0.0.1:{port}" for port in clients)
        for node, port in zip(NODES, clients):
            self.launch(f"coordinator-{node}", [
                f"{at}/ottla-coordinator", "serve", "--id", str(node),
                "--dir", f"{self.folder.name}/coordinator-{node}",
                "--listen", f"127.0.0.1:{port}", "--members", members])
        for node, port in self.ports.items():
            self.brokers[node] = self.launch(f"broker-{node}", [
                f"{at}/ottla-broker", "serve", "--id", str(node),
                "--dir", f"{self.folder.name}/broker-{node}",
                "--listen", f"127.0.0.1:{port}", "--coordinators", coordinators,
                "--override", f"acks.all.durability={durability}"])

    def start_kafka(self):
        controllers = dict(zip(NODES, free_ports(3)))
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in controllers.items())
        for node, port in self.ports.items():
            self.brokers[node] = self.launch(f"broker-{node}", [
                self.arguments.kafka, "serve", str(port), f"{self.folder.name}/broker-{node}",
                f"node.id={node}", f"controller.quorum.voters={voters}",
                f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controllers[node]}",
            ], {"KAFKA_PLAIN": "1"})

    def ottla(self, *command, check=True):
        full = [f"{self.arguments.binaries}/ottla", *command]
        done = subprocess.run(full, capture_output=True, text=True, timeout=600)
        if check and done.returncode != 0:
            sys.exit(f"{' '.join(full)}\n{done.stderr}")
        return done.stdout

    def live_brokers(self):
        out = self.ottla("cluster", "describe", "-b", self.bootstrap, "--json", check=False)
        return len(json.loads(out)["brokers"]) if out.startswith("{") else 0

    def is_whole(self, described, partitions):
        found = json.loads(described)["partitions"] if described.startswith("{") else []
        led = [each for each in found if each["leader"] is not None and len(each["isr"]) == 3]
        return len(led) >= partitions

    def create(self, topic, partitions):
        self.ottla(
            "topics", "create", topic, "-b", self.bootstrap, "--partitions", str(partitions),
            "--replication-factor", "3", "--config", "min.insync.replicas=2")
        # Until every broker knows every leader, and that all replicas are in sync.
        deadline = time.monotonic() + 120
        for port in self.ports.values():
            at = f"127.0.0.1:{port}"
            while True:
                described = self.ottla("topics", "describe", topic, "-b", at, "--json", check=False)
                if self.is_whole(described, partitions):
                    break
                if time.monotonic() > deadline:
                    sys.exit(f"{self.kind}: {topic} has not got its leaders")
                time.sleep(0.2)

    def bench(self, *command):
        out = self.ottla("bench", *command, "-b", self.bootstrap, "--json")
        return json.loads(out.strip().splitlines()[-1])

    def pids(self):
        groups = {process.pid for process in self.processes if process.poll() is None}
        found = []
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.getpgid(int(entry)) in groups:
                    found.append(entry)
            except OSError:
                pass
        return found

    def memory_mb(self):
        total = 0
        for pid in self.pids():
            try:
                with open(f"/proc/{pid}/status") as status:
                    total += sum(int(l.split()[1]) for l in status if l.startswith("VmRSS:"))
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
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        self.folder.cleanup()


def load(cluster, partitions, seconds):
    """Throughput, latency and what they cost."""
    topic = f"load-{partitions}"
    cluster.create(topic, partitions)
    sent = ["--acks", "all", "--record-size", "1000"]
    cluster.bench("produce", topic, "--duration", "2s", *sent)
    before = cluster.cpu_seconds()
    produced = cluster.bench("produce", topic, "--duration", f"{seconds}s", *sent)
    spent = cluster.cpu_seconds() - before
    megabytes = produced["megabytes_per_second"] * seconds
    latency = cluster.bench("latency", topic, "--duration", f"{seconds}s", *sent)
    acknowledged = latency["acknowledged_after"]
    return {
        "produce|MB/s": produced["megabytes_per_second"],
        "produce|CPU ms/MB": spent * 1000 / max(megabytes, 0.001),
        "latency|p50 ms": acknowledged["p50_ms"],
        "latency|p99 ms": acknowledged["p99_ms"],
        "latency|p99.9 ms": acknowledged["p999_ms"],
    }


def failover(cluster, partitions):
    """From the kill of a leader to the last partition that takes a record again."""
    topic = f"failover-{partitions}"
    cluster.create(topic, partitions)
    time.sleep(3)
    memory = cluster.memory_mb()
    survivors = ",".join(f"127.0.0.1:{cluster.ports[node]}" for node in NODES[1:])
    probe = subprocess.Popen([
        f"{cluster.arguments.binaries}/failover-probe", "--bootstrap-server", survivors,
        "--topic", topic, "--partitions", str(partitions)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    if probe.stdout.readline().strip() != "ready":
        sys.exit(f"{cluster.kind}: the probe could not write")
    os.killpg(cluster.brokers[1].pid, signal.SIGKILL)
    probe.stdin.write("killed\n")
    probe.stdin.flush()
    times = json.loads(probe.stdout.readline())
    probe.wait()
    return {
        "kill -9 to the last partition|ms": times["last_ms"],
        "kill -9 to half of the partitions|ms": times["p50_ms"],
        "memory of all|MB": memory,
    }


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


def measure(kind, arguments, durability, task):
    cluster = Cluster(kind, arguments, durability)
    try:
        return task(cluster)
    finally:
        cluster.stop()


def cases(arguments):
    for durability in ("disk", "page-cache"):
        for count in arguments.partitions:
            name = f"{count} partitions, {durability}"
            yield name, durability, lambda c, n=count: load(c, n, arguments.seconds)
    for count in arguments.failover:
        yield f"{count} partitions", "disk", lambda c, n=count: failover(c, n)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--partitions", type=int, nargs="*", default=[1, 12, 120, 1200])
    parser.add_argument("--failover", type=int, nargs="*", default=[1000, 10000])
    parser.add_argument("--only", choices=["ottla", "kafka"])
    arguments = parser.parse_args()
    figures = {}
    for number in range(arguments.rounds):
        p50, p99 = fdatasync_ms()
        print(f"round {number + 1}: fdatasync p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
        order = ["ottla", "kafka"] if number % 2 == 0 else ["kafka", "ottla"]
        kinds = [kind for kind in order if arguments.only in (None, kind)]
        for name, durability, task in cases(arguments):
            for kind in kinds:
                for what, value in measure(kind, arguments, durability, task).items():
                    figures.setdefault((name, what), {}).setdefault(kind, []).append(value)
                    print(f"  {name}: {what} {kind} {value:.2f}", flush=True)
    print("\n| case | unit | Ottla | Kafka | Ottla : Kafka |\n|---|---|---|---|---|")
    for (name, what), values in figures.items():
        median = {kind: statistics.median(found) for kind, found in values.items()}
        ours, theirs = median.get("ottla"), median.get("kafka")
        both = ours is not None and theirs
        text = ["-" if value is None else f"{value:,.2f}" for value in (ours, theirs)]
        ratio = f"{ours / theirs:.2f}" if both else "-"
        label, unit = what.split("|")
        print(f"| {label}, {name} | {unit} | {text[0]} | {text[1]} | {ratio} |")


main()
