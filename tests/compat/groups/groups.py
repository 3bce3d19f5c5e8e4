#!/usr/bin/env python3
"""Consumer groups, as applications and operators use them.

usage: groups.py OTTLA KAFKA     the binary `ottla`; the script tests/compat/java/kafka

Two consumers share a topic, eagerly and cooperatively, with and without names of their own; one leaves,
the broker is killed with SIGKILL, offsets and members are there again; offsets are reset, read, deleted,
groups described, listed and deleted, by Kafka's own tools; `dump-log` reads what the broker wrote.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time

from confluent_kafka import (
    Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, Producer, TopicPartition)
from confluent_kafka.admin import AdminClient, NewTopic

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "harness"))
from ports import free_port

RECORDS, PARTITIONS = 1000, 4
passed = failed = 0


def check(name, got, want):
    global passed, failed
    if got == want:
        passed += 1
    else:
        failed += 1
        print(f"FAILED {name}: got {got!r}, want {want!r}", flush=True)


def admin_of(server):
    return AdminClient({"bootstrap.servers": server.address, "log_level": 0})


class Server:
    def __init__(self, binary, folder, configs=("group.initial.rebalance.delay.ms=100",)):
        self.binary, self.folder, self.configs = binary, folder, configs
        self.port, self.coordinator_port = free_port(), free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = open(os.path.join(folder, "log"), "wb")

    def start(self):
        self.process = subprocess.Popen(
            [self.binary, "dev", "--dir", os.path.join(self.folder, "data"), "--port", str(self.port),
             "--coordinator-port", str(self.coordinator_port),
             *(word for config in self.configs for word in ("--config", config))],
            stdout=self.log, stderr=self.log)
        for _ in range(3000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    # It listens before it serves.
                    return admin_of(self).list_topics(timeout=100)
            assert self.process.poll() is None, "the server ended"
            time.sleep(0.02)
        raise AssertionError("the server does not start")

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Member:
    """A consumer that remembers what it was given and what it read."""

    def __init__(self, server, group, name, **config):
        self.assigned, self.read = set(), []
        self.consumer = Consumer({
            "bootstrap.servers": server.address, "group.id": group, "client.id": name,
            "auto.offset.reset": "earliest", "enable.auto.commit": False, "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 300, "log_level": 0, "reconnect.backoff.max.ms": 200, **config})
        self.is_cooperative = "cooperative" in config.get("partition.assignment.strategy", "")
        self.consumer.subscribe(
            ["orders"], on_assign=self.on_assign, on_revoke=self.on_revoke, on_lost=self.on_revoke)

    def on_assign(self, consumer, partitions):
        self.assigned |= {p.partition for p in partitions}

    def on_revoke(self, consumer, partitions):
        self.assigned -= {p.partition for p in partitions}

    def poll(self):
        for message in self.consumer.consume(100, 0.02):
            if message.error() is None:
                self.read.append((message.partition(), message.offset()))


def run_until(members, condition, patience=20):
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > patience:
            return False
        for member in members:
            member.poll()
    return True


def share(server, name, **config):
    """Two members share; both commit; one leaves and the other takes over all."""
    one = Member(server, name, f"{name}-one", **config.get("one", {}), **config["both"])
    check(f"{name}: alone", run_until([one], lambda: len(one.assigned) == PARTITIONS), True)
    two = Member(server, name, f"{name}-two", **config.get("two", {}), **config["both"])
    both = [one, two]
    half = PARTITIONS // 2
    check(f"{name}: shared", run_until(
        both, lambda: len(one.assigned) == half and len(two.assigned) == half
        and not one.assigned & two.assigned), True)
    check(f"{name}: all read", run_until(
        both, lambda: len(set(one.read) | set(two.read)) == RECORDS), True)
    for member in both:
        member.consumer.commit(asynchronous=False, offsets=[
            TopicPartition("orders", p, RECORDS // PARTITIONS, f"of {name}") for p in member.assigned])
    return one, two


def committed(server, group):
    admin = admin_of(server)
    future = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
    return {p.partition: (p.offset, p.metadata) for p in future.result().topic_partitions}


def state(server, group):
    admin = admin_of(server)
    described = admin.describe_consumer_groups([group])[group].result()
    return described.state, len(described.members)


def tool(kafka, server, name, *args):
    done = subprocess.run(
        [kafka, name, "--bootstrap-server", server.address, *args], text=True, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, "KAFKA_TIER": "1"})
    return done.stdout


def rows(text):
    return [line.split() for line in text.splitlines() if line.strip()]


def protocols(server):
    one, two = share(server, "eager", both={"partition.assignment.strategy": "range,roundrobin"})
    two.consumer.close()
    check("one takes over", run_until([one], lambda: len(one.assigned) == PARTITIONS), True)
    one.consumer.close()
    # A static member that restarts keeps its work: nobody else is asked to join again.
    one, two = share(server, "static", one={"group.instance.id": "a"}, two={"group.instance.id": "b"},
                     both={"partition.assignment.strategy": "cooperative-sticky"})
    kept = set(two.assigned)
    two.consumer.close()
    again = Member(server, "static", "static-again", **{
        "group.instance.id": "b", "partition.assignment.strategy": "cooperative-sticky"})
    check("a static member is back", run_until([one, again], lambda: again.assigned == kept), True)
    return one, again


def survive(server, members):
    """The broker is killed under a working group: offsets and members are there again."""
    wanted = {p: (RECORDS // PARTITIONS, "of static") for p in range(PARTITIONS)}
    check("committed", committed(server, "static"), wanted)
    server.kill()
    server.start()
    check("committed, after kill -9", committed(server, "static"), wanted)
    time.sleep(1)
    for member in members:
        member.poll()
    check("the members are back", state(server, "static"), (ConsumerGroupState.STABLE, 2))
    producer = Producer({"bootstrap.servers": server.address, "log_level": 0})
    for number in range(PARTITIONS):
        producer.produce("orders", b"more", partition=number)
    producer.flush()
    for member in members:
        member.read.clear()
    check("they go on where they were", run_until(members, lambda: sum(len(m.read) for m in members) >= PARTITIONS), True)
    check("nothing is read twice", sorted(members[0].read + members[1].read),
          [(p, RECORDS // PARTITIONS) for p in range(PARTITIONS)])


def operate(server, kafka, members):
    """What operators do, with Kafka's own tools."""
    described = tool(kafka, server, "consumer-groups", "--describe", "--group", "static", "--offsets", "--verbose")
    lags = sorted(int(row[6]) for row in rows(described) if row[:2] == ["static", "orders"])
    check("--describe tells the lags", lags, [1] * PARTITIONS)
    refused = tool(kafka, server, "consumer-groups", "--delete", "--group", "static")
    check("--delete of a group with members", "GroupNotEmptyException" in refused, True)
    for member in members:
        member.consumer.close()
    admin = admin_of(server)
    reset = tool(kafka, server, "consumer-groups", "--reset-offsets", "--group", "eager", "--topic",
                 "orders", "--shift-by", "-10", "--execute")
    offsets = sorted(int(row[3]) for row in rows(reset) if row[:2] == ["eager", "orders"])
    check("--reset-offsets", offsets, [RECORDS // PARTITIONS - 10] * PARTITIONS)
    check("the offsets are reset", {p: o for p, (o, _) in committed(server, "eager").items()},
          {p: RECORDS // PARTITIONS - 10 for p in range(PARTITIONS)})
    gone = tool(kafka, server, "consumer-groups", "--delete-offsets", "--group", "eager", "--topic", "orders:0")
    check("--delete-offsets", "Successful" in gone, True)
    check("an offset is gone", sorted(committed(server, "eager")), [1, 2, 3])
    listed = sorted(group.group_id for group in admin.list_consumer_groups().result().valid)
    check("groups are listed", listed, ["eager", "static"])
    read = tool(kafka, server, "console-consumer", "--topic", "orders", "--group", "console",
                "--from-beginning", "--max-messages", str(RECORDS + PARTITIONS),
                "--timeout-ms", "30000")
    check("console-consumer --group", "total of 1004 messages" in read, True)
    listed = {row[0] for row in rows(tool(kafka, server, "groups", "--list"))}
    check("groups --list", {"eager", "static", "console"} <= listed, True)
    deleted = tool(kafka, server, "consumer-groups", "--delete", "--group", "eager", "--group", "console")
    check("--delete", "was successful" in deleted, True)
    check("what is deleted is gone", [g.group_id for g in admin.list_consumer_groups().result().valid], ["static"])
    admin.delete_topics(["orders"])["orders"].result()
    began = time.monotonic()
    while committed(server, "static") and time.monotonic() - began < 10:
        time.sleep(0.1)
    check("the offsets of a deleted topic are gone", committed(server, "static"), {})


def dump(server, kafka):
    """Kafka's own tool reads our log of groups."""
    text = ""
    root = os.path.join(server.folder, "data", "broker-1")
    for folder, _, files in os.walk(root):
        if os.path.basename(folder).startswith("__consumer_offsets-"):
            logs = [os.path.join(folder, name) for name in files if name.endswith(".log")]
            logs = [log for log in logs if os.path.getsize(log)]
            if logs:
                text += tool_without_server(kafka, "dump-log", "--offsets-decoder", "--files", ",".join(logs))
    check("dump-log reads offsets", bool(re.search(r'"group":"eager".*"topic":"orders"', text)), True)
    # The client sends the zero byte behind the text, too.
    check("dump-log reads metadata", '"metadata":"of eager' in text, True)
    check("dump-log reads groups", bool(re.search(r'"protocolType":"consumer".*"generation":\d', text)), True)
    check("dump-log sees nothing odd", re.findall(r"(?i)could not be parsed|unknown|error", text), [])


def tool_without_server(kafka, name, *args):
    done = subprocess.run([kafka, name, *args], text=True, timeout=60, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, env={**os.environ, "KAFKA_TIER": "1"})
    return done.stdout


def main():
    ottla, kafka = sys.argv[1:3]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(ottla, folder)
        server.start()
        try:
            admin = admin_of(server)
            admin.create_topics([NewTopic("orders", PARTITIONS, 1)])["orders"].result()
            producer = Producer({"bootstrap.servers": server.address, "log_level": 0})
            for number in range(RECORDS):
                producer.produce("orders", str(number), partition=number % PARTITIONS)
            producer.flush()
            members = protocols(server)
            survive(server, members)
            operate(server, kafka, members)
            dump(server, kafka)
        finally:
            server.kill()
    print(f"groups: {passed} passed, {failed} failed, {time.monotonic() - began:.0f} s")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
