#!/usr/bin/env python3
"""Ottla's coordinator beside Apache ZooKeeper: three servers of each, on the same machine, in turns.

usage: compare_zookeeper.py --coordinator PATH --load PATH [--rounds N] [--seconds S]
           [--parts throughput failover million sessions] [--nodes N] [--only ottla|zookeeper]
           [--works create set get mixed] [--sessions 1 64 1024] [--sizes 100 1000]

Both are started by tests/compat/zookeeper/zookeeper with the same zoo.cfg, which is ZooKeeper's sample
with maxClientCnxns=0, since all clients come from one address; ZooKeeper has a heap of 1 GB (-Xmx1000m,
what its zkServer.sh sets). The load comes from `zookeeper-load` for both. In each round every part runs
against fresh servers, Ottla first in even rounds and ZooKeeper first in odd ones. The tables have the
medians of the rounds and the ratio; what comes from many tries, such as the failovers, has percentiles
of all of them. The time of an `fdatasync` of 4 KiB is printed before each round.

parts: throughput (with fan-out and the memory after it), failover, million (memory, a snapshot and the
start with a million nodes), sessions (memory with 10,000 of them)
"""

import argparse
import glob
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RUNNER = os.path.join(HERE, "..", "compat", "zookeeper", "zookeeper")
KINDS = ["ottla", "zookeeper"]
WORKS = ["create", "set", "get", "mixed"]


