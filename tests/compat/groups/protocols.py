#!/usr/bin/env python3
"""Groups of the consumer protocol (KIP-848), and groups in which both protocols are spoken.

usage: protocols.py OTTLA KAFKA     the binary `ottla`; the script tests/compat/java/kafka

Members of Java's client 4.4 (each a process of its own) and of librdkafka read one topic while they
come, go and are killed: every record is read at least once, and none is skipped. Then what operators
ask of such groups, by Kafka's own tools, and what `dump-log` reads of the broker's records.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
import time

import groups
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import NewTopic
from groups import Server, admin_of, check, rows, run_until, tool

HERE = os.path.dirname(os.path.abspath(__file__))
PARTITIONS = 6
CONFIGS = ["group.initial.rebalance.delay.ms=100", "group.consumer.min.heartbeat.interval.ms=300",
           "group.consumer.heartbeat.interval.ms=300", "group.consumer.min.session.timeout.ms=4000",
           "group.consumer.session.timeout.ms=4000", "group.min.session.timeout.ms=4000",
           "group.consumer.assignment.interval.ms=200"]
CLASSIC = {"session.timeout.ms": "4000", "heartbeat.interval.ms": "300",
           "partition.assignment.strategy": "org.apache.kafka.clients.consumer.CooperativeStickyAssignor"}


class Writer(threading.Thread):
    """Writes numbers, one after the other, to all partitions."""

    def __init__(self, server, topic):
        super().__init__()
        self.producer = Producer({"bootstrap.servers": server.address, "log_level": 0})
        self.topic, self.count, self.ends = topic, 0, False

    def run(self):
        while not self.ends:
            for _ in range(20):
                self.producer.produce(self.topic, str(self.count), partition=self.count % PARTITIONS)
                self.count += 1
            self.producer.flush()
            time.sleep(0.1)


class Seen:
    """All that the members of one group have read."""

    def __init__(self):
        self.values, self.reads = set(), 0

    def read(self, value):
        self.values.add(value)
        self.reads += 1


class JavaMember:
    def __init__(self, place, seen, group, protocol, **configs):
        server, kafka, topic = place
        own = {"group.protocol": protocol, **(CLASSIC if protocol == "classic" else {}), **configs}
        self.process = subprocess.Popen(
            [kafka, "source", os.path.join(HERE, "Member.java"), server.address, group, topic, *(f"{k}={v}" for k, v in own.items())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "KAFKA_TIER": "1", "KAFKA_HEAP_OPTS": "-Xmx192M"})
        self.assigned, self.seen, self.lines = set(), seen, []
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        for line in self.process.stdout:
            words = line.split()
            if words[0] == "read":
                self.seen.read(int(words[3]))
            elif words[0] == "assigned":
                self.assigned |= {int(word) for word in words[1:]}
            elif words[0] in ("revoked", "lost"):
                self.assigned -= {int(word) for word in words[1:]}
            if words[0] != "read":
                self.lines.append(line.strip())

    def poll(self):
        time.sleep(0.02)

    def close(self):
        self.process.stdin.close()
        self.process.wait(30)

    def kill(self):
        self.process.kill()
        self.process.wait()


class RdkafkaMember:
    def __init__(self, place, seen, group, protocol, **configs):
        server, _, topic = place
        own = {"group.protocol": protocol, **configs}
        if protocol == "classic":
            own |= {**CLASSIC, "partition.assignment.strategy": "cooperative-sticky"}
        self.assigned, self.seen = set(), seen
        self.consumer = Consumer({
            "bootstrap.servers": server.address, "group.id": group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "log_level": 0, **own})
        self.consumer.subscribe([topic], on_assign=self.on_assign, on_revoke=self.on_revoke,
                                on_lost=self.on_revoke)

    def on_assign(self, consumer, partitions):
        self.assigned |= {p.partition for p in partitions}

    def on_revoke(self, consumer, partitions):
        self.assigned -= {p.partition for p in partitions}

    def poll(self):
        messages = [m for m in self.consumer.consume(500, 0.05) if m.error() is None]
        for message in messages:
            self.seen.read(int(message.value()))
        if messages:
            try:
                self.consumer.commit(asynchronous=False)
            except KafkaException:
                pass  # Whoever has the partitions by now reads them again.

    def close(self):
        self.consumer.close()


def are_shared(members):
    def condition():
        assigned = [p for member in members for p in member.assigned]
        return all(m.assigned for m in members) and sorted(assigned) == list(range(PARTITIONS))
    return run_until(members, condition, 90)


def kind(place, group):
    listed = tool(place[1], place[0], "groups", "--list")
    return next((row[1] for row in rows(listed) if row[0] == group), None)


def finish(name, writer, seen, members):
    writer.ends = True
    writer.join()
    everything = set(range(writer.count))
    check(f"{name}: every record is read", run_until(members, lambda: seen.values >= everything, 60), True)
    if not seen.values >= everything:
        print(f"  missing: {len(everything - seen.values)}, first {sorted(everything - seen.values)[:5]}")
    print(f"{name}: {writer.count} records, {seen.reads - writer.count} read again", flush=True)


def begin(place):
    writer = Writer(place[0], place[2])
    writer.start()
    return writer, Seen()


def consumers(place):
    """Members of the consumer protocol come, go and are killed."""
    writer, seen = begin(place)
    group = "new"
    java = JavaMember(place, seen, group, "consumer")
    check("new: alone", are_shared([java]), True)
    rdkafka = RdkafkaMember(place, seen, group, "consumer")
    check("new: two share", are_shared([java, rdkafka]), True)
    named = JavaMember(place, seen, group, "consumer", **{"group.instance.id": "named", "group.remote.assignor": "range"})
    check("new: three share", are_shared([java, rdkafka, named]), True)
    java.kill()
    check("new: one is killed", are_shared([rdkafka, named]), True)
    named.close()
    # It names its assignor again: if it starts slowly, its session is over and it is a new member.
    named = JavaMember(place, seen, group, "consumer", **{"group.instance.id": "named", "group.remote.assignor": "range"})
    check("new: a static member restarts", are_shared([rdkafka, named]), True)
    place[0].kill()
    place[0].start()
    check("new: the broker is killed", are_shared([rdkafka, named]), True)
    rdkafka.close()
    check("new: one leaves", are_shared([named]), True)
    finish("new", writer, seen, [named])
    return named


def mixed(place):
    """A classic group changes over to the consumer protocol, member by member, and back."""
    writer, seen = begin(place)
    group = "mixed"
    old = RdkafkaMember(place, seen, group, "classic")
    older = JavaMember(place, seen, group, "classic")
    check("mixed: classic", are_shared([old, older]), True)
    check("mixed: is classic", kind(place, group), "Classic")
    new = JavaMember(place, seen, group, "consumer")
    check("mixed: both protocols", are_shared([old, older, new]), True)
    check("mixed: is of consumers", kind(place, group), "Consumer")
    older.kill()
    check("mixed: a classic member is killed", are_shared([old, new]), True)
    again = RdkafkaMember(place, seen, group, "classic")
    check("mixed: a classic member comes", are_shared([old, new, again]), True)
    new.close()
    check("mixed: the last of the consumer protocol goes", are_shared([old, again]), True)
    check("mixed: is classic again", kind(place, group), "Classic")
    new = RdkafkaMember(place, seen, group, "consumer")
    check("mixed: once more", are_shared([old, again, new]), True)
    old.close()
    again.close()
    check("mixed: all have changed over", are_shared([new]), True)
    check("mixed: is of consumers again", kind(place, group), "Consumer")
    finish("mixed", writer, seen, [new])
    new.close()


def operate(place, member):
    server, kafka, topic = place
    described = tool(kafka, server, "consumer-groups", "--describe", "--group", "new")
    lags = [row[5] for row in rows(described) if row[:2] == ["new", topic]]
    check("--describe tells the lags", lags, ["0"] * PARTITIONS)
    described = rows(tool(kafka, server, "consumer-groups", "--describe", "--group", "new", "--members", "--verbose"))
    row = next(row for row in described if row[0] == "new")
    check("--members", (row[2], row[-1].count(",")), ("named", PARTITIONS - 1))
    described = rows(tool(kafka, server, "consumer-groups", "--describe", "--group", "new", "--state"))
    row = next(row for row in described if row[0] == "new")
    check("--state", row[3:], ["range", "Stable", "1"])
    refused = tool(kafka, server, "consumer-groups", "--delete", "--group", "new")
    check("--delete of a group with members", "GroupNotEmptyException" in refused, True)
    refused = tool(kafka, server, "consumer-groups", "--reset-offsets", "--group", "new", "--topic", topic,
                   "--to-earliest", "--execute")
    check("--reset-offsets of a group with members", "inactive" in refused, True)
    altered = tool(kafka, server, "configs", "--alter", "--entity-type", "groups", "--entity-name", "new",
                   "--add-config", "consumer.session.timeout.ms=5000")
    check("configs of groups", "Completed" in altered, True)
    described = tool(kafka, server, "configs", "--describe", "--entity-type", "groups", "--entity-name", "new")
    check("configs of groups, told", "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=5000" in described, True)
    refused = tool(kafka, server, "configs", "--alter", "--entity-type", "groups", "--entity-name", "new",
                   "--add-config", "consumer.session.timeout.ms=500")
    check("configs of groups, refused", "must be in the range 4000 to 60000 inclusive" in refused, True)
    member.kill()
    check("the group is empty in the end", run_until(
        [], lambda: "has no active members" in tool(kafka, server, "consumer-groups", "--describe", "--group", "new"),
        60), True)
    reset = tool(kafka, server, "consumer-groups", "--reset-offsets", "--group", "new", "--topic", topic,
                 "--to-offset", "3", "--execute")
    offsets = [row[3] for row in rows(reset) if row[:2] == ["new", topic]]
    check("--reset-offsets", offsets, ["3"] * PARTITIONS)
    deleted = tool(kafka, server, "consumer-groups", "--delete", "--group", "new", "--group", "mixed")
    check("--delete", "Deletion of requested consumer groups ('new', 'mixed') was successful." in deleted, True)
    check("--list", tool(kafka, server, "consumer-groups", "--list").split(), [])
    versions = tool(kafka, server, "features", "describe")
    check("group.version", bool(re.search(r"group\.version\s.*FinalizedVersionLevel: 1", versions)), True)


def dumped(place):
    """Kafka's own decoder reads all that was written."""
    server, kafka, _ = place
    data = os.path.join(server.folder, "data", "broker-1")
    logs = [os.path.join(data, folder, "00000000000000000000.log")
            for folder in os.listdir(data) if folder.startswith("__consumer_offsets-")]
    logs = [log for log in logs if os.path.getsize(log) > 0]
    done = subprocess.run([kafka, "dump-log", "--offsets-decoder", "--files", ",".join(logs)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "KAFKA_TIER": "1"})
    keys = set(re.findall(r'key: \{"type":"(\d+)"', done.stdout))
    check("dump-log knows all types", keys, {"1", "2", "3", "5", "6", "7", "8"})
    if os.environ.get("KEEP_DATA"):
        subprocess.run(["cp", "-r", data, os.environ["KEEP_DATA"]])
    check("dump-log complains", re.findall(r"(?i).*(?:corrupt|could not|unknown|exception).*", done.stdout)[:3], [])


def main(ottla, kafka):
    with tempfile.TemporaryDirectory() as folder:
        server = Server(ottla, folder, CONFIGS)
        try:
            server.start()
            names = ["orders", "events"]
            admin = admin_of(server)
            made = admin.create_topics([NewTopic(n, PARTITIONS, 1) for n in names])
            for future in made.values():
                future.result()
            member = consumers((server, kafka, "orders"))
            mixed((server, kafka, "events"))
            operate((server, kafka, "orders"), member)
            dumped((server, kafka, "orders"))
        finally:
            server.kill()
        log = open(os.path.join(folder, "log"), errors="replace").read()
        check("no errors in the server's log", re.findall(r".*(?:ERROR|panicked).*", log)[:3], [])
        if groups.failed and os.environ.get("KEEP_LOG"):
            open(os.environ["KEEP_LOG"], "w").write(log)
    print(f"group protocols: {groups.passed} passed, {groups.failed} failed")
    return groups.failed


if __name__ == "__main__":
    sys.exit(1 if main(*sys.argv[1:3]) else 0)
