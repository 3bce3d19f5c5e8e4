#!/usr/bin/env python3
"""kill -9 of the broker while groups rebalance and commit: what must hold afterwards.

usage: group_crashes.py --ottla OTTLA [--rounds 50] [--seed N]      needs confluent-kafka

Two groups, one of each protocol, of members that come, go, read and commit. In each round the broker
is killed at any time and started again. Then and in between:
- no offset that a commit was confirmed for is lost or has moved back;
- no member of a classic group is told of a partition before its last reader was told to give it up;
- the broker takes nothing from a member of the consumer protocol before that one has told it, in its
  last heartbeat that names partitions, that it does not have it;
- in what the broker wrote down no partition has two owners in one generation, and at no time two members
  of the consumer protocol that may have it (`group_records.py`).
Sessions last so long that nobody's ends: who leaves while the broker is down, or just before, says so
again afterwards. Applications of the consumer protocol may be told late, which is counted: librdkafka
2.16 names to the broker what was acknowledged before, and not what it has handed over since, if a
heartbeat was not answered in time.
"""

import argparse
import os
import random
import re
import socket
import struct
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "compat", "groups"))

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import NewTopic
from groups import Server, admin_of

import group_records

PARTITIONS, MEMBERS, TOPIC = 8, 4, "work"
BEGAN = time.monotonic()
CONFIGS = ["group.initial.rebalance.delay.ms=50", "group.consumer.min.heartbeat.interval.ms=500",
           "group.consumer.heartbeat.interval.ms=500", "group.consumer.assignment.interval.ms=50"]


class Ledger:
    """What members of one group were told: who owns what, and what is committed."""

    def __init__(self, name):
        self.name, self.lock = name, threading.Lock()
        self.owners, self.confirmed, self.wrong, self.events = {}, {}, [], []
        self.meetings = []
        self.assigned = self.commits = 0
        self.gone = []

    def tell(self, *event):
        self.events.append((round(time.monotonic() - BEGAN, 2), *event))

    def assign(self, member, generation, partitions):
        with self.lock:
            self.tell(member, "assigned", *partitions, f"in {generation}")
            for partition in partitions:
                self.assigned += 1
                owner = self.owners.get(partition)
                if owner not in (None, member):
                    self.meetings.append(f"{self.name}-{partition} is {owner}'s and given to {member} in "
                                         f"{generation}, after {self.events[-40:]}")
                self.owners[partition] = member

    def revoke(self, member, what, partitions):
        with self.lock:
            self.tell(member, what, *partitions)
            for partition in partitions:
                if self.owners.get(partition) == member:
                    del self.owners[partition]

    def next(self, partition):
        with self.lock:
            return self.confirmed.get(partition, 0) + 1

    def confirm(self, partition, offset):
        with self.lock:
            self.commits += 1
            self.confirmed[partition] = max(offset, self.confirmed.get(partition, 0))


def compact(text):
    return bytes([len(text) + 1]) + text.encode()


def leave_request(group, member, protocol):
    """A LeaveGroup (version 0), or a ConsumerGroupHeartbeat (version 1) with the epoch -1."""
    if protocol == "classic":
        texts = (struct.pack(">h", len(text)) + text.encode() for text in (group, member))
        return struct.pack(">hhih", 13, 0, 1, -1) + b"".join(texts)
    header = struct.pack(">hhih", 68, 1, 1, -1) + b"\0"
    # No names of its own, no subscription, no assignor, no partitions, no tagged fields.
    rest = struct.pack(">ibbibbbbb", -1, 0, 0, -1, 0, 0, 0, 0, 0)
    return header + compact(group) + compact(member) + rest


def leave(server, *who):
    """Says that a member is gone, until the broker has heard it. It may know that already."""
    request = leave_request(*who)
    deadline, error = time.monotonic() + 120, b""
    while time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
                connection.sendall(struct.pack(">i", len(request)) + request)
                answer = connection.recv(4096)
        except OSError:
            answer = b""
        # After the size and the number: perhaps tagged fields and the throttle time, then the error.
        error = answer[13:15] if who[2] != "classic" else answer[8:10]
        if len(error) == 2 and struct.unpack(">h", error)[0] in (0, 25):
            return
        time.sleep(0.05)
    raise AssertionError(f"{who} could not leave: {error}")


