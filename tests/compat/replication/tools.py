#!/usr/bin/env python3
"""Apache Kafka's own tools on three brokers in three racks: leader election, reassignment, what
`kafka-topics` tells of replicas that are missing, and a consumer that reads from a follower.

usage: tools.py FOLDER KAFKA [PART…]      FOLDER holds `ottla`, `ottla-broker`, `ottla-coordinator`; KAFKA is
`tests/compat/java/kafka`. What each tool prints is looked at; the last line counts.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../../faults"))
import network  # noqa: E402
from cluster import NODES, Cluster, Failed, until  # noqa: E402

SELECTOR = "org.apache.kafka.common.replica.RackAwareReplicaSelector"
TOPIC, RECORDS = "tools", 20000


class Tools:
    def __init__(self, cluster, kafka, folder):
        self.cluster, self.kafka, self.folder = cluster, kafka, folder
        self.passed, self.failed = 0, 0

    def run(self, tool, *arguments, stdin=""):
        try:
            done = subprocess.run(
                [self.kafka, tool, *arguments], input=stdin, capture_output=True, text=True, timeout=90)
        except subprocess.TimeoutExpired:
            return f"{tool} {' '.join(arguments)}: waited 90 s in vain for its end"
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)

    def tool(self, tool, *arguments, stdin=""):
        return self.run(tool, "--bootstrap-server", self.cluster.bootstrap(), *arguments, stdin=stdin)

    def file(self, name, value):
        path = os.path.join(self.folder, name)
        with open(path, "w") as file:
            json.dump(value, file)
        return path

    def check(self, name, holds, told):
        if holds:
            self.passed += 1
            print(f"passed  {name}", flush=True)
        else:
            self.failed += 1
            print(f"FAILED  {name}\n{told}", flush=True)

    def describe(self, *flags):
        out = self.tool("topics", "--describe", *flags)
        return out, re.findall(
            r"Topic: (\S+)\s+Partition: (\d+)\s+Leader: (\S+)\s+Replicas: (\S+)\s+Isr: ?(\S*)", out)


def make_topics(tools):
    out = tools.tool("topics", "--create", "--topic", TOPIC, "--replica-assignment",
                     "1:2:3,2:3:1,3:1:2", "--config", "min.insync.replicas=2")
    tools.check("topics --create with assignment", f"Created topic {TOPIC}" in out, out)
    out = tools.tool("topics", "--create", "--topic", "single", "--replica-assignment", "3,1")
    tools.check("topics --create with one replica", "Created topic single" in out, out)
    out, rows = tools.describe("--topic", TOPIC)
    places = [(row[2], row[3]) for row in rows]
    tools.check("topics --describe", places == [("1", "1,2,3"), ("2", "2,3,1"), ("3", "3,1,2")], out)


def read_from_follower(tools):
    lines = "".join(f"{number:0>100}\n" for number in range(RECORDS))
    out = tools.tool("topics", "--create", "--topic", "racks", "--replica-assignment", "1:2:3")
    out = tools.tool("console-producer", "--topic", "racks", stdin=lines)
    for node in NODES:
        out = tools.run("source", os.path.join(HERE, "FromFollower.java"), tools.cluster.bootstrap(),
                        "racks", f"rack-{node}", str(RECORDS))
        sent = {int(broker): int(count) for broker, count in re.findall(r"^(\d) (\d+)$", out, re.M)}
        most = max(sent, key=sent.get, default=None)
        holds = f"read {RECORDS}" in out and most == node and sent[node] > RECORDS * 100
        others = [count for broker, count in sent.items() if broker != node]
        tools.check(f"consumer in rack-{node} reads from broker {node}",
                    holds and all(count < 100000 for count in others), out)


def reassign(tools):
    topics = tools.file("topics.json", {"version": 1, "topics": [{"topic": TOPIC}]})
    out = tools.tool("reassign-partitions", "--generate", "--topics-to-move-json-file", topics,
                     "--broker-list", "1,2,3")
    found = re.search(r"Proposed partition reassignment configuration\s+(\{.*\})", out)
    proposed = json.loads(found.group(1))["partitions"] if found else []
    tools.check("reassign-partitions --generate", len(proposed) == 3 and all(
        sorted(partition["replicas"]) == [1, 2, 3] for partition in proposed), out)
    plan = tools.file("plan.json", {"version": 1, "partitions": [
        {"topic": TOPIC, "partition": number, "replicas": replicas}
        for number, replicas in enumerate([[2, 1], [3, 2], [1, 3]])]})
    out = tools.tool("reassign-partitions", "--execute", "--reassignment-json-file", plan)
    tools.check("reassign-partitions --execute", "Successfully started partition reassign" in out, out)
    verified = []

    def is_done():
        verified[:] = [tools.tool("reassign-partitions", "--verify", "--reassignment-json-file", plan)]
        return verified[0].count("is completed") == 3
    with contextlib.suppress(Failed):
        until(is_done, "--verify tells that all is moved")
    tools.check("reassign-partitions --verify", is_done(), verified[0])
    out, rows = tools.describe("--topic", TOPIC)
    tools.check("the replicas are where they were sent",
                [row[3] for row in rows] == ["2,1", "3,2", "1,3"], out)


def elect(tools):
    out = tools.tool("leader-election", "--election-type", "preferred", "--all-topic-partitions")
    tools.check("leader-election --all-topic-partitions", "rror" not in out, out)
    out, rows = tools.describe("--topic", TOPIC)
    tools.check("each preferred replica leads", [row[2] for row in rows] == ["2", "3", "1"], out)
    out = tools.tool("leader-election", "--election-type", "preferred", "--topic", TOPIC,
                     "--partition", "0")
    tools.check("leader-election where nothing is to be done",
                "Valid replica already elected" in out, out)


def miss_replicas(tools):
    """Broker 3 goes, and comes back."""
    broker = tools.cluster.brokers[3]
    broker.kill()
    until(lambda: tools.cluster.are_registered(2), "broker 3 is gone")
    out, rows = tools.describe("--under-replicated-partitions", "--topic", TOPIC)
    tools.check("--under-replicated-partitions", [row[1] for row in rows] == ["1", "2"], out)
    out, rows = tools.describe("--under-min-isr-partitions", "--topic", TOPIC)
    tools.check("--under-min-isr-partitions", [row[1] for row in rows] == ["1", "2"], out)
    out, rows = tools.describe("--at-min-isr-partitions", "--topic", TOPIC)
    tools.check("--at-min-isr-partitions", [row[1] for row in rows] == ["0"], out)
    out, rows = tools.describe("--unavailable-partitions")
    tools.check("--unavailable-partitions", [(row[0], row[1]) for row in rows] == [("single", "0")], out)
    broker.start()
    until(lambda: tools.cluster.are_registered(3), "broker 3 is back")

    def is_whole():
        return not tools.describe("--under-replicated-partitions")[1]
    with contextlib.suppress(Failed):
        until(is_whole, "no partition lacks a replica", patience_s=30)
    tools.check("no partition lacks a replica when broker 3 is back", is_whole(), tools.describe()[0])


def cancel(tools):
    """A move that is throttled so far that it is still under way when it is taken back. (The tool
    refuses to move anything to a broker that is gone.)"""
    lines = "".join(f"{number:0>100}\n" for number in range(RECORDS))
    tools.tool("topics", "--create", "--topic", "slow", "--replica-assignment", "1")
    tools.tool("console-producer", "--topic", "slow", stdin=lines)
    plan = tools.file("slow.json", {"version": 1, "partitions": [
        {"topic": "slow", "partition": 0, "replicas": [2]}]})
    out = tools.tool("reassign-partitions", "--execute", "--reassignment-json-file", plan,
                     "--throttle", "5000")
    waits = tools.tool("reassign-partitions", "--list")
    tools.check("reassign-partitions --list", "slow-0" in waits, out + waits)
    out = tools.tool("reassign-partitions", "--cancel", "--reassignment-json-file", plan)
    tools.check("reassign-partitions --cancel", "Successfully cancelled" in out, out)
    out, rows = tools.describe("--topic", "slow")
    tools.check("what was cancelled is as before", [row[3] for row in rows] == ["1"], out)


def main():
    binaries, kafka = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    with contextlib.ExitStack() as stack:
        base = stack.enter_context(tempfile.TemporaryDirectory(prefix="compat-replication-"))
        net = network.Loopback()
        stack.callback(net.close)
        cluster = Cluster(binaries, base, net, {})
        for node, process in cluster.brokers.items():
            process.command += ["--override", f"broker.rack=rack-{node}",
                                "--override", f"replica.selector.class={SELECTOR}"]
        stack.callback(cluster.stop)
        cluster.start()
        until(lambda: cluster.are_registered(3), "all brokers are there")
        tools = Tools(cluster, kafka, base)
        parts = [make_topics, read_from_follower, reassign, elect, miss_replicas, cancel]
        wanted = sys.argv[3:] or [part.__name__ for part in parts]
        for part in parts:
            if part.__name__ in wanted:
                part(tools)
    print(f"replication: {tools.passed} passed, {tools.failed} failed")
    sys.exit(tools.failed > 0)


main()
