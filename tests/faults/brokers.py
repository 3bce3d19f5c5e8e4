#!/usr/bin/env python3
"""Does harm to three brokers under load, and looks for what they acknowledged.

usage: brokers.py [--binaries FOLDER] [--cells NAME…] [--rounds N] [--seed N] [--keep FOLDER] [--list]

FOLDER holds `ottla`, `ottla-broker`, `ottla-coordinator` and `replication-load` (a target folder).
Three members of the coordinator and three brokers run as processes, each in a network namespace of
its own where that can be (`network.py`). The topic has three replicas and min.insync.replicas=2; the
load writes unique values with acks=all, as idempotent producers, and reads all the time. A cell is
one kind of harm (`cells/`, `--list` tells them); it is done as often as `--rounds` says, and each time
everything heals before the next: all processes run and every ISR is whole. In the end all records are
read and judged (`tests/harness/history/records.rs`, `readings.rs`), everything is killed, started and
read once more, and the replicas' logs are compared byte for byte.

Namespaces need root and iproute2, power cuts and disks root and loop devices. A cell that cannot be
is left out, which is said.
"""

import argparse
import contextlib
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
import traceback

import network
import power_cut
from cells import CELLS
from cluster import NODES, PARTITIONS, TOPIC, Cluster, Failed, Load, until

PLACES = [(kind, node) for kind in ("coordinator", "broker") for node in NODES]
DISK_SIZE = 256 << 20
HEAD = ["fault", "rounds", "acknowledged", "lost", "doubled", "out of order", "wrong readings",
        "replicas that differ", "gap, median ms", "gap, longest ms", "new leader, median s",
        "ISRs whole, median s"]


def can_have_disks():
    return os.geteuid() == 0 and os.path.exists("/dev/loop-control") and shutil.which("mkfs.ext4")


def build(cell, arguments, stack):
    """A cluster for a cell, with a topic in it."""
    base = stack.enter_context(tempfile.TemporaryDirectory(prefix="faults-brokers-"))
    net = network.best(PLACES) if cell.needs == "network" else network.Loopback()
    stack.callback(net.close)
    disks = {}
    for kind, node in PLACES if cell.needs == "disks" else []:
        folder = os.path.join(base, f"disk-{kind}-{node}")
        os.mkdir(folder)
        disks[kind, node] = power_cut.Disk(folder, DISK_SIZE)
        stack.callback(disks[kind, node].close)
    cluster = Cluster(arguments.binaries, base, net, disks)
    if arguments.keep:
        kept = os.path.join(arguments.keep, f"{arguments.name}.log")
        stack.callback(lambda: shutil.copy(cluster.log_path, kept))
    stack.callback(cluster.stop)
    cluster.start()
    try:
        until(lambda: cluster.are_registered(3), "all brokers are there")
    except Failed as failed:
        raise Failed(f"{failed}; {cluster.ended()}") from None
    durability = ["--config", "acks.all.durability=page-cache"] if cell.may_lose else []
    cluster.certainly("topics", "create", TOPIC, "--partitions", str(PARTITIONS), "--if-not-exists",
                      "--replication-factor", "3", "--config", "min.insync.replicas=2", *durability)
    until(cluster.is_whole, "the topic is there")
    return cluster


def run_cell(name, cell, arguments):
    """One cell, in a cluster of its own. Returns the row of the table, and what is wrong."""
    random.seed(f"{arguments.seed} {name}")
    wrong = []
    with contextlib.ExitStack() as stack:
        cluster = build(cell, arguments, stack)
        load = Load(cluster)
        stack.callback(load.end)
        gaps, healed, leaders, before = [], [], [], 0
        for number in range(arguments.rounds):
            until(lambda: load.say("mark")["acknowledged"] > before, "something is acknowledged")
            took = cell.harm(cluster)
            leaders += [took] if took is not None else []
            healed.append(cluster.heals() + load.goes_on())
            mark = load.say("mark")
            gaps.append(mark["longest_gap_ms"])
            before = mark["acknowledged"]
        written, verdict = load.say("stop"), load.say("check")
        cluster.stop()
        cluster.start()
        cluster.heals()
        again = load.say("check")
        for broker in cluster.brokers.values():
            broker.terminate()
        differing = cluster.differing()
        wrong += [f"servers: {line}" for line in cluster.complaints()]
    is_good = verdict["is_good"] and again["is_good"]
    if not is_good and not cell.may_lose:
        wrong.append(f"{verdict}, and after a restart of everything {again}")
    if differing:
        wrong.append(f"{differing} partitions differ between replicas")
    row = [name, arguments.rounds, f"{written['acknowledged']:,}",
           max(each["missing"] + each["changed"] for each in (verdict, again)),
           max(each["doubled"] for each in (verdict, again)),
           max(each["out_of_order"] for each in (verdict, again)),
           max(each["oddities"] for each in (verdict, again)), differing,
           f"{statistics.median(gaps):,.0f}", f"{max(gaps):,.0f}",
           f"{statistics.median(leaders):.1f}" if leaders else "",
           f"{statistics.median(healed):.1f}"]
    return row, wrong


def print_row(row):
    print(f"| {' | '.join(map(str, row))} |", flush=True)


def why_not(cell):
    """Why a cell cannot be, if so."""
    if cell.needs == "disks" and not can_have_disks():
        return "it needs root, mkfs.ext4 and loop devices"
    if cell.needs == "network":
        probe = network.best(PLACES)
        probe.close()
        if not probe.can_be_cut:
            return "it needs root and network namespaces"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binaries", default="target/release")
    parser.add_argument("--cells", "--cell", nargs="*", choices=CELLS, default=list(CELLS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--keep", help="a folder for what the servers say")
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        for name, cell in CELLS.items():
            print(f"{name:<22} {cell.harm.__doc__}")
        return
    print(f"seed {arguments.seed}\n")
    print_row(HEAD)
    print_row(["---"] * len(HEAD))
    passed, left_out, broken = 0, [], []
    for name in arguments.cells:
        cell, arguments.name = CELLS[name], name
        reason = why_not(cell)
        if reason:
            left_out.append(f"{name}: {reason}")
            continue
        try:
            row, wrong = run_cell(name, cell, arguments)
            print_row(row)
        except Failed as failed:
            wrong = [str(failed)]
        except Exception:  # The other cells are still to be run, and what is wrong told at the end.
            wrong = [traceback.format_exc()]
        passed += not wrong
        broken += [f"{name}: {each}" for each in wrong]
    print()
    for each in left_out:
        print(f"left out: {each}")
    for each in broken:
        print(f"wrong: {each}")
    failed = len(arguments.cells) - len(left_out) - passed
    print(f"brokers: {passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