class Member(threading.Thread):
    def __init__(self, server, ledger, protocol, name):
        super().__init__(daemon=True)
        self.server, self.protocol = server, protocol
        self.ledger, self.label, self.ends = ledger, name, False
        own = {"group.protocol": protocol}
        if protocol == "classic":
            own |= {"session.timeout.ms": 45000, "heartbeat.interval.ms": 100,
                    "partition.assignment.strategy": "cooperative-sticky"}
        self.consumer = Consumer({
            "bootstrap.servers": server.address, "group.id": ledger.name, "enable.auto.commit": False,
            "client.id": name, "auto.offset.reset": "earliest", "reconnect.backoff.max.ms": 100,
            "debug": "cgrp", **own})
        self.mine = set()

    def generation(self):
        """From how librdkafka writes a member's metadata: `CGMDv2:`, then the generation."""
        return struct.unpack_from("=i", self.consumer.consumer_group_metadata(), 7)[0]

    def on_assign(self, consumer, partitions):
        numbers = {p.partition for p in partitions}
        self.mine |= numbers
        if not self.ends:
            self.ledger.assign(self.label, self.generation(), numbers)

    def on_revoke(self, consumer, partitions, what="revoked"):
        numbers = {p.partition for p in partitions}
        self.mine -= numbers
        self.ledger.revoke(self.label, what, numbers)

    def on_lost(self, consumer, partitions):
        self.on_revoke(consumer, partitions, "lost")

    def run(self):
        self.consumer.subscribe([TOPIC], on_assign=self.on_assign, on_revoke=self.on_revoke,
                                on_lost=self.on_lost)
        while not self.ends:
            self.consumer.consume(10, 0.02)
            if self.mine:
                partition = random.choice(sorted(self.mine))
                self.commit(partition, self.ledger.next(partition))
        self.depart()

    def depart(self):
        """Gives up all and leaves.

        It reads nothing from here on, and what it is told now is no matter: where an assignment waits
        to be told, close() of librdkafka 2.16 leaves the group before it tells of the revocation, and
        if the broker is down besides, it never returns. Hence unsubscribe() first, which does neither.
        """
        member = self.consumer.memberid()
        self.ledger.revoke(self.label, "gives up", set(self.mine))
        self.consumer.unsubscribe()
        for turn in range(250):
            if turn > 5 and not self.mine:
                break
            self.consumer.consume(10, 0.02)
        self.consumer.close()
        if member:
            leave(self.server, self.ledger.name, member, self.protocol)
            self.ledger.gone.append(member)
        self.ledger.tell(self.label, "has left")

    def commit(self, partition, offset):
        try:
            done = self.consumer.commit(
                offsets=[TopicPartition(TOPIC, partition, offset)], asynchronous=False)
        except KafkaException:
            return
        if all(p.error is None for p in done):
            self.ledger.confirm(partition, offset)


def claims(path):
    """By librdkafka's account: what each member said that it owns, and when (ms since 1970)."""
    said = {}
    with open(path, errors="replace") as lines:
        for line in lines:
            found = re.match(r'%7\|(\d+)\.(\d+)\|HEARTBEAT\|.* ConsumerGroupHeartbeat of member id "([^"]+)"'
                             r'.*generation id [1-9].*, current assignment "([^"]*)"', line)
            if found and found[4] != "NULL":
                held = {int(number) for number in re.findall(r"\[(\d+)\]", found[4])}
                said.setdefault(found[3], []).append((int(found[1] + found[2]), held))
    return said


def taken(released, said):
    """Partitions that members had not given up when the broker took them."""
    for when, member, partition in released:
        before = [held for at, held in said.get(member, []) if at <= when]
        if not before or partition in before[-1]:
            yield f"{member} has partition {partition}, as it said {before[-3:]}, and it is taken at {when}"


