#!/usr/bin/env python3
"""Three brokers of Ottla beside three of Apache Kafka: the same load on the same machine, in turns.

usage: compare_replication.py --binaries FOLDER --kafka tests/compat/java/kafka
                              [--rounds N] [--seconds S] [--warm-up S] [--parts load catch-up failover]
                              [--partitions N…] [--failover N…] [--only ottla|kafka]

FOLDER holds `ottla`, `ottla-broker`, `ottla-coordinator` and `failover-probe` (a target folder). Ottla
runs with three members of its coordinator besides; Kafka's three brokers are KRaft controllers too,
with the heap of 1 GB that its scripts give. Topics have three replicas and min.insync.replicas=2, and
the load is sent with acks=all: throughput with 1 kB records, latency at 1,000 records a second, for
one topic after the other in the same cluster, which was loaded for the warm-up before. CPU is what all
processes of a cluster used, for each MB that they were sent.

catch-up: a follower is killed, records are written without it, and it starts again; told is how much
was written a second of the time until it is in every ISR again, its start included.
failover: a broker that leads is killed with SIGKILL, and every partition is written to until the last
has taken a record. Then it starts again, and once more after a SIGTERM: told is how long it takes from
the start of the process until it is in every ISR.
"""

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from ports import free_ports

NODES = (1, 2, 3)
SENT = ["--acks", "all", "--record-size", "1000"]


class Failed(Exception):
    """What a cluster could not do, in words."""


class Cluster:
    """Three brokers and what they need, each process in a group of its own."""

    def __init__(self, kind, arguments, durability):
        self.kind, self.arguments, self.durability = kind, arguments, durability
        self.folder = tempfile.TemporaryDirectory(prefix="compare-replication-")
        self.processes, self.brokers, self.commands = [], {}, {}
        self.ports = dict(zip(NODES, free_ports(3)))
        if kind == "ottla":
            self.start_ottla(durability)
        else:
            self.start_kafka()
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        try:
            self.until(lambda: self.live_brokers() == 3, "the brokers find each other")
        except Failed:
            self.stop()
            raise

    def launch(self, name, command, environment=None):
        self.commands[name] = command, environment
        log = open(os.path.join(self.folder.name, f"{name}.out"), "a")
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

    def kill(self, node, number):
        os.killpg(self.brokers[node].pid, number)
        self.brokers[node].wait()

    def start_again(self, node, topic, partitions):
        """Starts a broker; returns how long it took until it was in every ISR, in seconds."""
        began = time.monotonic()
        self.brokers[node] = self.launch(f"broker-{node}", *self.commands[f"broker-{node}"])
        self.wait_until_whole(topic, partitions, self.others(node))
        return time.monotonic() - began

    def others(self, node):
        return [port for other, port in self.ports.items() if other != node]

    def ottla(self, *command, check=True):
        full = [f"{self.arguments.binaries}/ottla", *command]
        done = subprocess.run(full, capture_output=True, text=True, timeout=600)
        if check and done.returncode != 0:
            raise Failed(f"{' '.join(full)}: {done.stderr.strip()}")
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
        self.wait_until_whole(topic, partitions, self.ports.values())

    def wait_until_whole(self, topic, partitions, ports):
        """Until these brokers know every leader, and that all replicas are in sync."""
        for port in ports:
            describe = ["topics", "describe", topic, "-b", f"127.0.0.1:{port}", "--json"]
            self.until(lambda: self.is_whole(self.ottla(*describe, check=False), partitions),
                       f"{topic} is whole")

    def bench(self, *command):
        out = self.ottla("bench", *command, "-b", self.bootstrap, "--json")
        return json.loads(out.strip().splitlines()[-1])

    def warm_up(self, topic, seconds):
        """Load that is not measured. Brokers may tell of leaders that do not know it yet."""
        def is_done():
            try:
                return self.bench("produce", topic, "--duration", f"{seconds}s", *SENT)
            except Failed:
                return False

        self.until(is_done, f"{topic} can be written to")

    def until(self, condition, what):
        deadline = time.monotonic() + self.arguments.patience
        while not condition():
            if time.monotonic() > deadline:
                raise Failed(f"waited {self.arguments.patience} s in vain until {what}")
            time.sleep(0.2)

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

    def said_last(self):
        """The last lines of the servers that are no news."""
        lines = []
        for name in self.commands:
            with open(os.path.join(self.folder.name, f"{name}.out"), errors="replace") as said:
                lines += [f"{name}: {line.strip()[:300]}" for line in said
                          if " ERROR " in line or " WARN " in line or "panicked" in line][-3:]
        return lines

    def stop(self):
        for process in self.processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
        self.folder.cleanup()


def load(cluster, put):
    """Throughput, latency and what they cost."""
    arguments = cluster.arguments
    cluster.create("warm-up", 12)
    cluster.warm_up("warm-up", arguments.warm_up)
    for partitions in arguments.partitions:
        topic, case = f"load-{partitions}", f"{partitions:,} partitions, {cluster.durability}"
        cluster.create(topic, partitions)
        cluster.warm_up(topic, 2)
        before = cluster.cpu_seconds()
        produced = cluster.bench("produce", topic, "--duration", f"{arguments.seconds}s", *SENT)
        spent = cluster.cpu_seconds() - before
        megabytes = produced["megabytes_per_second"] * arguments.seconds
        latency = cluster.bench("latency", topic, "--duration", f"{arguments.seconds}s", *SENT)
        acknowledged = latency["acknowledged_after"]
        put(f"produce, {case}|MB/s", produced["megabytes_per_second"])
        put(f"produce, {case}|CPU ms/MB", spent * 1000 / max(megabytes, 0.001))
        put(f"latency, {case}|p50 ms", acknowledged["p50_ms"])
        put(f"latency, {case}|p99 ms", acknowledged["p99_ms"])
        put(f"latency, {case}|p99.9 ms", acknowledged["p999_ms"])
    put(f"memory of all after that, {cluster.durability}|MB", cluster.memory_mb())