class Servers:
    """Three servers of a kind, in a folder of their own."""

    def __init__(self, kind, arguments):
        self.folder = tempfile.TemporaryDirectory(prefix=f"compare-{kind}-", dir=arguments.dir)
        self.load = arguments.load
        self.environment = dict(os.environ, ZOOKEEPER_HEAP="-Xmx1000m")
        self.environment.pop("SERVER_COMMAND", None)
        if kind == "ottla":
            coordinator = os.path.abspath(arguments.coordinator)
            self.environment["SERVER_COMMAND"] = f"{coordinator} serve --zoo-cfg"
        self.addresses = self.runner("start", "3", self.folder.name, "maxClientCnxns=0").split()[-1]

    def runner(self, *command):
        done = subprocess.run(
            [RUNNER, *command], env=self.environment, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            sys.exit(f"{command}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def ask(self, *command, timeout=900):
        full = [self.load, "--servers", self.addresses, *map(str, command)]
        done = subprocess.run(full, capture_output=True, text=True, timeout=timeout)
        if done.returncode != 0:
            sys.exit(f"{' '.join(full)}\n{done.stderr}")
        return json.loads(done.stdout.strip().splitlines()[-1])

    def members(self):
        return sorted(os.listdir(self.folder.name))

    def pid(self, member):
        with open(os.path.join(self.folder.name, member, "pid")) as file:
            return int(file.read())

    def memory_mb(self):
        total = 0
        for member in self.members():
            with open(f"/proc/{self.pid(member)}/status") as status:
                total += sum(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
        return total / 1024

    def snapshots(self):
        found = glob.glob(os.path.join(self.folder.name, "*", "data", "**", "*snap*"), recursive=True)
        return {(path, os.stat(path).st_mtime_ns) for path in found if os.path.isfile(path)}

    def start_again(self):
        """Stops all in an orderly way, starts all at once, and tells how long until all answer."""
        self.runner("stop", self.folder.name)
        began = time.monotonic()
        starting = [
            subprocess.Popen([RUNNER, "restart", self.folder.name, member], env=self.environment,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for member in self.members()
        ]
        self.ask("wait")
        took = time.monotonic() - began
        for one in starting:
            one.wait()
        return took

    def end(self):
        for member in self.members():
            try:
                os.kill(self.pid(member), 9)
            except OSError:
                pass
        time.sleep(0.5)
        self.folder.cleanup()


def fdatasync_ms(folder):
    with tempfile.NamedTemporaryFile(prefix="compare-", dir=folder) as file:
        times = []
        for _ in range(200):
            os.write(file.fileno(), b"x" * 4096)
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return times[100], times[198]


def throughput(servers, arguments, put):
    for work in arguments.works:
        for sessions in arguments.sessions:
            for size in arguments.sizes:
                got = servers.ask(
                    "run", "--work", work, "--sessions", sessions, "--size", size,
                    "--warm-up", arguments.warm_up, "--seconds", arguments.seconds)
                case = f"{work}, {sessions} sessions, {size} B"
                if got["refused"] or got["reconnects"]:
                    print(f"    {case}: {got['refused']} refused, {got['reconnects']} reconnects")
                put(f"{case} | ops/s", got["ops_per_second"])
                for share in ("p50", "p99", "p999"):
                    put(f"{case} | {share} ms", got[f"{share}_ms"])
    got = servers.ask("fan-out", "--watchers", 1000, "--rounds", 20)
    put("event to the last of 1,000 watchers | p50 ms", got["p50_ms"])
    put("event to the last of 1,000 watchers | p99 ms", got["p99_ms"])
    put("memory of three after this load | MB", servers.memory_mb())


def failover(servers, arguments, put):
    for _ in range(arguments.kills):
        leader = servers.runner("leader", servers.folder.name)
        got = servers.ask("failover", "--pid", servers.pid(leader))
        put("kill -9 of the leader to the next write | ms", got["first_ms"])
        put("the same until clients of all servers write | ms", got["all_ms"])
        servers.runner("restart", servers.folder.name, leader)
        servers.ask("wait")


RATE = ["run", "--work", "set", "--sessions", 16, "--rate", 2000, "--warm-up", 0]


def million(servers, arguments, put):
    servers.ask(*RATE, "--seconds", 5)
    longest = servers.ask(*RATE, "--seconds", 15)["longest_ms"]
    put("longest request in 15 s, 2,000/s, without a snapshot | ms", longest)
    took = servers.ask("fill", "--nodes", arguments.nodes, "--size", 100, timeout=3600)["seconds"]
    put(f"making {arguments.nodes:,} nodes | s", took)
    put(f"memory of three with {arguments.nodes:,} nodes | MB", servers.memory_mb())
    before = servers.snapshots()
    longest = 0
    for _ in range(15):
        got = servers.ask(*RATE, "--seconds", 10)
        longest = max(longest, got["longest_ms"])
        if got["refused"] or got["reconnects"]:
            print(f"    {got['refused']} refused, {got['reconnects']} reconnects")
        if len({os.path.dirname(path) for path, _ in servers.snapshots() - before}) == 3:
            put(f"longest request, 2,000/s, while all take a snapshot of {arguments.nodes:,} | ms", longest)
            break
    else:
        print("    not all took a snapshot", flush=True)
    put(f"start with {arguments.nodes:,} nodes | s", servers.start_again())
    put("memory of three after that start | MB", servers.memory_mb())


def sessions(servers, arguments, put):
    before = servers.memory_mb()
    full = [servers.load, "--servers", servers.addresses, "hold", "--sessions", "10000"]
    with subprocess.Popen(full, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holding:
        opened = json.loads(holding.stdout.readline())
        time.sleep(5)
        put("opening 10,000 sessions | s", opened["seconds"])
        put("memory of three with 10,000 sessions | MB", servers.memory_mb())
        put("of that for the sessions | MB", servers.memory_mb() - before)
        holding.communicate("")


PARTS = {"throughput": throughput, "failover": failover, "million": million, "sessions": sessions}
EVERY_TRY_COUNTS = ("kill -9 of the leader", "the same until clients")


def rows(figures):
    """What the table has of a figure: its name, unit, and the values of each kind."""
    for name, values in figures.items():
        case, unit = name.split(" | ")
        if not case.startswith(EVERY_TRY_COUNTS):
            yield case, unit, {kind: statistics.median(v) for kind, v in values.items() if v}
            continue
        for share in (50, 99):
            at = {kind: sorted(v)[min(len(v) * share // 100, len(v) - 1)] for kind, v in values.items() if v}
            yield case, f"p{share} {unit}", at


def earlier(path):
    """The figures that a file has of earlier rounds, and what fdatasync took before them."""
    if not path or not os.path.exists(path):
        return {}, []
    with open(path) as file:
        read = json.load(file)
    return read["figures"], read["fdatasync_ms"]


def print_table(figures, flushes):
    for share, times in zip(("p50", "p99"), zip(*flushes)):
        print(f"fdatasync {share}: {min(times):.2f} to {max(times):.2f} ms")
    print("\n| case | unit | Ottla | ZooKeeper | Ottla : ZooKeeper |\n|---|---|---|---|---|")
    for case, unit, at in rows(figures):
        shown = [f"{at[kind]:,.2f}" if kind in at else "" for kind in KINDS]
        ratio = f"{at['ottla'] / at['zookeeper']:.2f}" if len(at) == 2 and at["zookeeper"] else ""
        print(f"| {case} | {unit} | {shown[0]} | {shown[1]} | {ratio} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--coordinator", default="target/release/ottla-coordinator")
    parser.add_argument("--load", default="target/release/zookeeper-load")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--warm-up", type=float, default=1)
    parser.add_argument("--works", nargs="*", choices=WORKS, default=WORKS)
    parser.add_argument("--sessions", nargs="*", type=int, default=[1, 64, 1024], help="of the throughput")
    parser.add_argument("--sizes", nargs="*", type=int, default=[100, 1000], help="of the nodes' data")
    parser.add_argument("--kills", type=int, default=20, help="failovers of each kind and round")
    parser.add_argument("--nodes", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--only", choices=KINDS)
    parser.add_argument("--dir", help="where the servers keep their data")
    parser.add_argument("--json", help="a file that gets all figures, beside those that it has")
    parser.add_argument("--table", action="store_true", help="print the table of that file, measure nothing")
    arguments = parser.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    figures, flushes = earlier(arguments.json)
    if arguments.table:
        return print_table(figures, flushes)
    for number in range(len(flushes), len(flushes) + arguments.rounds):
        p50, p99 = fdatasync_ms(arguments.dir)
        flushes.append([p50, p99])
        print(f"round {number + 1}: fdatasync p50 {p50:.2f} ms, p99 {p99:.2f} ms", flush=True)
        order = KINDS if number % 2 == 0 else KINDS[::-1]
        for part in arguments.parts:
            for kind in [kind for kind in order if arguments.only in (None, kind)]:

                def put(name, value, kind=kind):
                    figures.setdefault(name, {kind: [] for kind in KINDS})[kind].append(value)
                    print(f"  {kind}: {name.replace(' | ', ': ')} {value:.2f}", flush=True)

                servers = Servers(kind, arguments)
                try:
                    PARTS[part](servers, arguments, put)
                finally:
                    servers.end()
        if arguments.json:
            with open(arguments.json, "w") as file:
                json.dump({"figures": figures, "fdatasync_ms": flushes}, file, indent=1)
    print_table(figures, flushes)


main()