def committed(server, group):
    for _ in range(200):
        try:
            admin = admin_of(server)
            future = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group]
            return {p.partition: p.offset for p in future.result(10).topic_partitions}
        except (KafkaException, TimeoutError):
            time.sleep(0.1)  # The group is being loaded.
    raise AssertionError(f"{group}: no offsets")


def check(server, ledgers):
    for ledger in ledgers:
        with ledger.lock:
            confirmed = dict(ledger.confirmed)
        stored = committed(server, ledger.name)
        for partition, offset in confirmed.items():
            if stored.get(partition, -1) < offset:
                ledger.wrong.append(f"{ledger.name}-{partition}: {offset} was confirmed, "
                                    f"{stored.get(partition)} is there")


def play(server, rounds, chance):
    producer = Producer({"bootstrap.servers": server.address, "log_level": 0})
    for number in range(PARTITIONS * 100):
        producer.produce(TOPIC, b"x", partition=number % PARTITIONS)
    producer.flush()
    ledgers = [Ledger("classic"), Ledger("consumer")]
    members, number = [], 0
    for done in range(rounds):
        end = time.monotonic() + chance.uniform(1, 4)
        while time.monotonic() < end:
            for ledger in ledgers:
                own = [m for m in members if m.ledger is ledger]
                if len(own) < 2 or len(own) < MEMBERS and chance.random() < 0.6:
                    number += 1
                    members.append(Member(server, ledger, ledger.name, f"m{number}"))
                    members[-1].start()
                else:
                    leaver = chance.choice(own)
                    leaver.ends = True
                    members.remove(leaver)
            time.sleep(chance.uniform(0.05, 1.2))
        for ledger in ledgers:
            ledger.tell("kill -9")
        server.kill()
        server.start()
        for ledger in ledgers:
            ledger.tell("started")
            # A classic group's record names those, too, who left after it was written.
            for member in list(ledger.gone):
                leave(server, ledger.name, member, ledger.name)
        check(server, ledgers)
        if any(ledger.wrong for ledger in ledgers):
            break
    for member in members:
        member.ends = True
    for member in members:
        member.join(40)
    for ledger in ledgers:
        ledger.wrong += [f"{ledger.name}: {member.label} does not end" for member in members
                         if member.ledger is ledger and member.is_alive()]
    ledgers[0].wrong += ledgers[0].meetings
    return done + 1, ledgers


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ottla", required=True)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(arguments.ottla, folder, CONFIGS)
        account = os.path.join(folder, "librdkafka")
        stderr = os.dup(2)
        os.dup2(os.open(account, os.O_CREAT | os.O_WRONLY | os.O_APPEND), 2)
        try:
            server.start()
            admin = admin_of(server)
            admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result()
            done, ledgers = play(server, arguments.rounds, random.Random(arguments.seed))
        finally:
            os.dup2(stderr, 2)
            server.kill()
        log = open(os.path.join(folder, "log"), errors="replace").read()
        wrong = [line for ledger in ledgers for line in ledger.wrong]
        wrong += [f"{ledger.name}: too little was done" for ledger in ledgers
                  if ledger.commits < done or ledger.assigned < done]
        decided, faults, released = group_records.check(os.path.join(folder, "data", "broker-1"))
        faults += taken(released, claims(account))
        wrong += faults[:20]
        wrong += re.findall(r".*(?:ERROR|panicked).*", log)[:5]
        # What ended a member's thread.
        wrong += re.findall(r"^\w*(?:Error|Exception)\b.*", open(account, errors="replace").read(), re.M)[:5]
    for line in wrong:
        print(f"WRONG {line}")
    told = ", ".join(f"{l.name}: {l.commits} commits, {l.assigned} partitions given, "
                     f"{len(l.meetings)} told late" for l in ledgers)
    print(f"{done} rounds, {told}, {decided} decisions written, "
          f"{len(released)} partitions given up: {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