def catch_up(cluster, put):
    """How fast a follower gets what it missed."""
    cluster.create("missed", 12)
    cluster.warm_up("missed", cluster.arguments.warm_up)
    cluster.kill(3, signal.SIGKILL)
    cluster.bootstrap = ",".join(f"127.0.0.1:{port}" for port in cluster.others(3))
    cluster.until(lambda: cluster.live_brokers() == 2, "the others notice that one is gone")
    cluster.warm_up("missed", 2)
    seconds = 2 * cluster.arguments.seconds
    produced = cluster.bench("produce", "missed", "--duration", f"{seconds}s", *SENT)
    missed = produced["megabytes_per_second"] * seconds
    took = cluster.start_again(3, "missed", 12)
    put("a follower catches up with what it missed|MB", missed)
    put("the same, its start included|s", took)
    put("the same|MB/s", missed / took)


def failover(cluster, put):
    """From the kill of a leader to the last partition that takes a record again, and two starts."""
    for partitions in cluster.arguments.failover:
        topic, case = f"failover-{partitions}", f"{partitions:,} partitions"
        before = cluster.memory_mb()
        began = time.monotonic()
        cluster.create(topic, partitions)
        put(f"making {case}|s", time.monotonic() - began)
        time.sleep(3)
        put(f"memory of all for {case}|MB", cluster.memory_mb() - before)
        probe = subprocess.Popen([
            f"{cluster.arguments.binaries}/failover-probe", "--topic", topic,
            "--bootstrap-server", ",".join(f"127.0.0.1:{port}" for port in cluster.others(1)),
            "--partitions", str(partitions)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if probe.stdout.readline().strip() != "ready":
            raise Failed("the probe could not write")
        cluster.kill(1, signal.SIGKILL)
        probe.stdin.write("killed\n")
        probe.stdin.flush()
        times = json.loads(probe.stdout.readline())
        probe.wait()
        put(f"`kill -9` of a broker to the last of {case} written again|ms", times["last_ms"])
        put(f"`kill -9` of a broker to half of {case} written again|ms", times["p50_ms"])
        put(f"start after that with {case}|s", cluster.start_again(1, topic, partitions))
        began = time.monotonic()
        cluster.kill(1, signal.SIGTERM)
        put(f"orderly stop with {case}|s", time.monotonic() - began)
        put(f"start after an orderly stop with {case}|s", cluster.start_again(1, topic, partitions))


PARTS = {"load": load, "catch-up": catch_up, "failover": failover}


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


def measure(kind, arguments, part, durability, put):
    cluster = None
    try:
        cluster = Cluster(kind, arguments, durability)
        PARTS[part](cluster, put)
    except Failed as failed:
        # What was measured until then counts; the other one is still to be measured.
        print(f"  {kind}, {part}, {durability}: {failed}", flush=True)
        for line in cluster.said_last() if cluster is not None else []:
            print(f"    {line}", flush=True)
    finally:
        if cluster is not None:
            cluster.stop()


def allow_files(count):
    """Each partition takes files on every broker; what may be raised is raised."""
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))
    except (OSError, ValueError):
        print(f"files open at once: {resource.getrlimit(resource.RLIMIT_NOFILE)[1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--kafka", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--warm-up", type=int, default=20)
    parser.add_argument("--patience", type=int, default=180)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--partitions", type=int, nargs="*", default=[1, 12, 120, 1200])
    parser.add_argument("--failover", type=int, nargs="*", default=[1000, 10000])
    parser.add_argument("--only", choices=["ottla", "kafka"])
    arguments = parser.parse_args()
    tasks = [(part, durability) for part in arguments.parts
             for durability in (["disk", "page-cache"] if part == "load" else ["disk"])]
    allow_files(200_000)
    figures = {}
    for number in range(arguments.rounds):
        p50, p99 = fdatasync_ms()
        print(f"round {number + 1}: fdatasync p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
        order = ["ottla", "kafka"] if number % 2 == 0 else ["kafka", "ottla"]
        for part, durability in tasks:
            for kind in [kind for kind in order if arguments.only in (None, kind)]:
                def put(what, value, kind=kind):
                    figures.setdefault(what, {}).setdefault(kind, []).append(value)
                    print(f"  {kind}: {what} {value:.2f}", flush=True)

                measure(kind, arguments, part, durability, put)
    print("\n| case | unit | Ottla | Kafka | Ottla : Kafka |\n|---|---|---|---|---|")
    for what, values in figures.items():
        median = {kind: statistics.median(found) for kind, found in values.items()}
        ours, theirs = median.get("ottla"), median.get("kafka")
        both = ours is not None and theirs
        text = ["-" if value is None else f"{value:,.2f}" for value in (ours, theirs)]
        ratio = f"{ours / theirs:.2f}" if both else "-"
        label, unit = what.split("|")
        print(f"| {label} | {unit} | {text[0]} | {text[1]} | {ratio} |")


main()
