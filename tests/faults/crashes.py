#!/usr/bin/env python3
"""Kills a server under load, again and again, and looks for what it acknowledged.

usage: crashes.py kill  --ottla PATH [--rounds 50] [--seed N]
       crashes.py power --ottla PATH [--rounds 20] [--seed N]

`kill` ends the process with SIGKILL: what is in the page cache survives. `power` takes the power from
the file system under it (FS_IOC_SHUTDOWN of a small ext4 on a loop device, without flushing its
journal), ends the process and mounts the file system again: only what was synced survives. It needs
root and loop devices; without them it says so and exits with 77.

Idempotent producers with acks=all write numbered records all the time. In the end every record that
was acknowledged must be at the offset that was acknowledged, no record twice, and the records of each
producer and partition in the order in which they were sent; and so again after one more restart.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import power_cut

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "harness"))
from ports import free_port

TOPIC, PARTITIONS, PRODUCERS = "crashes", 4, 3


class Server:
    """One `ottla dev` in a folder, on ports that stay the same from start to start."""

    def __init__(self, binary, folder, log):
        self.binary, self.folder, self.log = binary, folder, log
        self.port, self.coordinator_port = free_port(), free_port()
        self.process = None

    def start(self):
        began = time.monotonic()
        self.process = subprocess.Popen(
            [self.binary, "dev", "--dir", self.folder, "--port", str(self.port),
             "--coordinator-port", str(self.coordinator_port)],
            stdout=self.log, stderr=self.log)
        while True:
            assert self.process.poll() is None, f"the server ended: {self.process.returncode}"
            assert time.monotonic() - began < 60, "the server does not start"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return time.monotonic() - began
            time.sleep(0.01)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class PageCacheSurvives:
    """The fault of `kill`."""

    def __init__(self, base):
        self.folder = os.path.join(base, "data")
        os.mkdir(self.folder)

    def strike(self, server):
        server.kill()

    def close(self):
        pass


class PowerCut:
    """The fault of `power`: a disk of its own that loses what was not synced."""

    def __init__(self, base):
        self.disk = power_cut.Disk(base, 4 << 30)
        self.folder = os.path.join(self.disk.mount_point, "data")
        os.mkdir(self.folder)
        os.sync()

    def strike(self, server):
        server.process.send_signal(signal.SIGSTOP)
        self.disk.cut()
        server.kill()
        self.disk.restore()

    def close(self):
        self.disk.close()


class Load(threading.Thread):
    """One idempotent producer that writes until it is told to stop."""

    def __init__(self, port, number):
        super().__init__(daemon=True)
        self.number, self.stopping = number, threading.Event()
        self.acked, self.failed = {}, []
        self.producer = Producer({
            "bootstrap.servers": f"127.0.0.1:{port}",
            "enable.idempotence": True,
            "linger.ms": 1,
            "message.timeout.ms": 300000,
            "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 100,
            "retry.backoff.ms": 20,
            "queue.buffering.max.messages": 2000,
            # Refused connections are what this is about.
            "log_level": 0,
        })

    def run(self):
        sequence = 0
        while not self.stopping.is_set():
            partition = sequence % PARTITIONS
            value = f"{self.number}:{sequence}:".ljust(200, "x")
            try:
                self.producer.produce(
                    TOPIC, value, partition=partition, on_delivery=self.delivered)
                sequence += 1
            except BufferError:
                self.producer.poll(0.05)
            self.producer.poll(0)
        self.producer.flush(120)

    def delivered(self, error, message):
        if error is not None:
            self.failed.append(str(error))
            return
        place = (message.partition(), message.offset())
        self.acked[place] = message.value()


def read_everything(port):
    consumer = Consumer({
        "bootstrap.servers": f"127.0.0.1:{port}", "group.id": "unused",
        "enable.auto.commit": False, "auto.offset.reset": "earliest",
    })
    ends = {}
    for partition in range(PARTITIONS):
        low, high = consumer.get_watermark_offsets(TopicPartition(TOPIC, partition), 30)
        assert low == 0, f"partition {partition} begins at {low}"
        ends[partition] = high
    consumer.assign([TopicPartition(TOPIC, p, 0) for p in range(PARTITIONS)])
    log, reached = {}, {p: 0 for p in range(PARTITIONS)}
    deadline = time.monotonic() + 120
    while any(reached[p] < ends[p] for p in ends):
        assert time.monotonic() < deadline, f"read {reached} of {ends}"
        for message in consumer.consume(10000, 1.0):
            assert message.error() is None, message.error()
            place = (message.partition(), message.offset())
            assert message.offset() == reached[message.partition()], f"a gap before {place}"
            log[place] = message.value()
            reached[message.partition()] += 1
    consumer.close()
    return log


def check(log, loads):
    acked = {place: value for load in loads for place, value in load.acked.items()}
    missing = [place for place in acked if place not in log]
    changed = [place for place in acked if place in log and log[place] != acked[place]]
    seen, doubled, disordered, last = set(), [], [], {}
    for place in sorted(log):
        producer, sequence = map(int, log[place].split(b":")[:2])
        if (producer, sequence) in seen:
            doubled.append(place)
        seen.add((producer, sequence))
        key = (producer, place[0])
        if last.get(key, -1) >= sequence:
            disordered.append(place)
        last[key] = max(last.get(key, -1), sequence)
    failed = [error for load in loads for error in load.failed]
    print(f"acknowledged {len(acked)}, read {len(log)}, missing {len(missing)}, changed "
          f"{len(changed)}, doubled {len(doubled)}, out of order {len(disordered)}, failed "
          f"{len(failed)} {failed[:1]}", flush=True)
    return not (missing or changed or doubled or disordered or failed)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fault", choices=["kill", "power"])
    parser.add_argument("--ottla", required=True)
    parser.add_argument("--rounds", type=int, default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep-log", help="write the server's output to this file")
    arguments = parser.parse_args()
    if arguments.fault == "power":
        power_cut.skip_unless_possible()
    rounds = arguments.rounds or {"kill": 50, "power": 20}[arguments.fault]
    seed = arguments.seed if arguments.seed is not None else random.randrange(1 << 32)
    print(f"{arguments.fault}: {rounds} rounds, seed {seed}", flush=True)
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="crashes-") as base:
        log = open(arguments.keep_log or os.path.join(base, "server.out"), "w")
        fault = {"kill": PageCacheSurvives, "power": PowerCut}[arguments.fault](base)
        server = Server(arguments.ottla, fault.folder, log)
        try:
            good = crash_again_and_again(server, fault, (rounds, chance))
        finally:
            if server.process.poll() is None:
                server.kill()
            fault.close()
    print(f"{arguments.fault}: {rounds} passed, 0 failed" if good else f"{arguments.fault}: FAILED")
    sys.exit(0 if good else 1)


def crash_again_and_again(server, fault, plan):
    rounds, chance = plan
    server.start()
    admin = AdminClient({"bootstrap.servers": f"127.0.0.1:{server.port}"})
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1)])[TOPIC].result(30)
    loads = [Load(server.port, number) for number in range(PRODUCERS)]
    for load in loads:
        load.start()
    slowest = 0.0
    for _ in range(rounds):
        before = sum(len(load.acked) for load in loads)
        patience = time.monotonic() + 60
        # A round without progress would prove nothing.
        while sum(len(load.acked) for load in loads) < before + 500:
            assert time.monotonic() < patience, "the producers make no progress"
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 0.5))
        fault.strike(server)
        slowest = max(slowest, server.start())
    for load in loads:
        load.stopping.set()
    for load in loads:
        load.join()
    print(f"slowest restart {slowest:.2f} s", flush=True)
    good = check(read_everything(server.port), loads)
    server.kill()
    server.start()
    return check(read_everything(server.port), loads) and good


main()
